"""Sums over stretches of a track: bases covered, minimum, maximum, sum and sum of squares, as bigWig stores them."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

_ZOOM = np.dtype(
    [("contig", "<u4"), ("start", "<u4"), ("end", "<u4"), ("covered", "<u4")]
    + [(name, "<f4") for name in ("low", "high", "total", "squares")]
)


class Records(NamedTuple):
    """Summaries of stretches of bases, one array a column; sums in float64 until they are stored."""

    contig: np.ndarray
    start: np.ndarray
    end: np.ndarray
    covered: np.ndarray
    low: np.ndarray
    high: np.ndarray
    total: np.ndarray
    squares: np.ndarray

    @classmethod
    def none(cls) -> Records:
        """No record."""
        return cls(*(np.empty(0, np.int64) for _ in range(4)), *(np.empty(0, np.float64) for _ in range(4)))

    @classmethod
    def of_items(cls, contig: np.ndarray, start: np.ndarray, end: np.ndarray, values: np.ndarray) -> Records:
        """One record an item."""
        value, covered = values.astype(np.float64), end - start
        total = value * covered
        return cls(contig, start, end, covered, value, value, total, total * value)

    def rows(self, rows: slice) -> Records:
        """Some of the records."""
        return Records(*(column[rows] for column in self))

    def then(self, other: Records) -> Records:
        """These records and, after them, others."""
        return Records(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))

    def reduce(self, reduction: int) -> Records:
        """One record for all that start in the same `reduction` bases of a contig.

        Items are not cut at the border: a record reaches to the end of its last item, so its sums are exact.
        """
        key = self.contig << 32 | self.start // reduction
        first = np.flatnonzero(np.diff(key, prepend=-1))
        if len(first) == len(key):
            return self
        last = np.append(first[1:], len(key)) - 1
        return Records(
            self.contig[first],
            self.start[first],
            self.end[last],
            np.add.reduceat(self.covered, first),
            np.minimum.reduceat(self.low, first),
            np.maximum.reduceat(self.high, first),
            np.add.reduceat(self.total, first),
            np.add.reduceat(self.squares, first),
        )


class Summary:
    """The total summary: bases covered, minimum, maximum, sum and sum of squares over bases."""

    def __init__(self) -> None:
        self.covered, self.low, self.high, self.total, self.squares = 0, np.inf, -np.inf, 0.0, 0.0

    def add(self, records: Records) -> None:
        """Count records in."""
        self.covered += int(records.covered.sum())
        self.low, self.high = min(self.low, records.low.min()), max(self.high, records.high.max())
        self.total += float(records.total.sum())
        self.squares += float(records.squares.sum())

    def pack(self) -> bytes:
        """As stored; zeros when nothing was covered."""
        low, high = (self.low, self.high) if self.covered else (0.0, 0.0)
        return struct.pack("<Qdddd", self.covered, low, high, self.total, self.squares)


def pack(records: Records) -> np.ndarray:
    """Zoom records as stored, in float32: a sum too large for it becomes its largest number."""
    packed = np.empty(len(records.start), _ZOOM)
    largest = float(np.finfo(np.float32).max)
    for name, column in zip(records._fields, records, strict=True):
        packed[name] = np.clip(column, -largest, largest) if column.dtype == np.float64 else column
    return packed
