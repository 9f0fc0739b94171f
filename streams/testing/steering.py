"""Steering: the steps that operators take, and looks, each doing what the Lua script of its name says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from streams.testing.limiting import Limits
from streams.testing.move import Arguments, Move, field_of, short, whose_turn
from streams.testing.store import Hash, Names, Stream, Waiting, Zset, read_id, read_range, write_id

if TYPE_CHECKING:
    from streams.testing.store import Id, Store

Tell = Callable[[str, bytes], None]
"""Tells a channel something: PUBLISH."""


def cancel(store: Store, keys: list[str], given: list[bytes], tell: Tell) -> list[bytes]:
    """cancel.lua."""
    key, books = keys
    tag, at_inbox, reader = key.partition("}:inbox:")
    arguments, move = Arguments(given), Move(store, books, f"{tag}}}:groups")
    text = arguments.take()
    id, stream = read_id(text), store.find(key, Stream)
    arguments.take()
    if stream is None or id not in stream.entries:
        return []
    answer: list[bytes] = []
    unread: list[tuple[bytes, str, list[bytes]]] = []
    told: list[tuple[bytes, str, str]] = []
    while arguments.left:
        name, calls, channel, history = arguments.take(), arguments.text(), arguments.text(), arguments.text()
        arguments.take()
        record, group = arguments.fields(), stream.groups.get(name)
        if group is None or group.last < id:
            unread.append((name, history, record))
            told.append((name, calls, channel))
        elif id in group.pending:
            told.insert(0, (name, calls, channel))
        else:
            answer += [name, b"delivered"]
    if len(told) > len(unread):  # somebody has it in hand: the entry must stay until that is settled
        for name, calls, channel in told:
            store.zset(calls).add(f"{key} ".encode() + text, move.now)
            tell(channel, f"cancel {key} ".encode() + text)
            answer += [name, b"cancelling"]
        return answer
    for name, history, record in unread:
        move.note(history, record)
        move.book(f"cancelled {name.decode()} {short(key)}", 1)
        answer += [name, b"cancelled"]
    if unread:
        fields = stream.entries[id]
        move.book(f"removed {short(key)}", stream.delete(id))
        if at_inbox:  # it passes on the turn of its key, and leaves the limit that had let it in
            due, waiting = f"{tag}}}:due", f"{tag}}}:waiting"
            turns, limit = f"{tag}}}:turns:{reader}", field_of(fields, b"limitedby").decode()
            move.pass_turn(due, waiting, turns, field_of(fields, b"partitionkey"), whose_turn(fields))
            limits = Limits(move, due, waiting, f"{tag}}}:limits:{reader}")
            if limit and limits.leave(limit, key, text):
                limits.serve(limit)
    move.close()
    return answer


def cancel_waiting(store: Store, keys: list[str], given: list[bytes]) -> int:
    """cancel_waiting.lua."""
    due, waiting, registry, books = keys
    arguments, move = Arguments(given), Move(store, books, registry)
    id = arguments.take()
    arguments.take()
    found = store.make(waiting, Waiting).get(id)
    if found is None:
        return 0
    while arguments.left:
        move.note(arguments.text(), arguments.fields())
    target, fields = found
    tag, at, group = target.partition("}:inbox:")
    if at:
        turns = f"{tag}}}:turns:{group}"
        move.pass_turn(due, waiting, turns, field_of(fields, b"partitionkey"), whose_turn(fields))
    move.book(f"unwaited {short(target)}", store.zset(due).remove(id))
    store.make(waiting, Waiting).pop(id, None)
    move.close()
    return 1


def pause(store: Store, keys: list[str], given: list[bytes], tell: Tell) -> int:
    """pause.lua."""
    group, on, channel = given
    paused = store.make(keys[0], Names)
    changed = (group in paused) is not (on == b"1")
    (paused.add if on == b"1" else paused.discard)(group)
    tell(channel.decode(), b"pause" if on == b"1" else b"resume")
    return int(changed)


def replay(store: Store, keys: list[str], given: list[bytes]) -> int:
    """replay.lua."""
    dead, inbox, registry, history, books = keys
    arguments, move, done = Arguments(given), Move(store, books, registry), 0
    arguments.take()
    while arguments.left:
        id, fields, record = read_id(arguments.take()), arguments.fields(), arguments.fields()
        if id in store.stream(dead).entries:
            move.append(inbox, fields)
            move.note(history, record)
            done += store.stream(dead).delete(id)
    move.book(f"revived {short(dead)}", done)
    move.close()
    return done


def discard(store: Store, keys: list[str], given: list[bytes]) -> int:
    """discard.lua."""
    dead, history, books = keys
    arguments, move, done = Arguments(given), Move(store, books), 0
    arguments.take()
    while arguments.left:
        id, record = read_id(arguments.take()), arguments.fields()
        if id in store.stream(dead).entries:
            move.note(history, record)
            done += store.stream(dead).delete(id)
    move.book(f"discarded {short(dead)}", done)
    move.close()
    return done


def edit(store: Store, keys: list[str], given: list[bytes]) -> bytes:
    """edit.lua."""
    dead, history, books = keys
    arguments, move = Arguments(given[1:]), Move(store, books)
    id, letters = read_id(arguments.take()), store.stream(dead)
    if id not in letters.entries:
        return b""
    letter, record = arguments.fields(), arguments.fields()
    move.note(history, record)
    made = letters.add(letter, move.now)
    letters.delete(id)
    move.book(f"edited {short(dead)}", 1)
    move.close()
    return made


def replay_step(store: Store, keys: list[str], given: list[bytes]) -> int:
    """replay_step.lua."""
    jobs, inbox, registry, books = keys
    arguments, move = Arguments(given), Move(store, books, registry)
    id, before, after, group = arguments.several(4)
    if store.hash(jobs).get(id, b"") != before:
        return 0
    if arguments.left and group not in store.hash(registry):
        return -1
    while arguments.left:
        move.append(inbox, arguments.fields())
        move.book(f"replayed {group.decode()}", 1)
    move.close()
    known = store.make(jobs, Hash)
    known[id] = after
    if not after:
        del known[id]
    return 1


def progress(store: Store, keys: list[str], given: list[bytes]) -> int:
    """progress.lua."""
    group, delivery, is_first, ttl, report = given
    known = store.make(keys[0], Hash)
    if known.get(b"by " + group, delivery) != delivery and is_first != b"1":
        return 0
    known |= {group: report, b"by " + group: delivery}
    store.until[keys[0]] = store.now() + int(ttl)
    return 1


def peek_waiting(store: Store, keys: list[str], given: list[bytes]) -> list[Any]:
    """peek_waiting.lua."""
    scores, held = store.zset(keys[0]).scores, store.make(keys[1], Waiting)
    found = [(id, scores[id], *held[id]) for id in given[1:] if id in held]
    return [
        [id, at, target.encode(), list(fields)]
        for id, at, target, fields in found
        if given[0] in (b"", field_of(fields, b"id"))
    ]


def find_entries(store: Store, keys: list[str], given: list[bytes]) -> list[Any]:
    """find_entries.lua."""
    command, first, last, most, name, value = given
    stream = store.find(keys[0], Stream) or Stream()
    backward = command == b"XREVRANGE"
    ids = stream.between(*(read_range(last, first) if backward else read_range(first, last)))
    ids = (ids[::-1] if backward else ids)[: int(most)]
    found = [[write_id(id), list(stream.entries[id])] for id in ids if field_of(stream.entries[id], name) == value]
    return [len(ids), write_id(ids[-1]) if ids else b"", found]


def accounts(store: Store, keys: list[str], _: list[bytes]) -> list[Any]:
    """accounts.lua."""
    books, due, *named = keys
    rows: list[list[Any]] = []
    for key in named:
        stream = store.find(key, Stream)
        if stream is None:
            rows.append([])
            continue
        groups: list[Any] = []
        for name, group in stream.groups.items():
            lag = len(stream.between(_after(group.last), (2**64, 0)))
            groups += [name, len(group.pending), write_id(group.last), lag]
        first = write_id(stream.ids[0]) if stream.ids else b""
        last, deleted = write_id(stream.last), write_id(stream.deleted)
        rows.append([len(stream.ids), stream.added, first, last, deleted, groups])
    flat = [part for pair in store.hash(books).items() for part in pair]
    waits = store.find(due, Zset)
    return [flat, len(waits) if waits is not None else 0, rows]


def _after(id: Id) -> Id:
    return id[0], id[1] + 1
