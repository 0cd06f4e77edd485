"""The floor plan: a package imports only from lower floors, and each third-party library has one home."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "scanner" / "mirscan"

FLOORS = [
    ["errors", "kernels"],
    ["files", "host", "types"],
    ["paths"],
    ["checkpoints", "devices", "evaluation", "formats", "genome", "known", "store"],
    ["models", "structure"],
    ["calls", "training"],
    ["scanning"],
    ["cluster", "commands", "takes", "terminal"],
    ["api", "cli"],
]
"""From the ground up: packages, and files that are none. Within a package files import each other without a circle."""

HOMES = {
    "numba": ["kernels"],
    "pyfaidx": ["genome"],
    "tensorstore": ["store"],
    "orbax": ["checkpoints", "files"],
    "RNA": ["structure"],
    "optax": ["training"],
    "typer": ["cli", "takes"],
    "rich": ["terminal"],
    "jax": ["commands", "devices", "models", "structure", "training"],
    "flax": ["commands", "devices", "models", "training"],
    "jaxtyping": ["models"],
    "ray": ["cluster"],
    "pandas": ["api"],
    "numpy": [""],
}
"""The packages that may import a library; an empty name is all of them."""
LONGEST = 16
"""Files of a package."""

FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def files() -> dict[str, Path]:
    """Every module below the import name, without its leading ``mirscan.``, and its path; links are followed."""
    found = {}
    for folder in (PACKAGE, *(path for path in PACKAGE.iterdir() if path.is_symlink())):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(PACKAGE).with_suffix("").parts
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


def package(module: str) -> str:
    """The package of a module, or the module itself where it is in none."""
    return module.split(".")[0]


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


def test_every_package_has_one_floor_and_every_floor_its_packages() -> None:
    listed = [name for names in FLOORS for name in names]
    assert sorted({package(name) for name in FILES} - {""}) == sorted(listed)


def test_the_design_page_has_this_table() -> None:
    rows = re.findall(r"^\| (\d) \| ([^|]*) \|", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE)
    assert [sorted(re.findall(r"`(\w+)`", names)) for _, names in rows] == [sorted(names) for names in FLOORS]


def test_packages_are_small_and_say_what_they_are_for() -> None:
    for folder in (path for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"):
        assert len(list(folder.glob("*.py"))) <= LONGEST, folder
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder


@pytest.mark.parametrize("name", sorted(set(FILES) - {""}))
def test_a_file_imports_only_from_its_package_and_from_lower_floors(name: str) -> None:
    for line, module, what in imports(FILES[name]):
        if module.split(".")[0] != "mirscan":
            continue
        where = f"{FILES[name].relative_to(ROOT)}:{line}"
        target = imported_files(module, what)
        assert target, f"{where}: write `from mirscan.room import name`"
        if package(target) != package(name):
            floors = FLOOR[package(name)], FLOOR[package(target)]
            assert floors[1] < floors[0], f"{where}: floor {floors[0]} imports {target} of floor {floors[1]}"


def test_no_circle_within_a_package() -> None:
    reads = {
        name: {imported_files(module, what) for _, module, what in imports(path) if module.startswith("mirscan")}
        - {name}
        for name, path in FILES.items()
    }
    left = {name: {other for other in others if other in FILES} for name, others in reads.items()}
    while ready := {name for name, others in left.items() if not others}:
        left = {name: others - ready for name, others in left.items() if name not in ready}
    assert not left


@pytest.mark.parametrize("name", sorted(FILES))
def test_libraries_stay_in_their_homes(name: str) -> None:
    for line, module, _ in imports(FILES[name]):
        library = module.split(".")[0]
        where = f"{FILES[name].relative_to(ROOT)}:{line}"
        if library in sys.stdlib_module_names or library == "mirscan":
            continue
        assert library in HOMES, f"{where}: {library} has no home"
        assert "" in HOMES[library] or package(name) in HOMES[library], f"{where}: {library} belongs elsewhere"


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
            assert first not in ("scanner", "kernels", "checkpoints"), f"{path.relative_to(ROOT)}:{line}: {first}"


def test_a_package_has_not_the_name_of_a_public_function() -> None:
    import mirscan

    assert not {name for name in mirscan.__all__ if name in FLOOR}


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
    assert imported_files("mirscan.kernels", "nothing") == "kernels"


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").rglob("*.py")), ids=lambda path: path.stem)
def test_what_benchmarks_import_is_there(path: Path) -> None:
    for line, module, name in imports(path):
        if module.split(".")[0] == "mirscan":
            home = import_module(module)
            found = not name or hasattr(home, name) or f"{module}.{name}".removeprefix("mirscan.") in FILES
            assert found, f"{path.relative_to(ROOT)}:{line}: {module} has no {name}"
