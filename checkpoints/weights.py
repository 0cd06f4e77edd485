"""Weights: find, verify, restore, save. Trees of NumPy arrays through Orbax, every file's sha256 checked before use."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mirscan.errors import InputError
from mirscan.files.atomic import save_arrays, save_tree, write_file
from mirscan.files.kinds import SUMS, WEIGHTS, listed
from mirscan.files.weights import replacing, settle

HERE = Path(__file__).resolve().parent
CALIBRATION = "calibration.json"
"""Fitted to scores of the weights, so later than they: it is not in their sums and names them itself."""
Tree = dict[str, Any]


def registry() -> dict[str, dict[str, Any]]:
    """The shipped checkpoints: model name to its row of ``registry.toml``."""
    with open(HERE / "registry.toml", "rb") as file:
        return tomllib.load(file)


def find(model: str) -> Path:
    """Folder of the weights shipped for a model.

    Raises
    ------
    InputError
        If none are shipped.
    """
    row = registry().get(model)
    if row is None:
        raise InputError(f"no weights are shipped for model {model!r}: train it and give the folder with --weights")
    return HERE / row["folder"]


def digest(folder: Path) -> str:
    """Sha256 (hex) over the list of a checkpoint's files and their sums."""
    return hashlib.sha256(_sums(folder, listed(folder)).encode()).hexdigest()


def verify(folder: Path) -> None:
    """Compare every file with the sums written when it was saved; Orbax itself loads flipped bits silently.

    Files that are no part of a checkpoint do no harm: cards, the user's own notes, those of an operating system.

    Raises
    ------
    InputError
        Naming the first file that is missing, changed, or part of a checkpoint and not on the list.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such checkpoint folder")
    if not (folder / SUMS).is_file():
        raise InputError(f"{folder}: not a checkpoint of mirscan ({SUMS} is missing)")
    with contextlib.suppress(OSError):  # one that was killed on its way into place, if it can be written
        settle(folder)
    there = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    unlisted = {name for name in there if name != SUMS and WEIGHTS.files.fullmatch(name)}
    text = (folder / SUMS).read_text(errors="replace")
    found = _sums(folder, sorted({*listed(folder), *unlisted}))
    if text != found:
        odd = sorted(set(text.split("\n")) ^ set(found.split("\n")), key=lambda line: line[66:])
        path = folder / (odd[0][66:] if odd else SUMS)
        raise InputError(f"{path}: missing, or not what its sum in {SUMS} says; install the checkpoint again")
    row = next((row for row in registry().values() if HERE / row["folder"] == folder.resolve()), None)
    if row is not None and row["digest"] != digest(folder):
        raise InputError(f"{folder / SUMS}: not the list in the registry; install the checkpoint again")


def restore(folder: Path) -> Tree:
    """Nested dict of NumPy arrays, verified, 16-bit floats widened to float32."""
    verify(folder)
    tree = _load(folder / "tree")
    return _map(tree, lambda leaf: leaf.astype(np.float32) if leaf.dtype.itemsize == 2 else leaf)


def describe(folder: Path) -> dict[str, Any]:
    """What `save` was told about the weights (model, data, figures)."""
    return dict(json.loads((folder / "about.json").read_text()))


def save(
    folder: Path,
    tree: Tree,
    about: dict[str, Any],
    *,
    half: bool = False,
    beside: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> None:
    """Write a checkpoint aside and move it into place; an older one there is replaced, and what else lies there stays.

    Parameters
    ----------
    tree : dict
        Nested dict of arrays.
    about : dict
        JSON-able: at least ``model``.
    half : bool
        Store floats as float16.
    beside : dict, optional
        Further arrays by the name of the ``.npz`` they go into.
    """

    def leaf(array: Any) -> np.ndarray:
        array = np.asarray(array)
        return array.astype(np.float16) if half and array.dtype == np.float32 else array

    with replacing(folder) as aside:
        save_tree(aside / "tree", _map(tree, leaf))
        write_file(aside / "about.json", (json.dumps(about, indent=1) + "\n").encode())
        for name, arrays in (beside or {}).items():
            save_arrays(aside / name, dict(arrays), compressed=False)
        names = sorted(path.relative_to(aside).as_posix() for path in aside.rglob("*") if path.is_file())
        write_file(aside / SUMS, _sums(aside, names).encode())


def recover(folder: Path) -> bool:
    """Complete a replacement that was killed on its way, and say whether a checkpoint is there; for a single writer."""
    settle(folder)
    return WEIGHTS.is_ours(folder)


def _load(path: Path) -> Tree:
    import orbax.checkpoint as ocp

    logging.getLogger("absl").setLevel(logging.ERROR)
    with ocp.StandardCheckpointer() as checkpointer:
        return dict(checkpointer.restore(path.absolute()))


def _sums(folder: Path, names: Iterable[str]) -> str:
    """The list of files and their sums, of those that are there."""
    there = [name for name in names if (folder / name).is_file()]
    return "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in there)


def _map(tree: Any, function: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _map(value, function) for key, value in tree.items()}
    return function(np.asarray(tree))
