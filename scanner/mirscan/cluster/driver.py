"""`mirscan batch`: the parts of one scan or of many, handed out to every accelerator of a Ray cluster.

The driver never touches an accelerator. Its workers, a process each, make the plan as shards do, and write into the
stores; the driver hands out parts, believes what it sees in the stores, and writes the results when all is there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mirscan.cluster.queue import PartQueue, Slot, most_wanting, slots
from mirscan.cluster.runs import Run, Worker, checked, claim_stores, look_at_all
from mirscan.errors import IncompleteError, InputError, ModelError, Stop, UsageError
from mirscan.host import cores
from mirscan.store.places import empty_store

if TYPE_CHECKING:
    from mirscan.scanning.loop import Progress
    from mirscan.scanning.options import Options

log = logging.getLogger("mirscan")
TICK = 1.0
"""Seconds between two looks at time limits, at the nodes of the cluster and at a request to stop."""
DRAIN = 20.0
"""Seconds that workers have to keep what they are doing when a batch is stopped: managers of jobs allow some thirty."""
PATIENCE = 60.0
"""Seconds without any worker after which a batch is given up."""
TOGETHER = {"CPU": 1, "GPU": 4, "TPU": 4}
"""Parts handed out at a time: an accelerator would wait for the host work of each that comes alone."""
OBJECTS = 100 << 20
"""Bytes of a local Ray's object store: scores go through the stores, and nothing large through Ray."""


SOUND = (InputError, UsageError, IncompleteError, ModelError)
"""What a worker may raise and still be of use; whatever else happened to it, a new one is safer."""


@dataclasses.dataclass(eq=False)
class _Actor:
    """A worker's process."""

    slot: Slot
    handle: Any
    run: int | None = None
    """The run that it holds open, or is opening."""
    barred: set[int] = dataclasses.field(default_factory=set)
    """Runs that it cannot open while others can."""


class _Task(NamedTuple):
    actor: _Actor
    run: int
    parts: list[int]
    """None where the run is being opened."""
    deadline: float


def scan_batch(
    runs: Sequence[tuple[str, Options]],
    *,
    manifest: Path | None = None,
    address: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    attempts: int = 3,
    timeout: float | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    stop: Stop | None = None,
    worker: type[Worker] = Worker,
) -> list[dict[str, Any]]:
    """Scan genomes on a Ray cluster and write what was asked for, as `mirscan.scanning.run.scan_genome` would have.

    Parameters
    ----------
    runs : sequence of (str, Options)
        Genomes and what is wanted of each; the cluster must see genomes, weights and stores at the same places.
    manifest : Path, optional
        The table that they stand in, which no output may replace.
    address : str, optional
        Of the cluster; by default ``$RAY_ADDRESS``, else a Ray of this machine alone is started.
    workers : int, optional
        At most so many; by default one a GPU, or a TPU host, or a node where there are neither.
    threads : int, optional
        Cores of each worker; by default its share of its node's.
    attempts : int
        How often a part is tried before it is given up.
    timeout : float, optional
        Seconds that one part may take, compiling included; opening a genome is not counted.
    worker : type
        What runs in the processes, for tests of what may happen to them.

    Returns
    -------
    list of dict
        The record of each run, as `mirscan.scanning.run.scan_genome` returns it.

    Raises
    ------
    UsageError, InputError
        As `mirscan.scanning.run.scan_genome`; what only one genome causes, after the others are finished.
    IncompleteError
        Naming parts that failed ``attempts`` times or that no worker was left for; all others are done.
    Stopped
        When ``stop`` was requested; the same call resumes.
    """
    for name, value in (("workers", workers), ("threads", threads), ("attempts", attempts), ("timeout", timeout)):
        if value is not None and value <= 0:
            raise UsageError(f"--{name} {value:g}: must be above 0")
    began, stop = time.time(), stop or Stop()
    mine = [checked(genome, options) for genome, options in runs]
    look_at_all(mine, manifest)
    for run in mine:
        if run.options.fresh:
            empty_store(run.url)

    with stop.patiently(), _cluster(address) as ray:
        claim_stores(mine)
        pool = _Pool(ray, mine, worker, workers, threads, attempts, timeout)
        while pool.unfinished() and not stop.requested:
            pool.hire()
            pool.hand_out()
            pool.collect()
            report(pool.progress(time.time() - began))
        if stop.requested:
            pool.drain()

    records = []
    for number, run in enumerate(mine):
        try:
            pool.check(number)
            records.append(run.publish(began))
        except (InputError, UsageError, IncompleteError) as error:
            log.warning("%s is not finished: %s", run.genome, error)
            run.error = error
    failed = [run.error for run in mine if run.error is not None]
    if failed:
        first = next((error for error in failed if isinstance(error, IncompleteError)), failed[0])
        others = f"; of {len(mine)} genomes {len(failed)} are not finished" if len(mine) > 1 else ""
        raise type(first)(f"{first}{others}")
    return records


class _Pool:
    """Workers on the slots of a cluster, and what they are given to do."""

    def __init__(
        self,
        ray: Any,
        runs: list[Run],
        worker: type[Worker],
        workers: int | None,
        threads: int | None,
        attempts: int,
        timeout: float | None,
    ) -> None:
        self.ray, self.runs = ray, runs
        self.worker = ray.remote(max_restarts=0, max_concurrency=2)(worker)  # two: `stop` comes while `scan` runs
        self.workers, self.threads, self.attempts = workers, threads, attempts
        self.timeout = timeout or float("inf")
        self.parts = PartQueue(attempts)
        self.actors: dict[Slot, _Actor] = {}
        self.tasks: dict[Any, _Task] = {}
        self.deaths: Counter[Slot] = Counter()
        """Of the workers of a slot, in a row, while they opened a run."""
        self.kind: str | None = None
        self.trouble = "no node has a core or an accelerator to give"
        self.idle_since = time.monotonic()

    def unfinished(self) -> bool:
        """Whether anything is left to do; where no worker could do any of it for long, it is given up."""
        left = [
            number
            for number, run in enumerate(self.runs)
            if run.error is None and (run.store is None or self.parts.waiting(number))
        ]
        if self.tasks:
            self.idle_since = time.monotonic()
        elif time.monotonic() - self.idle_since > PATIENCE:
            for number in left:
                self.runs[number].error = IncompleteError(
                    f"{self.runs[number].url}: no worker is left for it ({self.trouble}); run the same command again"
                )
            return False
        return bool(left or self.tasks)

    def hire(self) -> None:
        """A worker for each slot that has none; slots come and go with the nodes of the cluster."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        places = slots(self.ray.nodes(), self.threads, self.kind)
        busy = {task.actor.slot for task in self.tasks.values()}
        for gone in self.actors.keys() - busy - {*places}:
            del self.actors[gone]
        for slot in places:
            self.kind = slot.kind  # a plan is of one kind of device, so workers are, whatever joins the cluster later
            # twice: a run that no worker survives is given up before the slot is
            if slot in self.actors or self.deaths[slot] >= 2 * self.attempts:
                continue
            if self.workers is not None and len(self.actors) >= self.workers:
                break
            asks: dict[str, Any] = {"num_cpus": slot.cores, "num_gpus": slot.amount if slot.kind == "GPU" else 0}
            asks |= {"resources": {"TPU": slot.amount}} if slot.kind == "TPU" else {}
            place = NodeAffinitySchedulingStrategy(slot.node, soft=False)
            handle = self.worker.options(**asks, scheduling_strategy=place).remote(slot.cores or None)
            self.actors[slot] = _Actor(slot, handle)

    def hand_out(self) -> None:
        """Something to do for each idle worker: a part of the run that it holds, else another run to open."""
        busy = {task.actor.slot for task in self.tasks.values()}
        for slot, actor in self.actors.items():
            if slot in busy:
                continue
            if actor.run is not None and (parts := self.parts.take(actor.run, self._share(actor.run))):
                deadline = time.monotonic() + self.timeout * len(parts)
                self.tasks[actor.handle.scan.remote(parts)] = _Task(actor, actor.run, parts, deadline)
            elif (number := self._where_to_help(actor)) is not None:
                run, actor.run = self.runs[number], number
                run.began = run.began or time.time()
                opening = actor.handle.open.remote(*run.for_worker())
                self.tasks[opening] = _Task(actor, number, [], float("inf"))

    def _share(self, run: int) -> int:
        """Parts to hand out at a time: fewer towards the end, so that all workers end together."""
        helpers = sum(actor.run == run for actor in self.actors.values())
        return max(1, min(TOGETHER[self.kind or "CPU"], self.parts.waiting(run) // (2 * helpers)))

    def _where_to_help(self, actor: _Actor) -> int | None:
        at_it = Counter(other.run for other in self.actors.values() if other is not actor)
        wanting = {
            number: (self.parts.waiting(number) if run.store else None, at_it[number])
            for number, run in enumerate(self.runs)
            if run.error is None and number not in actor.barred
        }
        return most_wanting(wanting)

    def collect(self) -> None:
        """Wait a moment for what is finished, has failed or takes too long."""
        if not self.tasks:
            time.sleep(TICK)
            return
        for reference in self.ray.wait(list(self.tasks), timeout=TICK)[0]:
            device, error = None, None
            try:
                device = self.ray.get(reference)
            except self.ray.exceptions.RayTaskError as raised:
                error = raised.cause or raised
            except self.ray.exceptions.RayError as raised:
                error = raised
            self._settle(self.tasks.pop(reference), device, error)
        for reference, task in list(self.tasks.items()):
            if time.monotonic() > task.deadline:
                late = TimeoutError(f"longer than --timeout {self.timeout:g} seconds")
                self._settle(self.tasks.pop(reference), None, late)

    def _settle(self, task: _Task, device: str | None, error: Exception | None) -> None:
        """Count what is done, put back what is not, and dismiss a worker that may be broken."""
        run = self.runs[task.run]
        if error is not None and not isinstance(error, SOUND):
            with contextlib.suppress(self.ray.exceptions.RayError):
                self.ray.kill(task.actor.handle)
            del self.actors[task.actor.slot]
        if run.error is not None:
            return
        try:
            error = self._count(task, error) if task.parts else self._open(task, device, error)
        except (InputError, IncompleteError) as unreadable:  # the driver itself cannot read the store
            run.error = error = unreadable
        if error is not None:
            self.trouble = _line(error)
            log.warning("%s: %s failed: %s", run.url, _named(task.parts) or "opening it", self.trouble)
        run.seconds = time.time() - run.began

    def _count(self, task: _Task, error: Exception | None) -> Exception | None:
        run = self.runs[task.run]
        done = [part for part in task.parts if run.has(part)]
        run.done += run.windows(done)
        left = [part for part in task.parts if part not in done]
        if left:
            error = error or RuntimeError("the driver does not see what the worker wrote: is the store shared?")
            self.parts.failed(task.run, left, _line(error))
        return error

    def _open(self, task: _Task, device: str | None, error: Exception | None) -> Exception | None:
        run, actor = self.runs[task.run], task.actor
        if error is None:
            self.deaths[actor.slot] = 0
            run.devices.add(str(device))
            if run.store is None:
                self.parts.add(task.run, run.opened())
            return None
        actor.run = None
        if not isinstance(error, SOUND):
            self.deaths[actor.slot] += 1
            run.deaths += 1
            if run.store is None and run.deaths >= self.attempts:
                run.error = IncompleteError(
                    f"{run.url}: workers died {run.deaths} times on opening it ({_line(error)})"
                )
        elif run.store is None:
            run.error = error
        else:
            actor.barred.add(task.run)
        return error

    def progress(self, seconds: float) -> Progress:
        """That of all runs which have been opened."""
        from mirscan.scanning.loop import Progress

        total, done, resumed = (sum(getattr(run, name) for run in self.runs) for name in ("total", "done", "resumed"))
        return Progress(total=total, done=done, resumed=resumed, seconds=seconds)

    def drain(self) -> None:
        """Have all workers stop, and give them time to keep what they have."""
        log.info("waiting for %d workers, at most %d s", len(self.tasks), DRAIN)
        for task in self.tasks.values():
            task.actor.handle.stop.remote()
        if self.tasks:
            self.ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=DRAIN)

    def check(self, number: int) -> None:
        """Raise what kept a run from being finished.

        Raises
        ------
        InputError, UsageError
            If it could not be opened.
        IncompleteError
            Naming the parts that were given up.
        """
        run = self.runs[number]
        if run.error is not None:
            raise run.error
        poison = {part: reason for (of, part), reason in self.parts.given_up.items() if of == number}
        if poison:
            few = "; ".join(f"part {part}: {reason}" for part, reason in sorted(poison.items())[:3])
            raise IncompleteError(
                f"{run.url}: of its parts {len(poison)} failed {self.attempts} times ({few}), all others are done; the "
                "same command tries again"
            )


def _line(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _named(parts: Sequence[int]) -> str:
    return f"part {', '.join(map(str, parts))}" if parts else ""


@contextlib.contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Ray, joined to a cluster or started on this machine; left or ended afterwards."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UsageError("--engine ray: Ray is not installed; pip install 'mirscan[batch]'") from None
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    own: dict[str, Any] = {}
    if address == "local":
        own = {"num_cpus": cores(), "object_store_memory": OBJECTS, "include_dashboard": False}
    before = signal.getsignal(signal.SIGTERM)
    token = "RAY_AUTH_TOKEN" if address == "local" and "RAY_AUTH_TOKEN" not in os.environ else None
    if token:  # Ray would make one itself, and leave it in the user's home
        os.environ[token] = secrets.token_hex(32)
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        hint = "is it running, and are $RAY_AUTH_MODE and $RAY_AUTH_TOKEN those of its nodes?"
        raise UsageError(f"--address {address}: no Ray to work with ({_line(error)}); {hint}") from error
    finally:  # Ray has taken the signal, unless this is not the main thread
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
    try:
        yield ray
    finally:
        ray.shutdown()
        if token:
            del os.environ[token]
