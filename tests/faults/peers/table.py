"""Table: scores side by side, for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tests.faults.peers.judge import Score
from tests.faults.peers.peer import SETTINGS, Peer

_HEAD: Final = (
    ("", "", "takes", "", "", "", "", "gave", "again", "", "", "done"),
    ("", "", "over", "pub.", "err.", "lost", "stuck", "up", "fault", "none", "exits", "(s)"),
)
_KEY: Final = """\
takes over  by the settings, until a dead worker's events are another's
pub., err.  published, and not: the publisher got an error, or no answer
lost        published, never handled, and no longer in Redis
stuck       the same, and still in Redis when the time was over
gave up     the same, and put away as failed
again       handled once more after a fault that explains it, or for no reason
exits       processes that ended by themselves and were started again
done        seconds from the end of the last fault until nothing was left to do"""


@dataclass(frozen=True)
class Row:
    """One bout's line."""

    peer: Peer
    settings: str
    score: Score

    def cells(self) -> Sequence[str]:
        """What the table shows."""
        score = self.score
        return (
            self.peer.title.split(",")[0],
            self.settings,
            f"{self.peer.takes_over[SETTINGS.index(self.settings)]:g} s",
            *map(str, (score.published, score.failed, score.lost, score.stuck, score.given_up)),
            *map(str, (score.again, score.again_without_reason, score.ended)),
            "-" if score.done_after is None else f"{score.done_after:.0f}",
        )

    def data(self) -> dict[str, Any]:
        """For other programs."""
        return {
            "peer": self.peer.name, "title": self.peer.title, "settings": self.settings,
            "takes_over": self.peer.takes_over[SETTINGS.index(self.settings)], **asdict(self.score),
        }  # fmt: skip


def table(rows: Iterable[Row]) -> str:
    """All of them, and what the columns mean."""
    lines = [*_HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD[0]))]
    text = [
        " ".join(cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in pairs).rstrip()
        for pairs in (enumerate(zip(line, widths, strict=True)) for line in lines)
    ]
    return "\n".join([*text, "", _KEY])
