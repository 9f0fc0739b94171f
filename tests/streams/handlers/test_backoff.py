"""The retry policy: pure, so its whole range can be tried."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from streams import Backoff


def test_three_attempts_are_two_retries_at_about_2_and_4_seconds() -> None:
    """The guide's policy, and the default: true on average, spread by as much as itself."""
    policy = Backoff()
    error = RuntimeError()
    for random, first, second in ((0.0, 1.0, 2.0), (0.5, 2.0, 4.0), (0.999999, 3.0, 6.0)):
        assert policy.next_delay(1, error, lambda random=random: random) == pytest.approx(first, rel=1e-4)  # type: ignore[misc]
        assert policy.next_delay(2, error, lambda random=random: random) == pytest.approx(second, rel=1e-4)  # type: ignore[misc]
    assert policy.next_delay(3, error) is None


def test_a_policy_says_what_it_gives_up_on() -> None:
    """Nothing, unless it names classes: one, or a collection. A group of exceptions is looked into."""
    with pytest.raises(ValidationError) as bad:
        TypeAdapter(int).validate_python("x")
    for error in (bad.value, TypeError(), NameError(), AttributeError(), ImportError()):
        assert Backoff().next_delay(1, error) is not None
    for named in ((LookupError,), LookupError, [LookupError], {OSError, LookupError}):
        policy = Backoff(give_up_on=named)  # type: ignore[arg-type]
        assert policy.next_delay(1, KeyError()) is None
        assert policy.next_delay(1, TypeError()) is not None
        group = ExceptionGroup("some", [TypeError(), ExceptionGroup("more", [KeyError()])])
        assert policy.next_delay(1, group) is None
    assert Backoff(give_up_on=(ExceptionGroup,)).next_delay(1, group) is None


@given(
    st.integers(1, 10**6), st.floats(0, 1e6), st.floats(1, 1e6), st.floats(0, 1e6), st.floats(0, 1),
    st.floats(0, 1, exclude_max=True),
)  # fmt: skip
def test_delays_stay_in_their_bounds(
    failures: int, first: float, factor: float, most: float, jitter: float, random: float
) -> None:
    """Never negative, never above the cap by more than half the jitter, also where the exponent overflows."""
    policy = Backoff(attempts=10**7, first=first, factor=factor, most=most, jitter=jitter)
    delay = policy.next_delay(failures, RuntimeError(), lambda: random)
    assert delay is not None
    assert 0 <= delay <= most * (1 + jitter / 2) * 1.0001


def test_failures_that_began_together_come_back_apart() -> None:
    """10,000 at once: no 100 ms window gets more than three times its share."""
    delays = [Backoff().next_delay(1, RuntimeError()) or 0 for _ in range(10_000)]
    windows = [0] * 20
    for delay in delays:
        windows[int((delay - 1) * 10)] += 1
    assert max(windows) <= 3 * len(delays) / len(windows)


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"jitter": 2},
        {"factor": 0.5},
        {"first": -1},
        {"most": timedelta(seconds=-1)},
        {"attempts": "3"},
        {"attempts": True},
        {"attempts": 2.5},
        {"jitter": "1"},
        {"factor": None},
        {"give_up_on": "KeyError"},
        {"give_up_on": (KeyError, "OSError")},
        {"give_up_on": (int,)},
        {"give_up_on": 5},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    """Where it is written."""
    with pytest.raises(ValueError, match="must be"):
        Backoff(**wrong)  # type: ignore[arg-type]
