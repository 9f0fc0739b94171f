"""configured: the email processor with what only the settings know: rate and tries of mails, the time of the digest."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

from processors.email.digest_times import is_local
from processors.email.handlers import daily_digest
from processors.email.mail_backoff import MailBackoff
from streams import Backoff, Limit, Settings

if TYPE_CHECKING:
    from processors.email.settings import EmailSettings
    from streams import Processor


def apply_settings(processor: Processor, settings: EmailSettings) -> Processor:
    """A copy of the processor as it is run with these settings; importing it reads none.

    With `EMAIL_RATE` its handlers share one limit: a mail server counts mails, not what they are about. An address in
    `EMAIL_DIGEST_TO` adds the schedule `email.daily_digest`.
    """
    made = copy(processor)
    made.subscriptions, made.schedules = dict(processor.subscriptions), dict(processor.schedules)
    made.dead_letter_functions = dict(processor.dead_letter_functions)
    engine = (
        Settings.load()
    )  # QUEUE_DEFAULT_ATTEMPTS and QUEUE_DEFAULT_BACKOFF hold for what is no refusal of the server
    deferred = Backoff(
        attempts=settings.email_retry_attempts, first=settings.email_retry_first, most=settings.email_retry_most
    )
    made.retry = MailBackoff(attempts=engine.attempts, first=engine.backoff / 1000, deferred=deferred)
    if settings.email_rate is not None:
        limit = Limit(rate=settings.email_rate, name="mails")
        for type, subscription in made.subscriptions.items():
            made.subscriptions[type] = replace(subscription, limit=limit)
    if settings.email_digest_to:
        if is_local(settings):
            # It looks whose time has come; after a pause at each quarter of an hour that was missed.
            made.cron("*/15 * * * *", misfire="all", most=96)(daily_digest)
        else:
            made.cron(settings.email_digest_cron, tz=settings.email_digest_tz or "UTC")(daily_digest)
    return made
