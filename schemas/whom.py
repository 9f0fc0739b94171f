"""Whom: the address of the person who asked for something."""

from __future__ import annotations

from typing import Annotated

from pydantic import EmailStr

from streams.events.privacy import PII

Whom = Annotated[EmailStr | None, PII]
"""Who asked, and hears of the outcome; nobody when it is left out."""
