"""What mirscan may write, replace and remove.

Three rules. A file appears whole under its final name, or not at all. A folder is made only where there is none, in an
empty one, or over one that carries our mark. What is removed is removed name by name: only names that we write, and a
folder only once it is empty. Nothing outside this file and the score store writes, renames or removes.

A temporary name is ``.NAME.HOST.PROCESS.TOKEN.mirscan``. The next run that writes NAME sweeps it away if that process
is gone from this host.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import platform
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Self, cast

from mirscan.errors import InputError

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger("mirscan")
SUMS = "SHA256SUMS"
"""Lists the files of a folder of weights, as ``sha256sum`` does; what it lists marks the folder as ours."""
_NEXT = ".next.mirscan"
"""New contents of a folder of weights: complete, and on their way into place."""
_TEMPORARY = re.compile(r"\.(?P<stem>.*)\.(?P<host>[\w-]+)\.(?P<process>\d+)\.[0-9a-f]{8}\.mirscan", re.DOTALL)
_FIRST_NAMESPACE = 0xEFFFFFFC
"""Inode of the namespace of processes that Linux boots with (``PROC_PID_INIT_INO`` in its sources)."""
_LONGEST_NAME = 255
"""Bytes of a file's name, on every common file system."""


# ---------------------------------------------------------------------- kinds of folders, and whose a folder is
@dataclass(frozen=True)
class Kind:
    """A kind of folder that mirscan makes."""

    what: str
    mark: str | None
    """Name of the file that says whose the folder is; None where other files say so."""
    files: re.Pattern[str]
    """Names that we write in it, from the folder on; all others are the user's."""
    folders: re.Pattern[str]
    marked: Callable[[Path], bool] = lambda folder: False
    """Whether a folder without that file is ours all the same, as one that an older version made."""
    beside: frozenset[str] = frozenset()
    """Names that are read there, or in use for a moment, and never removed with the rest."""

    def is_ours(self, folder: Path) -> bool:
        """Whether a folder carries our mark."""
        return (self.mark is not None and (folder / self.mark).is_file()) or self.marked(folder)

    def uses(self, name: str, folder: Path) -> bool:
        """Whether something in such a folder, or what it lists, has this name."""
        if name == self.mark or name in self.beside:
            return True
        if any(pattern.fullmatch(name) for pattern in (self.files, self.folders)):
            return True
        return self.mark is None and name in listed(folder)


def _is_plan(folder: Path) -> bool:
    """Stores of format 2 had no mark yet: their plan counts."""
    try:
        plan = json.loads((folder / "plan.json").read_bytes())
        return bool(plan["format_version"] == 2 and {"genome_digest", "weights_digest", "part_windows"} <= plan.keys())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _lists_weights(folder: Path) -> bool:
    return {"about.json", "tree/_METADATA"} <= set(listed(folder))


_STAGES = ("stems", "structure", "energy", "classifier")
_TREE = r"tree(\.orbax-checkpoint-tmp[^/]*)?(/ocdbt\.process_\d+|/array_metadatas)?"
STORE = Kind(
    "score store",
    ".mirscan-store",
    re.compile(
        r"(plan\.json|known|scores/zarr\.json|scores/c/\d+/\d+|parts/\d+\.json|partial/\d+|hairpins/\d+)(\.__lock)?"
    ),
    re.compile(r"scores|scores/c|scores/c/\d+|parts|partial|hairpins"),
    _is_plan,
)
WEIGHTS = Kind(
    "folder of weights",
    None,
    re.compile(
        rf"about\.json|precursors\.npz|{SUMS}|{_TREE}/(_\w+|manifest\.ocdbt|process_\d+|commit_success\.txt|d/\w+)"
    ),
    re.compile(rf"{_TREE}(/d)?"),
    _lists_weights,
    frozenset({"calibration.json", _NEXT}),
)
TRAINING = Kind(
    "training folder",
    ".mirscan-training",
    re.compile(
        r"(\w+/)?log\.jsonl|(viennarna|hairpins)(-[0-9a-f]{8})?\.npz|(folded|classes)\.npz|(folded|classes)_structure\.npy"
    ),
    re.compile(rf"weights|(training|{'|'.join(_STAGES)})(/state|/best)?|state|best"),
    lambda folder: any((folder / stage / "state" / SUMS).is_file() for stage in ("", "training", *_STAGES)),
)
DEMO = Kind(
    "demo folder",
    ".mirscan-demo",
    re.compile(r"demo\.(fa|truth\.gff3|(plus\.|minus\.)?bw|bed|gff3|calls\.fa|run\.json)"),
    re.compile(r"demo\.bw\.store"),
)


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
    coming = folder / _NEXT
    if kind is WEIGHTS and coming.is_dir() and not (coming / SUMS).is_file() and any(coming.iterdir()):
        raise InputError(f"{coming}: mirscan needs this name for a moment; rename what is there")
    if kind.is_ours(folder):
        link = next(_links(folder, kind), None)
        if link is not None:
            raise InputError(f"{link} is a link, and a {kind.what} holds none; make {folder} itself a link instead")
        return
    held = [name for name in os.listdir(folder) if not _TEMPORARY.fullmatch(name)]
    if held:
        raise InputError(
            f"{folder} is no {kind.what} of mirscan: it holds {_few(held)}; choose a folder that is new or empty"
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
        _remove_names(folder, kind.files, kind.folders)
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
        log.info("%s stays: it holds %s, which mirscan did not write", folder, _few(held))
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


def _links(folder: Path, kind: Kind) -> Iterator[Path]:
    """Links under names that we write: what they lead to is not ours."""
    for name, entry in _entries(folder, kind.folders):
        if entry.is_symlink() and (kind.folders.fullmatch(name) or kind.files.fullmatch(name)):
            yield folder / name


def _entries(folder: Path, folders: re.Pattern[str], at: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything in a folder and in those below it that have our names, links not followed; deepest first."""
    with os.scandir(folder / at) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name = f"{at}{entry.name}"
        if entry.is_dir(follow_symlinks=False) and folders.fullmatch(name):
            yield from _entries(folder, folders, f"{name}/")
        yield name, entry


def _remove_names(folder: Path, files: re.Pattern[str], folders: re.Pattern[str]) -> None:
    """Unlink regular files that have our names and remove the folders of ours that are then empty."""
    for name, entry in _entries(folder, folders):
        if entry.is_dir(follow_symlinks=False):
            if folders.fullmatch(name):
                _rmdir_if_empty(folder / name)
        elif entry.is_file(follow_symlinks=False) and files.fullmatch(name):
            (folder / name).unlink(missing_ok=True)


def _rmdir_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise


def _few(names: Iterable[str], most: int = 3) -> str:
    names = sorted(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# ---------------------------------------------------------------------- temporary names
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
    stems = None if names is None else {_stem(name) for name in names}
    try:
        there = os.listdir(folder)
    except OSError:
        return
    for name in there:
        found = _TEMPORARY.fullmatch(name)
        if not found or (stems is not None and found["stem"] not in stems):
            continue
        if found["host"] == host() and _is_gone(found["process"]):
            with contextlib.suppress(OSError):  # what cannot be removed stays
                _remove_temporary(folder / name)


def _remove_temporary(path: Path) -> None:
    if stat.S_ISDIR(path.lstat().st_mode):
        _remove_names(path, _IN_TEMPORARY, WEIGHTS.folders)
        _rmdir_if_empty(path)
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


# ---------------------------------------------------------------------- files that appear whole
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
        _remove_temporary(folder)


# ---------------------------------------------------------------------- folders of weights, replaced as a whole
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
        os.replace(aside, folder / _NEXT)
    except BaseException as error:
        _remove_temporary(aside)
        if isinstance(error, OSError) and error.filename is not None:
            error.filename = str(folder)  # and not the temporary name
        raise
    settle(folder)


def settle(folder: Path) -> None:
    """Complete the replacement of a folder's weights that was killed on its way; nothing happens where none was."""
    coming = folder / _NEXT
    if coming.is_symlink() or not coming.is_dir() or next(_links(folder, WEIGHTS), None):
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
        _remove_names(place, re.compile("(?!)"), WEIGHTS.folders)
    _rmdir_if_empty(coming)


def listed(folder: Path) -> list[str]:
    """Names of the files of weights that a folder's `SUMS` lists; none where it has no such file.

    Names that lead out of the folder are left out.
    """
    try:
        lines = (folder / SUMS).read_text(errors="replace").splitlines()
    except OSError:
        return []
    names = [line[66:] for line in lines]
    return [name for name in names if name and not name.startswith("/") and ".." not in name.split("/")]
