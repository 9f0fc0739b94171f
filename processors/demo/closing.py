"""Closing: what is said when the story is over: what happened to each event, what was checked, and where to look."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, Final

from rich.text import Text

from observability.trace_tree import trace_tree
from processors.demo import programme
from processors.demo.cast import PREFIX, STOCK_ALERTS_TO, Cast
from processors.demo.claim import Claim
from processors.demo.screen import Screen
from processors.demo.told import Told
from streams.cli.commands.status import picture
from streams.cli.output import row, table

_TO: Final = {
    "welcome": programme.ADA,
    "reset": programme.GRACE,
    "stock": STOCK_ALERTS_TO,
    "stock again": STOCK_ALERTS_TO,
    "report": programme.ALAN,
    "busy": programme.BUSY,
    "gone": programme.GONE,
}


def fates(told: Told, cast: Cast) -> list[dict[str, Any]]:
    """What happened to each event; the crowd is one line."""
    mails, events = cast.mailbox.mails, programme.events()
    lines = []
    for name, id in told.events.items():
        trail = told.trails.get(name)
        lines.append(
            {
                "id": id,
                "type": events[name].type,
                "to": _TO[name],
                "attempts": max(1, len(cast.mailbox.replies[_TO[name]])) if name in ("busy", "gone") else 1,
                "mails": mails[id],
                "state": trail.state if trail else "unknown",
                "replays": trail.replays if trail else 0,
            }
        )
    arrived = [mails[id] for id in told.crowd]
    if told.crowd:
        lines.append(
            {
                "id": "",
                "type": f"UserRegistered x {len(told.crowd)}",
                "to": f"@{programme.CROWD}",
                "attempts": 1,
                "mails": sum(arrived),
                "state": "acked" if told.snapshot else "unknown",
                "replays": 0,
            }
        )
    return lines


def show_fates(told: Told, cast: Cast, screen: Screen) -> None:
    """The table of what happened."""
    made = table("EVENT", "TO", "ATTEMPTS", "MAILS", "HOW IT WENT", right=("ATTEMPTS", "MAILS"), whole=("EVENT", "TO"))
    for line in fates(told, cast):
        row(made, line["type"], line["to"], line["attempts"], line["mails"], _how(line, told, cast))
    screen.show(Text("\nWhat happened to each event", style="bold"))
    screen.show(made)


def _how(line: dict[str, Any], told: Told, cast: Cast) -> str:
    if not line["id"]:
        return f"sent, {cast.mailbox.duplicates(told.crowd)} twice"
    if line["state"] != "acked":
        return str(line["state"])
    if line["to"] == programme.BUSY:
        return f"sent ({' '.join(str(reply.code) for reply in cast.mailbox.replies[programme.BUSY])})"
    if line["replays"]:
        return "dead, replayed, sent"
    return "sent" if line["mails"] else "no mail: sent before"


def show_claims(claims: list[Claim], screen: Screen) -> None:
    """What was checked, and what was found."""
    made = table("", "", whole=("",))
    made.show_header = False
    for claim in claims:
        mark = Text("ok", style="green") if claim.held else Text("FAILED", style="bold red")
        row(made, mark, Text.assemble(claim.text, (f"\n{claim.found}" if claim.found else "", "dim")))
    screen.show(Text("\nWhat was checked", style="bold"))
    screen.show(made)


def show_state(told: Told, screen: Screen) -> None:
    """How it stood at the end, and the spans of the event that was retried."""
    if told.snapshot is not None:
        screen.show(Text("\nHow it stood at the end (streams status)", style="bold"))
        screen.show(picture(told.snapshot))
    if told.spans:
        screen.show(Text(f"\nThe spans of one event: the mail to {programme.BUSY}", style="bold"))
        screen.show(trace_tree(told.spans, told.events["busy"]))
    if told.spans and "upload" in told.business:
        screen.show(Text("\nWhat came of one file: from its upload to the mails", style="bold"))
        screen.show(trace_tree(told.spans, told.business["upload"]))


def show_results(told: Told, cast: Cast, screen: Screen, *, kept: bool) -> None:
    """The files that were fetched and the mails that told of them."""
    if not told.files:
        return
    made = table("WHAT", "FILE", whole=("WHAT",))
    for name, file in told.files.items():
        row(made, name, str(near(file)))
        if kept:
            row(made, "", told.links[name])
    for name, event in told.mailed.items():
        for file in cast.mailbox.of(event):
            row(made, f"mail: {name}", str(near(file)))
    screen.show(Text("\nWhat was made, and its mails", style="bold"))
    screen.show(made)


def show_places(cast: Cast, screen: Screen, *, kept: bool) -> None:
    """Where everything is, and what to try next."""
    count = len(list(cast.mailbox.directory.glob("*.eml")))
    screen.show(Text("\nWhere it is", style="bold"))
    screen.show(f"{count} mails (.eml)  {near(cast.mailbox.directory)}")
    screen.show(f"{'logs':<{len(str(count)) + 13}}  {near(cast.logs)}")
    screen.show(Text("\nWhat to try next", style="bold"))
    streams = command()
    if not kept:
        screen.show(f"{streams} demo --keep    leaves it up, to look around in")
        return
    screen.show(f"export REDIS_URL={shlex.quote(cast.redis.url)} QUEUE_PREFIX={PREFIX}")
    for arguments in (
        "status --watch",
        "dead ls email",
        "tail users",
        "publish UserRegistered user_id=5 email=you@example.com name=You",
    ):
        screen.show(f"{streams} {arguments}")
    screen.show(f"\nIt is still running: {', '.join(cast.running())}")
    screen.show(f"{streams} demo --stop {shlex.quote(str(near(cast.directory)))}    ends exactly that")


def command() -> str:
    """How `streams` is called from here."""
    beside = Path(sys.executable).parent / "streams"
    if (found := shutil.which("streams")) and Path(found).resolve() == beside.resolve():
        return "streams"
    if beside.exists():
        return shlex.quote(str(near(beside)))
    return f"{shlex.quote(str(near(Path(sys.executable))))} -m streams"


def near(path: Path) -> Path:
    """The path from here, when it is below here: shorter to read and to type."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def verdict(claims: list[Claim], cast: Cast, seconds: float) -> Text:
    """The last line."""
    failed = [claim for claim in claims if not claim.held]
    if not failed:
        return Text(f"\nAll {len(claims)} checks held, in {seconds:.0f} s.", style="bold green")
    told = "; ".join(f"{claim.text} ({claim.found})" for claim in failed)
    return Text(f"\nThis did not hold: {told}\nThe logs are in {cast.logs}", style="bold red")
