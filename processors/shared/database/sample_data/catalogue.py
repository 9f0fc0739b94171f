"""Catalogue: the made-up businesses of the demo and what they sell, the same again from the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Final


@dataclass(frozen=True, slots=True)
class Line:
    """A category of goods: its words, its prices, and the day of the year on which it sells best."""

    name: str
    articles: tuple[str, ...]
    cheapest: float
    dearest: float
    peak: int  # day of the year
    swing: float  # 0.3: 30 % more than the mean at the peak, 30 % less half a year later


@dataclass(frozen=True, slots=True)
class Shop:
    """A business: its share of all products and sales, its best days of the week, its growth over a year."""

    name: str
    currency: str
    code: str
    share: float
    weekdays: tuple[float, ...]  # Monday first
    growth: float
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """A product before it has a number in the database."""

    sku: str
    name: str
    line: Line
    price: Decimal
    popularity: float


_RETAIL: Final = (0.8, 0.8, 0.9, 1.0, 1.3, 1.7, 0.5)
_TRADE: Final = (1.3, 1.2, 1.2, 1.1, 1.0, 0.9, 0.1)
_ONLINE: Final = (1.2, 1.0, 0.95, 0.95, 0.9, 0.9, 1.3)

SHOPS: Final = (
    Shop("Alder & Finch Hardware", "GBP", "ALD", 0.45, _TRADE, 0.08, (
        Line("Fixings", ("wood screws", "wall plugs", "hex bolts", "angle brackets", "cup hooks"), 2.5, 24, 140, 0.15),
        Line("Hand tools", ("claw hammer", "tenon saw", "chisel set", "spirit level", "pliers"), 8, 85, 330, 0.25),
        Line("Garden", ("hand fork", "hose reel", "secateurs", "watering can", "raised bed"), 6, 140, 130, 0.75),
        Line("Paint", ("wall paint", "primer", "masking tape", "roller set", "wood stain"), 4, 70, 190, 0.35),
    )),
    Shop("Kestrel Kitchenware", "EUR", "KES", 0.35, _RETAIL, 0.15, (
        Line("Pans", ("frying pan", "saucepan", "casserole", "wok", "roasting tin"), 14, 180, 345, 0.4),
        Line("Knives", ("chef's knife", "paring knife", "bread knife", "sharpening stone"), 12, 220, 345, 0.45),
        Line("Baking", ("loaf tin", "whisk", "rolling pin", "cake ring", "scales"), 3, 60, 340, 0.55),
        Line("Table", ("dinner plate", "water glass", "serving bowl", "linen napkin"), 4, 55, 350, 0.3),
    )),
    Shop("Nordlys Outdoor", "EUR", "NOR", 0.20, _ONLINE, 0.30, (
        Line("Tents", ("ridge tent", "tarp", "ground sheet", "tent pegs"), 9, 520, 170, 0.7),
        Line("Clothing", ("rain jacket", "wool base layer", "walking socks", "gaiters"), 12, 260, 310, 0.35),
        Line("Light & fire", ("head torch", "gas stove", "lantern", "fire steel"), 8, 130, 300, 0.3),
    )),
)  # fmt: skip

_FINISHES: Final = (
    "oak", "steel", "brass", "slate", "copper", "birch", "black", "sand", "moss", "blue", "zinc", "ash",
)  # fmt: skip
_SIZES: Final = ("small", "medium", "large", "compact", "pair", "set of 4", "set of 12", "20 cm", "28 cm", "1 l", "5 l")


def items(shop: Shop, count: int, random: Random) -> Iterator[Item]:
    """The products of a shop, the most popular first; a few sell a lot, most sell little."""
    for number in range(1, count + 1):
        line = shop.lines[random.randrange(len(shop.lines))]
        article, finish, size = random.choice(line.articles), random.choice(_FINISHES), random.choice(_SIZES)
        # Spread evenly over orders of magnitude, and ending in 9 as prices do.
        amount = line.cheapest * (line.dearest / line.cheapest) ** random.random()
        price = max(Decimal("0.99"), Decimal(round(amount, 1)).quantize(Decimal("0.1")) - Decimal("0.01"))
        yield Item(
            sku=f"{shop.code}-{number:05d}",
            name=f"{article[0].upper()}{article[1:]}, {finish}, {size}",
            line=line,
            price=price.quantize(Decimal("0.01")),
            popularity=1 / (number + 8) ** 0.75,
        )
