"""MailRules: how the fake mail server behaves, as one JSON document."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Rule(BaseModel):
    """What happens to a recipient: `code` as the reply, for the first `times` times (for ever when None).

    A code of 400 and above is given `at` RCPT or after the content (`data`), and that of `*` also at MAIL; nothing is
    kept then. `drop` cuts the
    connection after the content instead of replying: with a `code` below 400 the mail is kept all the same, which is
    the case that looks like a loss to a client. `delay` is how many seconds the reply is late; a mail is kept before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: int = Field(250, ge=200, le=599)
    times: int | None = Field(None, ge=0)
    at: Literal["mail", "rcpt", "data"] = "rcpt"
    drop: bool = False
    delay: float = Field(0.0, ge=0, le=3600)
    text: str = "as scripted"


class MailRules(BaseModel):
    """How the mail server behaves. `recipients` maps an address, `@domain` or `*` to its rule; the closest one holds.

    `refuse` turns every new connection away with 421; `listening` false closes the port and the open connections.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipients: dict[str, Rule] = {}
    refuse: bool = False
    listening: bool = True

    @classmethod
    def read(cls, file: Path) -> MailRules | None:
        """Reads a file of rules; one that is missing has none, one that cannot be read is None and said so."""
        try:
            return cls.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return cls()
        except ValidationError as error:  # half written, or a mistake: what follows it goes on as before
            sys.stderr.write(f"{file}: not a script: {error.errors()[0]['msg']}\n")
            return None
