"""What a machine can do at most, for `mirscan bench`: matrix products, copies, RNA.fold, and what models ask."""

from __future__ import annotations

import platform
import resource
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from mirscan.host import cores
from mirscan.structure.folders import ViennaFolder

PACKAGES = ("mirscan", "jax", "jaxlib", "flax", "numpy", "numba", "viennarna")


class Task(NamedTuple):
    """Something to time, and how much of its unit is done in one go."""

    run: Callable[[], Any]
    amount: float


class Cost(NamedTuple):
    """What XLA counts: floating-point operations, and bytes that its kernels read and write, in a cache or not."""

    flops: float
    bytes: float


def matrix_product(devices: list[jax.Device], precision: str) -> Task:
    """A square matrix product on every device at once; FLOP."""
    size = 1024 if devices[0].platform == "cpu" else 8192
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    values = np.random.default_rng(1).random((size, size), dtype=np.float32)
    operands = [jax.device_put(jnp.asarray(values, dtype), device) for device in devices]
    # on a CPU a device is a core: threads inside the product would take another's, as they would in the scorer
    options = {"xla_cpu_multi_thread_eigen": False} if devices[0].platform == "cpu" else None
    product = jax.jit(lambda a: jax.lax.dot(a, a, preferred_element_type=jnp.float32), compiler_options=options)
    return Task(lambda: jax.block_until_ready([product(a) for a in operands]), 2.0 * size**3 * len(devices))


def copying(devices: list[jax.Device]) -> Task:
    """An array read and another written on every device at once, larger than any cache; bytes."""
    size = 1 << (24 if devices[0].platform == "cpu" else 27)
    arrays = [jax.device_put(np.zeros(size, np.float32), device) for device in devices]
    copy = jax.jit(lambda a: -a)
    return Task(lambda: jax.block_until_ready([copy(a) for a in arrays]), 8.0 * size * len(devices))


def rna_fold(windows: int = 60, window: int = 100) -> Task:
    """One process of ViennaRNA on random windows."""
    letters = np.random.default_rng(2).choice(list("ACGU"), (windows, window))
    texts, folder = ["".join(row) for row in letters], ViennaFolder(1)
    return Task(lambda: folder.fold(texts), windows)


def cost(function: Callable[..., Any], *arguments: Any) -> Cost:
    """FLOP and bytes of a function, each round of its loops counted (XLA by itself counts one)."""
    return _cost(jax.make_jaxpr(function)(*arguments))


def _cost(closed: Any) -> Cost:
    flops, size = _once(closed)
    for body, times in _loops(closed.jaxpr):
        once, inside = _once(body), _cost(body)
        flops += times * inside.flops - once.flops
        size += times * inside.bytes - once.bytes
    return Cost(flops, size)


def _once(closed: Any) -> Cost:
    run: Any = jax.jit(jaxpr_as_fun(closed))
    shapes = [jax.ShapeDtypeStruct(value.shape, value.dtype) for value in closed.in_avals]
    analysis: Any = run.lower(*shapes).compile().cost_analysis()
    counted = analysis[0] if isinstance(analysis, list) else analysis
    return Cost(float(counted.get("flops", 0.0)), float(counted.get("bytes accessed", 0.0)))


def _loops(jaxpr: Any) -> Iterator[tuple[Any, int]]:
    """Bodies of the outermost loops, and their rounds."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation.params["jaxpr"], int(equation.params["length"])
            continue
        for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _loops(inner)


def machine() -> dict[str, Any]:
    """Processor, cores, devices and versions, and the commit if this is a checkout."""
    kind, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        kind = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), kind)
    return {
        "machine": f"{kind}, {cores()} cores",
        "devices": [f"{device.platform} {device.device_kind}" for device in jax.local_devices()],
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "commit": _commit(),
    }


def peak_memory(devices: list[jax.Device]) -> dict[str, float | None]:
    """Most memory so far in MiB: of this process, and of the fullest device where it says."""
    used = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in devices]
    known = [value for value in used if value is not None]
    return {
        "process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "device": max(known) / 2**20 if known else None,
    }


def _commit() -> str | None:
    folder = Path(__file__).resolve().parents[3]
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
