"""devices.py: one compiled shape, on one device or many, in which no window knows its neighbours."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mirscan.devices import Scorer, backend, compiled_rows, configure, local_devices, mini_batch, rows_for
from mirscan.errors import ModelError, UsageError
from mirscan.models import find_model, load_model

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


def test_few_rows_take_few_steps() -> None:
    mini, most = mini_batch(SPEC, "cpu"), compiled_rows(SPEC, "cpu")
    assert [rows_for(SPEC, "cpu", count) for count in (0, 1, mini, mini + 1)] == [mini, mini, mini, 2 * mini]
    assert rows_for(SPEC, "cpu", most - mini + 1) == rows_for(SPEC, "cpu", 10 * most) == most
    assert rows_for(SPEC, "cpu", 70, mini=32) == 128


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


class ShortOfMemory:
    """Devices with room for so many rows at a time; more fail when they are started, or when they are awaited."""

    def __init__(self, run: Any, room: int, *, awaited: bool) -> None:
        self._run, self._room, self._awaited = run, room, awaited
        self.refused = 0

    def __call__(self, state: Any, inputs: tuple[jax.Array, ...]) -> Any:
        if len(inputs[0]) <= self._room:
            return self._run(state, inputs)
        self.refused += 1
        error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes.")
        if not self._awaited:
            raise error

        class Failed:
            def __array__(self, *about: Any, **more: Any) -> np.ndarray:
                raise error

        return Failed()


@pytest.fixture(scope="module")
def roomy(model: tuple[Any, Any]) -> Scorer:
    """A scorer of six steps on two devices."""
    return Scorer(SPEC, *model, rows=6 * SPEC.mini_batch, devices=local_devices(2))


@pytest.mark.parametrize("awaited", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_short_of_memory_takes_fewer_steps_for_the_same_scores(
    model: tuple[Any, Any], roomy: Scorer, windows: np.ndarray, awaited: bool, caplog: pytest.LogCaptureFixture
) -> None:
    expected = roomy.score(np.concatenate([windows] * 3))
    for room, taken in ((6, []), (4, [3]), (2, [3, 1]), (1, [3, 1])):
        caplog.clear()
        short = Scorer(SPEC, *model, rows=6 * SPEC.mini_batch, devices=local_devices(2))
        short._run = fake = ShortOfMemory(roomy._run, room * 2 * SPEC.mini_batch, awaited=awaited)
        with caplog.at_level(logging.INFO, logger="mirscan"):
            assert short.score(np.concatenate([windows] * 3)).tobytes() == expected.tobytes()
            refused = fake.refused
            assert (refused > 0) == (room < 6)
            assert short.score(windows).tobytes() == expected[: len(windows)].tobytes()
        assert fake.refused == refused  # it does not try again what has failed
        assert [record.args[0] for record in caplog.records] == taken
        assert short.rows == roomy.rows  # the batches of a scan stay those of its plan


@pytest.mark.parametrize("awaited", [False, True])
def test_too_little_memory_for_one_mini_batch(model: tuple[Any, Any], windows: np.ndarray, awaited: bool) -> None:
    scorer = Scorer(SPEC, *model, rows=ROWS, devices=local_devices(1))
    scorer._run = ShortOfMemory(scorer._run, 0, awaited=awaited)
    with pytest.raises(
        ModelError, match=r"too little memory for a mini-batch of 16 rows of mire2e-tiny; .*--mini-batch"
    ):
        scorer.score(windows)


def test_another_error_of_the_devices_is_not_taken_for_memory(model: tuple[Any, Any], windows: np.ndarray) -> None:
    scorer = Scorer(SPEC, *model, rows=ROWS, devices=local_devices(1))

    def broken(*about: Any) -> Any:
        raise jax.errors.JaxRuntimeError("INTERNAL: the device fell off the bus")

    scorer._run = broken
    with pytest.raises(jax.errors.JaxRuntimeError, match="fell off"):
        scorer.score(windows)
    assert scorer.steps == 2


def test_the_mini_batch_can_be_another(model: tuple[Any, Any], scorers: dict[int, Scorer], windows: np.ndarray) -> None:
    scorer = Scorer(SPEC, *model, rows=ROWS, mini=8, devices=local_devices(1))
    assert scorer.steps == 2 * scorers[1].steps == 4
    np.testing.assert_allclose(scorer.score(windows), scorers[1].score(windows), rtol=1e-5)
    assert compiled_rows(SPEC, "gpu", 256) == compiled_rows(SPEC, "gpu") // 4


def test_a_lone_mini_batch_scores_as_one_among_many(
    model: tuple[Any, Any], scorers: dict[int, Scorer], windows: np.ndarray
) -> None:
    """`mirscan score` compiles as few steps as it needs, and a loop of one step is none to XLA."""
    few = windows[: SPEC.mini_batch]
    lone = Scorer(SPEC, *model, rows=SPEC.mini_batch, devices=local_devices(1))
    assert lone.steps == 1
    assert lone.score(few).tobytes() == scorers[1].score(few).tobytes()


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


SCAN = """
import hashlib, json, sys
from collections import Counter
from pathlib import Path
import jax
import numpy as np
from mirscan.devices import Scorer, configure
configure(8)
jax.devices()
from mirscan.scanning.options import Options
from mirscan.scanning.run import scan_genome
from mirscan.store import ScoreStore

worked, started = Counter(), Scorer.start

def start(scorer, inputs):
    scores = started(scorer, inputs)
    for shard in scores.addressable_shards:
        worked[shard.device.id] += shard.data.size
    return scores

Scorer.start = start
genome, weights, folder = map(Path, sys.argv[1:])
for devices in (1, 2, 4, 8):
    worked.clear()
    output = folder / f"{devices}.bw"
    scan_genome(genome, Options(output=output, model="mire2e-tiny", weights=weights, devices=devices, threads=1))
    scores = np.concatenate([scores for _, scores in ScoreStore.open(f"{output}.store").iter_scores()])
    digests = [hashlib.sha256(data).hexdigest() for data in (scores.tobytes(), output.read_bytes())]
    print(json.dumps([devices, digests, list(worked.values()), int(np.isfinite(scores).sum())]))
"""


@pytest.mark.slow  # the fast suite has one and two devices
def test_scores_are_the_same_bytes_on_1_2_4_and_8_devices(tmp_path: Path, tiny_weights: Path) -> None:
    """And every device computes as many rows as the others."""
    random = np.random.default_rng(0)
    contigs = ("".join(random.choice(list("ACGT"), length)) for length in (22_000, 1_234, 100))
    (tmp_path / "g.fa").write_text("".join(f">c{n}\n{text}\n" for n, text in enumerate(contigs)))
    program = [sys.executable, "-c", SCAN, str(tmp_path / "g.fa"), str(tiny_weights), str(tmp_path)]
    lines = subprocess.run(program, capture_output=True, text=True, check=True).stdout.splitlines()
    runs = [json.loads(line) for line in lines]
    assert [devices for devices, *_ in runs] == [1, 2, 4, 8]
    for devices, digests, worked, scored in runs:
        assert len(worked) == devices
        assert len(set(worked)) == 1
        assert sum(worked) >= scored > 2000
        assert digests == runs[0][1]
