"""The genomes of a batch: what is asked of each, the worker that scans parts of them, and their results."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirscan.cluster.manifest import MORE_COLUMNS, read_manifest
from mirscan.errors import Stop, Stopped, UsageError
from mirscan.store import ScoreStore
from mirscan.store.places import claim_store, is_local, local_folder, remove_store

if TYPE_CHECKING:  # JAX and the models are loaded by who scans or writes results: a worker, once it has its accelerator
    from mirscan.calls.precision import Calibration
    from mirscan.scanning.options import Options


class Worker:
    """What runs on one accelerator: holds the last run open, its model compiled, and scans parts of it.

    `mirscan.cluster.driver.scan_batch` makes one in each of its processes and calls nothing but these methods.

    Parameters
    ----------
    threads : int, optional
        Cores for host work and, without an accelerator, for the model; all by default.
    """

    def __init__(self, threads: int | None) -> None:
        self._threads = threads
        self._stop = Stop()
        self._held = contextlib.ExitStack()
        self._scan: Callable[[Sequence[int]], Any]

    def open(self, genome: str, options: Options) -> str:
        """Read the genome, load the model, and make the plan if nobody has. Returns what it is computed on."""
        from mirscan.devices import local_devices
        from mirscan.scanning.prepare import prepare
        from mirscan.scanning.run import scan_parts, scorer_of

        self._held.close()
        ready = self._held.enter_context(prepare(genome, dataclasses.replace(options, threads=self._threads)))
        scorer = scorer_of(ready)
        self._scan = lambda parts: scan_parts(ready, scorer, parts, stop=self._stop)
        device = local_devices()[0]
        return f"{device.platform} {device.device_kind}"

    def scan(self, parts: Sequence[int]) -> None:
        """Scan parts of the open run into its store; the hairpins of one are looked for while another is scored."""
        with contextlib.suppress(Stopped):  # the store keeps what was done
            self._scan(parts)

    def stop(self) -> None:
        """Have `scan` return soon; called while it runs."""
        with contextlib.suppress(Stopped):
            self._stop.request()


@dataclasses.dataclass(eq=False)
class Run:
    """One genome of a batch, as its driver sees it."""

    genome: str
    options: Options
    url: str
    """Of its store."""
    calibration: Calibration | None
    store: ScoreStore | None = None
    """From when a worker has opened the run."""
    deaths: int = 0
    """Workers that died while they opened it."""
    error: Exception | None = None
    """Why it is given up."""
    devices: set[str] = dataclasses.field(default_factory=set)
    total: int = 0
    """Windows of both strands, as are those done."""
    done: int = 0
    resumed: int = 0
    began: float = 0.0
    seconds: float = 0.0

    def opened(self) -> list[int]:
        """Look into the store, whose plan a worker has made. Returns the parts that are missing."""
        self.store = ScoreStore.open(self.url)
        missing = self.store.missing()
        self.total = 2 * self.store.plan.windows
        self.done = self.resumed = self.total - self.windows(missing)
        return missing

    def windows(self, parts: Iterable[int]) -> int:
        """Windows of some parts, both strands."""
        assert self.store is not None
        return sum(2 * (end - start) for start, end in map(self.store.plan.bounds, parts))

    def has(self, part: int) -> bool:
        """Whether the store has the mark of a part."""
        assert self.store is not None
        return not self.store.missing([part], verify=False)

    def for_worker(self) -> tuple[str, Options]:
        """What a worker is asked for: the scan alone, and files by names that hold wherever it runs."""
        asked = dataclasses.replace(
            self.options, output=None, bed=None, gff3=None, fasta=None, store=self.url, rm_store=False, fresh=False
        )
        files = {name: getattr(asked, name) for name in ("weights", "regions_file", "contig_alias", "known")}
        absolute: dict[str, Any] = {name: Path(file).absolute() for name, file in files.items() if file}
        return str(Path(self.genome).absolute()), dataclasses.replace(asked, **absolute)

    def publish(self, began: float) -> dict[str, Any]:
        """Write the results of a store whose parts are all there. Returns the record of the run.

        Raises
        ------
        As `mirscan.scanning.run.publish`.
        """
        from mirscan.scanning.loop import Progress
        from mirscan.scanning.results import open_scanned, outputs_of
        from mirscan.scanning.run import publish

        assert self.store is not None
        assert self.options.output is not None
        progress = Progress(total=self.total, done=self.done, resumed=self.resumed, seconds=self.seconds)
        with contextlib.ExitStack() as held:
            genome = None
            if outputs_of(self.options):
                genome = held.enter_context(open_scanned(self.genome, self.store, self.options.output))
            devices = sorted(self.devices)
            record = publish(self.genome, self.options, self.store, genome, self.calibration, progress, devices, began)
        if self.options.rm_store:
            remove_store(self.url)
        return record


def checked(genome: str, options: Options) -> Run:
    """A run, if nothing speaks against it before a cluster is asked for anything.

    Raises
    ------
    InputError, UsageError
        As `mirscan.scanning.prepare.check`, and for what workers elsewhere cannot do.
    """
    from mirscan.scanning.prepare import check, url_of

    if genome == "-":
        raise UsageError("-: workers read the genome themselves, so it must be a file that all of them see")
    if options.output is None:
        raise UsageError("--output: name the track to write")
    if options.adapt:
        raise UsageError("--adapt: run `mirscan adapt` first, then --model duplex-adapted --weights FOLDER")
    url = url_of(options)
    if url.startswith("memory://"):
        raise UsageError(f"--store {url}: workers do not share memory; give a folder, gs:// or s3://")
    _, calibration = check(genome, options)
    return Run(genome, options, str(local_folder(url)) if is_local(url) else url, calibration)


def claim_stores(runs: Sequence[Run]) -> None:
    """Make the local stores, for workers to fill: their marks then name the outputs."""
    for run in runs:
        if is_local(run.url):
            claim_store(Path(run.url), run.options.output)


def look_at_all(runs: Sequence[Run], manifest: Path | None = None) -> None:
    """One look at the paths of all runs together.

    Raises
    ------
    As `mirscan.paths.Paths.look`.
    """
    from mirscan.paths import Paths
    from mirscan.scanning.prepare import add_paths

    paths = Paths().reads("--manifest", manifest)
    for run in runs:
        add_paths(paths, run.genome, run.options, f" of {run.genome}" if len(runs) > 1 else "")
    paths.look()


def runs_of(genome: Path | None, manifest: Path | None, options: Options) -> list[tuple[str, Options]]:
    """One genome, or those of a manifest (`mirscan.cluster.manifest.read_manifest`), with the options of each.

    Raises
    ------
    UsageError
        If both are given, or neither, or an output for all genomes of a manifest.
    InputError
        As `mirscan.cluster.manifest.read_manifest`.
    """
    if (genome is None) == (manifest is None):
        raise UsageError("give a genome and -o, or --manifest with a row for each genome")
    if manifest is None:
        return [(str(genome), options)]
    for name in ("output", *MORE_COLUMNS):
        if getattr(options, name):
            raise UsageError(f"--{name}: each genome has its own, so give it as column {name!r} of {manifest}")
    runs = []
    for row in read_manifest(manifest):
        files: dict[str, Any] = {name: Path(row[name]) for name in ("output", "bed", "gff3", "fasta") if name in row}
        runs.append((row["genome"], dataclasses.replace(options, **files, store=row.get("store"))))
    return runs
