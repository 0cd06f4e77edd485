"""Unpacked bases on disk: one flat file of codes, contig after contig, written once and read at random."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np

from mirscan.files.temporary import nameless


class Spool:
    """A nameless file of codes in a folder, in the making: a context manager.

    Every run writes its own and reads it through the open file, so it has no name that could outlive the process,
    however that ends: the disk gives its room back when it is closed.

    Parameters
    ----------
    folder : pathlib.Path
        Whose disk is to hold it. Nothing is made in a folder that is absent: the nearest one above it is taken.
    least : int
        Bytes that are certainly needed; checked against the free ones first.

    Raises
    ------
    OSError
        ENOSPC, if the folder has too little room.
    """

    def __init__(self, folder: Path, least: int) -> None:
        self._folder = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
        free = shutil.disk_usage(self._folder).free
        if free < least:
            raise self._full(f"the unpacked genome needs at least {least:,} bytes, {free:,} are free")
        self._file = nameless(self._folder)

    def write(self, codes: np.ndarray) -> None:
        """Append codes (uint8).

        Raises
        ------
        OSError
            ENOSPC, if the disk is full.
        """
        try:
            self._file.write(codes.data)
        except OSError as error:
            raise self._explained(error) from error

    def finish(self, lengths: Iterable[int]) -> SpooledCodes:
        """Open the file to contigs of those lengths.

        Raises
        ------
        OSError
            ENOSPC, if the disk is full.
        """
        try:
            self._file.flush()
        except OSError as error:
            raise self._explained(error) from error
        return SpooledCodes(self._file.fileno(), lengths)

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # what could not be written before cannot be written now
            self._file.close()

    def _explained(self, error: OSError) -> OSError:
        if error.errno != errno.ENOSPC:
            return error
        return self._full("the disk filled up while the genome was unpacked, which takes a byte a base")

    def _full(self, what: str) -> OSError:
        return OSError(errno.ENOSPC, f"{what}; free some space or choose another folder", str(self._folder))


class SpooledCodes:
    """Random access to a finished spool file.

    Parameters
    ----------
    descriptor : int
        Of the file; a duplicate of it is kept.
    lengths : iterable of int
        Bases of each contig, in the file's order.
    """

    def __init__(self, descriptor: int, lengths: Iterable[int]) -> None:
        self._file = os.fdopen(os.dup(descriptor), "rb")
        self._offsets = np.concatenate([[0], np.cumsum(np.fromiter(lengths, dtype=np.int64), dtype=np.int64)])

    def codes(self, contig: int, start: int, end: int) -> np.ndarray:
        """Codes (uint8) of ``[start, end)`` of a contig; thread-safe."""
        offset, wanted = int(self._offsets[contig]) + start, end - start
        data = bytearray(os.pread(self._file.fileno(), wanted, offset))
        while len(data) < wanted:
            more = os.pread(self._file.fileno(), wanted - len(data), offset + len(data))
            if not more:
                raise OSError(errno.EIO, "the unpacked genome was cut short; run again", str(self._file.name))
            data += more
        return np.frombuffer(data, dtype=np.uint8)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
