"""Calls → FASTA of their sequences: plain text, or BGZF where the name ends in ``.gz``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mirscan.formats.atomic import Output
from mirscan.formats.intervals import check_call, shortest
from mirscan.types import Call


def write_fasta(path: str | Path, calls: Iterable[Call]) -> None:
    """Write the sequence of each call, 5' to 3' on its strand, in one line.

    Headers read ``>name contig:start-end(strand) score=… energy=…`` with the region 1-based and closed, as
    ``samtools faidx`` takes it.

    Parameters
    ----------
    path : str or Path
        The final name, or ``-`` for standard output.
    calls : iterable of Call
        With sequences.

    Raises
    ------
    ValueError
        If a call has no sequence or one with other than letters, has a name with a space, or cannot be written
        (`mirscan.formats.intervals.check_call`). Nothing is published then.
    OSError
        From the file system. Nothing is published then.
    """
    with Output(path) as output:
        for call in calls:
            check_call(call)
            if not (call.sequence or "").isalpha():
                raise ValueError(f"call {call.name}: {call.sequence!r} is no sequence")
            if " " in call.name:
                raise ValueError(f"call {call.name!r}: a name ends at its first space in FASTA")
            energy = "" if call.energy is None else f" energy={call.energy:.2f}"
            region = f"{call.contig}:{call.start + 1}-{call.end}({call.strand})"
            output.write(f">{call.name} {region} score={shortest(call.score)}{energy}\n{call.sequence}\n".encode())
