"""The accelerators of this machine, and the one jit of inference: a fixed shape on every device at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mirscan.types import ModelSpec, UsageError

CPU_STEPS = 16
"""Mini-batches in one compiled step on a CPU: long enough that dispatch does not count, short enough to stop soon."""
ACCELERATOR_MINI_BATCH, ACCELERATOR_STEPS = 1024, 4


def configure(threads: int | None = None) -> None:
    """Before the first use of JAX: one host device a core, and compiled programs cached in the user's cache folder.

    One host device a core lets two cores work on two batches side by side, which scales better than threads inside
    one matrix product. Does nothing once a backend has started.
    """
    cores = threads or len(os.sched_getaffinity(0))
    try:
        jax.config.update("jax_num_cpu_devices", cores)
    except RuntimeError:  # a backend runs already: a library user or a test has chosen
        return
    base = os.environ.get("MIRSCAN_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "mirscan"
    )
    jax.config.update("jax_compilation_cache_dir", os.path.join(base, "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def local_devices(limit: int | None = None) -> list[jax.Device]:
    """Devices of this machine, at most ``limit``.

    Raises
    ------
    UsageError
        If there are fewer than asked for.
    """
    devices = jax.local_devices()
    if limit is not None and not 1 <= limit <= len(devices):
        raise UsageError(f"--devices {limit}: this machine has {len(devices)} ({devices[0].platform})")
    return devices[:limit]


def backend() -> str:
    """Platform of the devices: ``cpu``, ``gpu`` or ``tpu``."""
    return str(jax.local_devices()[0].platform)


def best_precision(spec: ModelSpec) -> Literal["float32", "bfloat16"]:
    """What a model is computed in unless the user says otherwise.

    bfloat16 on accelerators, and for wide models on CPUs that multiply bfloat16 matrices in hardware (1.7 times the
    windows a second on an AMD EPYC of 2026; sums and everything else stay float32); float32 elsewhere.
    """
    if backend() != "cpu":
        return "bfloat16"
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        flags = set()
    return "bfloat16" if spec.wide and flags & {"avx512_bf16", "amx_bf16"} else "float32"


def mini_batch(spec: ModelSpec, platform: str) -> int:
    """Windows computed at once on one device: what fits a CPU core's L2 cache, or what fills an accelerator."""
    return spec.mini_batch if platform == "cpu" else ACCELERATOR_MINI_BATCH


def compiled_rows(spec: ModelSpec, platform: str) -> int:
    """Rows of the compiled shape per device. It stands in the plan, so that a resumed scan computes the same way."""
    return mini_batch(spec, platform) * (CPU_STEPS if platform == "cpu" else ACCELERATOR_STEPS)


class Scorer:
    """Scores windows on all devices. Its compiled shape never changes, so a score cannot depend on its neighbours.

    Parameters
    ----------
    graph, state
        The model, as `mirscan.models.load_model` returns it.
    rows : int
        Rows of the compiled shape per device (`Plan.compiled_rows`).
    """

    def __init__(
        self, spec: ModelSpec, graph: Any, state: Any, *, rows: int, devices: list[jax.Device] | None = None
    ) -> None:
        devices = devices or local_devices()
        mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
        mini = min(mini_batch(spec, devices[0].platform), rows)
        if rows % mini:
            raise ValueError(f"{rows} compiled rows are not a multiple of the mini-batch {mini}")
        self.rows = rows * len(devices)
        self.shapes = spec.inputs
        self._spread = NamedSharding(mesh, PartitionSpec("data"))
        self._state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))

        def some(state: Any, inputs: tuple[jax.Array, ...]) -> jax.Array:
            def few(inputs: tuple[jax.Array, ...]) -> jax.Array:
                return spec.score(nnx.merge(graph, state)(*inputs)).astype(jnp.float32)

            return jax.lax.map(few, tuple(x.reshape(-1, mini, *x.shape[1:]) for x in inputs)).reshape(-1)

        spec_in = (PartitionSpec(), PartitionSpec("data"))
        # each core has a batch of its own: threads inside its matrix products would only take another core's time
        options = {"xla_cpu_multi_thread_eigen": False} if devices[0].platform == "cpu" else None
        sharded = jax.shard_map(some, mesh=mesh, in_specs=spec_in, out_specs=PartitionSpec("data"))
        self._run = jax.jit(sharded, compiler_options=options)

    def submit(self, *inputs: np.ndarray) -> jax.Array:
        """Start scoring n <= rows windows or hairpins; returns float32 (rows,) at once, missing rows are padded.

        Raises
        ------
        ValueError
            If there are more rows than that, or they are no input of this model.
        """
        shapes, count = tuple(x.shape[1:] for x in inputs), len(inputs[0])
        if shapes != self.shapes or count > self.rows:
            raise ValueError(f"{count} rows of shape {shapes}: at most {self.rows} of shape {self.shapes} fit")
        if count < self.rows:
            missing = self.rows - count
            inputs = tuple(np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) for x in inputs)
        return self._run(self._state, jax.device_put(inputs, self._spread))

    def score(self, *inputs: np.ndarray) -> np.ndarray:
        """Scores, float32 (n,), of any number of windows or hairpins; the model's inputs have n rows each."""
        count = len(inputs[0])
        blocks = [slice(begin, min(begin + self.rows, count)) for begin in range(0, count, self.rows)]
        waiting = [(self.submit(*(x[block] for x in inputs)), block.stop - block.start) for block in blocks]
        return np.concatenate([np.asarray(result)[:n] for result, n in waiting] or [np.empty(0, np.float32)])
