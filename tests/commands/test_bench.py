"""`mirscan bench`: every kind of model is measured in all its pieces, and what is counted is right."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from mirscan.cli import app
from mirscan.commands import bench as benchmark
from mirscan.commands import bench_machine
from mirscan.commands import bench_subject as subjects
from mirscan.commands.bench import bench, compare, table
from mirscan.commands.bench_machine import cost, machine
from mirscan.commands.bench_subject import Setting, Subject
from mirscan.devices import local_devices
from mirscan.errors import UsageError
from mirscan.scanning.loop import scan
from mirscan.store import ScoreStore


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Genomes of a batch or two."""
    monkeypatch.setattr(subjects, "TARGET", 0.01)
    monkeypatch.setattr(subjects, "PARTS", 2)


def test_settings() -> None:
    assert Setting.parse("duplex") == ("duplex", None, 0)
    assert Setting.parse("duplex", "bfloat16") == ("duplex", "bfloat16", 0)
    assert Setting.parse("duplex:float32", "bfloat16") == ("duplex", "float32", 0)
    assert Setting.parse("duplex:bfloat16:4096") == ("duplex", "bfloat16", 4096)
    assert Setting.parse("duplex:32") == ("duplex", None, 32)
    for text in ("duplex:float16", "duplex:8:8", "duplex:float32:x", "duplex:"):
        with pytest.raises(UsageError, match=f"{text}: give MODEL"):
            Setting.parse(text)


def test_loops_are_counted_round_by_round() -> None:
    a = np.ones((32, 32), np.float32)
    once = cost(lambda a: a @ a, a)
    assert once.flops == pytest.approx(2 * 32**3, rel=0.05)
    many = cost(lambda a: jax.lax.scan(lambda x, _: (x @ a, None), a, length=7)[0], a)
    nested = cost(lambda a: jax.jit(lambda a: jax.lax.map(lambda x: jax.lax.fori_loop(0, 5, lambda _, y: y @ y, x),
                                                          jnp.stack([a, a, a])))(a), a)  # fmt: skip
    assert many.flops == pytest.approx(7 * once.flops, rel=0.05)
    assert nested.flops == pytest.approx(15 * once.flops, rel=0.05)
    assert many.bytes > 6 * once.bytes


@pytest.mark.parametrize(
    "name",
    [
        "mirdnn-animal",
        "duplex-single",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("mire2e-tiny", "deepmir-resnet-1m-20ck")),
    ],
)
def test_every_kind_of_model_is_measured_in_its_pieces(name: str, tmp_path: Path) -> None:
    """Of windows, folded windows, pictures and hairpins."""
    subject = Subject(Setting(name, "float32"), local_devices(1), 1, tmp_path)
    tasks = subject.tasks()
    assert set(tasks) - {"recurrence"} == {"scan", "reading", "host", "transfer", "device"}
    assert ("recurrence" in tasks) == (name == "duplex-single")
    for task in tasks.values():
        task.run()
        assert task.amount > 0
    store = ScoreStore.create_or_open(f"memory://{name}-{time.time_ns()}/", subject.plan)
    scan(subject.plan, subject.genome, store, subject.scorer, spec=subject.spec)
    assert store.summary()["scored"] == 2 * subject.plan.windows
    rows = sum(len(slots) for job in subject._jobs() for slots, _ in job.batches(subject.scorer.rows))
    assert 0 < rows <= subject.batches * subject.scorer.rows < 4 * rows
    assert subject.cost_of_row().flops > 1000


def test_figures_of_a_model_agree_with_one_another(tmp_path: Path) -> None:
    result = bench(["mire2e-tiny"], rounds=1, devices=2, threads=2)
    json.dumps(result)
    (model,) = result["models"]
    assert (model["precision"], model["mini_batch"], model["weights"]) == ("float32", 16, "random")
    assert [run["where"][:3] for run in model["runs"]] == ["1 x", "2 x"]
    for run in model["runs"]:
        seconds = run["seconds_per_megabase"]
        assert run["windows_per_second"] == pytest.approx(run["megabases_per_second"] * 1e5)
        assert seconds["scan"] == pytest.approx(1 / run["megabases_per_second"])
        assert run["device_idle_share"] == pytest.approx(max(0, 1 - seconds["device"] / seconds["scan"]))
        achieved = run["rows_per_second_on_device"] * run["mflop_per_row"] / 1e3
        assert run["share_of_peak"] == pytest.approx(achieved / run["peak_gflops"])
        assert seconds["reading"] < seconds["host"] < seconds["scan"]
        assert run["projection"]["hg38_hours"] == pytest.approx(3100 * seconds["scan"] / 3600)
        assert "not measured" in run["projection"]["basis"]
    text = table(result)
    assert result["machine"] in text
    assert "mire2e-tiny, float32, random weights, 2 x cpu cpu" in text


def test_two_settings_are_compared_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that takes three times as long has a ratio of a third, whatever the machine does meanwhile."""
    turns: list[str] = []

    class Fake:
        megabases = 1.0

        def __init__(self, setting: Setting, devices: Any, threads: int, folder: Path) -> None:
            self.name, self.genome = setting.model, (folder / "1.fa").open("w")

        def scan(self) -> None:
            turns.append(self.name)
            time.sleep({"quick": 0.02, "slow": 0.06}[self.name])

    monkeypatch.setattr(benchmark, "Subject", Fake)
    result = compare("slow", "quick", rounds=5)
    assert turns == ["slow", "quick"] * 6  # the first of each warms up
    low, high = result["spread"]
    assert 0 < low <= high
    first, second = result["megabases_per_second"]
    assert result["ratio"] == pytest.approx(first / second)
    assert result["ratio"] < 0.7
    assert "slow / quick: 0." in table(result)


def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[Any, ...]] = []

    def fake(kind: str) -> Callable[..., dict[str, Any]]:
        def run(*about: Any, rounds: int, **options: Any) -> dict[str, Any]:
            asked.append((kind, *about, rounds))
            return {**machine(), "date": "today", "rounds": rounds}

        return run

    monkeypatch.setattr(benchmark, "bench", fake("bench"))
    monkeypatch.setattr(benchmark, "compare", fake("compare"))
    run = CliRunner().invoke
    assert run(app, ["bench", "--json", str(tmp_path / "b.json")]).exit_code == 0
    assert json.loads((tmp_path / "b.json").read_text())["rounds"] == 3
    assert run(app, ["bench", "--model", "duplex", "--model", "mire2e:16", "--rounds", "2"]).exit_code == 0
    assert run(app, ["bench", "--compare", "duplex:float32", "duplex:bfloat16"]).exit_code == 0
    assert asked == [
        ("bench", (), 3),
        ("bench", ["duplex", "mire2e:16"], 2),
        ("compare", "duplex:float32", "duplex:bfloat16", 7),
    ]
    assert isinstance(run(app, ["bench", "--rounds", "0"]).exception, UsageError)


@pytest.mark.skipif(not (Path(__file__).resolve().parents[2] / ".git").exists(), reason="not a git checkout")
def test_figures_of_a_checkout_name_its_commit() -> None:
    assert re.match(r"[0-9a-f]{7,}", bench_machine.machine()["commit"])
