"""Requester: the address of the user that asked for something."""

from __future__ import annotations

from typing import Annotated

from pydantic import EmailStr

from streams.events.privacy import PII

Requester = Annotated[EmailStr | None, PII]
"""The user that asked, and gets a mail with the outcome; no mail when it is left out."""
