"""What the spans of a message are called and carry: an allow-list of ids, names and counts.

Names of the OpenTelemetry semantic conventions for messaging come from its package; what they lack stands here under
`messaging.redis.`. Texts from outside are cut, because an id may be as long as its publisher likes.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.semconv._incubating.attributes import cloudevents_attributes as cloudevents
from opentelemetry.semconv._incubating.attributes import messaging_attributes as messaging

from streams.events import registered
from streams.messages import (
    Acked,
    Cancelled,
    DeadLettered,
    Delivery,
    Expired,
    Message,
    Outcome,
    Released,
    Retried,
    Snoozed,
)

ATTEMPT: Final = "messaging.redis.message.attempt"
"""Handler failures of the event in this group, plus one."""

DELIVERIES: Final = "messaging.redis.message.deliveries"
"""Deliveries of the event by Redis to this group, crashes included."""

OUTCOME: Final = "messaging.redis.outcome"
"""How the delivery ended: acked, skipped, retried, snoozed, dead_lettered, released, cancelled or expired."""

_LONGEST_NAME: Final = 128
_LONGEST_ID: Final = 256
_ENDED: Final[dict[type[Outcome], tuple[str, str]]] = {  # outcome -> the verb that settles it, its name
    Acked: ("ack", "acked"),
    Retried: ("retry", "retried"),
    Snoozed: ("snooze", "snoozed"),
    DeadLettered: ("dead_letter", "dead_lettered"),
    Released: ("release", "released"),
    Cancelled: ("cancel", "cancelled"),
    Expired: ("expire", "expired"),
}


def operation(name: str, kind: str, destination: str) -> dict[str, str | int]:
    """What is done: `create`, `publish`, `process` or the verb that settles; `kind` is its semantic class."""
    attributes: dict[str, str | int] = {
        messaging.MESSAGING_SYSTEM: "redis",
        messaging.MESSAGING_OPERATION_NAME: name,
        messaging.MESSAGING_OPERATION_TYPE: kind,
    }
    if destination:
        attributes[messaging.MESSAGING_DESTINATION_NAME] = destination
    return attributes


def identity(message: Message) -> dict[str, str]:
    """Which event it is done to."""
    return {
        messaging.MESSAGING_MESSAGE_ID: message.id[:_LONGEST_ID],
        messaging.MESSAGING_MESSAGE_CONVERSATION_ID: message.correlation_id[:_LONGEST_ID],
        cloudevents.CLOUDEVENTS_EVENT_ID: message.id[:_LONGEST_ID],
        cloudevents.CLOUDEVENTS_EVENT_TYPE: message.type[:_LONGEST_NAME],
        cloudevents.CLOUDEVENTS_EVENT_SOURCE: message.source[:_LONGEST_ID],
    }


def holder(delivery: Delivery) -> dict[str, str]:
    """Who holds it: group and consumer."""
    return {
        messaging.MESSAGING_CONSUMER_GROUP_NAME: delivery.group,
        messaging.MESSAGING_CLIENT_ID: delivery.consumer,
    }


def destination_of(message: Message) -> str:
    """The domain stream of a known event; of an unknown one its type, so that it differs from others."""
    event = registered(message.type)
    return event.stream if event else message.type[:_LONGEST_NAME]


def outcome_name(outcome: Outcome) -> str:
    """The outcome in the words of `messaging.redis.outcome`."""
    return "skipped" if isinstance(outcome, Acked) and outcome.skipped else _ENDED[type(outcome)][1]


def settle_operation(outcome: Outcome) -> str:
    """What a settle span is called after: `ack`, `retry`, `snooze`, `dead_letter`, `release` or `cancel`."""
    return _ENDED[type(outcome)][0]
