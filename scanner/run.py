"""`mirscan genome`: plan, scan, export and call in a row."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from mirscan.adapt import ADAPTED, MODEL, adapt, is_adapted
from mirscan.annotation import WEIGHTS
from mirscan.calibrate import Calibration, find_calibration, known_per_megabase
from mirscan.call import call
from mirscan.checkpoints import weights
from mirscan.devices import Scorer, backend, best_precision, compiled_rows, configure, local_devices
from mirscan.export import check_outputs, export, track_files
from mirscan.folding import ViennaFolder
from mirscan.formats import bed, fasta, gff3
from mirscan.formats.atomic import AtomicFile
from mirscan.genome import Genome, open_genome
from mirscan.homology import read_known
from mirscan.models import find_model, load_model
from mirscan.pick import pick
from mirscan.scan import Progress, scan
from mirscan.select import contig_table, select_segments
from mirscan.store import ScoreStore, remove_store
from mirscan.types import Call, Contig, Grid, InputError, ModelSpec, Plan, Stop, UsageError

DEFAULT_MODEL = "duplex"
PART_WINDOWS = {"window": 1 << 13, "hairpin": 1 << 16}
"""On a CPU, by what the model scores: a part takes some seconds to a minute."""
ACCELERATOR_PART_WINDOWS = 1 << 18
log = logging.getLogger("mirscan")


@dataclass(frozen=True)
class Options:
    """What a user may ask of a scan; the names are the command line's."""

    output: Path
    bed: Path | None = None
    gff3: Path | None = None
    fasta: Path | None = None
    per_strand: bool = False
    model: str = DEFAULT_MODEL
    weights: Path | None = None
    adapt: bool = False
    step: int | None = None
    regions: tuple[str, ...] = ()
    regions_file: Path | None = None
    exclude: tuple[str, ...] = ()
    min_contig: int = 0
    contig_alias: Path | None = None
    soft_mask: Literal["scan", "skip"] = "scan"
    ambiguous: Literal["skip", "zero"] = "skip"
    calls_per_mb: float = 20.0
    min_score: float | None = None
    min_precision: float | None = None
    clade: str | None = None
    prevalence: float | None = None
    known: Path | None = None
    annotate: bool = False
    store: str | None = None
    rm_store: bool = False
    fresh: bool = False
    batch: int | None = None
    part_windows: int | None = None
    devices: int | None = None
    threads: int | None = None
    precision: Literal["float32", "bfloat16"] | None = None


def scan_genome(
    genome: Path | str,
    options: Options,
    *,
    report: Callable[[Progress], None] = lambda progress: None,
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
    spec, calibration = _checked(genome, options)
    configure(options.threads)
    cores = options.threads or len(os.sched_getaffinity(0))
    devices = local_devices(options.devices)
    known = read_known(options.known) if options.known else None
    store_url = options.store or f"{options.output}.store"

    # ------------------------------------------------------------------ the genome, read once in full
    log.info("reading %s", genome)
    spool = Path(store_url) if "://" not in store_url else Path(f"{options.output}.spool")
    with open_genome(genome, spool=spool, soft_mask=options.soft_mask) as opened:
        # -------------------------------------------------------------- the model, fitted to the genome if wanted
        if options.adapt:
            folder = _adapted(opened, options, cores)
            options = dataclasses.replace(options, model=ADAPTED, weights=folder)
            spec, calibration = find_model(ADAPTED), None
        precision = options.precision or best_precision(spec)
        graph, state = load_model(spec.name, options.weights, precision=precision)

        # -------------------------------------------------------------- the plan: all that decides a score
        plan = make_plan(opened, spec, options, known.digest if known else "")
        for row in _table(plan.contigs, plan):
            log.info(row)

        # -------------------------------------------------------------- scan what the store is missing
        store = ScoreStore.create_or_open(store_url, plan, fresh=options.fresh)
        if known:
            store.write_known(known.names)
        scorer = Scorer(spec, graph, state, rows=plan.compiled_rows, devices=devices)
        in_flight = max(1, -(-options.batch // scorer.rows)) if options.batch else 2
        progress = scan(
            plan, opened, store, scorer, spec=spec, in_flight=in_flight, threads=cores,
            words=known.words if known else None, report=report, stop=stop,
        )  # fmt: skip
        store.finish()
        record = store.summary(verify=False)
        if not record["scored"]:
            if "://" not in store_url:
                remove_store(store_url)  # it holds nothing, and would stand in the way of other options
            raise InputError(f"{genome}: no window could be scored: each holds a base that is {_unscorable(options)}")

        # -------------------------------------------------------------- tracks and calls
        log.info("writing %s", options.output)
        written = export(store, options.output, per_strand=options.per_strand)
        calls: list[Call] = []
        if options.bed or options.gff3 or options.fasta:
            calls = find_calls(store, opened, options, calibration)
            write_calls(calls, plan.contigs, options.bed, options.gff3, options.fasta)

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
        "devices": [f"{d.platform} {d.device_kind}" for d in devices],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {name: version(name) for name in ("jax", "flax", "numpy", "numba", "tensorstore", "viennarna")},
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    with AtomicFile(run_file(options.output)) as file:
        file.write(json.dumps(record, indent=1).encode() + b"\n")
    if options.rm_store:
        remove_store(store_url)
    return record


def make_plan(opened: Genome, spec: ModelSpec, options: Options, known_digest: str = "") -> Plan:
    """The plan of a scan: which windows, by which weights, in which shape and precision."""
    grid = Grid(spec.window, options.step or spec.step)
    segments = select_segments(
        opened.contigs,
        grid,
        regions=options.regions,
        regions_file=options.regions_file,
        exclude=options.exclude,
        min_contig=options.min_contig,
        alias_file=options.contig_alias,
    )
    if not segments:
        raise InputError(f"{opened.path}: no window of {grid.window} bases is left to scan")
    platform_name = backend()
    part_windows = PART_WINDOWS[spec.unit] if platform_name == "cpu" else ACCELERATOR_PART_WINDOWS
    return Plan(
        genome=str(opened.path),
        genome_digest=opened.digest,
        contigs=tuple(opened.contigs),
        segments=segments,
        grid=grid,
        model=spec.name,
        weights_digest=weights.digest(options.weights or weights.find(spec.name)),
        part_windows=options.part_windows or part_windows,
        ambiguous=options.ambiguous,
        soft_mask=options.soft_mask,
        backend=platform_name,
        precision=options.precision or best_precision(spec),
        compiled_rows=compiled_rows(spec, platform_name),
        selection={
            "regions": list(options.regions),
            "regions_file": str(options.regions_file) if options.regions_file else None,
            "exclude": list(options.exclude),
            "min_contig": options.min_contig,
        },
        known_digest=known_digest,
    )


def find_calls(
    store: ScoreStore, opened: Genome | None, options: Options, calibration: Calibration | None = None
) -> list[Call]:
    """Candidate loci of a finished scan, those of a window model refined by ViennaRNA if the genome is at hand."""
    prevalence = known_per_megabase(options.clade, options.prevalence)
    min_score = options.min_score
    if calibration and options.min_precision is not None:
        min_score = calibration.least_score(options.min_precision, prevalence)
        if min_score > 1:
            most = calibration.precision(1.0, prevalence)[0][0]
            log.warning("no call: at most a precision of %.2g is estimated for any score", most)
    if find_model(store.plan.model).unit == "hairpin":
        calls = pick(store, opened, calls_per_mb=options.calls_per_mb, min_score=min_score, annotate=options.annotate)
    elif options.annotate:
        raise UsageError(f"--annotate: model {store.plan.model!r} scores windows; homology is of hairpins")
    else:
        with ViennaFolder(1) as folder:
            refine = folder if opened is not None else None
            calls = call(store, opened, calls_per_mb=options.calls_per_mb, min_score=min_score, folder=refine)
    if calibration is None:
        return calls
    given = "" if options.clade or options.prevalence else ", as in animals; see --clade and --prevalence"
    log.info("precision of calls is estimated for %g known hairpins per Mb%s", prevalence, given)
    return calibration.annotate(calls, prevalence)


def calibration_of(model: str, weights_digest: str, options: Options) -> Calibration | None:
    """The calibration of the weights that gave the scores, None where they have none.

    Raises
    ------
    UsageError
        If there is none and a precision is asked for.
    InputError
        If it cannot be read.
    """
    folder = options.weights or (weights.find(model) if model in weights.registry() else None)
    found = find_calibration(folder, weights_digest) if folder else None
    if found is None and options.min_precision is not None:
        raise UsageError(f"--min-precision: these weights of {model!r} have no calibration; use --min-score")
    return found


def check_choice(options: Options) -> None:
    """Refuse what no calls can be chosen by.

    Raises
    ------
    UsageError
        Naming the option.
    """
    known_per_megabase(options.clade, options.prevalence)
    if options.calls_per_mb < 0:
        raise UsageError(f"--calls-per-mb {options.calls_per_mb}: must not be negative")
    if options.min_precision is not None:
        if not 0 < options.min_precision < 1:
            raise UsageError(f"--min-precision {options.min_precision:g}: must be above 0 and below 1")
        if options.min_score is not None:
            raise UsageError("--min-precision and --min-score: give one of them")
        if options.annotate:
            raise UsageError("--min-precision and --annotate: precision is estimated from the score alone")


def write_calls(
    calls: Sequence[Call],
    contigs: Sequence[Contig],
    bed_path: Path | None,
    gff3_path: Path | None,
    fasta_path: Path | None,
) -> None:
    """Write calls in each format that has a path."""
    if bed_path:
        bed.write_calls(bed_path, calls)
    if gff3_path:
        gff3.write_calls(gff3_path, calls, [(c.name, c.length) for c in contigs])
    if fasta_path:
        fasta.write_fasta(fasta_path, calls)


def run_file(output: Path) -> Path:
    """Where the record of a run goes: ``scores.run.json`` beside ``scores.bw``."""
    stem = output.name.removesuffix(".gz")
    return output.with_name(stem.rsplit(".", 1)[0] + ".run.json")


def _checked(genome: Path | str, options: Options) -> tuple[ModelSpec, Calibration | None]:
    """Refuse what cannot work, before anything is read or computed; the model and the calibration of its weights."""
    spec = find_model(options.model)
    if spec.task != "precursor":
        raise UsageError(f"model {spec.name!r} tells mirtrons from precursors; use `mirscan score`")
    check_choice(options)
    if options.known and spec.unit != "hairpin":
        raise UsageError(f"--known: model {spec.name!r} scores windows; homology is of hairpins, see `mirscan models`")
    if options.annotate and not options.known:
        raise UsageError("--annotate: homology is to known precursors; give them with --known FASTA")
    if options.annotate and spec.name not in WEIGHTS:
        raise UsageError(f"--annotate: no weights are fitted for model {spec.name!r}, only for {', '.join(WEIGHTS)}")
    if options.adapt and spec.name != MODEL:
        raise UsageError(f"--adapt: only {MODEL!r} can be adapted, not {spec.name!r}")
    if options.adapt and (options.annotate or options.min_precision is not None):
        raise UsageError("--adapt: neither --annotate nor --min-precision is fitted to adapted scores")
    if options.min_contig < 0:
        raise UsageError(f"--min-contig {options.min_contig}: must not be negative")
    for name in ("batch", "part_windows", "threads", "step"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} {value}: must be at least 1")
    if str(genome) != "-" and not Path(genome).is_file():
        raise InputError(f"{genome}: no such file; give a FASTA (plain, gzip or bgzip), a 2bit file, or - for stdin")
    outputs = [*track_files(options.output, options.per_strand), run_file(options.output)]
    outputs += [path for path in (options.bed, options.gff3, options.fasta) if path]
    inputs = [str(path) for path in (genome, options.regions_file, options.contig_alias, options.known) if path]
    check_outputs(outputs, inputs=inputs)
    folder = options.weights or weights.find(spec.name)
    weights.verify(folder)
    return spec, calibration_of(spec.name, weights.digest(folder), options)


def _adapted(opened: Genome, options: Options, threads: int) -> Path:
    """Weights adapted to the genome, beside the output: those of an earlier run, or new ones."""
    source, folder = options.weights or weights.find(MODEL), Path(f"{options.output}.adapted")
    if options.fresh or not is_adapted(folder, opened, source):
        adapt(opened, source, folder, threads=threads, log=log.info)
    return folder


def _unscorable(options: Options) -> str:
    causes = ["ambiguous (see --ambiguous zero)"] if options.ambiguous == "skip" else []
    causes += ["soft-masked (see --soft-mask scan)"] if options.soft_mask == "skip" else []
    return " or ".join(causes) or "absent"


def _table(contigs: Sequence[Contig], plan: Plan, longest: int = 30) -> list[str]:
    """The contig table for the log: the first rows, and what the rest add up to."""
    rows = contig_table(contigs, plan.segments, plan.grid)
    lines = [f"{'contig':<24}{'bases':>14}{'ambiguous':>14}{'windows':>12}"]
    for row in rows[:longest]:
        line = f"{row.name:<24}{row.length:>14,}{row.ambiguous:>14,}{row.windows:>12,}"
        lines.append(line + (f"  {row.skipped}" if row.skipped else ""))
    if len(rows) > longest:
        lines.append(f"... and {len(rows) - longest:,} more contigs")
    skipped = sum(1 for row in rows if not row.windows)
    lines.append(f"{plan.windows:,} windows on each strand of {len(rows) - skipped:,} contigs; {skipped:,} skipped")
    return lines
