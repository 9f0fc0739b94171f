"""Summary: what is said when the scenario is over: what happened to each event, what was checked, and where to look."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, Final

from rich.text import Text

from streams.cli.commands.status import picture
from streams.cli.output import row, table

from . import events as demo_events
from .check import Check
from .display import Display
from .environment import PREFIX, STOCK_ALERTS_TO, Environment
from .results import Results
from .trace_tree import trace_tree

_TO: Final = {
    "welcome": demo_events.ADA,
    "reset": demo_events.GRACE,
    "stock": STOCK_ALERTS_TO,
    "stock again": STOCK_ALERTS_TO,
    "report": demo_events.ALAN,
    "busy": demo_events.BUSY,
    "gone": demo_events.GONE,
}


def fates(results: Results, environment: Environment) -> list[dict[str, Any]]:
    """What happened to each event; the crowd is one line."""
    mails, events = environment.mail_log.mails, demo_events.events()
    lines = []
    for name, id in results.events.items():
        trail = results.trails.get(name)
        lines.append(
            {
                "id": id,
                "type": events[name].type,
                "to": _TO[name],
                "attempts": max(1, len(environment.mail_log.replies[_TO[name]])) if name in ("busy", "gone") else 1,
                "mails": mails[id],
                "state": trail.state if trail else "unknown",
                "replays": trail.replays if trail else 0,
            }
        )
    arrived = [mails[id] for id in results.crowd]
    if results.crowd:
        lines.append(
            {
                "id": "",
                "type": f"UserRegistered x {len(results.crowd)}",
                "to": f"@{demo_events.CROWD}",
                "attempts": 1,
                "mails": sum(arrived),
                "state": "acked" if results.snapshot else "unknown",
                "replays": 0,
            }
        )
    return lines


def show_fates(results: Results, environment: Environment, display: Display) -> None:
    """The table of what happened."""
    made = table("EVENT", "TO", "ATTEMPTS", "MAILS", "HOW IT WENT", right=("ATTEMPTS", "MAILS"), whole=("EVENT", "TO"))
    for line in fates(results, environment):
        row(made, line["type"], line["to"], line["attempts"], line["mails"], _how(line, results, environment))
    display.show(Text("\nWhat happened to each event", style="bold"))
    display.show(made)


def _how(line: dict[str, Any], results: Results, environment: Environment) -> str:
    if not line["id"]:
        return f"sent, {environment.mail_log.duplicates(results.crowd)} twice"
    if line["state"] != "acked":
        return str(line["state"])
    if line["to"] == demo_events.BUSY:
        return f"sent ({' '.join(str(reply.code) for reply in environment.mail_log.replies[demo_events.BUSY])})"
    if line["replays"]:
        return "dead, replayed, sent"
    return "sent" if line["mails"] else "no mail: sent before"


def show_claims(checks: list[Check], display: Display) -> None:
    """What was checked, and what was found."""
    made = table("", "", whole=("",))
    made.show_header = False
    for check in checks:
        mark = Text("ok", style="green") if check.held else Text("FAILED", style="bold red")
        row(made, mark, Text.assemble(check.text, (f"\n{check.found}" if check.found else "", "dim")))
    display.show(Text("\nWhat was checked", style="bold"))
    display.show(made)


def show_state(results: Results, display: Display) -> None:
    """How it stood at the end, and the spans of the event that was retried."""
    if results.snapshot is not None:
        display.show(Text("\nHow it stood at the end (streams status)", style="bold"))
        display.show(picture(results.snapshot))
    if results.spans:
        display.show(Text(f"\nThe spans of one event: the mail to {demo_events.BUSY}", style="bold"))
        display.show(trace_tree(results.spans, results.events["busy"]))
    if results.spans and "upload" in results.business:
        display.show(Text("\nWhat came of one file: from its upload to the mails", style="bold"))
        display.show(trace_tree(results.spans, results.business["upload"]))


def show_results(results: Results, environment: Environment, display: Display, *, kept: bool) -> None:
    """The files that were fetched and the mails about them."""
    if not results.files:
        return
    made = table("WHAT", "FILE", whole=("WHAT",))
    for name, file in results.files.items():
        row(made, name, str(near(file)))
        if kept:
            row(made, "", results.links[name])
    for name, event in results.mailed.items():
        for file in environment.mail_log.of(event):
            row(made, f"mail: {name}", str(near(file)))
    display.show(Text("\nWhat was made, and its mails", style="bold"))
    display.show(made)


def show_places(environment: Environment, display: Display, *, kept: bool) -> None:
    """Where everything is, and what to try next."""
    count = len(list(environment.mail_log.directory.glob("*.eml")))
    display.show(Text("\nWhere it is", style="bold"))
    display.show(f"{count} mails (.eml)  {near(environment.mail_log.directory)}")
    display.show(f"{'logs':<{len(str(count)) + 13}}  {near(environment.logs)}")
    display.show(Text("\nWhat to try next", style="bold"))
    streams = command()
    if not kept:
        display.show(f"{streams} demo --keep    leaves it up, to look around in")
        return
    display.show(f"export REDIS_URL={shlex.quote(environment.redis.url)} QUEUE_PREFIX={PREFIX}")
    for arguments in (
        "status --watch",
        "dead ls email",
        "tail users",
        "publish UserRegistered user_id=5 email=you@example.com name=You",
    ):
        display.show(f"{streams} {arguments}")
    display.show(f"\nIt is still running: {', '.join(environment.running())}")
    display.show(f"{streams} demo --stop {shlex.quote(str(near(environment.directory)))}    ends exactly that")


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


def verdict(checks: list[Check], environment: Environment, seconds: float) -> Text:
    """The last line."""
    failed = [check for check in checks if not check.held]
    if not failed:
        return Text(f"\nAll {len(checks)} checks held, in {seconds:.0f} s.", style="bold green")
    failures = "; ".join(f"{check.text} ({check.found})" for check in failed)
    return Text(f"\nThis did not hold: {failures}\nThe logs are in {environment.logs}", style="bold red")
