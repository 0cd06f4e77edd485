"""The kinds of folders that mirscan makes, and the names that it writes in each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SUMS = "SHA256SUMS"
"""Lists the files of a folder of weights, as ``sha256sum`` does; what it lists marks the folder as ours."""


NEXT = ".next.mirscan"
"""New contents of a folder of weights: complete, and on their way into place."""


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
        rf"about\.json|precursors\.npz|{SUMS}|"
        rf"{_TREE}/(_\w+|manifest\.ocdbt|process_\d+|commit_success\.txt|d/\w+)(\.__lock)?"
    ),
    re.compile(rf"{_TREE}(/d)?"),
    _lists_weights,
    frozenset({"calibration.json", NEXT}),
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
