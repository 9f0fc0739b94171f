"""Events of the users area."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, EmailStr, Field

from streams.events.event import Event
from streams.events.privacy import PII


class UserRegistered(Event, stream="users", version=1):
    """A person has signed up and may be written to."""

    user_id: int = Field(ge=0)
    email: Annotated[EmailStr, PII]
    name: Annotated[str, PII, Field(min_length=1, max_length=200)]


class PasswordResetRequested(Event, stream="users", version=1):
    """A person has asked for a new password.

    It carries `reset_id`, a reference: the token itself is made when the mail is sent and is stored hashed, because
    a token in a stream could be read from its log, its backups and its dead letters.
    """

    user_id: int = Field(ge=0)
    email: Annotated[EmailStr, PII]
    reset_id: str = Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")
    expires_at: AwareDatetime
