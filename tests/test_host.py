"""This machine (mirscan.host): cores where the system does not say which, caches of users with and without a home."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mirscan.host import cache_folder, cores


def test_cores_are_those_asked_for_or_all_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores(3) == 3
    assert cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    assert cores() == os.cpu_count()
    assert cores(2) == 2
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1


def test_caches_lie_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "mirscan"
    monkeypatch.setenv("MIRSCAN_CACHE", str(tmp_path / "m"))
    assert cache_folder() == tmp_path / "m"
    monkeypatch.delenv("MIRSCAN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_folder() == tmp_path / ".cache" / "mirscan"

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cache_folder().parent == tmp_path
