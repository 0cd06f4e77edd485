"""The main job: every window or hairpin of a plan, both strands, through the model and into the store."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from mirscan.devices import Pending, Scorer
from mirscan.errors import ModelError, Stop
from mirscan.genome import Genome
from mirscan.kernels.homology import Words
from mirscan.scanning.jobs import Batch, Job, jobs
from mirscan.store import ScoreStore
from mirscan.structure.engines import NUMBA, Engine
from mirscan.types import ModelSpec, Plan

PREFETCH = 4
"""Batches that wait for the devices: reading and cutting windows overlap with scoring."""
_Item = TypeVar("_Item")


@dataclass
class Progress:
    """What a scan tells while it runs: windows are counted on both strands."""

    total: int
    done: int = 0
    resumed: int = 0
    """Of ``done``: those an earlier run had scored."""
    seconds: float = 0.0
    device_seconds: float = 0.0
    """Time the scan waited for devices; the rest was host work."""


def scan(
    plan: Plan,
    genome: Genome,
    store: ScoreStore,
    scorer: Scorer,
    *,
    spec: ModelSpec,
    parts: Sequence[int] | None = None,
    in_flight: int = 2,
    threads: int = 1,
    words: Words | None = None,
    engine: Engine = NUMBA,
    report: Callable[[Progress], None] = lambda progress: None,
    stop: Stop | None = None,
) -> Progress:
    """Score the parts that the store is missing, of all or of some.

    Parameters
    ----------
    spec : ModelSpec
        The model's row: whether it scores windows or hairpins, and how neighbours count.
    parts : sequence of int, optional
        Those that this run is to fill; all by default.
    threads : int
        Cores that look for hairpins.
    words : Words, optional
        Known precursors that hairpins are compared with; no score depends on them.
    engine : Engine
        What computes stem-loops, where hairpins are scored; no score depends on it.
    in_flight : int
        Batches started before the first is collected; no score depends on it.
    report : callable
        Called after every batch.
    stop : Stop
        Looked at after every batch.

    Raises
    ------
    Stopped
        When ``stop`` was requested: the batches of the unfinished part are kept for the next run.
    ModelError
        Naming the place, if the model gives NaN or infinity.
    """
    stop = stop or Stop()
    parts = range(plan.parts) if parts is None else parts
    missing = store.missing(parts)
    windows, left = (sum(2 * (end - start) for start, end in map(plan.bounds, some)) for some in (parts, missing))
    progress = Progress(total=windows)
    settled = windows - left
    progress.done = progress.resumed = settled
    began = time.perf_counter()

    with contextlib.closing(_ahead(jobs(plan, genome, missing, spec, threads, words, engine), 1)) as ready:
        for job in ready:
            part_began = time.perf_counter()
            start, end = plan.bounds(job.part)
            values = np.full(job.slots, np.nan, dtype=np.float32)
            steps, kept = (store.load_partial(job.part) if job.resumable else None) or (0, None)
            if kept is not None:
                values[:] = kept.reshape(-1)
            rows = steps * plan.compiled_rows

            batches = _ahead(job.batches(scorer.rows, skip=rows), PREFETCH)
            with stop.patiently(), contextlib.closing(batches):
                for slots, result in _in_flight(batches, scorer, in_flight, stop):
                    _collect(job, slots, result, values, progress)
                    rows += len(slots)
                    progress.done = settled + 2 * (end - start) * rows // max(job.slots, 1)
                    progress.seconds = time.perf_counter() - began
                    report(progress)

                if stop.requested and rows < job.slots:
                    if job.resumable:
                        store.save_partial(job.part, rows // plan.compiled_rows, values.reshape(-1, 2))
                    break
                scores, hairpins = job.finish(values)
                store.write(job.part, scores, time.perf_counter() - part_began, hairpins)
                settled += 2 * (end - start)
                progress.done, progress.seconds = settled, time.perf_counter() - began
                report(progress)
    return progress


def _in_flight(
    batches: Iterator[Batch], scorer: Scorer, limit: int, stop: Stop
) -> Iterator[tuple[np.ndarray, Pending]]:
    """Slots and result of each batch; ``limit`` of them are on the devices before the first is awaited."""
    waiting: deque[tuple[np.ndarray, Pending]] = deque()
    for slots, inputs in batches:
        waiting.append((slots, scorer.submit(*inputs)))
        if len(waiting) >= limit:
            yield waiting.popleft()
        if stop.requested:
            break
    yield from waiting


def _collect(job: Job, slots: np.ndarray, result: Pending, values: np.ndarray, progress: Progress) -> None:
    """Wait for a batch, check it and put it in its place."""
    waited = time.perf_counter()
    found = np.asarray(result)[: len(slots)]
    progress.device_seconds += time.perf_counter() - waited
    finite = np.isfinite(found)
    if not finite.all():
        first = int(np.argmin(finite))
        raise ModelError(f"the model gave {found[first]} for {job.place(int(slots[first]))}; nothing was published")
    values[slots] = found


def _ahead(items: Iterator[_Item], count: int) -> Generator[_Item, None, None]:
    """The same items, made by a thread of their own, at most ``count`` ahead of their use."""
    ready: queue.Queue[object] = queue.Queue(count)
    gone = threading.Event()

    def put(item: object) -> None:
        while not gone.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def make() -> None:
        try:
            for item in items:
                put(item)
                if gone.is_set():
                    return
            put(None)
        except BaseException as error:  # handed to the consumer, which raises it
            put(error)

    thread = threading.Thread(target=make, daemon=True, name="ahead")
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item  # type: ignore[misc]
    finally:
        gone.set()
        thread.join()
