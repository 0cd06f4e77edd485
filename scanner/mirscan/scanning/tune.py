"""How many rows an accelerator should compute at once: measured once a device, model and precision, then remembered."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mirscan.devices import ACCELERATOR_MINI_BATCH, ACCELERATOR_STEPS, Scorer, compiled_rows, mini_batch
from mirscan.errors import ModelError
from mirscan.files.atomic import AtomicFile
from mirscan.host import cache_folder
from mirscan.structure.hairpins import find_hairpins
from mirscan.structure.molecules import row_folder, window_inputs
from mirscan.types import ModelSpec

UP, DOWN = (2048, 4096, 8192), (512, 256)
"""Mini-batches tried beside the usual one; down only where going up gains nothing."""
OTHER_STEPS = (1, 16)
GAIN = 1.03
"""Another shape must be so many times as fast: less is noise, and larger ones take more memory."""
SECONDS = 30.0
"""No further shape is tried after so long; compiling is most of it."""
BASES = 40_000
MOST_BYTES = 1 << 27
"""Of a batch, of which a scan holds several."""
log = logging.getLogger("mirscan")


class Shape(NamedTuple):
    """The fields of a plan that say how rows are computed."""

    mini_batch: int
    compiled_rows: int


def best_shape(spec: ModelSpec, model: tuple[Any, Any], precision: str, devices: list[Any]) -> Shape:
    """The fastest shape for a model on devices of one kind.

    On a CPU it is the model's own, which was measured when the model was written. On an accelerator a few are measured
    on one device, at the first use of the model there; the choice is kept in the user's cache folder.

    Parameters
    ----------
    model : (graph, state)
        As `mirscan.models.load_model` returns it.
    precision : str
        What it is computed in.
    """
    device = devices[0]
    if device.platform == "cpu":
        return Shape(mini_batch(spec, "cpu"), compiled_rows(spec, "cpu"))
    path = cache_folder() / "shapes.json"
    key = " | ".join([device.device_kind, spec.name, precision, f"jax {version('jax')}"])
    known = _remembered(path)
    if key not in known:
        inputs = sample_inputs(spec)
        known[key] = choose_shape(lambda shape: _rate(spec, model, inputs, shape, device))
        with contextlib.suppress(OSError):  # a cache that cannot be written is measured again
            path.parent.mkdir(parents=True, exist_ok=True)
            with AtomicFile(path) as file:
                file.write(json.dumps(known, indent=1).encode())
    shape = Shape(*known[key])
    log.info("mini-batches of %d rows, %d in a row on %s", shape[0], shape[1] // shape[0], device.device_kind)
    return shape


def choose_shape(
    rate: Callable[[Shape], float], seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
) -> Shape:
    """Climb from the usual shape to the fastest: first the mini-batch, then how many are computed in a row.

    Parameters
    ----------
    rate : callable
        Rows a second of a shape; 0 where memory does not suffice.
    """
    end = clock() + seconds
    best = Shape(ACCELERATOR_MINI_BATCH, ACCELERATOR_MINI_BATCH * ACCELERATOR_STEPS)
    fastest = rate(best)
    for candidates in (UP, DOWN):
        before = best
        for mini in candidates:
            shape = Shape(mini, mini * ACCELERATOR_STEPS)
            found = 0.0 if clock() > end else rate(shape)
            if not found or found < fastest * (GAIN if candidates is UP else 1.0):
                break
            best, fastest = shape, found
        if best != before:
            break
    for steps in OTHER_STEPS:
        shape = Shape(best.mini_batch, best.mini_batch * steps)
        if clock() <= end and (found := rate(shape)) > fastest * GAIN:
            best, fastest = shape, found
    return best


def sample_inputs(spec: ModelSpec, rows: int | None = None, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Inputs of a model from random bases, for measuring: some hundred rows, or so many of them by repeating those."""
    random = np.random.default_rng(seed)
    if spec.unit == "hairpin":
        found = find_hairpins(random.integers(0, 4, BASES, dtype=np.uint8))
        inputs: tuple[np.ndarray, ...] = found.duplexes, found.scalars
        if spec.folds:
            inputs += (np.arange(found.size, dtype=np.uint8) % spec.folds,)
    else:
        codes = random.integers(0, 4, (BASES // spec.window, spec.window), dtype=np.uint8)
        inputs = window_inputs(spec, codes, row_folder(spec, "hairpins"))
    return inputs if rows is None else tuple(column[np.arange(rows) % len(column)] for column in inputs)


def _rate(spec: ModelSpec, model: tuple[Any, Any], inputs: tuple[np.ndarray, ...], shape: Shape, device: Any) -> float:
    """Rows a second of a shape on one device; 0 where memory, its own or the host's, does not suffice."""
    if shape.compiled_rows * sum(column[0].nbytes for column in inputs) > MOST_BYTES:
        return 0.0
    scorer = Scorer(spec, *model, rows=shape.compiled_rows, mini=shape.mini_batch, devices=[device])
    whole = tuple(column[np.arange(scorer.rows) % len(column)] for column in inputs)

    def run(times: int) -> float:
        began = time.perf_counter()
        for result in [scorer.submit(*whole) for _ in range(times)]:
            np.asarray(result)
        return time.perf_counter() - began

    try:
        run(1)  # compiles
        times = max(2, min(64, round(0.2 / run(1))))
        taken = min(run(times) for _ in range(3))
    except ModelError:
        return 0.0
    had_room = scorer.steps * shape.mini_batch == scorer.rows
    return times * scorer.rows / taken if had_room else 0.0


def _remembered(path: Path) -> dict[str, Any]:
    """What was chosen before; nothing where it cannot be read."""
    try:
        found = json.loads(path.read_text())
        return {str(key): [int(mini), int(rows)] for key, (mini, rows) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
