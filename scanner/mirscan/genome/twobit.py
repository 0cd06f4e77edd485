"""UCSC 2bit files: packed bases, with the runs of N and of soft-masked bases beside them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mirscan.errors import InputError

MAGIC = 0x1A412743
_PIECE = 1 << 16
_UNPACK = np.frombuffer(b"TCAG", dtype=np.uint8)[(np.arange(256)[:, None] >> np.array([6, 4, 2, 0])) & 3].view(
    np.uint32
)
"""uint32 (256, 1): the four letters of a byte, the first from its highest bits, as one number to copy at once."""


def is_twobit(head: bytes) -> bool:
    """Whether a file that begins so is 2bit, of either byte order."""
    return head[:4] in (struct.pack("<I", MAGIC), struct.pack(">I", MAGIC))


class TwoBitReader:
    """The records of a 2bit file, in one pass; format versions 0 and 1 (64-bit offsets).

    Iterating gives ``(name, where, letters)`` as `mirscan.genome.fasta.FastaReader` does.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Raises
    ------
    InputError
        If the file is damaged or truncated.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        with path.open("rb") as stream:
            self._order = "<" if stream.read(4) == struct.pack("<I", MAGIC) else ">"
            version, count, _ = self._numbers(stream, 3)
            if version > 1:
                raise InputError(f"{path}: 2bit format version {version}; convert it with twoBitToFa")
            self._index = [self._entry(stream, wide=version == 1) for _ in range(count)]

    def __iter__(self) -> Iterator[tuple[bytes, str, np.ndarray]]:
        """Read the file.

        Raises
        ------
        InputError
            If the file is damaged or truncated.
        """
        with self._path.open("rb") as stream:
            for number, (name, offset) in enumerate(self._index, start=1):
                where = f"sequence {number}"
                yield name, f"{self._path}: {where}", np.empty(0, dtype=np.uint8)
                stream.seek(offset)
                (length,) = self._numbers(stream, 1)
                unknown = self._blocks(stream, length, where)
                masked = self._blocks(stream, length, where)
                self._numbers(stream, 1)
                if stream.tell() + -(-length // 4) > self._size:
                    raise self._damaged(where)
                for start in range(0, length, 4 * _PIECE):
                    end = min(start + 4 * _PIECE, length)
                    packed = np.frombuffer(stream.read(-(-(end - start) // 4)), dtype=np.uint8)
                    letters = np.take(_UNPACK, packed).view(np.uint8)[: end - start]
                    np.putmask(letters, _covered(unknown, start, end), ord("N"))
                    letters |= _covered(masked, start, end).view(np.uint8) << 5  # lower case
                    yield name, f"{self._path}: {where}", letters

    def bases(self) -> int:
        """Bases of all records together.

        Raises
        ------
        InputError
            If the file is damaged or truncated.
        """
        total = 0
        with self._path.open("rb") as stream:
            for _, offset in self._index:
                stream.seek(offset)
                total += self._numbers(stream, 1)[0]
        return total

    def _entry(self, stream: BinaryIO, wide: bool) -> tuple[bytes, int]:
        size = stream.read(1)
        name = stream.read(size[0]) if size else b""
        if not size or len(name) < size[0]:
            raise self._damaged("index")
        (offset,) = self._numbers(stream, 1, "Q" if wide else "I")
        if offset >= self._size:
            raise self._damaged("index")
        return name, offset

    def _numbers(self, stream: BinaryIO, count: int, kind: str = "I") -> tuple[int, ...]:
        data = stream.read(struct.calcsize(kind) * count)
        try:
            return struct.unpack(f"{self._order}{count}{kind}", data)
        except struct.error:
            raise self._damaged(f"byte {stream.tell()}") from None

    def _blocks(self, stream: BinaryIO, length: int, where: str) -> tuple[np.ndarray, np.ndarray]:
        (count,) = self._numbers(stream, 1)
        if stream.tell() + 8 * count > self._size:
            raise self._damaged(where)
        numbers = np.frombuffer(stream.read(8 * count), dtype=f"{self._order}u4").astype(np.int64).reshape(2, count)
        starts, ends = numbers[0], numbers[0] + numbers[1]
        if count and (ends[-1] > length or np.any(starts[1:] < ends[:-1])):
            raise self._damaged(where)
        return starts, ends

    def _damaged(self, where: str) -> InputError:
        return InputError(f"{self._path}: damaged or truncated 2bit file ({where}); copy it again")


def _covered(blocks: tuple[np.ndarray, np.ndarray], start: int, end: int) -> np.ndarray:
    """Which bases (bool) of ``[start, end)`` lie in one of the blocks, which are sorted and do not overlap."""
    starts, ends = blocks
    touching = slice(np.searchsorted(ends, start, side="right"), np.searchsorted(starts, end))
    step = np.zeros(end - start + 1, dtype=np.int8)
    np.add.at(step, np.maximum(starts[touching] - start, 0), 1)
    np.add.at(step, np.minimum(ends[touching] - start, end - start), -1)
    return np.cumsum(step[:-1], dtype=np.int8).astype(bool)
