"""No command line changes a file that it does not name as an output."""

from __future__ import annotations

import collections
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stranger
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stranger import Home, cases

EXPECTED = {0, 2, 3, 4}
"""Done, wrong options, bad input, incomplete: a traceback ends with 1."""


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path) -> Iterator[dict[str, Path]]:
    with pytest.MonkeyPatch.context() as patch:
        stranger.without_models(patch.setattr)
        patch.setattr(sys, "argv", sys.argv)
        yield stranger.templates(tmp_path_factory.mktemp("templates"), tiny_weights)


@pytest.fixture
def home(tmp_path: Path, templates: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes homes, one after another."""
    numbers = itertools.count()
    monkeypatch.chdir(tmp_path)

    def make(entries: list[tuple[str, str, str]]) -> Home:
        os.chdir(tmp_path)
        number = next(numbers)
        shutil.rmtree(tmp_path / f"{number - 1}", ignore_errors=True)
        made = Home(tmp_path / f"{number}", templates)
        made.build(entries)
        os.chdir(made.home)
        return made

    return make


COUNTED: collections.Counter[tuple[str, int]] = collections.Counter()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_a_strangers_files_are_safe(home: Any, case: Any) -> None:
    entries, lines = case
    mine = home(entries)
    for line in lines:
        argv = mine.prepare(line)
        before = mine.state()
        code = stranger.call(argv)
        assert code in EXPECTED, argv
        COUNTED[argv[0], code] += 1
        mine.check(before, argv)
        mine.learned(argv)


@pytest.mark.slow
@pytest.mark.timeout(0)
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases(), share=st.floats(0, 1), kill=st.booleans())
def test_a_strangers_files_are_safe_when_a_command_is_killed(
    home: Any, server: Any, case: Any, share: float, kill: bool
) -> None:
    entries, lines = case
    mine = home(entries)
    for line in lines:
        for seconds in [share * 0.4, None] if kill else [None]:
            argv = mine.prepare(line)
            before = mine.state()
            code = server(str(mine.home), argv, seconds)
            assert code in EXPECTED or (code == -9 and seconds is not None), (argv, code)
            COUNTED[argv[0], code] += 1
            mine.check(before, argv)
            mine.learned(argv)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Runs commands in processes of their own, and kills them."""
    log = tmp_path_factory.mktemp("server") / "log"
    with open(log, "w") as errors:
        process = subprocess.Popen(
            [sys.executable, stranger.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(cwd: str, argv: list[str], seconds: float | None) -> int:
        process.stdin.write(json.dumps({"cwd": cwd, "argv": argv, "seconds": seconds}) + "\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        return int(json.loads(process.stdout.readline()))  # type: ignore[union-attr]

    yield ask
    process.stdin.close()
    process.wait(60)


def teardown_module() -> None:
    """With ``pytest -s``: how often each command ended how."""
    print(sorted(COUNTED.items()))
