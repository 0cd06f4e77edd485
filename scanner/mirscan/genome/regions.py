"""Which windows of a genome to scan: regions, exclusions and a least length, to segments of the window grid."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mirscan.errors import InputError
from mirscan.types import Contig, Grid, Segment

_INTERVAL = re.compile(r"(\d{1,3}(?:,\d{3}){1,4}|\d{1,15})(?:-(\d{1,3}(?:,\d{3}){1,4}|\d{1,15})?)?", re.ASCII)
_MITOCHONDRION = ("chrM", "MT", "chrMT", "M")


class ContigRow(NamedTuple):
    """One line of the contig table."""

    name: str
    length: int
    ambiguous: int
    windows: int
    skipped: str
    """Why it has no windows; empty where it has."""


def select_segments(
    contigs: Sequence[Contig],
    grid: Grid,
    *,
    regions: Sequence[str] = (),
    regions_file: Path | None = None,
    exclude: Sequence[str] = (),
    min_contig: int = 0,
    aliases: bool = True,
    alias_file: Path | None = None,
) -> tuple[Segment, ...]:
    """Segments of the window grid, in contig order; no window appears twice.

    Parameters
    ----------
    contigs : sequence of Contig
        The genome's contigs.
    grid : Grid
        The window grid, which regions share with the full genome.
    regions : sequence of str
        ``chr1``, ``chr1:5,000`` (to the end) or ``chr1:1,000-2,000``: 1-based and closed. With no region and no
        ``regions_file``, everything.
    regions_file : pathlib.Path, optional
        BED: 0-based and half-open. Windows wholly inside any region are selected.
    exclude : sequence of str
        Contig names or globs. A glob may match nothing, a name may not.
    min_contig : int
        Contigs with fewer bases are left out.
    aliases : bool
        Whether ``chr1`` finds ``1`` and ``chrM`` finds ``MT``, and the reverse, when the exact name is absent.
    alias_file : pathlib.Path, optional
        Lines ``name<TAB>alias``: more names for contigs.

    Raises
    ------
    InputError
        If a region or a line of a file is malformed, reversed, past its contig's end, or names no contig.
    """
    book = _Names(contigs, aliases, alias_file)
    wanted = list(_parsed(regions, book))
    if regions_file is not None:
        wanted += _bed(regions_file, book)
    if not regions and regions_file is None:
        wanted = [(number, 0, contig.length) for number, contig in enumerate(contigs)]
    left_out = _excluded(exclude, book)
    ranges: dict[int, list[tuple[int, int]]] = {}
    for number, start, end in wanted:
        length = contigs[number].length
        if number not in left_out and length >= min_contig:
            first, count = grid.inside(length, start, end)
            if count:
                ranges.setdefault(number, []).append((first, first + count))
    return tuple(
        Segment(number, first, stop - first) for number in sorted(ranges) for first, stop in _union(ranges[number])
    )


def contig_table(contigs: Sequence[Contig], segments: Sequence[Segment], grid: Grid) -> list[ContigRow]:
    """What will be scanned of each contig, and why some is not, for the log."""
    windows = dict.fromkeys(range(len(contigs)), 0)
    for segment in segments:
        windows[segment.contig] += segment.count
    rows = []
    for number, contig in enumerate(contigs):
        if windows[number]:
            skipped = ""
        elif contig.length < grid.window:
            skipped = f"shorter than a window of {grid.window}"
        else:
            skipped = "not selected"
        rows.append(ContigRow(contig.name, contig.length, contig.ambiguous, windows[number], skipped))
    return rows


class _Names:
    """Contigs by name, and by what else they are called."""

    def __init__(self, contigs: Sequence[Contig], aliases: bool, alias_file: Path | None) -> None:
        self.contigs = contigs
        self._numbers = {contig.name: number for number, contig in enumerate(contigs)}
        self._usual = aliases
        self._others: dict[str, list[str]] = {}
        if alias_file is not None:
            for place, line in _lines(alias_file):
                names = line.split("\t")
                if len(names) != 2 or not all(names):
                    raise InputError(f"{place}: {line!r} is not two names with a tab between them; correct the line")
                for name, other in (names, names[::-1]):
                    self._others.setdefault(name, []).append(other)

    def find(self, name: str) -> int | None:
        """Number of the contig of that name, or by an alias; None where there is none."""
        return next((self._numbers[n] for n in (name, *self._candidates(name)) if n in self._numbers), None)

    def _candidates(self, name: str) -> Iterator[str]:
        yield from self._others.get(name, ())
        if self._usual:
            yield from _MITOCHONDRION if name in _MITOCHONDRION else ()
            yield name.removeprefix("chr") if name.startswith("chr") else f"chr{name}"

    def unknown(self, name: str, where: str) -> InputError:
        shown = ", ".join(contig.name for contig in self.contigs[:3]) + (", ..." if len(self.contigs) > 3 else "")
        return InputError(f"{where}: the genome has no contig {name!r}; it has {shown}")


def _parsed(regions: Sequence[str], book: _Names) -> Iterator[tuple[int, int, int]]:
    for region in regions:
        where = f"region {region!r}"
        number = book.find(region)  # first the whole text: names may hold colons
        if number is not None:
            yield number, 0, book.contigs[number].length
            continue
        name, colon, interval = region.rpartition(":")
        if not colon:
            raise book.unknown(region, where)
        match = _INTERVAL.fullmatch(interval)
        number = book.find(name)
        if match is None:
            if number is None:
                raise book.unknown(region, where)
            raise InputError(f"{where}: malformed; write chr1, chr1:5,000 or chr1:1,000-2,000")
        if number is None:
            raise book.unknown(name, where)
        contig = book.contigs[number]
        first = int(match[1].replace(",", ""))
        last = int(match[2].replace(",", "")) if match[2] else max(first, contig.length)
        if first < 1:
            raise InputError(f"{where}: positions count from 1; write {name}:1-...")
        _check(first, last, interval, contig, where)
        yield number, first - 1, last


def _bed(path: Path, book: _Names) -> Iterator[tuple[int, int, int]]:
    for where, line in _lines(path):
        if line.split(maxsplit=1)[0] in ("track", "browser"):
            continue
        fields = line.split("\t") if "\t" in line else line.split()
        if len(fields) < 3 or not all(re.fullmatch(r"\d{1,15}", field.strip(), re.ASCII) for field in fields[1:3]):
            raise InputError(f"{where}: {line!r} is no BED line; write contig, start and end with tabs between them")
        number = book.find(fields[0])
        if number is None:
            raise book.unknown(fields[0], where)
        start, end = int(fields[1]), int(fields[2])
        _check(start, end, f"{start} to {end}", book.contigs[number], where)
        yield number, start, end


def _check(first: int, last: int, shown: str, contig: Contig, where: str) -> None:
    if max(first, last) > contig.length:
        raise InputError(f"{where}: {shown} is past the end of {contig.name!r}, which has {contig.length:,} bases")
    if first > last:
        raise InputError(f"{where}: {shown} is reversed; write the smaller number first")


def _excluded(patterns: Sequence[str], book: _Names) -> set[int]:
    excluded: set[int] = set()
    for pattern in patterns:
        number = book.find(pattern)  # first as a name: names may hold asterisks
        if number is not None:
            excluded.add(number)
        elif not re.search(r"[*?[]", pattern):
            raise book.unknown(pattern, f"exclude {pattern!r}")
        else:
            matches = re.compile(fnmatch.translate(pattern)).match
            excluded.update(number for number, contig in enumerate(book.contigs) if matches(contig.name))
    return excluded


def _union(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Ranges that overlap or touch as one, in order."""
    first, stop = -1, -1
    for begin, end in sorted(ranges):
        if begin <= stop:
            stop = max(stop, end)
        else:
            if stop > 0:
                yield first, stop
            first, stop = begin, end
    yield first, stop


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """``(file:line, text)`` of every line that is neither blank nor a comment."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    except ValueError:
        raise InputError(f"{path}: not a UTF-8 text file; give plain text") from None
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.rstrip("\r")
        if line.strip() and not line.startswith("#"):
            yield f"{path}:{number}", line
