"""Records of any file form to checked contigs: names, counts, digest, and the codes on their way to a sink."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import numpy as np

from mirscan.errors import InputError
from mirscan.kernels.bases import CODE, MASKED_CODE
from mirscan.kernels.fasta import tally
from mirscan.types import Contig

SoftMask = Literal["scan", "skip"]
Records = Iterable[tuple[bytes, str, np.ndarray]]
"""``(name, where, letters)``: an empty stretch first, then the record's bases in stretches of any length."""

_NAME_LIMIT = 255
_PROBE = 50
_PROBED_CONTIGS = 1000


class Census(NamedTuple):
    """What one pass over a genome says about it."""

    contigs: tuple[Contig, ...]
    digest: str
    """sha256 (hex) over name, length and case-folded, U-to-T sequence of every contig, with the case kept where
    soft-masked bases are skipped."""
    probes: dict[int, tuple[bytes, bytes]]
    """Codes of the first and of the last 50 bases of the first contigs and of every thousandth."""


def take_census(
    records: Records, source: str, soft_mask: SoftMask, sink: Callable[[np.ndarray], object] = lambda codes: None
) -> Census:
    """Count, check and digest all records in one pass.

    Parameters
    ----------
    records : iterable of (bytes, str, np.ndarray)
        As `mirscan.genome.fasta.FastaReader` and `mirscan.genome.twobit.TwoBitReader` give them.
    source : str
        Name of the file for messages.
    soft_mask : {"scan", "skip"}
        ``skip`` makes lower-case bases ``ABSENT``.
    sink : callable
        Takes the codes (uint8) stretch by stretch.

    Raises
    ------
    InputError
        If a name is missing, unfit or taken, or no record has a base.
    """
    chosen, fold = (CODE, _FOLD) if soft_mask == "scan" else (MASKED_CODE, _FOLD_KEEPING_CASE)
    digest = hashlib.sha256(b"mirscan genome 1\n")
    contigs: list[Contig] = []
    seen: dict[str, str] = {}
    probes: dict[int, tuple[bytes, bytes]] = {}
    codes, folded = np.empty((2, 1 << 18), dtype=np.uint8)
    record = None

    def close(record: _Record) -> None:
        number = len(contigs)
        contigs.append(Contig(record.name, record.length, record.ambiguous, record.masked))
        digest.update(f"{record.name}\n{record.length}\n".encode() + record.sequence.digest())
        if record.length and (number < _PROBED_CONTIGS or number % _PROBED_CONTIGS == 0):
            probes[number] = record.head, record.tail

    for name, where, letters in records:
        if record is None or where != record.where:
            if record is not None:
                close(record)
            record = _Record(_contig_name(name, where), where)
            if record.name in seen:
                taken = seen[record.name]
                raise InputError(f"{where}: contig {record.name!r} is already at {taken}; rename one of them")
            seen[record.name] = where
        if letters.size:
            if letters.size > codes.size:
                codes, folded = np.empty((2, letters.size), dtype=np.uint8)
            ambiguous, masked = tally(letters, CODE, chosen, fold, codes, folded)
            record.add(codes[: letters.size], folded[: letters.size], ambiguous, masked)
            sink(codes[: letters.size])
    if record is not None:
        close(record)
    if not any(contig.length for contig in contigs):
        raise InputError(f"{source}: no record has a base; give a FASTA or 2bit file with sequences")
    return Census(tuple(contigs), digest.hexdigest(), probes)


class _Record:
    """The contig being read."""

    def __init__(self, name: str, where: str) -> None:
        self.name, self.where = name, where
        self.length = self.ambiguous = self.masked = 0
        self.sequence = hashlib.sha256()
        self.head = self.tail = b""

    def add(self, codes: np.ndarray, folded: np.ndarray, ambiguous: int, masked: int) -> None:
        self.length += codes.size
        self.ambiguous += ambiguous
        self.masked += masked
        self.sequence.update(folded.data)
        if len(self.head) < _PROBE:
            self.head += codes[: _PROBE - len(self.head)].tobytes()
        self.tail = (self.tail + codes[-_PROBE:].tobytes())[-_PROBE:]


def _contig_name(name: bytes, where: str) -> str:
    if not name:
        raise InputError(f"{where}: header without a name; put one right after the '>'")
    if len(name) > _NAME_LIMIT:
        raise InputError(f"{where}: contig name of {len(name)} bytes, {_NAME_LIMIT} are allowed; shorten it")
    try:
        contig = name.decode()
    except UnicodeDecodeError:
        raise InputError(f"{where}: contig name {name!r} is not UTF-8; rename the contig") from None
    if not contig.isprintable():
        raise InputError(f"{where}: control character in contig name {contig!r}; rename the contig")
    return contig


def _fold(keep_case: bool) -> np.ndarray:
    table = np.arange(256, dtype=np.uint8)
    table[ord("u")], table[ord("U")] = ord("t"), ord("T")
    if not keep_case:
        table[ord("a") : ord("z") + 1] = table[ord("A") : ord("Z") + 1]
    return table


_FOLD, _FOLD_KEEPING_CASE = _fold(keep_case=False), _fold(keep_case=True)
