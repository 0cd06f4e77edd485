"""One look at all paths of a command, before any work: nothing that it reads or writes may be lost."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from mirscan.errors import IncompleteError, InputError
from mirscan.files.atomic import AtomicFile, is_stream
from mirscan.files.folders import check_folder, owner_of
from mirscan.files.kinds import STORE, TRAINING, WEIGHTS, Kind
from mirscan.files.temporary import sweep


@dataclass(frozen=True)
class _Use:
    """A path, and what a command does with it."""

    role: str
    path: Path
    written: bool
    kind: Kind | None = None
    """Of a folder; None for a file."""
    main: Path | None = None
    """The output whose record, or whose store, this is; None for a path that the user named."""
    track: bool = False
    """Whether it is a track that stands beside the main one, such as that of a strand."""

    @cached_property
    def real(self) -> str:
        """The path with links resolved."""
        return os.path.realpath(self.path)

    @cached_property
    def identity(self) -> tuple[object, ...]:
        """Equal for two names of one file."""
        try:
            found = os.stat(self.path)
        except OSError:
            return (self.real,)
        return found.st_dev, found.st_ino

    @property
    def is_device(self) -> bool:
        """Whether it is a device such as ``/dev/null``, which any number of outputs may go to."""
        try:
            return stat.S_ISCHR(os.stat(self.path).st_mode)
        except OSError:
            return False

    def __str__(self) -> str:
        return f"{self.path} ({self.role})"


class Paths:
    """The paths of one command: say what it does with each, then `look`. Each method returns the object itself.

    A path that is None is left out; ``-`` is standard input or output.
    """

    def __init__(self) -> None:
        self._uses: list[_Use] = []

    def reads(self, role: str, path: str | Path | None) -> Self:
        """A file that is read."""
        if str(path) == "-":
            path = "/dev/stdin" if _stdin_is_a_file() else None  # an output could replace that file
        return self._add(role, path, written=False)

    def reads_folder(self, role: str, folder: str | Path | None, kind: Kind) -> Self:
        """A folder of ours that is read."""
        return self._add(role, _local(folder), written=False, kind=kind)

    def writes(self, role: str, path: str | Path | None) -> Self:
        """A file that the user named as an output."""
        return self._add(role, path, written=True)

    def writes_beside(self, role: str, path: Path, main: Path, *, track: bool = False) -> Self:
        """A file whose name follows from that of an output, ``main``: its record, or a further track."""
        return self._add(role, path, written=True, main=main, track=track)

    def makes(self, role: str, folder: str | Path | None, kind: Kind, main: Path | None = None) -> Self:
        """A folder that is made or gone on with; ``main`` is the output that its name follows from."""
        return self._add(role, _local(folder), written=True, kind=kind, main=main)

    def look(self) -> None:
        """Refuse what would lose or damage anything, or could not be written in the end.

        What killed runs of this host left under temporary names of the outputs is swept away on the way.

        Raises
        ------
        InputError
            If an output is another path of the command, a folder is not ours to write in, a record or store belongs
            to other outputs, or an output cannot be written.
        IncompleteError
            If there is no room for as much as an empty file.
        """
        for use in self._uses:
            _check_name(use)
        self._compare()
        for use in self._uses:
            if use.written and use.kind is not None:
                try:
                    check_folder(use.path, use.kind)
                except InputError as error:
                    raise InputError(f"{use.role}: {error}") from error
                _check_owner(use)
        outputs = [use for use in self._uses if use.written and use.kind is None and str(use.path) != "-"]
        names = defaultdict(list)
        for use in outputs:
            _check_record(use)
            names[Path(use.real).parent].append(Path(use.real).name)
        for folder, left in names.items():
            sweep(folder, left)
        for use in outputs:
            _try(use.path)

    def _add(self, role: str, path: str | Path | None, *, written: bool, kind: Kind | None = None,
             main: Path | None = None, track: bool = False) -> Self:  # fmt: skip
        if path is not None:
            self._uses.append(_Use(role, Path(path), written, kind, main, track))
        return self

    def _compare(self) -> None:
        """Refuse two uses of one file, and files where a folder of the command keeps its own."""
        taken: dict[tuple[object, ...], _Use] = {}
        for use in sorted(self._uses, key=lambda use: use.written):  # what is read first: outputs are refused
            other = taken.setdefault(use.identity, use)
            if use.written and other is not use and not use.is_device:
                raise InputError(f"{use} is also {other}; give every file a name of its own")
        kept = {use.real: use for use in self._uses if use.kind is not None}
        written = {use.real: use for use in self._uses if use.written and use.kind is None}
        for use in self._uses:
            for parent in map(str, Path(use.real).parents):
                if parent in written:
                    raise InputError(f"{use} lies in {written[parent]}, which is to be a file; give another name")
                folder = kept.get(parent)
                if folder is None or not (use.written or folder.written):
                    continue
                if folder.kind is TRAINING and use.kind is not None:  # its stages and its weights
                    continue
                assert folder.kind is not None
                if folder.kind.uses(os.path.relpath(use.real, folder.real), folder.path):
                    raise InputError(f"{use} lies in {folder} under a name that is used there; give another name")
        for use in self._uses:
            if use.written:
                _check_above(use, kept)


def _local(folder: str | Path | None) -> str | Path | None:
    """A folder of this machine; None for a URL of an object store or of memory, which is TensorStore's to look at."""
    if folder is None or "://" not in str(folder):
        return folder
    return str(folder).removeprefix("file://") if str(folder).startswith("file://") else None


def _check_name(use: _Use) -> None:
    """Refuse what no file system takes for a name."""
    try:
        os.lstat(use.path)
    except ValueError as error:  # a NUL
        raise InputError(f"{use} cannot be a path: {error}") from error
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise InputError(f"{use} cannot be a path: {error.strerror}; give another name") from error


def _check_above(use: _Use, kept: Mapping[str, _Use]) -> None:
    """Refuse a place within a store or weights that the command does not name, under a name that is used there."""
    for parent in (parent for parent in Path(use.real).parents if str(parent) not in kept):
        for kind in (STORE, WEIGHTS):
            if kind.uses(os.path.relpath(use.real, parent), parent) and kind.is_ours(parent):
                raise InputError(
                    f"{use} lies in {parent}, a {kind.what}, under a name that is used there; give another"
                )


def _stdin_is_a_file() -> bool:
    try:
        return sys.stdin is not None and stat.S_ISREG(os.fstat(0).st_mode)
    except OSError:
        return False


def run_file(output: Path) -> Path:
    """Where the record of a run goes: ``scores.run.json`` beside ``scores.bw``."""
    stem = output.name.removesuffix(".gz")
    return output.with_name(stem.rsplit(".", 1)[0] + ".run.json")


def _check_owner(use: _Use) -> None:
    """Refuse a derived store that was made for another output."""
    if use.kind is STORE and use.main is not None:
        owner = owner_of(use.path, STORE)
        if owner not in ("", owner_name(use.path, use.main)):
            raise InputError(f"{use} keeps the scores of {owner}; give another one with --store")


def owner_name(store: Path, main: Path) -> str:
    """An output as the mark of its store names it: from the store on, so that both can be moved together."""
    return os.path.relpath(_place(main), os.path.dirname(_place(store)))


def _place(path: Path) -> str:
    """An absolute path with the links of its folder resolved, and those of its last name kept."""
    path = path.absolute()
    return os.path.join(os.path.realpath(path.parent), path.name)


def _check_record(use: _Use) -> None:
    """Refuse a derived file that another run wrote, or that no run wrote."""
    if use.main is None:
        return
    if use.path.is_symlink():
        raise InputError(f"{use} is a link; remove it, or give -o another name")
    if use.track:  # its own record, if it has one, says that it is the main track of another run
        record = run_file(use.path)
        if _main_of(record) == use.path.name:
            raise InputError(f"{use} belongs to another run, see {record}; give -o another name")
    elif os.path.lexists(use.path) and not use.path.is_dir():
        main = _main_of(use.path)
        if main is None:
            raise InputError(f"{use} exists and is no record of mirscan; rename it or give -o another name")
        if main != use.main.name:
            raise InputError(f"{use} is the record of {main}; give -o another name, or remove both")


def _main_of(record: Path) -> str | None:
    """Name of the main track of a run by its record; None where there is no such record."""
    try:
        return Path(json.loads(record.read_bytes())["outputs"][0]).name
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _try(path: Path) -> None:
    """Open an output in its folder under its temporary name, and leave nothing."""
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path} is a link to nothing; remove the link or give another name")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file in it")
    real = Path(os.path.realpath(path))
    if not real.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it first")
    if is_stream(path):
        if not os.access(path, os.W_OK):
            raise InputError(f"{path} is not writable; choose another")
        return
    if not os.access(real.parent, os.W_OK | os.X_OK):
        raise InputError(f"{path}: the folder {path.parent} is not writable; choose another")
    try:
        AtomicFile(path).abort()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise IncompleteError(f"disk full at {path}; free space and run the same command again") from error
        raise InputError(f"{path} cannot be written: {error.strerror}; give another name or folder") from error
