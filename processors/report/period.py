"""Period: the days that a report is about, both ends included."""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

Step = Literal["day", "week", "month"]


@dataclass(frozen=True, slots=True)
class Period:
    """From the first day to the last one."""

    first: date
    last: date

    @classmethod
    def month_before(cls, day: date) -> Period:
        """The calendar month before the one that a day is in."""
        last = day.replace(day=1) - timedelta(days=1)
        return cls(last.replace(day=1), last)

    @property
    def days(self) -> int:
        """How many there are."""
        return (self.last - self.first).days + 1

    @property
    def months(self) -> int:
        """How many calendar months it is; 0 when it is not made of whole ones."""
        if self.first.day != 1 or self.last.day != monthrange(self.last.year, self.last.month)[1]:
            return 0
        return _month(self.last) - _month(self.first) + 1

    def before(self) -> Period:
        """The period before it that it is compared with: as many whole months, or else as many days."""
        last = self.first - timedelta(days=1)
        if not (months := self.months):
            return Period(last - timedelta(days=self.days - 1), last)
        number = _month(self.first) - months
        return Period(date(number // 12, number % 12 + 1, 1), last)

    @property
    def step(self) -> Step:
        """How finely it is drawn: some ten to forty points."""
        return "day" if self.days <= 45 else "week" if self.days <= 200 else "month"

    def steps(self) -> list[date]:
        """The first day of each step; a week is seven days from the first day on."""
        if self.step != "month":
            return [self.first + timedelta(days=at) for at in range(0, self.days, 1 if self.step == "day" else 7)]
        numbers = range(_month(self.first) + 1, _month(self.last) + 1)
        return [self.first, *(date(number // 12, number % 12 + 1, 1) for number in numbers)]

    def step_of(self, day: date, step: Step) -> int:
        """The number of the step that a day is in, from 0."""
        if step == "month":
            return _month(day) - _month(self.first)
        return (day - self.first).days // (1 if step == "day" else 7)

    def __str__(self) -> str:
        first, last = self.first, self.last
        if self.months == 1:
            return f"{last:%B %Y}"
        if first == last:
            return f"{last.day} {last:%B %Y}"
        if (first.year, first.month) == (last.year, last.month):
            return f"{first.day} to {last.day} {last:%B %Y}"
        return f"{first.day} {first:%B}{'' if first.year == last.year else f' {first.year}'} to {last.day} {last:%B %Y}"


def _month(day: date) -> int:
    return day.year * 12 + day.month - 1
