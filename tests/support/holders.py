"""A holder of deliveries for tests of what is given one: it has their group and their consumer, and does nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.messages.delivery import Delivery
    from streams.messages.outcome import Outcome


@dataclass
class Held:
    """The holder of deliveries to `group`, in the hands of `consumer`. What becomes of them is written down."""

    group: str
    consumer: str = "c"
    outcomes: list[tuple[Delivery, Outcome]] = field(default_factory=list)
    settled: tuple[Sequence[tuple[Delivery, Outcome]], set[Delivery]] = ((), set())

    def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Writes an outcome down."""
        self.outcomes.append((delivery, outcome))

    def settle_batch(self, settled: list[tuple[Delivery, Outcome]]) -> None:
        """Writes outcomes down."""
        self.outcomes += settled

    async def count_suspect(self, delivery: Delivery) -> bool:
        """Makes it count."""
        delivery.count, delivery.counted = delivery.count + 1, True
        return True

    def needs_permit(self, delivery: Delivery) -> bool:
        """There is no limit."""
        return False

    def admit(self, deliveries: list[Delivery]) -> None:
        """They begin when they like."""

    def queued(self, deliveries: list[Delivery]) -> None:
        """They wait elsewhere."""

    def lost(self, deliveries: set[Delivery]) -> None:
        """Another has them."""

    def on_settled(self, settled: Sequence[tuple[Delivery, Outcome]], lost: set[Delivery]) -> None:
        """Writes down what the settlement said last."""
        self.settled = settled, lost

    def on_refused(self, deliveries: Sequence[Delivery], on: bool) -> None:
        """Redis refuses their outcome."""

    def batch_began(self) -> None:
        """Nothing reads."""
