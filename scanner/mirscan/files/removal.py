"""Removing: names that match a pattern, one by one, and folders that are empty."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path


def entries(folder: Path, folders: re.Pattern[str], at: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything in a folder and in those below it that have our names, links not followed; deepest first."""
    with os.scandir(folder / at) as found:
        there = sorted(found, key=lambda entry: entry.name)
    for entry in there:
        name = f"{at}{entry.name}"
        if entry.is_dir(follow_symlinks=False) and folders.fullmatch(name):
            yield from entries(folder, folders, f"{name}/")
        yield name, entry


def remove_names(folder: Path, files: re.Pattern[str], folders: re.Pattern[str]) -> None:
    """Unlink regular files that have our names and remove the folders of ours that are then empty."""
    for name, entry in entries(folder, folders):
        if entry.is_dir(follow_symlinks=False):
            if folders.fullmatch(name):
                rmdir_if_empty(folder / name)
        elif entry.is_file(follow_symlinks=False) and files.fullmatch(name):
            (folder / name).unlink(missing_ok=True)


def rmdir_if_empty(folder: Path) -> None:
    """Remove a folder that holds nothing; one that holds something, or is gone, stays as it is."""
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise


def few(names: Iterable[str], most: int = 3) -> str:
    """The first names in order, and how many more there are."""
    names = sorted(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
