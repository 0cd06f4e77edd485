"""Whose a folder is: what may be made, gone on with, emptied and removed."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from mirscan.errors import InputError
from mirscan.files.kinds import NEXT, SUMS, WEIGHTS, Kind
from mirscan.files.removal import entries, few, remove_names
from mirscan.files.temporary import TEMPORARY, sweep

log = logging.getLogger("mirscan")


def check_folder(folder: Path, kind: Kind) -> None:
    """Refuse a folder that is not ours to make or to write in.

    Raises
    ------
    InputError
        If it is a file or a link to nothing, holds what is not ours, holds a link where we would write, or cannot be
        made or written.
    """
    try:
        os.fspath(folder).encode()  # TensorStore and Orbax take no other names
    except UnicodeEncodeError:
        raise InputError(f"{str(folder)!r}: its name is not UTF-8; choose another folder") from None
    try:
        os.lstat(folder)
    except FileNotFoundError:
        _check_makeable(folder)
        return
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}; choose another folder") from error
    if not folder.exists():
        raise InputError(f"{folder} is a link to nothing; remove the link or choose another folder")
    if not folder.is_dir():
        raise InputError(f"{folder} is a file, so it is no {kind.what}; choose another folder")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise InputError(f"{folder} is not writable; choose another folder")
    coming = folder / NEXT
    if kind is WEIGHTS and coming.is_dir() and not (coming / SUMS).is_file() and any(coming.iterdir()):
        raise InputError(f"{coming}: mirscan needs this name for a moment; rename what is there")
    if kind.is_ours(folder):
        link = next(links(folder, kind), None)
        if link is not None:
            raise InputError(f"{link} is a link, and a {kind.what} holds none; make {folder} itself a link instead")
        return
    held = [name for name in os.listdir(folder) if not TEMPORARY.fullmatch(name)]
    if held:
        raise InputError(
            f"{folder} is no {kind.what} of mirscan: it holds {few(held)}; choose a folder that is new or empty"
        )


def claim(folder: Path, kind: Kind, owner: str = "") -> None:
    """Make a folder ours, or go on with it: any number of processes may do this at once.

    Parameters
    ----------
    folder : Path
        Made with its parents where it is absent.
    kind : Kind
        What it will be.
    owner : str, optional
        The output it belongs to, for `owner_of`: who comes first says so.

    Raises
    ------
    InputError
        As `check_folder`.
    """
    check_folder(folder, kind)
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    if kind.mark is not None:
        with contextlib.suppress(FileExistsError), open(folder / kind.mark, "xb") as mark:
            mark.write(f"{owner}\n".encode(errors="surrogateescape"))


def owner_of(folder: Path, kind: Kind) -> str:
    """The output that a folder was made for; empty where nobody said."""
    try:
        return (folder / str(kind.mark)).read_bytes().decode(errors="surrogateescape").removesuffix("\n")
    except OSError:
        return ""


def empty_folder(folder: Path, kind: Kind) -> None:
    """Take away what we write in a folder of ours, name by name; it stays, with its mark. Nothing happens without one.

    Raises
    ------
    InputError
        If it is not ours, or the file system refuses.
    """
    if not os.path.lexists(folder):
        return
    claim(folder, kind)  # what is left by a kill is known as ours
    try:
        remove_names(folder, kind.files, kind.folders)
    except OSError as error:
        raise InputError(f"{folder} cannot be emptied: {error.strerror}; choose another folder") from error


def remove_folder(folder: Path, kind: Kind) -> None:
    """As `empty_folder`, and the folder goes too if nothing else lies there; what stays is logged."""
    if not os.path.lexists(folder):
        return
    empty_folder(folder, kind)
    if kind.mark is not None:
        (folder / kind.mark).unlink(missing_ok=True)
    if held := os.listdir(folder):
        log.info("%s stays: it holds %s, which mirscan did not write", folder, few(held))
        return
    try:
        os.rmdir(folder)
    except OSError as error:  # a link, the root of a disk, a folder above that is not writable
        log.info("%s stays, empty: it cannot be removed (%s)", folder, error.strerror)


def _check_makeable(folder: Path) -> None:
    above = next(parent for parent in folder.absolute().parents if os.path.lexists(parent))
    if not above.is_dir():
        raise InputError(f"{folder} cannot be made: {above} is no folder; choose another folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be made: the folder {above} is not writable; choose another")


def links(folder: Path, kind: Kind) -> Iterator[Path]:
    """Links under names that we write: what they lead to is not ours."""
    for name, entry in entries(folder, kind.folders):
        if entry.is_symlink() and (kind.folders.fullmatch(name) or kind.files.fullmatch(name)):
            yield folder / name
