"""MailLog: what the mail server of the demo has seen, read from its log: mails by event, and replies by recipient."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

_TOKEN: Final = re.compile(r"[?&]token=([A-Za-z0-9_-]{20,})")


class Reply(NamedTuple):
    """How the server answered one RCPT: when (seconds since 1970) and with which code."""

    time: float
    code: int


class MailLog:
    """The mails in `directory`; `look` reads what is new in the log and is cheap enough for every moment.

    `mails` counts by event id, which is how a Message-ID begins: more than one is a duplicate.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mails: Counter[str] = Counter()
        self.replies: defaultdict[str, list[Reply]] = defaultdict(list)
        self.scripts = 0
        self._read = 0

    def look(self) -> MailLog:
        """Reads what was logged since the last look; a line that is still being written is left for the next one."""
        try:
            with (self.directory / "log.jsonl").open("rb") as log:
                log.seek(self._read)
                fresh = log.read()
        except FileNotFoundError:
            return self
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            self._take(orjson.loads(line))
        return self

    def _take(self, line: dict[str, Any]) -> None:
        match line["event"]:
            case "accepted":
                self.mails[event_of(line["message_id"])] += 1
            case "rcpt":
                self.replies[line["recipients"][0]].append(Reply(line["time"], line["code"]))
            case "scripted":
                self.scripts += 1

    @property
    def taken(self) -> int:
        """How many different mails were taken."""
        return len(self.mails)

    def duplicates(self, events: set[str]) -> int:
        """How many mails came more than once about these events, each copy counted."""
        return sum(count - 1 for event, count in self.mails.items() if event in events)

    def of(self, event: str) -> list[Path]:
        """The mails about this event, oldest first."""
        return [
            file for file in sorted(self.directory.glob("*.eml")) if event_of(str(_read(file)["Message-ID"])) == event
        ]

    def token(self, event: str) -> str:
        """The secret in the link of the mail about this event; empty when there is none."""
        for file in self.of(event):
            body = _read(file).get_body(("plain",))
            found = _TOKEN.search(body.get_content() if body else "")
            return found[1] if found else ""
        return ""


def _read(file: Path) -> EmailMessage:
    return message_from_bytes(file.read_bytes(), policy=policy.default)


def event_of(message_id: str) -> str:
    """The id of the event that a mail is about: its Message-ID is `<event id>.<template>@<domain>`."""
    return message_id.strip("<>").partition(".")[0]
