"""Judge: scores a bout by its journal, and by nothing else; the same rules for every system.

An event counts from the moment its publisher was told that it is there. It is handled when a handler came to its end.
What was never handled is late when the system still holds it, given up when the system keeps a word about it, and
lost when neither is so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Final

from tests.faults.soak.journal import Line

ACKED_WITHIN: Final = 2.0
"""Seconds after its handler's end in which an event's ack may still be cut off; what happens later is no excuse."""


@dataclass(frozen=True)
class Score:
    """How one bout ended, in events unless another unit is said."""

    published: int  # confirmed to their publisher
    failed: int  # whose publisher got an error or nothing
    failed_yet_handled: int  # of these: handled all the same
    handled: int  # of the published
    lost: int
    stuck: int  # still held when the time was over
    given_up: int
    again: int  # beginnings after the first that a fault explains
    again_without_reason: int
    again_yet: int  # handled, and held all the same: they will begin once more
    ended: int  # worker processes that ended by themselves, and publishers
    done_after: float | None  # seconds from the last fault's end until nothing was held; None: it never came to that
    kills: int = 0
    stops: int = 0
    redis_kills: int = 0
    cuts: int = 0

    @property
    def unharmed(self) -> bool:
        """Whether everything published was handled, and nothing twice without a reason."""
        return not (self.lost or self.stuck or self.given_up or self.again_without_reason)


def judge(journal: Sequence[Line], events: int) -> Score:
    """Scores the first `events` events: what was published after them was to keep the system awake."""
    by: dict[str, list[Line]] = defaultdict(list)
    for line in journal:
        if line.get("n", 0) < events:
            by[line["what"]].append(line)
    confirmed = {line["n"]: line["id"] for line in by["publish_ok"]}
    failed = {line["n"] for line in by["publish"]} - set(confirmed)
    ended = {line["n"] for line in by["end"]}
    missing = set(confirmed) - ended
    held = {line["n"] for line in by["held"]}
    stuck = missing & held
    kept = {line["id"] for line in by["given_up"]}
    given_up = {n for n in missing - stuck if confirmed[n] in kept}
    explained, unexplained = _again(by["start"], by["end"], _Faults(by))
    return Score(
        published=len(confirmed), failed=len(failed), failed_yet_handled=len(failed & ended),
        handled=len(set(confirmed) & ended), lost=len(missing - stuck - given_up), stuck=len(stuck),
        given_up=len(given_up), again=explained, again_without_reason=unexplained,
        again_yet=len(held & ended), ended=_ended(by),
        done_after=next((line["seconds"] for line in by["drained"]), None),
        kills=len(by["kill"]), stops=len(by["stop"]), redis_kills=len(by["redis_kill"]), cuts=len(by["network"]),
    )  # fmt: skip


class _Faults:
    """What happened to whom, as times: to one worker, to Redis, to the network."""

    def __init__(self, by: Mapping[str, list[Line]]) -> None:
        self._leader = {line["pid"]: line["leader"] for line in by["ready"]}
        self._of: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for line in (*by["kill"], *by["exit"]):
            self._of[line["pid"]].append((line["at"], inf))
        conts = {line["pid"]: line["at"] for line in by["cont"]}
        for line in by["stop"]:
            self._of[line["pid"]].append((line["at"], conts.get(line["pid"], inf)))
        readied: dict[int, list[Line]] = defaultdict(list)
        for line in by["ready"]:
            readied[line["leader"]].append(line)
        for lines in readied.values():
            # A manager that has a new child has lost the one before: that one is gone from then on at the latest.
            for first, second in pairwise(sorted(lines, key=lambda line: line["at"])):
                self._of[first["pid"]].append((second["at"], inf))
        self._proxied = {line["pid"] for line in by["spawn"] if line["via"] == "proxy"}
        self._redis = _spans(by["redis_kill"], by["redis_up"])
        self._network = _spans(by["network"], by["heal"])

    def explain(self, pid: int, since: float, until: float) -> bool:
        """Whether something happened to a process, or between it and its event's end, in a time."""
        leader = self._leader.get(pid, pid)
        spans = self._of[pid] + self._of[leader] + self._redis + (self._network if leader in self._proxied else [])
        return any(begin <= until and since <= end for begin, end in spans)


def _spans(begins: Sequence[Line], ends: Sequence[Line]) -> list[tuple[float, float]]:
    """One after the other: there is one Redis and one proxy."""
    times = [line["at"] for line in ends] + [inf] * (len(begins) - len(ends))
    return [(line["at"], end) for line, end in zip(begins, times, strict=True)]


def _again(starts: Sequence[Line], ends: Sequence[Line], faults: _Faults) -> tuple[int, int]:
    """How many beginnings came after another one, with and without a reason in the time that one had to be acked."""
    begun: dict[int, list[Line]] = defaultdict(list)
    for line in starts:
        begun[line["n"]].append(line)
    finished: dict[tuple[int, int], list[float]] = defaultdict(list)
    for line in ends:
        finished[line["n"], line["pid"]].append(line["at"])
    explained = unexplained = 0
    for n, lines in begun.items():
        for first, second in pairwise(sorted(lines, key=lambda line: line["at"])):
            end = min((at for at in finished[n, first["pid"]] if at >= first["at"]), default=inf)
            if faults.explain(first["pid"], first["at"], min(end + ACKED_WITHIN, second["at"])):
                explained += 1
            else:
                unexplained += 1
    return explained, unexplained


def _ended(by: Mapping[str, list[Line]]) -> int:
    """Exits that nobody asked for: of what was started, and of a manager's children."""
    killed = {line["pid"] for line in by["kill"]}
    children: dict[int, set[int]] = defaultdict(set)
    for line in by["ready"]:
        children[line["leader"]].add(line["pid"])
    return len({line["pid"] for line in by["exit"]} - killed) + sum(len(pids) - 1 for pids in children.values())
