"""Weights: find, verify, restore, save. Trees of NumPy arrays through Orbax, every file's sha256 checked before use."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mirscan.types import InputError

HERE = Path(__file__).resolve().parent
SUMS = "SHA256SUMS"
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
    return hashlib.sha256(_sums(folder).encode()).hexdigest()


def verify(folder: Path) -> None:
    """Compare every file with the sums written when it was saved; Orbax itself loads flipped bits silently.

    Raises
    ------
    InputError
        Naming the first file that is missing, changed or not on the list.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such checkpoint folder")
    if not (folder / SUMS).is_file():
        raise InputError(f"{folder}: not a checkpoint of mirscan ({SUMS} is missing)")
    listed, found = (folder / SUMS).read_text(errors="replace"), _sums(folder)
    if listed != found:
        odd = sorted(set(listed.split("\n")) ^ set(found.split("\n")), key=lambda line: line[66:])
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
    """Write a checkpoint aside and rename it into place; an older one of the same name is replaced, but for its card.

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
    import orbax.checkpoint as ocp

    logging.getLogger("absl").setLevel(logging.ERROR)
    folder = folder.absolute()
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)

    def leaf(array: Any) -> np.ndarray:
        array = np.asarray(array)
        return array.astype(np.float16) if half and array.dtype == np.float32 else array

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(aside / "tree", _map(tree, leaf))
    (aside / "tree" / "commit_success.txt").unlink(missing_ok=True)  # names the folder it was written in
    (aside / "about.json").write_text(json.dumps(about, indent=1) + "\n")
    for name, arrays in (beside or {}).items():
        np.savez(aside / name, **arrays)  # type: ignore[arg-type]
    (aside / SUMS).write_text(_sums(aside))
    if present(folder):
        for card in folder.glob("*.md"):
            shutil.copy(card, aside)
        old = _old(folder)
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
        os.replace(aside, folder)
        shutil.rmtree(old)
    else:
        os.replace(aside, folder)


def present(folder: Path) -> bool:
    """Whether a checkpoint is there; one that a killed `save` had just put away comes back. For who writes it alone."""
    if not folder.exists() and _old(folder).is_dir():
        os.replace(_old(folder), folder)
    return folder.is_dir()


def _old(folder: Path) -> Path:
    """Where the checkpoint that is being replaced waits: a name that no one gives to a copy of their own."""
    return folder.with_name(f".{folder.name}.replaced")


def _load(path: Path) -> Tree:
    import orbax.checkpoint as ocp

    logging.getLogger("absl").setLevel(logging.ERROR)
    with ocp.StandardCheckpointer() as checkpointer:
        return dict(checkpointer.restore(path.absolute()))


def _sums(folder: Path) -> str:
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    listed = [n for n in names if n not in (SUMS, CALIBRATION) and not n.endswith(".md")]
    return "".join(f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in listed)


def _map(tree: Any, function: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _map(value, function) for key, value in tree.items()}
    return function(np.asarray(tree))
