"""Temporary names, files without a name, and what killed processes left behind."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, cast

from mirscan.files.kinds import WEIGHTS
from mirscan.files.removal import remove_names, rmdir_if_empty

TEMPORARY = re.compile(r"\.(?P<stem>.*)\.(?P<host>[\w-]+)\.(?P<process>\d+)\.[0-9a-f]{8}\.mirscan", re.DOTALL)


_FIRST_NAMESPACE = 0xEFFFFFFC
"""Inode of the namespace of processes that Linux boots with (``PROC_PID_INIT_INO`` in its sources)."""


_LONGEST_NAME = 255
"""Bytes of a file's name, on every common file system."""


def host() -> str:
    """This host, as temporary names spell it; a container with processes of its own counts as another host."""
    name = re.sub(r"[^A-Za-z0-9]", "-", platform.node())[:60] or "host"
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return name
    return name if namespace == _FIRST_NAMESPACE else f"{name}_{namespace}"


def temporary_name(name: str) -> str:
    """A temporary name for a file or folder of that name, of this process."""
    return f".{_stem(name)}.{host()}.{os.getpid()}.{secrets.token_hex(4)}.mirscan"


def sweep(folder: Path, names: Iterable[str] | None = None) -> None:
    """Remove what processes that are gone from this host have left in a folder under temporary names.

    Those of ``names``; of any name in a folder of ours.
    """
    stems, here = None if names is None else {_stem(name) for name in names}, host()
    try:
        there = os.listdir(folder)
    except OSError:
        return
    for name in there:
        found = TEMPORARY.fullmatch(name)
        if not found or (stems is not None and found["stem"] not in stems):
            continue
        if found["host"] == here and _is_gone(found["process"]):
            with contextlib.suppress(OSError):  # what cannot be removed stays
                remove_temporary(folder / name)


def remove_temporary(path: Path) -> None:
    """Remove what has a temporary name: a file, or a folder with what such folders hold."""
    if stat.S_ISDIR(path.lstat().st_mode):
        remove_names(path, _IN_TEMPORARY, WEIGHTS.folders)
        rmdir_if_empty(path)
    else:
        path.unlink()


_IN_TEMPORARY = re.compile(rf"{WEIGHTS.files.pattern}|turner\.par|\d+\.fa|(.*/)?\.[^/]*\.mirscan")
"""What temporary folders hold: weights in the making, energy parameters, random genomes."""


def _stem(name: str) -> str:
    room = _LONGEST_NAME - len(os.fsencode(f"..{host()}.{1 << 22}.00000000.mirscan"))
    return os.fsencode(name)[:room].decode(errors="ignore")


def _is_gone(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def nameless(folder: Path | None = None, memory: int = 0) -> IO[bytes]:
    """A file without a name: however the process ends, nothing is left behind.

    Parameters
    ----------
    folder : Path, optional
        Whose disk gives the room; that of temporary files by default.
    memory : int
        Bytes up to which it is kept in memory.
    """
    if memory:
        return cast("IO[bytes]", tempfile.SpooledTemporaryFile(max_size=memory, dir=str(folder) if folder else None))
    return cast("IO[bytes]", tempfile.TemporaryFile(dir=folder))


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder among the temporary files, for what other libraries read or write by name."""
    place = Path(tempfile.gettempdir())
    sweep(place, ["scratch"])
    folder = place / temporary_name("scratch")
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        remove_temporary(folder)
