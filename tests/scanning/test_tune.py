"""tune.py: the fastest shape is found, remembered, kept by the plan, and never looked for when a scan resumes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from mirscan.devices import ACCELERATOR_STEPS, Scorer, compiled_rows, local_devices, rows_for
from mirscan.errors import InputError
from mirscan.host import cache_folder
from mirscan.models import find_model, load_model
from mirscan.scanning import prepare, tune
from mirscan.scanning.options import Options
from mirscan.scanning.tune import Shape, best_shape, choose_shape, sample_inputs
from mirscan.store import ScoreStore
from mirscan.types import Plan

SPEC = find_model("mire2e-tiny")
DEVICE: Any = SimpleNamespace(platform="gpu", device_kind="Imaginary 9000")


def rates(mini: dict[int, float], steps: dict[int, float] | None = None) -> Callable[[Shape], float]:
    """A machine that is so fast for a mini-batch, times a factor for steps in a row; 0 for all others."""
    factors = {ACCELERATOR_STEPS: 1.0} | (steps or {})
    return lambda shape: mini.get(shape[0], 0.0) * factors.get(shape.compiled_rows // shape.mini_batch, 0.0)


@pytest.mark.parametrize(
    ("mini", "steps", "expected"),
    [
        ({1024: 1.0, 2048: 1.5, 4096: 2.0, 8192: 1.9}, {}, (4096, 4)),
        ({1024: 1.0, 2048: 1.5, 4096: 2.0, 8192: 2.5}, {}, (8192, 4)),
        ({1024: 1.0, 2048: 1.01, 4096: 9.0}, {}, (1024, 4)),  # 1 % more is noise, and the climb ends there
        ({256: 1.2, 512: 1.1, 1024: 1.0, 2048: 0.9}, {}, (256, 4)),
        ({512: 1.0, 256: 0.9}, {}, (512, 4)),  # the usual one does not fit into memory
        ({1024: 1.0, 2048: 2.0}, {16: 1.2, 1: 0.5}, (2048, 16)),
        ({1024: 1.0}, {1: 1.0, 16: 1.02}, (1024, 4)),
        ({1024: 1.0}, {1: 1.5, 16: 1.2}, (1024, 1)),
    ],
)
def test_the_fastest_shape_of_a_fake_machine(
    mini: dict[int, float], steps: dict[int, float], expected: tuple[int, int]
) -> None:
    shape = choose_shape(rates(mini, steps))
    assert (shape.mini_batch, shape.compiled_rows // shape.mini_batch) == expected


def test_no_shape_is_tried_after_the_time_is_over() -> None:
    tried: list[Shape] = []

    def rate(shape: Shape) -> float:
        tried.append(shape)
        return float(shape.mini_batch)

    assert choose_shape(rate, seconds=25, clock=lambda: 10.0 * len(tried)).mini_batch == 4096
    assert [shape.mini_batch for shape in tried] == [1024, 2048, 4096]


def test_a_choice_is_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIRSCAN_CACHE", str(tmp_path / "cache"))
    measured: list[Shape] = []

    def rate(spec: Any, model: Any, inputs: Any, shape: Shape, device: Any) -> float:
        assert (spec, model, device) == (SPEC, ("graph", "state"), DEVICE)
        measured.append(shape)
        return float(shape.mini_batch <= 2048) * shape.mini_batch

    monkeypatch.setattr(tune, "_rate", rate)
    found = best_shape(SPEC, ("graph", "state"), "bfloat16", [DEVICE])
    assert found == (2048, 2048 * ACCELERATOR_STEPS)
    before = len(measured)
    assert best_shape(SPEC, ("graph", "state"), "bfloat16", [DEVICE]) == found
    assert len(measured) == before
    best_shape(SPEC, ("graph", "state"), "float32", [DEVICE])
    assert len(measured) == 2 * before
    (first, second) = json.loads((cache_folder() / "shapes.json").read_text())
    assert first == f"Imaginary 9000 | mire2e-tiny | bfloat16 | jax {jax.__version__}" != second
    (cache_folder() / "shapes.json").write_text('{"torn": ')
    assert best_shape(SPEC, ("graph", "state"), "bfloat16", [DEVICE]) == found
    assert len(measured) == 3 * before


def test_a_cpu_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "_rate", None)
    found = best_shape(SPEC, ("graph", "state"), "float32", local_devices())
    assert found == (SPEC.mini_batch, compiled_rows(SPEC, "cpu"))


def test_what_does_not_fit_has_no_rate(monkeypatch: pytest.MonkeyPatch, tiny_weights: Path) -> None:
    model, inputs = load_model("mire2e-tiny", tiny_weights), sample_inputs(SPEC)
    shape = Shape(16, 64)
    assert tune._rate(SPEC, model, inputs, shape, local_devices()[0]) > 0
    started = Scorer.start

    def short(scorer: Scorer, sent: tuple[jax.Array, ...]) -> jax.Array:
        if len(sent[0]) > 32:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return started(scorer, sent)

    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "start", short)
        assert tune._rate(SPEC, model, inputs, shape, local_devices()[0]) == 0
    monkeypatch.setattr(tune, "MOST_BYTES", 64 * SPEC.window - 1)
    assert tune._rate(SPEC, model, inputs, shape, local_devices()[0]) == 0


@pytest.mark.parametrize("name", ["mire2e-tiny", "mirdnn-animal", "deepmir-resnet-1m-20ck", "duplex", "duplex-adapted"])
def test_samples_are_inputs_of_the_model(name: str) -> None:
    spec = find_model(name)
    few, many = sample_inputs(spec), sample_inputs(spec, 3000)
    assert tuple(column.shape[1:] for column in few) == tuple(column.shape[1:] for column in many) == spec.inputs
    assert {len(column) for column in many} == {3000}
    assert 100 < len(few[0]) < 3000
    for column, longer in zip(few, many, strict=True):
        np.testing.assert_array_equal(longer[: len(column)], column)


@pytest.fixture
def planned(tmp_path: Path, tiny_weights: Path) -> Callable[..., Plan]:
    """Plans a scan of a small genome and gives the plan."""
    text = "".join(np.random.default_rng(0).choice(list("ACGT"), 700))
    (tmp_path / "g.fa").write_text(f">c\n{text}\n")

    def plan(**options: Any) -> Plan:
        asked = Options(output=tmp_path / "o.bw", model="mire2e-tiny", weights=tiny_weights, **options)
        with prepare.prepare(tmp_path / "g.fa", asked) as ready:
            assert ready.store.plan == ready.plan
            return ready.plan

    return plan


def test_the_plan_decides_when_a_scan_resumes(planned: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "WORTH_TUNING", 0)
    monkeypatch.setattr(prepare, "best_shape", lambda *about: Shape(8, 64))
    assert (planned().mini_batch, planned().compiled_rows) == (8, 64)
    monkeypatch.setattr(prepare, "best_shape", None)  # would fail if it were asked
    assert (planned().mini_batch, planned().compiled_rows) == (8, 64)
    with pytest.raises(InputError, match="mini batch: 8 there, 32 now"):
        planned(mini_batch=32)
    fresh = planned(mini_batch=32, fresh=True)
    assert (fresh.mini_batch, fresh.compiled_rows) == (32, rows_for(SPEC, "cpu", 62, 32))
    assert planned() == fresh


def test_a_small_genome_is_not_worth_measuring(planned: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "best_shape", None)
    assert planned().mini_batch == SPEC.mini_batch


def test_of_two_that_measure_at_once_the_first_decides(
    planned: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = planned(mini_batch=8)
    monkeypatch.setattr(prepare, "WORTH_TUNING", 0)
    monkeypatch.setattr(ScoreStore, "holds_plan", lambda url: False)  # looked before the first had written
    monkeypatch.setattr(prepare, "best_shape", lambda *about: Shape(64, 1024))
    assert planned() == first


def test_a_store_older_than_the_field_resumes_as_it_began(planned: Callable[..., Plan], tmp_path: Path) -> None:
    planned()
    path = tmp_path / "o.bw.store" / "plan.json"
    document = json.loads(path.read_text())
    del document["mini_batch"]
    path.write_text(json.dumps(document))
    resumed = planned()
    assert (resumed.mini_batch, resumed.compiled_rows) == (0, rows_for(SPEC, "cpu", 62))
