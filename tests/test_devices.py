"""devices.py: one compiled shape, on one device or many, in which no window knows its neighbours."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

from mirscan.devices import Scorer, backend, compiled_rows, configure, local_devices, mini_batch
from mirscan.models import find_model, load_model
from mirscan.types import UsageError

SPEC = find_model("mire2e-tiny")
ROWS = 32


@pytest.fixture(scope="module")
def model(tiny_weights: Any) -> tuple[Any, Any]:
    return load_model("mire2e-tiny", tiny_weights)


@pytest.fixture(scope="module")
def scorers(model: tuple[Any, Any]) -> dict[int, Scorer]:
    return {n: Scorer(SPEC, *model, rows=ROWS, devices=local_devices(n)) for n in (1, 2)}


@pytest.fixture(scope="module")
def windows() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, (3 * ROWS + 5, SPEC.window), dtype=np.uint8)


def test_devices_of_this_machine() -> None:
    assert backend() == "cpu"
    assert len(local_devices()) == len(local_devices(2)) == 2  # the two fake ones of the tests
    assert local_devices(1) == local_devices()[:1]
    for limit in (0, 3):
        with pytest.raises(UsageError, match=f"--devices {limit}: this machine has 2"):
            local_devices(limit)


def test_compiled_rows_are_whole_mini_batches() -> None:
    for platform in ("cpu", "gpu", "tpu"):
        assert compiled_rows(SPEC, platform) % mini_batch(SPEC, platform) == 0
    assert mini_batch(SPEC, "cpu") == SPEC.mini_batch


def test_scores_are_the_models(model: tuple[Any, Any], scorers: dict[int, Scorer], windows: np.ndarray) -> None:
    from flax import nnx

    module = nnx.merge(*model)
    expected = np.asarray(jax.jit(lambda codes: SPEC.score(module(codes)))(windows))
    assert expected.std() > 1e-4  # random weights, but not a constant
    for scorer in scorers.values():
        found = scorer.score(windows)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_bytes_do_not_depend_on_devices(scorers: dict[int, Scorer], windows: np.ndarray) -> None:
    assert scorers[1].rows == ROWS
    assert scorers[2].rows == 2 * ROWS
    assert scorers[1].score(windows).tobytes() == scorers[2].score(windows).tobytes()


def test_bytes_do_not_depend_on_place_or_neighbours(scorers: dict[int, Scorer], windows: np.ndarray) -> None:
    scorer = scorers[2]
    expected = scorer.score(windows)
    random = np.random.default_rng(1)
    for _ in range(3):
        order = random.permutation(len(windows))
        assert scorer.score(windows[order]).tobytes() == expected[order].tobytes()
    for number in (0, 17, 100):
        assert scorer.score(windows[number : number + 1]).tobytes() == expected[number : number + 1].tobytes()
    spoiled = windows.copy()
    spoiled[1::2] = 5
    assert scorer.score(spoiled)[::2].tobytes() == expected[::2].tobytes()


def test_short_and_empty_batches(scorers: dict[int, Scorer], windows: np.ndarray) -> None:
    result = scorers[1].submit(windows[:3])
    assert result.shape == (ROWS,)
    assert np.asarray(result)[:3].tobytes() == scorers[1].score(windows[:3]).tobytes()
    assert scorers[1].score(windows[:0]).shape == (0,)


def test_what_does_not_fit_is_refused(model: tuple[Any, Any], scorers: dict[int, Scorer], windows: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"33.*100.*: at most 32 "):
        scorers[1].submit(windows[: ROWS + 1])
    with pytest.raises(ValueError, match=r"99.*: at most 32 "):
        scorers[1].submit(windows[:4, :99])
    with pytest.raises(ValueError, match="24 compiled rows are not a multiple of the mini-batch 16"):
        Scorer(SPEC, *model, rows=24)


def test_a_running_backend_is_left_alone() -> None:
    before = jax.config.jax_compilation_cache_dir
    configure(7)
    assert len(jax.local_devices()) == 2
    assert jax.config.jax_compilation_cache_dir == before


PROBE = """
import jax
from mirscan.devices import configure
configure({threads})
print(len(jax.local_devices()), jax.config.jax_compilation_cache_dir)
"""


def test_one_device_a_core_and_a_cache_of_programs() -> None:
    for threads, expected in (("3", 3), ("", len(os.sched_getaffinity(0)))):
        program = [sys.executable, "-c", PROBE.format(threads=threads)]
        count, cache = subprocess.run(program, capture_output=True, text=True, check=True).stdout.split()
        assert int(count) == expected
        assert cache == os.path.join(os.environ["XDG_CACHE_HOME"], "mirscan", "jax")
