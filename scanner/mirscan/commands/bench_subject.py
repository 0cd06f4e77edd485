"""A model as `mirscan bench` measures it: compiled for some devices, with a genome to scan, in pieces to be timed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from mirscan.checkpoints.weights import registry
from mirscan.commands.bench_machine import Cost, Task, cost
from mirscan.devices import Scorer, backend, best_precision, compiled_rows, mini_batch
from mirscan.errors import UsageError
from mirscan.files.atomic import write_file
from mirscan.genome import Genome, open_genome
from mirscan.kernels.bases import reverse_complement
from mirscan.kernels.hairpins import Scan
from mirscan.models import find_model, load_model, untrained_model
from mirscan.scanning.jobs import jobs
from mirscan.scanning.loop import scan
from mirscan.scanning.tune import sample_inputs
from mirscan.store import ScoreStore
from mirscan.structure.engines import WORTH, choose_engine, over_tiles
from mirscan.structure.hairpins import SPAN
from mirscan.structure.turner import turner_tables
from mirscan.types import Grid, Plan, Segment

TARGET = 0.7
"""Seconds that the devices shall be busy in one scan."""
PARTS = 4
"""Of the genome that is scanned: host work on one overlaps with device work on another."""
HAIRPINS_PER_BASE = 0.02
"""About so many are proposed on both strands: enough bases shall give whole batches."""
_numbers = itertools.count()


class Setting(NamedTuple):
    """What a user asks to measure: a model, and what it is computed in, or how many rows at once."""

    model: str
    precision: str | None = None
    mini: int = 0

    @classmethod
    def parse(cls, text: str, precision: str | None = None) -> Setting:
        """``duplex``, ``duplex:float32`` or ``duplex:bfloat16:4096``; ``precision`` where the text names none.

        Raises
        ------
        UsageError
            If it is none of that form.
        """
        name, *rest = text.split(":")
        precision = rest.pop(0) if rest and not rest[0].isdecimal() else precision
        mini = int(rest.pop(0)) if rest and rest[0].isdecimal() else 0
        if rest or precision not in (None, "float32", "bfloat16"):
            raise UsageError(f"{text}: give MODEL, MODEL:PRECISION or MODEL:PRECISION:MINI_BATCH")
        return cls(name, precision, mini)


class Subject:
    """A model on some devices, compiled, with a random genome of a size that takes it about a second.

    Where weights are not shipped they are random: speed does not depend on them.
    """

    def __init__(self, setting: Setting, devices: list[jax.Device], threads: int, folder: Path) -> None:
        self.spec = find_model(setting.model)
        self.devices, self.threads = devices, threads
        self.precision = setting.precision or best_precision(self.spec)
        self.mini = setting.mini or mini_batch(self.spec, backend())
        rows = compiled_rows(self.spec, backend(), self.mini)
        load = load_model if setting.model in registry() else untrained_model
        self.graph, self.state = load(setting.model, precision=self.precision)
        self.scorer = Scorer(self.spec, self.graph, self.state, rows=rows, mini=self.mini, devices=devices)
        self.inputs = sample_inputs(self.spec, self.scorer.rows)
        self.compile_seconds = _seconds(lambda: np.asarray(self.scorer.submit(*self.inputs)))
        self.sent = self.scorer.send(self.inputs)
        batches = max(1, round(TARGET / _seconds(self.compute)))
        self.compile_seconds -= TARGET / batches
        # on accelerators they compute the stem-loops too where that is faster: worth asking, as a genome is large
        self.engine = choose_engine(bases=WORTH, threads=threads, devices=len(devices))
        self.genome = _random_genome(folder / f"{next(_numbers)}.fa", self._bases(min(batches, 256)))
        self.plan = self._plan(min(PARTS, batches) if self.spec.unit == "window" else PARTS)
        self.batches = sum(1 for job in self._jobs() for _ in job.batches(self.scorer.rows))

    @property
    def megabases(self) -> float:
        """Of the genome."""
        return self.genome.contigs[0].length / 1e6

    def compute(self) -> None:
        """One batch that is on the devices already."""
        jax.block_until_ready(self.scorer.start(self.sent))

    def scan(self) -> None:
        """The genome, as `mirscan genome` scans it, into a store in memory."""
        store = ScoreStore.create_or_open(f"memory://bench-{next(_numbers)}/", self.plan)
        scan(
            self.plan, self.genome, store, self.scorer, spec=self.spec, threads=self.threads, engine=self.engine
        )  # fmt: skip

    def host_work(self) -> None:
        """All that is not the devices' of a scan: reading, cutting, folding, the inputs, what becomes of the scores."""
        for job in self._jobs():
            for _ in job.batches(self.scorer.rows):
                pass
            job.finish(np.full(job.slots, 0.5, dtype=np.float32))

    def tasks(self) -> dict[str, Task]:
        """What is timed; amounts are megabases, or rows of the model."""
        length, rows = self.genome.contigs[0].length, self.scorer.rows
        tasks = {
            "scan": Task(self.scan, self.megabases),
            "reading": Task(lambda: self.genome.codes(0, 0, length), self.megabases),
            "host": Task(self.host_work, self.megabases),
            "transfer": Task(lambda: jax.block_until_ready(self.scorer.send(self.inputs)), rows),
            "device": Task(self.compute, rows),
        }
        if self.spec.unit == "hairpin":
            codes = self.genome.codes(0, 0, length)
            strands = codes, reverse_complement(codes)
            tasks["recurrence"] = Task(lambda: [self.stem_loops(strand) for strand in strands], self.megabases)
        return tasks

    def stem_loops(self, strand: np.ndarray) -> list[Scan]:
        """The recurrence alone, of one strand (codes)."""
        tables, (run, piece) = turner_tables(), self.engine
        return over_tiles(lambda first, last: run(strand, tables, SPAN, first, last), len(strand), self.threads, piece)

    def cost_of_row(self) -> Cost:
        """FLOP and bytes of one window or hairpin in a mini-batch."""
        few = tuple(column[: self.mini] for column in self.inputs)
        counted = cost(lambda state, *x: self.spec.score(nnx.merge(self.graph, state)(*x)), self.state, *few)
        return Cost(counted.flops / self.mini, counted.bytes / self.mini)

    def _bases(self, batches: int) -> int:
        if self.spec.unit == "hairpin":
            return round(PARTS * self.scorer.rows / HAIRPINS_PER_BASE)
        return batches * self.scorer.rows // 2 * self.spec.step + self.spec.window - self.spec.step

    def _plan(self, parts: int) -> Plan:
        spec, grid = self.spec, Grid(self.spec.window, self.spec.step)
        windows = grid.count(self.genome.contigs[0].length)
        return Plan(
            genome=self.genome.path, genome_digest=self.genome.digest, contigs=tuple(self.genome.contigs),
            segments=(Segment(0, 0, windows),), grid=grid, model=spec.name, weights_digest="",
            part_windows=-(-windows // parts), ambiguous="skip", soft_mask="scan", backend=backend(),
            precision=self.precision, compiled_rows=self.scorer.rows // len(self.devices), selection={},  # type: ignore[arg-type]
            folder="hairpins" if "fold" in spec.needs else "", mini_batch=self.mini,
        )  # fmt: skip

    def _jobs(self) -> Iterator[Any]:
        parts = range(self.plan.parts)
        return jobs(self.plan, self.genome, parts, self.spec, self.threads, engine=self.engine)


def _random_genome(path: Path, bases: int) -> Genome:
    letters = np.frombuffer(b"ACGT", dtype=np.uint8)[np.random.default_rng(0).integers(0, 4, bases)]
    lines = [letters[start : start + 80].tobytes() for start in range(0, bases, 80)]
    write_file(path, b">random\n" + b"\n".join(lines) + b"\n")
    return open_genome(path, spool=path.parent, log=lambda line: None)


def _seconds(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return max(time.perf_counter() - began, 1e-6)
