"""Scheduling: the steps of schedules, each doing what the Lua script of its name says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streams.testing.move import Arguments, Move
from streams.testing.store import Hash

if TYPE_CHECKING:
    from streams.testing.store import Store


def register_schedules(store: Store, keys: list[str], given: list[bytes]) -> int:
    """register_schedules.lua."""
    schedules, slots, anew = store.make(keys[0], Hash), store.make(keys[1], Hash), 0
    for name, definition, timing in zip(given[::3], given[1::3], given[2::3], strict=True):
        schedules[name] = definition
        if name not in slots or slots.get(name + b":timing") != timing:
            slots[name], slots[name + b":timing"] = b"%d" % store.now(), timing
            anew += 1
    return anew


def look_schedules(store: Store, keys: list[str], given: list[bytes]) -> list[Any]:
    """look_schedules.lua."""
    slots = store.hash(keys[0])
    return [
        store.now(),
        *([slots.get(name, b""), int(name + b":paused" in slots), slots.get(name + b":run", b"")] for name in given),
    ]


def fire(store: Store, keys: list[str], given: list[bytes]) -> list[int]:
    """fire.lua."""
    slots_key, registry, *streams, books = keys
    arguments, move, slots = Arguments(given), Move(store, books, registry), store.make(slots_key, Hash)
    name, slot, kind, missed = arguments.take(), arguments.take(), arguments.take(), arguments.number()
    longest, names = arguments.number(), arguments.several(arguments.number())
    is_run, late = kind == b"run", move.now - int(slot)
    if name not in slots:
        return [0, 0]
    if is_run:
        if slots.get(name + b":run") != slot:
            return [0, 0]
        if late > longest:
            del slots[name + b":run"]
            return [0, 0]
    elif name + b":paused" in slots or int(slot) <= int(slots[name]):
        return [0, 0]
    elif late < 0:
        return [-1, -late]
    published = 0
    while arguments.left:
        key, values = streams[arguments.number() - 1], arguments.several(len(names))
        move.publish(key, [part for pair in zip(names, values, strict=True) for part in pair])
        published += 1
    move.close()
    if is_run:
        slots[name + b":ran"] = slot + b" %d" % (-1 if missed else published)
        del slots[name + b":run"]
        return [1, 0]
    if missed:
        store.bump(slots_key, name + b":missed", missed)
    if published:
        slots[name + b":fired"] = slot
    slots[name] = slot
    return [1, 0]


def steer_schedule(store: Store, keys: list[str], given: list[bytes]) -> list[int]:
    """steer_schedule.lua."""
    name, action, longest = given
    schedules, slots, now = store.make(keys[0], Hash), store.make(keys[1], Hash), store.now()
    if name not in schedules:
        return [-1]
    paused = name + b":paused"
    match action:
        case b"pause":
            is_new = paused not in slots
            slots.setdefault(paused, b"%d" % now)
            return [int(is_new), now]
        case b"resume":
            was = slots.pop(paused, None) is not None
            if was:
                slots[name] = b"%d" % max(now, int(slots.get(name, 0)))
            return [int(was), now]
        case b"run":
            asked = int(slots.get(name + b":run", 0))
            if now - asked <= int(longest):
                return [0, asked]
            slots[name + b":run"] = b"%d" % now
    if action == b"forget":
        del schedules[name]
        for key in [key for key in slots if key == name or key.startswith(name + b":")]:
            del slots[key]
    return [1, now]
