"""The main job: every window of a plan, both strands, through the model and into the store."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import jax
import numpy as np

from mirscan.devices import Scorer
from mirscan.genome import Genome
from mirscan.kernels.bases import ABSENT, AMBIGUOUS
from mirscan.kernels.windows import cut, scorable
from mirscan.store import ScoreStore
from mirscan.types import STRANDS, ModelError, Plan, Stop

PREFETCH = 4
"""Batches that wait for the devices: reading and cutting windows overlap with scoring."""
STRETCH = 1 << 13
"""Windows cut from the genome at a time: few enough that their codes stay in the cache."""


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
    in_flight: int = 2,
    report: Callable[[Progress], None] = lambda progress: None,
    stop: Stop | None = None,
) -> Progress:
    """Score the parts that the store is missing.

    Parameters
    ----------
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
        Naming the window, if the model gives NaN or infinity.
    """
    stop = stop or Stop()
    missing = store.missing()
    progress = Progress(total=2 * plan.windows)
    settled = progress.total - sum(2 * (end - start) for start, end in map(plan.bounds, missing))
    progress.done = progress.resumed = settled
    began = time.perf_counter()

    for part in missing:
        start, end = plan.bounds(part)
        part_began = time.perf_counter()
        scores = np.full(2 * (end - start), np.nan, dtype=np.float32)
        steps, kept = store.load_partial(part) or (0, None)
        if kept is not None:
            scores[:] = kept.reshape(-1)
        rows = steps * plan.compiled_rows

        batches = _ahead(_batches(plan, genome, part, scorer.rows, skip=rows))
        with stop.patiently(), contextlib.closing(batches):
            for slots, result in _in_flight(batches, scorer, in_flight, stop):
                _collect(plan, start, slots, result, scores, progress)
                rows += len(slots)
                progress.done, progress.seconds = settled + rows, time.perf_counter() - began
                report(progress)

            if stop.requested:
                store.save_partial(part, rows // plan.compiled_rows, scores.reshape(-1, 2))
                break
            store.write(part, scores.reshape(-1, 2), time.perf_counter() - part_began)
            settled += 2 * (end - start)
            progress.done, progress.seconds = settled, time.perf_counter() - began
            report(progress)
    return progress


def _in_flight(
    batches: Iterator[tuple[np.ndarray, np.ndarray]], scorer: Scorer, limit: int, stop: Stop
) -> Iterator[tuple[np.ndarray, jax.Array]]:
    """Slots and result of each batch; ``limit`` of them are on the devices before the first is awaited."""
    waiting: deque[tuple[np.ndarray, jax.Array]] = deque()
    for slots, codes in batches:
        waiting.append((slots, scorer.submit(codes)))
        if len(waiting) >= limit:
            yield waiting.popleft()
        if stop.requested:
            break
    yield from waiting


def _batches(
    plan: Plan, genome: Genome, part: int, rows: int, skip: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Scorable windows of a part on both strands, ``rows`` at a time, without the first ``skip``.

    Yields
    ------
    slots : int64 (n,)
        Place in the part's flattened (windows, strands) scores.
    codes : uint8 (n, window)
    """
    grid, limit = plan.grid, AMBIGUOUS if plan.ambiguous == "skip" else ABSENT
    first, end = plan.bounds(part)
    slots, codes = np.empty(0, dtype=np.int64), np.empty((0, grid.window), dtype=np.uint8)
    pending: list[tuple[np.ndarray, np.ndarray]] = []
    held = 0
    for stretch in range(first, end, STRETCH):
        at = stretch - first
        for piece in plan.pieces(stretch, min(stretch + STRETCH, end)):
            starts = grid.starts(plan.contigs[piece.contig].length, piece.first, piece.count)
            bases = genome.codes(piece.contig, int(starts[0]), int(starts[-1]) + grid.window)
            starts -= starts[0]
            good = np.flatnonzero(scorable(bases, starts, grid.window, limit))
            twice = np.repeat(good, 2)
            minus = np.arange(len(twice)) % 2 == 1
            fresh = slice(min(skip, len(twice)), None)
            skip -= fresh.start
            piece_slots = (2 * (at + twice) + minus)[fresh]
            pending.append((piece_slots, cut(bases, starts[twice[fresh]], minus[fresh], grid.window)))
            held += len(piece_slots)
            at += piece.count
            if held >= rows:
                slots, codes = (np.concatenate(arrays) for arrays in zip(*pending, strict=True))
                whole = held - held % rows
                for begin in range(0, whole, rows):
                    yield slots[begin : begin + rows], codes[begin : begin + rows]
                pending, held = [(slots[whole:], codes[whole:])], held - whole
    if held:
        slots, codes = (np.concatenate(arrays) for arrays in zip(*pending, strict=True))
        yield slots, codes


def _collect(
    plan: Plan, start: int, slots: np.ndarray, result: jax.Array, scores: np.ndarray, progress: Progress
) -> None:
    """Wait for a batch, check it and put it in its place."""
    waited = time.perf_counter()
    values = np.asarray(result)[: len(slots)]
    progress.device_seconds += time.perf_counter() - waited
    finite = np.isfinite(values)
    if not finite.all():
        first = int(np.argmin(finite))
        slot = int(slots[first])
        where = next(plan.pieces(start + slot // 2, start + slot // 2 + 1))
        contig = plan.contigs[where.contig]
        at = int(plan.grid.starts(contig.length, where.first, 1)[0])
        raise ModelError(
            f"the model gave {values[first]} for the window {contig.name}:{at + 1}-{at + plan.grid.window} "
            f"({STRANDS[slot % 2]}); nothing was published"
        )
    scores[slots] = values


def _ahead(batches: Iterator[tuple[np.ndarray, np.ndarray]]) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
    """The same batches, made by a thread of their own a few ahead of their use."""
    ready: queue.Queue[object] = queue.Queue(PREFETCH)
    gone = threading.Event()

    def put(item: object) -> None:
        while not gone.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def make() -> None:
        try:
            for batch in batches:
                put(batch)
                if gone.is_set():
                    return
            put(None)
        except BaseException as error:  # handed to the consumer, which raises it
            put(error)

    thread = threading.Thread(target=make, daemon=True, name="windows")
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item  # type: ignore[misc]
    finally:
        gone.set()
        thread.join()
