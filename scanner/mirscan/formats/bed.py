"""Tracks → bedGraph and BED, calls and hairpins → BED: plain text, or BGZF where the name ends in ``.gz``.

Rows keep the order in which they come; sorted ones in BGZF can be indexed by ``tabix -p bed`` (with ``--csi`` where a
contig is longer than 2^29 bases). A path of ``-`` is standard output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from mirscan.files.atomic import Publication
from mirscan.formats.atomic import Output
from mirscan.formats.decimals import floats, integers, rows
from mirscan.formats.intervals import SortedIntervals, check_call, plain, shortest
from mirscan.types import STRANDS, Call, Hairpin

_STRANDS = np.frombuffer("".join(STRANDS).encode(), np.uint8)[:, None]
_CALL_COLUMNS = "#contig start end name score strand raw_score energy structure sequence".replace(" ", "\t")
_HAIRPIN_COLUMNS = "#contig start end name score strand energy structure".replace(" ", "\t")
_FURTHER_COLUMNS: dict[str, Callable[[Call], str | None]] = {
    "precision": lambda call: f"{call.precision[0]:.3g}" if call.precision else None,
    "precision_low": lambda call: f"{call.precision[1]:.3g}" if call.precision else None,
    "precision_high": lambda call: f"{call.precision[2]:.3g}" if call.precision else None,
    "flags": lambda call: None if call.flags is None else ",".join(call.flags) or ".",
    "homology": lambda call: None if call.homology is None else f"{call.homology:g}",
    "known": lambda call: call.known,
    "annotation": lambda call: None if call.annotation is None else shortest(call.annotation),
}
"""Columns that a file has where any of its calls has a value: the value, or None."""


class _RowWriter(Publication):
    """What both tracks share: checked intervals in, rows out."""

    def __init__(self, path: str | Path, contigs: Sequence[tuple[str, int]]) -> None:
        self._order = SortedIntervals(contigs)
        self._output = Output(path)

    def _rows(self, name: bytes, start: np.ndarray, end: np.ndarray, values: np.ndarray) -> bytes:
        raise NotImplementedError

    def add_intervals(self, contig: int | str, start: np.ndarray, end: np.ndarray, values: np.ndarray) -> None:
        """Append sorted intervals ``[start, end)`` that do not overlap; see the class for the values."""
        if not self._open:
            raise ValueError("the writer is closed")
        try:
            for number, *columns in self._order.chunks(contig, start, end, values):
                self._output.write(self._rows(self._order.names[number].encode(), *columns))
        except BaseException:
            self.abort()
            raise

    def _publish(self) -> None:
        self._output.close()

    def _discard(self) -> None:
        self._output.abort()


class BedGraphWriter(_RowWriter):
    """Write one bedGraph: contig, start, end, value, without a header line.

    Takes what `mirscan.formats.bigwig.BigWigWriter` takes: values float32 (n,), NaN = absent. Values are written as the
    shortest decimal that reads back as the same float32.

    Parameters
    ----------
    path : str or Path
        The final name, or ``-``.
    contigs : sequence of (name, length)
        All contigs in the order of their data.

    Raises
    ------
    ValueError
        From here or `add_intervals`: see `SortedIntervals`.
    OSError
        From here or any method. Nothing is published then.
    """

    def _rows(self, name: bytes, start: np.ndarray, end: np.ndarray, values: np.ndarray) -> bytes:
        present = ~np.isnan(values)
        columns = integers(start[present]), integers(end[present]), floats(values[present])
        return rows(name + b"\t", columns[0], b"\t", columns[1], b"\t", columns[2], b"\n")


class BedWriter(_RowWriter):
    """Write one BED row per interval and strand: name ``.``, score 0-1000, strand, and the raw score in column 7.

    Values are float32 (n, 2), plus strand first, NaN = absent. The integer score is 1000 times the raw one, rounded
    and clipped to 0-1000; the raw one is the shortest decimal that reads back as the same float32.

    Parameters and errors are those of `BedGraphWriter`.
    """

    def _rows(self, name: bytes, start: np.ndarray, end: np.ndarray, values: np.ndarray) -> bytes:
        flat = values.reshape(-1)
        row = np.flatnonzero(~np.isnan(flat))
        interval, score = row // 2, flat[row]
        strand, thousandths = _STRANDS[row % 2], integers(_thousandths(score))
        place = name + b"\t", integers(start[interval]), b"\t", integers(end[interval])
        return rows(*place, b"\t.\t", thousandths, b"\t", strand, b"\t", floats(score), b"\n")


def write_calls(path: str | Path, calls: Iterable[Call]) -> None:
    """Write calls as BED6+4, or more columns, in the order given.

    Columns: contig, start, end, name, integer score 0-1000, strand, raw score, energy (kcal/mol), dot-bracket and
    sequence; then estimated precision, the ends of its interval, flags, homology (bases), the best
    known precursor, and score and homology combined, each where any call has it; ``.`` where
    absent. The first line names them behind a ``#``. IGV reads the file as it is; UCSC custom tracks take its first
    six columns (``cut -f 1-6``), bigBed all of them (``-type=bed6+N``).

    Parameters
    ----------
    path : str or Path
        The final name, or ``-``.
    calls : iterable of Call
        Sorted by contig and start if the file is to be indexed.

    Raises
    ------
    ValueError
        If a call cannot be written (`mirscan.formats.intervals.check_call`). Nothing is published then.
    OSError
        From the file system. Nothing is published then.
    """
    with Output(path) as output:
        calls = list(calls)
        further = {n: value for n, value in _FURTHER_COLUMNS.items() if any(value(call) is not None for call in calls)}
        output.write(("\t".join([_CALL_COLUMNS, *further]) + "\n").encode())
        for call in calls:
            check_call(call)
            thousandths = int(_thousandths(np.array(call.score)))
            columns = [
                *(call.contig, call.start, call.end, call.name, thousandths, call.strand, shortest(call.score)),
                "." if call.energy is None else f"{call.energy:.2f}",
                call.structure or ".",
                call.sequence or ".",
                *(value(call) or "." for value in further.values()),
            ]
            output.write(("\t".join(map(str, columns)) + "\n").encode())


def write_hairpins(path: str | Path, hairpins: Iterable[Hairpin]) -> None:
    """Write hairpins as BED6+2 in the order given, as they come: none is kept.

    Columns: contig, start, end, name (``hairpin_1`` and so on), ten times the energy without its sign, rounded and at
    most 1000, strand, energy (kcal/mol) and dot-bracket (5' to 3' on the strand). The first line names them behind a
    ``#``.

    Parameters
    ----------
    path : str or Path
        The final name, or ``-``.
    hairpins : iterable of Hairpin
        Sorted by contig and start if the file is to be indexed.

    Raises
    ------
    ValueError
        If a contig's name holds a control character. Nothing is published then.
    OSError
        From the file system. Nothing is published then.
    """
    with Output(path) as output:
        output.write(f"{_HAIRPIN_COLUMNS}\n".encode())
        for number, hairpin in enumerate(hairpins, start=1):
            place = f"{plain(hairpin.contig, 'contig')}\t{hairpin.start}\t{hairpin.end}\thairpin_{number}"
            shade = min(1000, max(0, round(-10 * hairpin.energy)))
            row = f"{place}\t{shade}\t{hairpin.strand}\t{hairpin.energy:.2f}\t{hairpin.structure}\n"
            output.write(row.encode())


def _thousandths(score: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(1000 * score.astype(np.float64)), 0, 1000).astype(np.int64)
