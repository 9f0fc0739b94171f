"""The mail with which a person chooses a new password. Its token is made when the mail is."""

from __future__ import annotations

import structlog

from processors.email.mail_backoff import Deferred
from processors.email.outgoing_mail import OutgoingMail
from processors.email.reset_tokens import mailed, mint, not_mailed
from schemas import EmailRefused, PasswordResetRequested

log = structlog.get_logger(__name__)


async def send_reset(event: PasswordResetRequested, outgoing: OutgoingMail) -> list[EmailRefused]:
    """Sends it, unless the reset has expired or was used. Raises what `OutgoingMail.send` does, and `DeadLetter` for a
    reset that is for another address.

    The link in an earlier mail ends when the server has this one. When no mail goes out (it is held, refused for now,
    or had been sent before), the earlier link works as before; when that is not known, both do.
    """
    redis, keys = outgoing.streams.redis, outgoing.streams.keys
    token = await mint(redis, keys, event.reset_id, event.email, event.expires_at)
    if token is None:
        log.info("reset.expired", event_id=outgoing.delivery.message.id, expires_at=event.expires_at.isoformat())
        return []
    try:
        refused = await outgoing.send(
            "password_reset",
            (event.email,),
            link=outgoing.settings.link(f"/reset-password/{event.reset_id}?token={token.text}"),
            until=f"{token.until.day} {token.until:%B %Y, %H:%M} UTC",
        )
    except Exception as error:
        if outgoing.outcome == "not sent":
            await not_mailed(redis, keys, event.reset_id, token)
        if isinstance(error, Deferred):
            raise Deferred(str(error), until=token.until) from None
        raise
    await (mailed if outgoing.outcome == "sent" else not_mailed)(redis, keys, event.reset_id, token)
    return refused
