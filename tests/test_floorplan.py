"""The floor plan: a file imports only from lower floors, and each third-party library has one home."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"scanner": "mirscan", "kernels": "mirscan.kernels", "checkpoints": "mirscan.checkpoints"}

FLOORS = {
    0: ["kernels._jit"],
    0.5: ["kernels.bases", "kernels.clusters", "kernels.duplex", "kernels.fasta", "kernels.hairpins",
          "kernels.homology", "kernels.images", "kernels.stems", "kernels.tracks", "kernels.windows", "kernels.words"],
    1: ["types"],
    1.1: ["files"],
    1.15: ["paths"],
    1.2: ["formats.atomic", "formats.decimals", "formats.intervals", "formats.summaries"],
    1.5: ["contigs", "fasta", "formats.trees", "parts", "spool", "twobit"],
    2: ["annotation", "checkpoints.weights", "copies", "devices", "flags", "folding", "formats.bed",
        "formats.bigwig", "formats.fasta", "formats.gff3", "genome", "metrics", "models.layers", "proposals", "select",
        "store"],
    2.5: ["calibrate", "hairpins", "hairpins_jax", "models.cnn_lstm", "models.deepmir_image", "models.deepmir_seq",
          "models.deepmirgene", "models.duplex", "models.mirdnn", "models.mire2e", "models.mirtron_cnn", "molecules",
          "yardsticks"],
    2.6: ["engines"],
    2.8: ["models", "tune", "work"],
    3: ["call", "evaluate", "examples", "export", "pick", "scan", "score", "train"],
    3.5: ["adapt", "curate", "flanks", "fold", "homology", "recipes", "subjects"],
    3.8: ["learn"],
    4: ["bench", "cascade", "judge", "mine", "options"],
    4.2: ["finish"],
    4.4: ["prepare"],
    4.6: ["run"],
    4.7: ["runs"],
    4.8: ["batch"],
    5: ["demo"],
    5.5: ["doctor"],
    6: ["cli"],
}  # fmt: skip
"""Every file has one floor; a new file gets its line here. Folders that hold nothing but a docstring are not listed."""

HOMES = {
    "numba": ["kernels"],
    "pyfaidx": ["genome"],
    "tensorstore": ["store"],
    "orbax": ["checkpoints.weights", "files"],
    "RNA": ["folding"],
    "optax": ["train"],
    "typer": ["cli"],
    "rich": ["cli"],
    "jax": ["learn", "models", "devices", "hairpins_jax", "train", "subjects", "yardsticks"],
    "flax": ["adapt", "models", "devices", "train", "cascade", "learn", "mine", "subjects"],
    "jaxtyping": ["models"],
    "ray": ["batch"],
    "numpy": [""],
}
"""Where a library may be imported: a file, or every file of a folder; an empty name is the whole package."""

FLOOR = {name: floor for floor, names in FLOORS.items() for name in names}


def files() -> dict[str, Path]:
    """Every module below the import name, without its leading ``mirscan.``, and its path."""
    found = {}
    for folder, package in PACKAGES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = [*package.split("."), *path.relative_to(ROOT / folder).with_suffix("").parts]
            found[".".join(part for part in parts[1:] if part != "__init__")] = path
    return found


FILES = files()


def imports(path: Path) -> Iterator[tuple[int, str, str]]:
    """``(line, module, name)`` of every import that is executed; ``import x`` has the name ``""``."""
    exempt: set[ast.AST] = set()
    tree = ast.parse(path.read_text(), str(path))
    for node in ast.walk(tree):  # parents come before their children
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            exempt.update(child for statement in node.body for child in ast.walk(statement))
        if node in exempt:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: relative import"
            yield from ((node.lineno, node.module or "", alias.name) for alias in node.names)


def imported_files(module: str, name: str) -> str:
    """The file of ours that an import reads: ``from mirscan.formats import bed`` is formats.bed."""
    inside = module.removeprefix("mirscan").removeprefix(".")
    deeper = f"{inside}.{name}".strip(".")
    return deeper if deeper in FILES else inside


def test_every_file_has_one_floor_and_every_floor_its_files() -> None:
    listed = [name for names in FLOORS.values() for name in names]
    assert len(listed) == len(set(listed))
    empty = {name for name, path in FILES.items() if is_bare(path)}
    assert sorted(FILES.keys() - empty - {""}) == sorted(listed)


def is_bare(path: Path) -> bool:
    """Whether a file holds nothing but a docstring."""
    return all(isinstance(node, ast.Expr) for node in ast.parse(path.read_text()).body)


@pytest.mark.parametrize("name", sorted(FLOOR))
def test_a_file_imports_only_from_lower_floors(name: str) -> None:
    for line, module, what in imports(FILES[name]):
        if module.split(".")[0] != "mirscan":
            continue
        where = f"{FILES[name].relative_to(ROOT)}:{line}"
        assert module != "mirscan", f"{where}: write `from mirscan.room import name`"
        target = imported_files(module, what)
        assert target in FLOOR, f"{where}: {target} has no floor"
        assert FLOOR[target] < FLOOR[name], f"{where}: floor {FLOOR[name]} imports {target} of floor {FLOOR[target]}"


@pytest.mark.parametrize("name", sorted(FILES))
def test_libraries_stay_in_their_homes(name: str) -> None:
    for line, module, _ in imports(FILES[name]):
        library = module.split(".")[0]
        where = f"{FILES[name].relative_to(ROOT)}:{line}"
        if library in sys.stdlib_module_names or library == "mirscan":
            continue
        assert library in HOMES, f"{where}: {library} has no home"
        at_home = [home for home in HOMES[library] if not home or name == home or name.startswith(f"{home}.")]
        assert at_home, f"{where}: {library} belongs to {', '.join(HOMES[library])}"


@pytest.mark.parametrize("name", sorted(name for name in FILES if name.startswith("kernels.")))
def test_kernels_import_numpy_numba_and_the_decorator_alone(name: str) -> None:
    allowed = {"numpy", "numba"} | (set() if name == "kernels._jit" else {"mirscan.kernels._jit"})
    inside = {module for _, module, _ in imports(FILES[name]) if module.split(".")[0] not in sys.stdlib_module_names}
    assert inside <= allowed


@pytest.mark.parametrize("folder", ["scanner", "kernels", "checkpoints", "benchmarks", "tests"])
def test_no_import_by_the_name_of_a_folder(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        for line, module, _ in imports(path):
            first = module.split(".")[0]
            assert first not in PACKAGES, f"{path.relative_to(ROOT)}:{line}: `{first}` is only a folder's name"


def test_the_public_names_are_where_the_package_looks_for_them() -> None:
    import mirscan

    for name in mirscan.__all__:
        assert getattr(mirscan, name) is not None


def test_a_wrong_import_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\ndef f():\n    from b.c import d\n"
    )
    assert [(module, name) for _, module, name in imports(path)] == [("typing", "TYPE_CHECKING"), ("b.c", "d")]
    assert imported_files("mirscan.formats", "bed") == "formats.bed"
    assert imported_files("mirscan.formats.bed", "BedWriter") == "formats.bed"
    assert imported_files("mirscan.kernels", "nothing") not in FLOOR
