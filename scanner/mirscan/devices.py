"""The accelerators of this machine, and the one jit of inference: a fixed shape on every device at once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mirscan.errors import ModelError, UsageError
from mirscan.host import cache_folder, cores
from mirscan.types import ModelSpec

CPU_STEPS = 16
"""Mini-batches in one compiled step on a CPU: long enough that dispatch does not count, short enough to stop soon."""
ACCELERATOR_MINI_BATCH, ACCELERATOR_STEPS = 1024, 4
log = logging.getLogger("mirscan")


def configure(threads: int | None = None) -> None:
    """Before the first use of JAX: one host device a core, and compiled programs cached in the user's cache folder.

    One host device a core lets two cores work on two batches side by side, which scales better than threads inside
    one matrix product. Does nothing once a backend has started.

    Raises
    ------
    UsageError
        If there shall be no thread.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"--threads {threads}: must be at least 1")
    count = cores(threads)
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # a backend runs already: a library user or a test has chosen
        return
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "jax"))
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


def compiled_rows(spec: ModelSpec, platform: str, mini: int = 0) -> int:
    """Rows of the compiled shape per device, for a mini-batch other than the model's own where one is given.

    They stand in the plan, so that a resumed scan computes the same way.
    """
    return (mini or mini_batch(spec, platform)) * (CPU_STEPS if platform == "cpu" else ACCELERATOR_STEPS)


def rows_for(spec: ModelSpec, platform: str, count: int, mini: int = 0) -> int:
    """Rows of the compiled shape per device where it has ``count`` rows to score at most.

    Few rows fill few steps of the same mini-batch: their scores do not change, only the waiting does.
    """
    each = mini or mini_batch(spec, platform)
    return min(compiled_rows(spec, platform, mini), each * (1 << (-(-max(count, 1) // each) - 1).bit_length()))


class Scorer:
    """Scores windows on all devices. Its mini-batch never changes, so a score cannot depend on its neighbours.

    Where the memory of a device does not suffice for all mini-batches of the compiled shape, fewer of them run at a
    time; the scores are the same.

    Parameters
    ----------
    graph, state
        The model, as `mirscan.models.load_model` returns it.
    rows : int
        Rows of the compiled shape per device (`Plan.compiled_rows`).
    mini : int
        Rows computed at once (`Plan.mini_batch`); 0: what `mini_batch` says.
    """

    def __init__(
        self,
        spec: ModelSpec,
        graph: Any,
        state: Any,
        *,
        rows: int,
        mini: int = 0,
        devices: list[jax.Device] | None = None,
    ) -> None:
        devices = devices or local_devices()
        mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
        mini = min(mini or mini_batch(spec, devices[0].platform), rows)
        if rows % mini:
            raise ValueError(f"{rows} compiled rows are not a multiple of the mini-batch {mini}")
        self.rows = rows * len(devices)
        self.shapes = spec.inputs
        self.steps = rows // mini
        """Mini-batches that a device computes one after another before the host hears of it."""
        self._together = mini * len(devices)
        self._what = f"a mini-batch of {mini} rows of {spec.name}"
        self._spread = NamedSharding(mesh, PartitionSpec("data"))
        self._state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))

        def some(state: Any, inputs: tuple[jax.Array, ...]) -> jax.Array:
            def few(inputs: tuple[jax.Array, ...]) -> jax.Array:
                return spec.score(nnx.merge(graph, state)(*inputs)).astype(jnp.float32)

            steps = tuple(x.reshape(-1, mini, *x.shape[1:]) for x in inputs)
            count = len(steps[0])
            if count == 1:
                # XLA unrolls a loop of one step and fuses it with what is around, so that sums differ in the last bits
                # from those of a longer loop: a lone mini-batch runs twice
                steps = tuple(jnp.concatenate([x, x]) for x in steps)
            return jax.lax.map(few, steps)[:count].reshape(-1)

        spec_in = (PartitionSpec(), PartitionSpec("data"))
        # each core has a batch of its own: threads inside its matrix products would only take another core's time
        options = {"xla_cpu_multi_thread_eigen": False} if devices[0].platform == "cpu" else None
        sharded = jax.shard_map(some, mesh=mesh, in_specs=spec_in, out_specs=PartitionSpec("data"))
        self._run = jax.jit(sharded, compiler_options=options)

    def submit(self, *inputs: np.ndarray) -> Pending:
        """Start scoring n <= rows windows or hairpins; returns float32 (rows,) at once, missing rows are padded.

        Raises
        ------
        ValueError
            If there are more rows than that, or they are no input of this model.
        ModelError
            If a device has too little memory for one mini-batch; also when the scores are awaited.
        """
        return Pending(self, self._padded(inputs))

    def score(self, *inputs: np.ndarray) -> np.ndarray:
        """Scores, float32 (n,), of any number of windows or hairpins; the model's inputs have n rows each."""
        count = len(inputs[0])
        blocks = [slice(begin, min(begin + self.rows, count)) for begin in range(0, count, self.rows)]
        waiting = [(self.submit(*(x[block] for x in inputs)), block.stop - block.start) for block in blocks]
        return np.concatenate([np.asarray(result)[:n] for result, n in waiting] or [np.empty(0, np.float32)])

    def send(self, inputs: tuple[np.ndarray, ...]) -> tuple[jax.Array, ...]:
        """Put inputs of whole mini-batches on the devices, an equal share on each."""
        return jax.device_put(inputs, self._spread)

    def start(self, inputs: tuple[jax.Array, ...]) -> jax.Array:
        """Start scoring what `send` has sent."""
        return self._run(self._state, inputs)

    def start_in_steps(self, inputs: tuple[np.ndarray, ...]) -> list[jax.Array]:
        """Send and start all rows, as many mini-batches at a time as there is memory for."""
        rows = self.steps * self._together
        blocks = (slice(begin, begin + rows) for begin in range(0, self.rows, rows))
        return [self.start(self.send(tuple(x[block] for x in inputs))) for block in blocks]

    def step_back(self, error: jax.errors.JaxRuntimeError, steps: int) -> None:
        """Take fewer steps at a time from now on, because ``steps`` of them were too many for a device's memory.

        Raises
        ------
        JaxRuntimeError
            The error itself, if memory is not what was missing.
        ModelError
            If there was one step alone.
        """
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise error
        if steps > self.steps:  # a batch that was started before the last step back
            return
        if steps == 1:
            raise ModelError(
                f"a device has too little memory for {self._what}; free some, or start over (--fresh) with a smaller "
                "--mini-batch"
            ) from error
        whole = self.rows // self._together
        self.steps = max(fewer for fewer in range(1, steps // 2 + 1) if whole % fewer == 0)
        log.info("a device is short of memory: %d mini-batches at a time instead of %d", self.steps, steps)

    def _padded(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """The inputs, filled up to all rows."""
        shapes, count = tuple(x.shape[1:] for x in inputs), len(inputs[0])
        if shapes != self.shapes or count > self.rows:
            raise ValueError(f"{count} rows of shape {shapes}: at most {self.rows} of shape {self.shapes} fit")
        missing = self.rows - count
        return tuple(np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) if missing else x for x in inputs)


class Pending:
    """Scores that devices work on: ``numpy.asarray`` waits for them, and asks again where memory did not suffice."""

    def __init__(self, scorer: Scorer, inputs: tuple[np.ndarray, ...]) -> None:
        self.shape = (scorer.rows,)
        self._scorer, self._inputs = scorer, inputs
        self._start()

    def _start(self) -> None:
        while True:
            self._results: list[jax.Array] = []  # what was there is freed before more is asked for
            self._steps = self._scorer.steps
            try:
                self._results = self._scorer.start_in_steps(self._inputs)
                return
            except jax.errors.JaxRuntimeError as error:
                self._scorer.step_back(error, self._steps)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        while True:
            try:
                return np.concatenate([np.asarray(result) for result in self._results], dtype=dtype)
            except jax.errors.JaxRuntimeError as error:
                self._scorer.step_back(error, self._steps)
            self._start()
