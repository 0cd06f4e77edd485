"""A genome file, whatever its form, to contigs: read once in full and checked, then open to random access."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from mirscan.errors import InputError
from mirscan.files.atomic import AtomicFile
from mirscan.genome.contigs import Census, Records, SoftMask, take_census
from mirscan.genome.fasta import BLOCK, FastaReader, Layout, inflate
from mirscan.genome.spool import Spool
from mirscan.genome.twobit import TwoBitReader, is_twobit
from mirscan.host import cache_folder
from mirscan.kernels.bases import CODE, MASKED_CODE, encode
from mirscan.types import Contig

_LOGGER = logging.getLogger("mirscan")
_MINUTE = 60 * 10**9
_GZIP = b"\x1f\x8b"
_OTHER_PACKERS = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"PK\3\4": "zip", b"\x28\xb5\x2f\xfd": "zstd"}
_PYFAIDX_UNPACKS = (".gz", ".bgz", ".bz2", ".zip")


class _Source(Protocol):
    def codes(self, contig: int, start: int, end: int) -> np.ndarray: ...
    def close(self) -> None: ...


class Genome:
    """The contigs of a genome and their bases; made by `open_genome`. A context manager: leaving it closes the files.

    Attributes
    ----------
    path : str
        The file as given; ``-`` for standard input.
    contigs : tuple of Contig
        In the file's order, empty records included.
    digest : str
        sha256 (hex) over name, length and case-folded, U-to-T sequence of every contig, and over the soft mask where
        that is skipped: the same for every form of the same genome.
    """

    def __init__(self, path: str, contigs: tuple[Contig, ...], digest: str, source: _Source) -> None:
        self.path = path
        self.contigs = contigs
        self.digest = digest
        self._source = source

    def codes(self, contig: int, start: int, end: int) -> np.ndarray:
        """Codes (uint8, see `mirscan.kernels.bases`) of ``[start, end)`` of contig number ``contig``; thread-safe.

        Raises
        ------
        ValueError
            If the interval is not within the contig.
        InputError
            If the file has changed since it was opened.
        """
        record = self.contigs[contig]
        if not 0 <= start <= end <= record.length:
            raise ValueError(f"[{start}, {end}) is not within {record.name!r} of {record.length} bases")
        return self._source.codes(contig, start, end) if start < end else np.empty(0, dtype=np.uint8)

    def close(self) -> None:
        """Close the files."""
        self._source.close()

    def __enter__(self) -> Genome:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_genome(
    path: str | Path,
    *,
    spool: Path | None = None,
    soft_mask: SoftMask = "scan",
    log: Callable[[str], object] = _LOGGER.info,
) -> Genome:
    """Read and check a genome, and open it to random access.

    FASTA (plain, gzip or bgzip) or 2bit, told by its first bytes and not by its name. A plain FASTA with lines of one
    length is read again where it lies; any other is unpacked on the way into a nameless file, a byte a base.
    A ``.fai`` beside the file is never read.

    Parameters
    ----------
    path : str or pathlib.Path
        The file; ``-`` is standard input.
    spool : pathlib.Path
        Folder whose disk has room for the unpacked bases; where it is absent, the nearest one above it. That of
        temporary files by default.
    soft_mask : {"scan", "skip"}
        ``skip`` makes lower-case bases ``ABSENT``.
    log : callable
        Takes one line of progress.

    Raises
    ------
    InputError
        If the file cannot be read or is no sound genome: what, where (file:line) and what to do.
    OSError
        ENOSPC, if the spool folder has too little room.
    """
    name, spool = str(path), spool or Path(tempfile.gettempdir())
    shown = "<stdin>" if name == "-" else name
    with _opened(name) as stream:
        head = stream.read(BLOCK)
        _refuse_foreign(head, shown)
        size = _size(stream)
        if is_twobit(head):
            if size is None:
                raise InputError(f"{shown}: 2bit needs random access; give the file itself, not a pipe")
            twobit = TwoBitReader(Path(name))
            return _unpacked(twobit, name, shown, spool, soft_mask, least=twobit.bases())
        if head.startswith(_GZIP) or size is None:
            blocks = itertools.chain([head], _blocks(stream))
            text = inflate(blocks, shown) if head.startswith(_GZIP) else blocks
            # Four bases fit a byte, so a compressed genome is shorter than its codes.
            return _unpacked(FastaReader(text, shown), name, shown, spool, soft_mask, least=size or 0)
        return _plain(stream, name, spool, soft_mask, log)


def _plain(stream: BinaryIO, name: str, spool: Path, soft_mask: SoftMask, log: Callable[[str], object]) -> Genome:
    """A plain FASTA: indexed where it lies if its lines allow that, else unpacked in a second pass."""
    stream.seek(0)
    signature = _signature(stream)
    reader = FastaReader(_blocks(stream), name)
    census = take_census(reader, name, soft_mask)
    if _signature(stream) != signature:
        raise _changed(name)
    reason = _why_not_indexed(name, reader.layouts, census.contigs)
    if not reason:
        try:
            source = _IndexedFasta(name, signature, reader.layouts, census, soft_mask)
            return Genome(name, census.contigs, census.digest, source)
        except OSError as error:
            reason = f"no index can be kept in the cache folder ({error.strerror})"
    log(f"{name}: {reason}; its bases are unpacked on the disk of {spool}")
    stream.seek(0)
    bases = sum(contig.length for contig in census.contigs)
    genome = _unpacked(FastaReader(_blocks(stream), name), name, name, spool, soft_mask, least=bases)
    if genome.digest != census.digest:
        genome.close()
        raise _changed(name)
    return genome


def _unpacked(records: Records, name: str, shown: str, spool: Path, soft_mask: SoftMask, least: int) -> Genome:
    with Spool(spool, least) as codes:
        census = take_census(records, shown, soft_mask, codes.write)
        source = codes.finish(contig.length for contig in census.contigs)
    return Genome(name, census.contigs, census.digest, source)


class _IndexedFasta:
    """Bases of a plain FASTA through pyfaidx, by an index of our own making in the user's cache folder.

    The index names contigs by number: no name of the file can then break it, whatever it holds.
    """

    def __init__(
        self, name: str, signature: tuple[int, int], layouts: Sequence[Layout], census: Census, soft_mask: SoftMask
    ) -> None:
        from pyfaidx import Faidx

        self._name = name
        self._signature = signature
        self._table = CODE if soft_mask == "scan" else MASKED_CODE
        self._lock = threading.Lock()
        lengths = [contig.length for contig in census.contigs]
        index = _write_index(name, signature, layouts, lengths, census.digest)
        self._faidx = Faidx(name, indexname=str(index), as_raw=True, rebuild=False, sequence_always_upper=False)
        for contig, (first, last) in census.probes.items():
            length = lengths[contig]
            found = self.codes(contig, 0, len(first)), self.codes(contig, length - len(last), length)
            if (found[0].tobytes(), found[1].tobytes()) != (first, last):
                self.close()
                raise _changed(name)

    def codes(self, contig: int, start: int, end: int) -> np.ndarray:
        try:
            with self._lock:
                if _signature(self._faidx.file) != self._signature:
                    raise _changed(self._name)
                letters = self._faidx.fetch(str(contig), start + 1, end)
            codes = encode(np.frombuffer(letters.encode("ascii"), dtype=np.uint8), self._table)
        except ValueError:
            raise _changed(self._name) from None
        if codes.size != end - start:
            raise _changed(self._name)
        return codes

    def close(self) -> None:
        self._faidx.close()


def _write_index(
    name: str, signature: tuple[int, int], layouts: Sequence[Layout], lengths: Sequence[int], digest: str
) -> Path:
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    key = "\0".join(map(str, (os.path.abspath(name), *signature, digest)))
    target = cache / f"{hashlib.sha256(os.fsencode(key)).hexdigest()[:32]}.fai"
    rows = (
        f"{number}\t{length}\t{layout.offset}\t{layout.width}\t{layout.line_bytes}\n"
        for number, (length, layout) in enumerate(zip(lengths, layouts, strict=True))
        if length
    )
    with AtomicFile(target) as file:
        file.write("".join(rows).encode("ascii"))
        file.file.flush()
        # Dated after the file itself, or pyfaidx takes it for stale when that one's clock was ahead.
        os.utime(file.file.fileno(), ns=(signature[1] + _MINUTE, signature[1] + _MINUTE))
    return target


def _why_not_indexed(name: str, layouts: Sequence[Layout], contigs: Sequence[Contig]) -> str:
    """Why pyfaidx cannot read this file; an empty string where it can."""
    if name.lower().endswith(_PYFAIDX_UNPACKS):
        return "plain text under the name of a compressed file"
    for contig, layout in zip(contigs, layouts, strict=True):
        if not layout.regular:
            return f"the lines of {contig.name!r} differ in length or hold blanks"
    return ""


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        if sys.stdin is None:
            raise InputError("<stdin>: standard input is closed; give a file or pipe a genome in")
        yield sys.stdin.buffer
        return
    try:
        stream = open(name, "rb")  # noqa: SIM115 - only errors of opening are explained here
    except FileNotFoundError:
        raise InputError(f"{name}: no such file; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{name}: is a folder; give a FASTA or 2bit file") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror}); check the path and its permissions") from None
    except ValueError as error:
        raise InputError(f"{name!r}: cannot be a file ({error}); check the path") from None
    with stream:
        yield stream


def _refuse_foreign(head: bytes, shown: str) -> None:
    if not head:
        raise InputError(f"{shown}: empty file; give a FASTA or 2bit file")
    for magic, packer in _OTHER_PACKERS.items():
        if head.startswith(magic):
            raise InputError(f"{shown}: compressed with {packer}; decompress it first, or compress it with gzip")


def _size(stream: BinaryIO) -> int | None:
    """Bytes of a regular file; None for a pipe or any other stream that can be read only once."""
    if sys.stdin is not None and stream is sys.stdin.buffer:
        return None
    status = os.fstat(stream.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: stream.read(BLOCK), b"")


def _signature(stream: BinaryIO) -> tuple[int, int]:
    status = os.fstat(stream.fileno())
    return status.st_size, status.st_mtime_ns


def _changed(name: str) -> InputError:
    return InputError(f"{name}: the file changed while it was in use; run again when it is at rest")
