"""`mirscan genome`: plan, scan, export and call in a row; or a shard of it, whose results are merged later."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mirscan.calls.precision import Calibration, known_per_megabase
from mirscan.devices import Scorer, local_devices
from mirscan.errors import InputError, Stop, UsageError
from mirscan.files.atomic import AtomicFile
from mirscan.genome import Genome
from mirscan.paths import run_file
from mirscan.scanning.loop import Progress, scan
from mirscan.scanning.options import Options
from mirscan.scanning.prepare import Prepared, prepare
from mirscan.scanning.results import write_results
from mirscan.store import ScoreStore
from mirscan.store.places import is_local, remove_store
from mirscan.structure.engines import choose_engine

log = logging.getLogger("mirscan")
Report = Callable[[Progress], None]


def scan_genome(
    genome: Path | str,
    options: Options,
    *,
    report: Report = lambda progress: None,
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Scan a FASTA and write what was asked for. Returns the record that ``<output>.run.json`` holds.

    Raises
    ------
    InputError, UsageError, IncompleteError
        With one line for the user; no output file is then left behind.
    ModelError
        Naming the window for which the model gave no number.
    Stopped
        When ``stop`` was requested; the same call resumes.
    """
    began = time.time()
    if options.output is None:
        raise UsageError("--output: name the track to write")
    with prepare(genome, options) as ready:
        # -------------------------------------------------------------- scan what the store is missing
        progress = scan_parts(ready, scorer_of(ready), report=report, stop=stop)

        # -------------------------------------------------------------- tracks, calls, and the record of the run
        devices = [f"{d.platform} {d.device_kind}" for d in local_devices(options.devices)]
        record = publish(genome, options, ready.store, ready.genome, ready.calibration, progress, devices, began)
    if options.rm_store:
        remove_store(ready.store.url)
    return record


def publish(
    genome: Path | str,
    options: Options,
    store: ScoreStore,
    opened: Genome | None,
    calibration: Calibration | None,
    progress: Progress,
    devices: Sequence[str],
    began: float,
) -> dict[str, Any]:
    """Write the results of a store whose parts are all there, and the record of how they came about.

    Parameters
    ----------
    opened : Genome, optional
        For the sequences of calls.
    progress : Progress
        Of the scan that filled the store.
    devices : sequence of str
        What it ran on.
    began : float
        When all of it began, in seconds since the epoch.

    Returns
    -------
    dict
        The record, as it stands in ``<output>.run.json``.

    Raises
    ------
    InputError
        If no window could be scored; the store is then removed.
    IncompleteError
        If parts are missing.
    """
    assert options.output is not None
    store.finish()
    store.drop_partials()
    record = store.summary(verify=False)
    if not record["scored"]:
        if is_local(store.url):
            remove_store(store.url)  # it holds nothing, and would stand in the way of other options
        raise InputError(f"{genome}: no window could be scored: each holds a base that is {_unscorable(options)}")
    written, calls = write_results(store, opened, options, calibration)
    record |= {
        "mirscan": version("mirscan"),
        "genome": str(genome),
        "options": json.loads(json.dumps(dataclasses.asdict(options), default=str)),
        "outputs": [str(path) for path in written],
        "calls": len(calls),
        "calibration_digest": calibration.digest if calibration else None,
        "prevalence": known_per_megabase(options.clade, options.prevalence) if calibration else None,
        "seconds": round(time.time() - began, 3),
        "scan_seconds": round(progress.seconds, 3),
        "windows_per_second": round((progress.done - progress.resumed) / max(progress.seconds, 1e-9), 1),
        "devices": list(devices),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {name: version(name) for name in ("jax", "flax", "numpy", "numba", "tensorstore", "viennarna")},
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    with AtomicFile(run_file(options.output)) as file:
        file.write(json.dumps(record, indent=1).encode() + b"\n")
    return record


def scan_shard(
    genome: Path | str,
    options: Options,
    shard: int,
    shards: int,
    *,
    report: Report = lambda progress: None,
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Scan every ``shards``-th part of the plan, from part ``shard`` on, into a store that many may share.

    The plan is made by whoever comes first. Shards run in any order, on any number of machines, and again as often as
    one likes: what is done is not done twice, and two that do the same part write the same.

    Returns
    -------
    dict
        ``store``, ``parts`` of the plan, and ``mine``, how many of them are this shard's.

    Raises
    ------
    As `scan_genome`.
    """
    if not 0 <= shard < shards:
        raise UsageError(f"--shard {shard}/{shards}: shards of {shards} are 0 to {shards - 1}")
    with prepare(genome, options) as ready:
        mine = range(shard, ready.plan.parts, shards)
        scan_parts(ready, scorer_of(ready), mine, report=report, stop=stop)
        return {"store": ready.store.url, "parts": ready.plan.parts, "mine": len(mine)}


def plan_scan(genome: Path | str, options: Options) -> tuple[str, int]:
    """Make the plan that shards fill, where it is not there yet: its store, and how many parts it has.

    Raises
    ------
    As `scan_genome`.
    """
    with prepare(genome, options) as ready:
        return ready.store.url, ready.plan.parts


def scorer_of(ready: Prepared) -> Scorer:
    """The model of a prepared scan on the devices of this process; it is compiled when it is first used."""
    devices = local_devices(ready.options.devices)
    plan = ready.plan
    return Scorer(ready.spec, ready.graph, ready.state, rows=plan.compiled_rows, mini=plan.mini_batch, devices=devices)


def scan_parts(
    ready: Prepared,
    scorer: Scorer,
    parts: Sequence[int] | None = None,
    *,
    report: Report = lambda progress: None,
    stop: Stop | None = None,
) -> Progress:
    """Scan the parts that a store is missing, of all or of some, as often as one likes.

    Raises
    ------
    As `mirscan.scanning.loop.scan`.
    """
    options, plan = ready.options, ready.plan
    bases = plan.windows * plan.grid.step if ready.spec.unit == "hairpin" else 0
    engine = choose_engine(options.hairpins, bases=bases, threads=ready.threads, devices=options.devices)
    return scan(
        plan,
        ready.genome,
        ready.store,
        scorer,
        spec=ready.spec,
        parts=parts,
        in_flight=max(1, -(-options.batch // scorer.rows)) if options.batch else 2,
        threads=ready.threads,
        words=ready.known.words if ready.known else None,
        engine=engine,
        report=report,
        stop=stop,
    )


def _unscorable(options: Options) -> str:
    causes = ["ambiguous (see --ambiguous zero)"] if options.ambiguous == "skip" else []
    causes += ["soft-masked (see --soft-mask scan)"] if options.soft_mask == "skip" else []
    return " or ".join(causes) or "absent"
