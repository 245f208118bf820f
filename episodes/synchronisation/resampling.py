"""Which message belongs to a time: the nearest, the last before, or the two around; ticks of a fixed rate.

All times are int64 nanoseconds; float64 cannot hold those since 1970, so only differences become numbers.
"""

import dataclasses
from fractions import Fraction

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Bracket:
    """Samples on both sides of T times.

    Attributes:
      before, after: int64 [T], indices; the same where a time is that of a sample.
      weight: float64 [T] in [0, 1), of ``after``.
      skew_ns: int64 [T], time of the nearer sample minus the time.
      width_ns: int64 [T], from one to the other.
    """

    before: np.ndarray
    after: np.ndarray
    weight: np.ndarray
    skew_ns: np.ndarray
    width_ns: np.ndarray


def nearest(times_ns: np.ndarray, stamps_ns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The message nearest to each time; of two at the same distance the earlier, of equal stamps the first.

    Args:
      times_ns: int64 [T], in any order.
      stamps_ns: int64 [n], n > 0, in any order.

    Returns:
      index: int64 [T] into ``stamps_ns``.
      skew_ns: int64 [T], the message's stamp minus the time.

    Raises:
      ValueError: no messages.
    """
    stamps, first = _in_order(stamps_ns)
    after = np.minimum(np.searchsorted(stamps, times_ns), len(stamps) - 1)
    before = np.maximum(after - 1, 0)
    chosen = np.where(np.abs(times_ns - stamps[before]) <= np.abs(stamps[after] - times_ns), before, after)
    return first[chosen], stamps[chosen] - times_ns


def last_before(times_ns: np.ndarray, stamps_ns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The last message at or before each time; of equal stamps the first. Arguments as for ``nearest``.

    Raises:
      ValueError: no messages, or a time before all of them.
    """
    stamps, first = _in_order(stamps_ns)
    chosen = np.searchsorted(stamps, times_ns, side="right") - 1
    if (chosen < 0).any():
        raise ValueError(
            f"Times must not be before the first message. Received: {times_ns.min()} < {stamps[0]}"
        )
    return first[chosen], stamps[chosen] - times_ns


def bracket(times_ns: np.ndarray, stamps_ns: np.ndarray) -> Bracket:
    """The samples on both sides of each time; of equal stamps the first counts.

    Args:
      times_ns: int64 [T], in any order.
      stamps_ns: int64 [n], n > 0, in any order.

    Raises:
      ValueError: no samples, or a time outside of them: nothing is extrapolated.
    """
    stamps, first = _in_order(stamps_ns)
    if len(times_ns) and not (stamps[0] <= times_ns.min() and times_ns.max() <= stamps[-1]):
        raise ValueError(
            f"Times must be within the samples, {stamps[0]} to {stamps[-1]} ns. "
            f"Received: {times_ns.min()} to {times_ns.max()} ns"
        )
    after = np.searchsorted(stamps, times_ns)
    before = np.where(stamps[after] == times_ns, after, after - 1)
    since, until = times_ns - stamps[before], stamps[after] - times_ns
    weight = since / np.maximum(since + until, 1)
    skew = np.where(since <= until, -since, until)
    return Bracket(first[before], first[after], weight, skew, since + until)


def interpolate(
    times_ns: np.ndarray, stamps_ns: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, Bracket]:
    """Linear interpolation between the two samples around each time.

    Args:
      times_ns, stamps_ns: see ``bracket``.
      values: [n] or [n, k].

    Returns:
      float64 [T] or [T, k]; and what it was interpolated from. Its error is at most h^2 / 8 times the
      largest second derivative, h being the bracket's width.

    Raises:
      ValueError: as ``bracket``.
    """
    around = bracket(times_ns, stamps_ns)
    start, end = values[around.before], values[around.after]
    weight = around.weight.reshape(-1, *[1] * (values.ndim - 1))
    return start + weight * (end - start), around


def ticks(start_ns: int, end_ns: int, rate_hz: float) -> np.ndarray:
    """Times of a fixed rate from ``start_ns`` to at most ``end_ns``, int64 [T].

    Tick k is at k / rate, rounded to the nanosecond, so that it does not drift however long it runs. Rates
    are taken as the nearest fraction of a denominator up to a million: 29.97 is 2997 / 100.
    """
    rate = Fraction(rate_hz).limit_denominator(10**6)
    period = 10**9 / rate
    count = (end_ns - start_ns) // period + 1
    twice, divisor = 2 * period.numerator, 2 * period.denominator
    offsets = [(k * twice + period.denominator) // divisor for k in range(count)]
    return start_ns + np.array(offsets, np.int64)


def _in_order(stamps_ns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stamps ascending and each once, and the first message that has each."""
    if not len(stamps_ns):
        raise ValueError("A topic must have messages to take one from. Received: none")
    if (stamps_ns[1:] > stamps_ns[:-1]).all():
        return stamps_ns, np.arange(len(stamps_ns))
    return np.unique(stamps_ns, return_index=True)
