"""The package holds what the checkout holds, starts fast, and nothing of this machine is in it."""

from __future__ import annotations

import fnmatch
import re
import resource
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import mirscan

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
HEAVY = {"jax", "jaxlib", "flax", "orbax", "optax", "numba", "llvmlite", "tensorstore", "RNA", "pyfaidx"}


def tracked() -> list[Path]:
    """Files under version control; the test is skipped outside a checkout."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_every_folder_with_modules_is_packaged() -> None:
    folders = {name: ROOT / folder for name, folder in SETUPTOOLS["package-dir"].items()}
    found = {
        ".".join([name, *path.parent.relative_to(folder).parts])
        for name, folder in folders.items()
        for path in folder.rglob("*.py")
    }
    assert found == set(SETUPTOOLS["packages"])
    for name in found:
        root = max((package for package in folders if f"{name}.".startswith(f"{package}.")), key=len)
        inside = folders[root].joinpath(*name.removeprefix(root).split("."))
        assert (inside / "__init__.py").is_file()


def test_the_files_of_a_checkpoint_are_packaged(tiny_weights: Path) -> None:
    shipped = [path for path in tracked() if path.is_relative_to(ROOT / "checkpoints") and path.suffix != ".py"]
    names = [path.relative_to(ROOT / "checkpoints").as_posix() for path in shipped]
    names += [f"model/{p.relative_to(tiny_weights).as_posix()}" for p in tiny_weights.rglob("*") if p.is_file()]
    patterns = SETUPTOOLS["package-data"]["mirscan.checkpoints"]
    for name in names:
        # a star of setuptools stays inside one folder, unlike fnmatch's
        assert any(
            "**" in pattern or (pattern.count("/") == name.count("/") and fnmatch.fnmatch(name, pattern))
            for pattern in patterns
        ), f"checkpoints/{name} would not be installed"


def test_the_typing_marker_is_packaged() -> None:
    assert "py.typed" in SETUPTOOLS["package-data"]["mirscan"]
    assert (ROOT / "scanner" / "py.typed").is_file()


def test_one_version_everywhere() -> None:
    assert mirscan.__version__ == PROJECT["project"]["version"] == version("mirscan")
    assert f"\nversion: {mirscan.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    newest = next(line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ["))
    assert newest.startswith(f"## [{mirscan.__version__}]")


def test_every_requirement_is_constrained() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all("==" in line and 'python_version < "3.12"' in line and "@" not in line for line in lines)
    held = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *extras["test"], *extras["lint"]]
    assert {re.split(r"[\[>]", name)[0].lower().replace("_", "-") for name in wanted} <= held


def test_the_command_line_starts_without_heavy_libraries() -> None:
    program = "import sys, mirscan.cli; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert not HEAVY & set(loaded.split())


def test_help_is_there_at_once() -> None:
    """Measured in processor seconds, which other programs on the machine disturb less; the best of five."""
    command = [sys.executable, "-c", "from mirscan.cli import main; main()", "--help"]
    best = 9.9
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert "genome" in shown
    assert best < 0.3


def test_no_large_file() -> None:
    large = [path for path in tracked() if path.stat().st_size > 20_000_000]
    assert not large


def test_no_tracked_file_names_a_place_on_this_machine() -> None:
    places = [f"{slash}{name}/".encode() for slash in "/" for name in ("work", "root", "home", "Users", "tmp")]
    for path in tracked():
        text = path.read_bytes()
        if b"\0" in text[:8192]:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            for place in places:
                assert place not in line, f"{path.relative_to(ROOT)}:{number}: {line.decode(errors='replace')}"
