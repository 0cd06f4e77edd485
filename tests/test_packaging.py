"""The package holds what the checkout holds, starts fast, and nothing of this machine is in it."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import mirscan

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HEAVY = {"jax", "jaxlib", "flax", "orbax", "optax", "numba", "llvmlite", "tensorstore", "RNA", "pyfaidx"}


def tracked() -> list[Path]:
    """Files under version control; the test is skipped outside a checkout."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


BUILD = "import sys; from setuptools import build_meta as b; getattr(b, 'build_' + sys.argv[1])(sys.argv[2])"


def built(what: str, source: Path, target: Path) -> Path:
    """A wheel or sdist of a source tree, by the backend that pyproject.toml names."""
    target.mkdir()
    subprocess.run([sys.executable, "-c", BUILD, what, target], cwd=source, check=True, capture_output=True)
    return next(target.iterdir())


def test_wheels_of_checkout_and_sdist_hold_every_file_of_the_package(tmp_path: Path) -> None:
    for path in tracked():
        copy = tmp_path / "checkout" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch() if path.stat().st_size > 100_000 else shutil.copy(path, copy)  # weights take long to pack
    for link in (path for path in (ROOT / "scanner" / "mirscan").iterdir() if path.is_symlink()):
        (tmp_path / "checkout" / link.relative_to(ROOT)).symlink_to(link.readlink())
    wheel = built("wheel", tmp_path / "checkout", tmp_path / "one")
    with tarfile.open(built("sdist", tmp_path / "checkout", tmp_path / "two")) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    other = built("wheel", next((tmp_path / "unpacked").iterdir()), tmp_path / "three")
    names, others = (set(zipfile.ZipFile(path).namelist()) for path in (wheel, other))
    assert names == others
    homes = {"scanner/mirscan": "mirscan", "kernels": "mirscan/kernels", "checkpoints": "mirscan/checkpoints"}
    wanted = {
        f"{package}/{path.relative_to(ROOT / home).as_posix()}"
        for home, package in homes.items()
        for path in tracked()
        if path.is_relative_to(ROOT / home)
    }
    assert {name for name in names if name.startswith("mirscan/")} == wanted
    assert "mirscan/py.typed" in names


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
