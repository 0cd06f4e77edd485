"""`mirscan bench`: throughput of a model against what this machine can do at most, measured in the same run."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mirscan.checkpoints.weights import registry
from mirscan.devices import Scorer, backend, best_precision, compiled_rows, configure, local_devices, mini_batch
from mirscan.folding import ViennaFolder
from mirscan.kernels.bases import decode
from mirscan.kernels.windows import cut, scorable
from mirscan.models import find_model, load_model, untrained_model
from mirscan.types import Grid

HG38_WINDOWS = 310e6
"""Windows of 100 bases every 20 on both strands of the human genome (3.1 Gb)."""


def bench(
    name: str,
    *,
    rounds: int = 5,
    threads: int | None = None,
    devices: int | None = None,
    precision: str | None = None,
) -> dict[str, Any]:
    """Measure a model, the machine's matrix product and ViennaRNA in turn, ``rounds`` times; medians are kept.

    Rates per CPU-second count the time of all threads of this process, so that they can be compared with one
    process of ``RNA.fold``. Random weights are used where none are shipped: speed does not depend on them.

    Returns
    -------
    dict
        Rates (windows/s, GFLOP/s), shares of the measured peak, seconds to compile, and the machine they are from.
    """
    configure(threads)
    spec = find_model(name)
    chosen = local_devices(devices)
    precision = precision or best_precision(spec)
    generator = np.random.default_rng(0)
    graph, state = _model(name, precision)
    scorer = Scorer(spec, graph, state, rows=compiled_rows(spec, backend()), devices=chosen)
    rows = scorer.rows * (1 if backend() == "cpu" else 8)
    bases = generator.integers(0, 4, rows * spec.step // 2 + spec.window, dtype=np.uint8)
    grid = Grid(spec.window, spec.step)
    starts = np.repeat(grid.starts(len(bases), 0, rows // 2), 2)
    minus = np.arange(len(starts)) % 2 == 1
    codes = cut(bases, starts, minus, spec.window)

    began = time.perf_counter()
    scorer.score(codes[: scorer.rows])
    compile_seconds = time.perf_counter() - began
    mini = mini_batch(spec, backend())
    stages = {"all": lambda model, x: spec.score(model(x)), **spec.stages}
    flops = {stage: _flops(graph, state, f, codes[:mini]) / mini for stage, f in stages.items()}
    stage_runs = {s: _stage(graph, state, f, codes[: 4 * mini], mini) for s, f in spec.stages.items()}
    texts = [decode(row).decode().replace("T", "U") for row in codes[:100]]
    folder = ViennaFolder(1)

    work: dict[str, tuple[Callable[[], Any], float]] = {
        "peak": _matmul(chosen, precision),
        "one_core_peak": _matmul(chosen[:1], precision),
        "model": (lambda: scorer.score(codes), len(codes)),
        "host": (lambda: (scorable(bases, starts[::2], spec.window, 4), cut(bases, starts, minus, spec.window)), rows),
        "rna_fold": (lambda: folder.fold(texts), len(texts)),
        **{f"stage {s}": (run, 4 * mini) for s, run in stage_runs.items()},
    }
    walls: dict[str, list[float]] = {key: [] for key in work}
    cpus: dict[str, list[float]] = {key: [] for key in work}
    for run, _ in work.values():
        run()
    for _ in range(rounds):
        for key, (run, amount) in work.items():
            began, spent = time.perf_counter(), time.process_time()
            run()
            walls[key].append(amount / (time.perf_counter() - began))
            cpus[key].append(amount / max(time.process_time() - spent, 1e-9))
    wall = {key: statistics.median(values) for key, values in walls.items()}
    cpu = {key: statistics.median(values) for key, values in cpus.items()}
    folds = [m / f for m, f in zip(cpus["model"], cpus["rna_fold"], strict=True)]
    core = [m / p for m, p in zip(cpus["model"], cpus["peak"], strict=True)]
    result: dict[str, Any] = {
        "model": name,
        "precision": precision,
        "windows_per_second": wall["model"],
        "windows_per_cpu_second": cpu["model"],
        "megabases_per_second": wall["model"] * spec.step / 2 / 1e6,
        "rna_fold_per_cpu_second": cpu["rna_fold"],
        "windows_per_fold": statistics.median(folds),
        "host_windows_per_second": wall["host"],
        "host_share": wall["model"] / wall["host"],
        "mflop_per_window": flops["all"] / 1e6,
        "gflops": wall["model"] * flops["all"] / 1e9,
        "peak_gflops": wall["peak"],
        "share_of_peak": wall["model"] * flops["all"] / 1e9 / wall["peak"],
        "share_of_peak_per_cpu_second": statistics.median(core) * flops["all"] / 1e9,
        "compile_seconds": compile_seconds,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "hg38_hours": HG38_WINDOWS / wall["model"] / 3600,
        "hg38_hours_at_peak": HG38_WINDOWS * flops["all"] / (wall["peak"] * 1e9) / 3600,
        "rounds": rounds,
        "devices": [f"{d.platform} {d.device_kind}" for d in chosen],
        "machine": _machine(),
        "versions": {package: version(package) for package in ("mirscan", "jax", "numpy", "numba", "viennarna")},
        "date": time.strftime("%Y-%m-%d"),
    }
    for stage in spec.stages:
        key = f"stage {stage}"
        pairs = zip(cpus[key], cpus["one_core_peak"], strict=True)
        result[f"{stage}_windows_per_cpu_second"] = cpu[key]
        result[f"{stage}_mflop_per_window"] = flops[stage] / 1e6
        result[f"{stage}_share_of_peak"] = statistics.median(a / p for a, p in pairs) * flops[stage] / 1e9
    return result


def table(result: dict[str, Any]) -> str:
    """The figures of `bench`, one a line."""

    def shown(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:,.3g}" if value < 100 else f"{value:,.0f}"
        if isinstance(value, dict):
            return ", ".join(f"{k} {v}" for k, v in value.items())
        return ", ".join(value) if isinstance(value, list) else str(value)

    return "\n".join(f"{key.replace('_', ' '):<34} {shown(value)}" for key, value in result.items())


def _model(name: str, precision: str) -> tuple[Any, Any]:
    shipped = name in registry()
    return load_model(name, precision=precision) if shipped else untrained_model(name, precision=precision)


def _flops(graph: Any, state: Any, function: Callable[[Any, Any], Any], codes: np.ndarray) -> float:
    """Floating-point operations of the compiled function, as XLA counts them."""
    lowered = jax.jit(lambda state, x: function(nnx.merge(graph, state), x)).lower(state, codes)
    analysis: Any = lowered.compile().cost_analysis()
    return float((analysis[0] if isinstance(analysis, list) else analysis)["flops"])


def _stage(
    graph: Any, state: Any, function: Callable[[Any, Any], Any], codes: np.ndarray, mini: int
) -> Callable[[], Any]:
    state = jax.device_put(state, jax.local_devices()[0])

    @jax.jit
    def run(state: Any, codes: jax.Array) -> Any:
        return jax.lax.map(lambda few: function(nnx.merge(graph, state), few), codes.reshape(-1, mini, codes.shape[-1]))

    return lambda: jax.block_until_ready(run(state, codes))


def _matmul(devices: list[jax.Device], precision: str) -> tuple[Callable[[], Any], float]:
    """A square matrix product on every device at once, and its GFLOP in all."""
    size = 1024 if devices[0].platform == "cpu" else 8192
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    generator = np.random.default_rng(1)
    operands = [jax.device_put(jnp.asarray(generator.random((size, size)), dtype), d) for d in devices]
    product = jax.jit(lambda a: jax.lax.dot(a, a, preferred_element_type=jnp.float32))
    return lambda: jax.block_until_ready([product(a) for a in operands]), 2e-9 * size**3 * len(devices)


def _machine() -> str:
    kind = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            kind = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), kind)
    return f"{kind}, {len(os.sched_getaffinity(0))} cores"
