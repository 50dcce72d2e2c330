"""A latency histogram with fixed logarithmic buckets, so that any two can be added.

Bucket ``b`` holds values in ``[10 · 2^(b/4), 10 · 2^((b+1)/4))`` microseconds. The layout is part of
the wire: it never changes.
"""

from __future__ import annotations

import math
from typing import Any, Dict

#: Microseconds where the first bucket begins; everything below counts as this.
LOWEST_US = 10.0
#: 10 µs · 2^(104/4) ≈ 671 s: past any request.
BUCKETS = 104


def bucket_of(value_us: int) -> int:
    """The bucket that a value falls into."""
    ratio = max(value_us / LOWEST_US, 1.0)
    return min(int(math.log2(ratio) * 4.0), BUCKETS - 1)


class Histogram:
    """Counts per bucket, with sum."""

    __slots__ = ("buckets", "count", "sum_us")

    def __init__(self) -> None:
        self.count = 0
        self.sum_us = 0
        self.buckets: Dict[int, int] = {}

    def record(self, value_us: int) -> None:
        """Counts one value."""
        self.count += 1
        self.sum_us += value_us
        bucket = bucket_of(value_us)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def bucket_at(self, share: float) -> int:
        """The bucket that the value at this share, from the lowest, is in; the last one of none."""
        left = math.ceil(self.count * share)
        for bucket, count in sorted(self.buckets.items()):
            left -= count
            if left <= 0:
                return bucket
        return BUCKETS - 1

    def to_json(self) -> Dict[str, Any]:
        """As it stands in a beat: buckets that are not empty, in rising order."""
        buckets = [[bucket, count] for bucket, count in sorted(self.buckets.items())]
        return {"count": self.count, "sum_us": self.sum_us, "buckets": buckets}
