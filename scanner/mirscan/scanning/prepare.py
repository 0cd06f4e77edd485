"""What a scan needs before its first window: options checked, genome read, model loaded, plan and store made."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirscan.calls.annotation import WEIGHTS as ANNOTATED
from mirscan.calls.precision import Calibration
from mirscan.checkpoints import weights
from mirscan.devices import backend, best_precision, compiled_rows, configure, local_devices, mini_batch, rows_for
from mirscan.errors import InputError, UsageError
from mirscan.files.kinds import STORE, WEIGHTS
from mirscan.genome import Genome, open_genome
from mirscan.genome.regions import contig_table, select_segments
from mirscan.host import cores
from mirscan.known.homology import Known, read_known
from mirscan.models import find_model, load_model
from mirscan.paths import Paths, run_file
from mirscan.scanning.options import Options, check_choice
from mirscan.scanning.results import add_outputs, calibration_of, check_contigs, outputs_of
from mirscan.scanning.tracks import track_files
from mirscan.scanning.tune import Shape, best_shape
from mirscan.store import ScoreStore
from mirscan.store.places import is_local
from mirscan.training.adapt import ADAPTED, MODEL, adapt, check_adapted, is_adapted
from mirscan.types import Contig, Grid, ModelSpec, Plan, Segment

PART_WINDOWS = {"window": 1 << 13, "hairpin": 1 << 16}
"""On a CPU, by what the model scores: a part takes some seconds to a minute."""
ACCELERATOR_PART_WINDOWS = 1 << 18
WORTH_TUNING = 5_000_000
"""Windows on both strands from which on it pays to measure first how many to compute at once."""
log = logging.getLogger("mirscan")


@dataclass(frozen=True)
class Prepared:
    """A scan that can begin."""

    options: Options
    """Those of the user, with the adapted model in them where one was made."""
    genome: Genome
    spec: ModelSpec
    graph: Any
    state: Any
    plan: Plan
    store: ScoreStore
    known: Known | None
    calibration: Calibration | None
    threads: int


@contextlib.contextmanager
def prepare(genome: Path | str, options: Options) -> Iterator[Prepared]:
    """Check, read and plan; the genome is open within the block.

    Raises
    ------
    InputError, UsageError
        With one line for the user; no output file is then left behind.
    """
    spec, calibration = check(genome, options)
    store_url = url_of(options)
    add_paths(Paths(), genome, options).look()
    configure(options.threads)
    local_devices(options.devices)  # refuses what is not there
    threads = cores(options.threads)
    known = read_known(options.known) if options.known else None

    # ------------------------------------------------------------------ the genome, read once in full
    log.info("reading %s", genome)
    spool = Path(store_url) if "://" not in store_url else spool_folder(options)
    with open_genome(genome, spool=spool, soft_mask=options.soft_mask) as opened:
        check_contigs(opened.contigs, options)
        # -------------------------------------------------------------- the model, fitted to the genome if wanted
        if options.adapt:
            folder = _adapted(opened, options, threads)
            options = dataclasses.replace(options, model=ADAPTED, weights=folder)
            spec, calibration = find_model(ADAPTED), None
        precision = options.precision or best_precision(spec)
        graph, state = load_model(spec.name, options.weights, precision=precision)

        # -------------------------------------------------------------- the plan: all that decides a score
        plan = make_plan(opened, spec, options, known.digest if known else "")
        decided = bool(options.mini_batch) or (not options.fresh and ScoreStore.holds_plan(store_url))
        if not decided and 2 * plan.windows >= WORTH_TUNING:
            shape = best_shape(spec, (graph, state), precision, local_devices(options.devices))
            plan = dataclasses.replace(plan, **shape._asdict())
        for row in _table(plan.contigs, plan):
            log.info(row)
        # what nobody asked for is as the store has it: of an earlier run, or of a shard that was first to measure
        unasked = () if options.mini_batch else Shape._fields
        store = ScoreStore.create_or_open(
            store_url, plan, fresh=options.fresh, open_fields=unasked, main=options.output
        )
        plan = dataclasses.replace(plan, **{name: getattr(store.plan, name) for name in Shape._fields})
        if known:
            store.write_known(known.names)
        yield Prepared(options, opened, spec, graph, state, plan, store, known, calibration, threads)


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
        mini_batch=options.mini_batch or mini_batch(spec, platform_name),
        compiled_rows=_compiled_rows(spec, platform_name, segments, options.mini_batch or 0),
        selection={
            "regions": list(options.regions),
            "regions_file": str(options.regions_file) if options.regions_file else None,
            "exclude": list(options.exclude),
            "min_contig": options.min_contig,
        },
        known_digest=known_digest,
        folder=(options.folder or "hairpins") if "fold" in spec.needs else "",
    )


def _compiled_rows(spec: ModelSpec, platform_name: str, segments: Sequence[Segment], mini: int) -> int:
    """As many as it pays to compute in one step; of a small genome, as many as it has windows."""
    if spec.unit == "hairpin":
        return compiled_rows(spec, platform_name, mini)
    return rows_for(spec, platform_name, 2 * sum(segment.count for segment in segments), mini)


def check(genome: Path | str, options: Options) -> tuple[ModelSpec, Calibration | None]:
    """Refuse what cannot work, before anything is read or computed; the model and the calibration of its weights.

    Raises
    ------
    InputError, UsageError
        With one line for the user.
    """
    spec = find_model(options.model)
    if spec.task != "precursor":
        raise UsageError(f"model {spec.name!r} tells mirtrons from precursors; use `mirscan score`")
    check_choice(options)
    if options.folder and "fold" not in spec.needs:
        raise UsageError(f"--fold-with: model {spec.name!r} is given no structures of windows; leave it out")
    if options.known and spec.unit != "hairpin":
        raise UsageError(f"--known: model {spec.name!r} scores windows; homology is of hairpins, see `mirscan models`")
    if options.annotate and not options.known:
        raise UsageError("--annotate: homology is to known precursors; give them with --known FASTA")
    if options.annotate and spec.name not in ANNOTATED:
        raise UsageError(f"--annotate: no weights are fitted for model {spec.name!r}, only for {', '.join(ANNOTATED)}")
    if options.adapt and spec.name != MODEL:
        raise UsageError(f"--adapt: only {MODEL!r} can be adapted, not {spec.name!r}")
    if options.adapt and (options.annotate or options.min_precision is not None):
        raise UsageError("--adapt: neither --annotate nor --min-precision is fitted to adapted scores")
    if options.output is None and (outputs_of(options) or options.rm_store or options.fresh or options.adapt):
        raise UsageError(
            "--shard scans into the store alone: give outputs to `mirscan merge`, adapt by `mirscan adapt` before, and "
            "delete an old store yourself"
        )
    if options.output is None and options.store is None:
        raise UsageError("--shard: give the store that all shards share with --store")
    if options.store == "":
        raise UsageError("--store: empty; give a folder, or leave the option out")
    if str(genome) != "-" and not Path(genome).is_file():
        raise InputError(f"{genome}: no such file; give a FASTA (plain, gzip or bgzip), a 2bit file, or - for stdin")
    if options.output is not None:
        track_files(options.output, options.per_strand)
    if options.rm_store and not is_local(url_of(options)):
        raise UsageError("--rm-store: only a local store can be removed; leave it out and remove the store yourself")
    folder = options.weights or weights.find(spec.name)
    weights.verify(folder)
    if options.adapt:
        check_adapted(adapted_folder(options.output))
    return spec, calibration_of(spec.name, weights.digest(folder), options)


def spool_folder(options: Options) -> Path:
    """Whose disk holds the unpacked genome where the store is elsewhere."""
    return options.output.parent if options.output else Path(tempfile.gettempdir())


def url_of(options: Options) -> str:
    """Where the scores are kept."""
    return options.store if options.store is not None else f"{options.output}.store"


def add_paths(paths: Paths, genome: Path | str, options: Options, role: str = "") -> Paths:
    """Tell all paths of a scan; ``role`` says for which of many genomes."""
    paths.reads(f"the genome{role}", genome).reads("--known", options.known).reads(
        "--regions-file", options.regions_file
    )
    paths.reads("--contig-alias", options.contig_alias)
    paths.reads_folder("the weights", options.weights or weights.find(options.model), WEIGHTS)
    paths.makes(f"the store{role}", url_of(options), STORE, options.output if options.store is None else None)
    add_outputs(paths, options, role)
    if options.output is not None:
        paths.writes_beside(f"the record{role}", run_file(options.output), options.output)
        if options.adapt:
            paths.makes(f"--adapt{role}", adapted_folder(options.output), WEIGHTS, options.output)
    return paths


def adapted_folder(output: Path | None) -> Path:
    """Where weights go that are adapted to the genome of an output."""
    return Path(f"{output}.adapted")


def _adapted(opened: Genome, options: Options, threads: int) -> Path:
    """Weights adapted to the genome, beside the output: those of an earlier run, or new ones."""
    source, folder = options.weights or weights.find(MODEL), adapted_folder(options.output)
    if options.fresh or not is_adapted(folder, opened, source):
        adapt(opened, source, folder, threads=threads, log=log.info)
    return folder


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
