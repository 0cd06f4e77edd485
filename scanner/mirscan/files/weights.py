"""Folders of weights, whose contents are replaced as a whole."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from mirscan.files.folders import claim, links
from mirscan.files.kinds import NEXT, SUMS, WEIGHTS, listed
from mirscan.files.removal import remove_names, rmdir_if_empty
from mirscan.files.temporary import remove_temporary, temporary_name


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """New contents for a folder of weights: written aside, then moved into place file by file.

    Files that the old `SUMS` lists go; all others stay where they are. A process that is killed before the
    new contents are complete leaves the old ones; one that is killed later leaves what `settle` completes.

    Yields
    ------
    Path
        A folder to write into; its `SUMS`, which lists the rest, is the caller's last file.

    Raises
    ------
    InputError
        As `check_folder`.
    """
    claim(folder, WEIGHTS)
    settle(folder)
    aside = folder / temporary_name("new")
    aside.mkdir()
    try:
        yield aside
        os.replace(aside, folder / NEXT)
    except BaseException as error:
        remove_temporary(aside)
        if isinstance(error, OSError) and error.filename is not None:
            error.filename = str(folder)  # and not the temporary name
        raise
    settle(folder)


def settle(folder: Path) -> None:
    """Complete the replacement of a folder's weights that was killed on its way; nothing happens where none was."""
    coming = folder / NEXT
    if coming.is_symlink() or not coming.is_dir() or next(links(folder, WEIGHTS), None):
        return
    if (coming / SUMS).is_file():
        new = [*listed(coming), SUMS]
        for name in set(listed(folder)) - set(new):
            if WEIGHTS.files.fullmatch(name):
                (folder / name).unlink(missing_ok=True)
        for name in new:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # moved before the kill, or by a process that settles too
                os.replace(coming / name, folder / name)
    for place in (folder, coming):
        remove_names(place, re.compile("(?!)"), WEIGHTS.folders)
    rmdir_if_empty(coming)
