"""What every format asks of its input: known contigs, sorted intervals, finite values, no control characters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from mirscan.types import STRANDS, Call

CHUNK = 1 << 16
"""Intervals looked at together: temporary arrays stay small however many intervals a call brings."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def plain(text: str, what: str) -> str:
    """The text itself, if it can stand in a tab-separated field.

    Raises
    ------
    ValueError
        If it is empty or holds a tab, newline or other control character.
    """
    if not text or _CONTROL.search(text):
        raise ValueError(f"{what} {text!r} is empty or holds a control character")
    return text


def check_call(call: Call) -> None:
    """Refuse a call that no file can hold.

    Raises
    ------
    ValueError
        If a text field holds a control character, the interval is none, the strand is neither + nor -, or score or
        energy is not finite.
    """
    place = f"{call.contig!r} [{call.start}, {call.end})"
    for what, text in (("contig", call.contig), ("name", call.name)):
        plain(text, f"call at {place}: {what}")
    for what, optional in (("structure", call.structure), ("sequence", call.sequence), ("known", call.known)):
        if optional is not None:
            plain(optional, f"call at {place}: {what}")
    if not 0 <= call.start < call.end:
        raise ValueError(f"call {call.name}: {place} is no interval")
    if call.strand not in STRANDS:
        raise ValueError(f"call {call.name}: strand {call.strand!r} is neither + nor -")
    for number in (call.score, 0.0 if call.energy is None else call.energy):
        if not np.isfinite(number):
            raise ValueError(f"call {call.name} at {place}: {number} is not finite")


def shortest(score: float) -> str:
    """The shortest decimal that reads back as the same float32."""
    return str(np.float32(score))


class SortedIntervals:
    """Checks the intervals of a track as they stream by, contig after contig.

    Parameters
    ----------
    contigs : sequence of (name, length)
        All contigs in the order in which their intervals will come; those without data included.

    Raises
    ------
    ValueError
        If there is no contig, or a name is repeated, empty or holds control characters, or a length is negative.
    """

    def __init__(self, contigs: Sequence[tuple[str, int]]) -> None:
        self.names = [plain(name, "contig name") for name, _ in contigs]
        self.lengths = [int(length) for _, length in contigs]
        self._number = {name: number for number, name in enumerate(self.names)}
        if not self.names:
            raise ValueError("a track needs at least one contig")
        if len(self._number) < len(self.names):
            repeated = next(name for number, name in enumerate(self.names) if self._number[name] != number)
            raise ValueError(f"{repeated}: two contigs have this name")
        for name, length in zip(self.names, self.lengths, strict=True):
            if length < 0:
                raise ValueError(f"{name}: length {length} is negative")
        self._contig, self._start, self._end = 0, 0, 0

    def chunks(
        self, contig: int | str, start: np.ndarray, end: np.ndarray, values: np.ndarray
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
        """``(contig number, start, end, values)`` of checked intervals, `CHUNK` at a time, as int64 and float32.

        Parameters
        ----------
        contig : int or str
            Number or name.
        start, end : int64 (n,)
            0-based, half-open.
        values : float32 (n,) or (n, k)
            NaN = absent.

        Raises
        ------
        ValueError
            Naming the contig and the interval: unknown contig or one out of order; empty, unsorted or overlapping
            intervals or one past the contig's end; an infinite value; arrays of unequal length.
        """
        number = self._advance(contig)
        if not len(start) == len(end) == len(values):
            raise ValueError(f"{contig}: {len(start)} starts, {len(end)} ends and {len(values)} values")
        for first in range(0, len(values), CHUNK):
            rows = slice(first, first + CHUNK)
            chunk = np.asarray(start[rows], np.int64), np.asarray(end[rows], np.int64)
            with np.errstate(over="ignore"):  # what overflows float32 becomes infinite, which _check reports
                value = np.asarray(values[rows], np.float32)
            self._check(number, *chunk, value)
            yield number, *chunk, value

    def _advance(self, contig: int | str) -> int:
        number = self._number.get(contig, -1) if isinstance(contig, str) else int(contig)
        if not 0 <= number < len(self.names):
            raise ValueError(f"unknown contig {contig!r}")
        if number < self._contig:
            raise ValueError(f"{self.names[number]}: comes after {self.names[self._contig]}, out of the contigs' order")
        if number > self._contig:
            self._contig, self._start, self._end = number, 0, 0
        return number

    def _check(self, number: int, start: np.ndarray, end: np.ndarray, values: np.ndarray) -> None:
        name, length = self.names[number], self.lengths[number]
        before_start = np.concatenate([[self._start], start[:-1]])
        before_end = np.concatenate([[self._end], end[:-1]])
        if (infinite := np.isinf(values)).any():
            row = int(np.flatnonzero(infinite.reshape(len(values), -1).any(axis=1))[0])
            raise ValueError(f"{name}: value {values[row]} of interval [{start[row]}, {end[row]}) is not finite")
        if (empty := end <= start).any() or (start < 0).any():
            row = int(np.flatnonzero(empty | (start < 0))[0])
            raise ValueError(f"{name}: [{start[row]}, {end[row]}) is no interval")
        if (overlap := start < before_end).any():
            row = int(np.flatnonzero(overlap)[0])
            raise ValueError(
                f"{name}: interval [{start[row]}, {end[row]}) begins before the end of the interval before it, "
                f"[{before_start[row]}, {before_end[row]})"
            )
        if end[-1] > length:
            row = int(np.flatnonzero(end > length)[0])
            raise ValueError(f"{name}: interval [{start[row]}, {end[row]}) ends past the contig's {length} bases")
        self._start, self._end = int(start[-1]), int(end[-1])
