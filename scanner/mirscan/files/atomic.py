"""Files that appear whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from mirscan.files.temporary import temporary_name

if TYPE_CHECKING:
    import numpy as np


class Publication:
    """What is published by `close` and forgotten by `abort`; a ``with`` block chooses by whether it raised."""

    _open = True

    def _publish(self) -> None:
        raise NotImplementedError

    def _discard(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Publish. If that fails nothing is published, and the error passes through."""
        if self._open:
            try:
                self._publish()
            except BaseException:
                self.abort()
                raise
            self._open = False

    def abort(self) -> None:
        """Publish nothing and remove what was written so far."""
        if self._open:
            self._open = False
            self._discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


class AtomicFile(Publication):
    """A binary file written beside its final name, synced to disk and renamed on `close`.

    A pipe or device (``/dev/stdout``) cannot be renamed over and is written directly.

    Parameters
    ----------
    path : str or Path
        The final name; a symbolic link keeps being one. An older file of that name lives on until `close`.

    Raises
    ------
    OSError
        If the folder is missing or not writable, with `path` as its file name.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.realpath(path))
        number = descriptor(path)
        stream = number is not None or is_stream(path)
        self._part = None if stream else self.path.with_name(temporary_name(self.path.name))
        try:
            with contextlib.suppress(FileNotFoundError):
                os.lstat(self.path)  # a name that is too long shows now, and not when all is written
            # Not mkstemp: its files are readable by their owner alone, and outputs follow the user's umask.
            if self._part is not None:
                self.file: BinaryIO = open(self._part, "xb")  # noqa: SIM115
            else:  # an open descriptor goes on where it is, also in a file that it adds to
                self.file = open(path if number is None else os.dup(number), "wb")  # noqa: SIM115
        except OSError as error:
            error.filename = str(path)
            raise

    def write(self, data: bytes) -> None:
        """Append bytes."""
        self.file.write(data)

    def _publish(self) -> None:
        self.file.flush()
        if self._part:
            os.fsync(self.file.fileno())
        self.file.close()
        if self._part:
            try:
                os.replace(self._part, self.path)
            except OSError as error:
                error.filename, error.filename2 = str(self.path), None
                raise

    def _discard(self) -> None:
        try:
            self.file.close()  # flushes first: on a full disk that fails once more, and the file must still go
        except OSError:
            pass
        finally:
            if self._part:
                self._part.unlink(missing_ok=True)


def descriptor(path: str | Path) -> int | None:
    """The number of the open file that ``/dev/stdout``, ``/dev/fd/3`` or a link to them names; None for other paths."""
    name, links = os.fspath(path), 0
    while links < 40:
        name = os.path.join(os.path.realpath(os.path.dirname(name) or "."), os.path.basename(name))
        found = re.fullmatch(r"/proc/(\d+)/fd/(\d+)", name)
        if found:
            return int(found[2]) if int(found[1]) == os.getpid() else None
        if not os.path.islink(name):
            return None
        name, links = os.path.join(os.path.dirname(name), os.readlink(name)), links + 1
    return None


def is_stream(path: str | Path) -> bool:
    """Whether a path is a pipe or a device, which is written directly."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def write_file(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    with AtomicFile(path) as file:
        file.write(data)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file in a folder of ours; by a new file, as the old one may have another name elsewhere too."""
    older = path.read_bytes() if path.is_file() else b""
    write_file(path, older + f"{line}\n".encode())


def save_arrays(path: Path, arrays: dict[str, Any], compressed: bool = True) -> None:
    """Write an ``.npz``, whole or not at all."""
    import numpy as np

    with AtomicFile(path) as file:
        (np.savez_compressed if compressed else np.savez)(file.file, **arrays)


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an ``.npy``, whole or not at all."""
    import numpy as np

    with AtomicFile(path) as file:
        np.save(file.file, array)


def save_tree(folder: Path, tree: dict[str, Any]) -> None:
    """Write a tree of arrays as a checkpoint of Orbax, into a new folder."""
    import orbax.checkpoint as ocp

    logging.getLogger("absl").setLevel(logging.CRITICAL)  # its errors are raised too, in one line
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder.absolute(), tree)
    except Exception as error:  # Orbax wraps what the file system says in errors of its own
        if not any(word in str(error) for word in ("RESOURCE_EXHAUSTED", "No space left", "Disk quota")):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
    (folder / "commit_success.txt").unlink(missing_ok=True)  # names the folder it was written in
