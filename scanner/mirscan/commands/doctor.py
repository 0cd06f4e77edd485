"""`mirscan doctor`: does every shipped model give on every device here what it gave when it was shipped?

An accelerator that computes wrongly, a driver that does not fit or a broken installation shows in seconds, before a
genome is scanned for hours.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np

from mirscan.checkpoints import weights
from mirscan.commands.demo import PRECURSORS
from mirscan.devices import Scorer, best_precision, local_devices, rows_for
from mirscan.errors import InputError
from mirscan.kernels.bases import CODE
from mirscan.kernels.windows import cut
from mirscan.models import MODELS, load_model
from mirscan.structure.hairpins import find_hairpins
from mirscan.structure.molecules import row_folder, window_inputs
from mirscan.types import ModelSpec

GOLDEN = weights.HERE / "golden.json"
"""Scores of the shipped models, float32 on a CPU, and the energies of the hairpins they were given."""
SPACER = "CAACACCAACCCAACAAACCACCAACACAACCAACCCACA"
"""Pairs with nothing: keeps the hairpins of the example apart."""
TOLERANCE = {"float32": 2e-3, "bfloat16": 5e-2}
"""Greatest difference of a score from 0 to 1; what else differs between devices is the order of sums."""
PACKAGES = ("mirscan", "jax", "jaxlib", "flax", "numpy", "numba", "tensorstore", "orbax-checkpoint", "viennarna")


class Check(NamedTuple):
    """One comparison with what was shipped."""

    what: str
    where: str
    difference: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the difference is a number and small enough."""
        return bool(self.difference <= self.allowed)


def versions() -> dict[str, str]:
    """Of Python and of the packages that scores depend on."""
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def examine(models: Sequence[str] = (), most_devices: int | None = None) -> Iterator[Check]:
    """Compare energies, then the scores of shipped models, all by default, on every device, with those shipped.

    Raises
    ------
    InputError
        If what was shipped for comparison is missing.
    """
    try:
        golden = json.loads(GOLDEN.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{GOLDEN}: cannot be read; install mirscan again ({error})") from error
    energies = find_hairpins(example()).energies
    yield Check("hairpin energies", "cpu, Numba", _difference(energies, golden["energies"]), 0.0051)
    devices = local_devices(most_devices)
    for name in models or weights.registry():
        if name not in golden["scores"]:
            raise InputError(f"no weights are shipped for model {name!r}; there are: {', '.join(golden['scores'])}")
        spec, expected = MODELS[name], golden["scores"][name]
        for device in devices[:1] if devices[0].platform == "cpu" else devices:  # the cores of a CPU are alike
            for precision in dict.fromkeys([best_precision(spec), "float32"]):
                found = _scored(spec, device, precision)
                where = f"{device.platform} {device.device_kind}"
                yield Check(f"{name}, {precision}", where, _difference(found, expected), TOLERANCE[precision])


def example() -> np.ndarray:
    """Codes of the precursors of the demo, one after another."""
    texts = [record.split()[2].replace("U", "T") for record in PRECURSORS.split(">")[1:]]
    return CODE[np.frombuffer(SPACER.join(["", *texts, ""]).encode("ascii"), dtype=np.uint8)]


def inputs_of(spec: ModelSpec) -> tuple[np.ndarray, ...]:
    """What a model is given of the example: both strands of its windows, or its hairpins."""
    codes = example()
    if spec.unit == "hairpin":
        found = find_hairpins(codes)
        return found.duplexes, found.scalars
    starts = np.repeat(np.arange(0, len(codes) - spec.window + 1, spec.step), 2)
    windows = cut(codes, starts, np.arange(len(starts)) % 2 == 1, spec.window)
    return window_inputs(spec, windows, row_folder(spec, "hairpins"))


def record() -> dict[str, object]:
    """What `GOLDEN` holds, computed here in float32; to be written when weights are shipped."""
    scores = {}
    for name in weights.registry():
        scores[name] = [round(float(score), 6) for score in _scored(MODELS[name], local_devices(1)[0], "float32")]
    energies = [round(float(energy), 2) for energy in find_hairpins(example()).energies]
    return {"energies": energies, "scores": scores}


def _scored(spec: ModelSpec, device: Any, precision: str) -> np.ndarray:
    """Scores of the example by the shipped weights on one device."""
    model, inputs = load_model(spec.name, precision=precision), inputs_of(spec)
    rows = rows_for(spec, device.platform, len(inputs[0]))
    return Scorer(spec, *model, rows=rows, devices=[device]).score(*inputs)


def _difference(found: np.ndarray, expected: list[float]) -> float:
    """Greatest absolute difference; infinite where the number of values differs or one is no number."""
    if len(found) != len(expected) or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(np.asarray(found, dtype=np.float64) - expected).max())
