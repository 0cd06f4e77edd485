"""The command line: each command parses, calls one function below, prints. Nothing heavy is imported before it."""

from __future__ import annotations

import errno
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mirscan.errors import IncompleteError, InputError, ModelError, UsageError
from mirscan.terminal import progress, ranges, stoppable

app = typer.Typer(
    name="mirscan",
    help="Reads a genome and says where the microRNA precursors are.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # panels and colours cost more processor time than all else that --help does: a pipe or a log gets plain text
    rich_markup_mode="rich" if sys.stdout is not None and sys.stdout.isatty() else None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
log = logging.getLogger("mirscan")

Output = Annotated[Path, typer.Option("-o", "--output", help="Track: .bw, .bedgraph[.gz] or .bed[.gz]")]
Bed = Annotated[Path | None, typer.Option(help="Calls as BED (column 7: the score)")]
Gff3 = Annotated[Path | None, typer.Option(help="Calls as GFF3")]
CallsFasta = Annotated[Path | None, typer.Option("--fasta", help="Sequences of the calls")]
PerStrand = Annotated[bool, typer.Option("--per-strand", help="Also x.plus.bw and x.minus.bw")]
Calls = Annotated[float, typer.Option("--calls-per-mb", help="Budget of calls per scanned megabase")]
MinScore = Annotated[float | None, typer.Option(help="Call every locus of at least this score instead")]
MinPrecision = Annotated[float | None, typer.Option(help="Call every locus of at least this estimated precision")]
Clade = Annotated[str | None, typer.Option(help="animal (default), nematode, insect, vertebrate, human or virus")]
Prevalence = Annotated[float | None, typer.Option(help="Known hairpins per Mb to expect, instead of --clade")]
Annotate = Annotated[bool, typer.Option("--annotate", help="Rank calls by score and homology combined")]
Model = Annotated[str, typer.Option(help="A model of `mirscan models`")]
Weights = Annotated[Path | None, typer.Option(help="Folder of other weights than the shipped")]
Step = Annotated[int | None, typer.Option(help="Bases between windows (default: the model's, 20)")]
Regions = Annotated[list[str] | None, typer.Option(help="chr1 or chr1:1,000-2,000 (1-based); repeatable")]
RegionsFile = Annotated[Path | None, typer.Option(help="BED of regions")]
Exclude = Annotated[list[str] | None, typer.Option(help="Contigs to leave out, globs like '*_alt'")]
MinContig = Annotated[int, typer.Option(help="Leave out contigs shorter than this")]
ContigAlias = Annotated[Path | None, typer.Option(help="Table of name<TAB>alias for --regions")]
SoftMask = Annotated[str, typer.Option(help="scan or skip lower-case bases")]
Ambiguous = Annotated[str, typer.Option(help="skip windows with N, or zero the N and score them")]
Folder = Annotated[str | None, typer.Option(help="What folds windows, where a model needs it: hairpins or viennarna")]
Known = Annotated[Path | None, typer.Option(help="FASTA of known precursors: adds homology to calls")]
MiniBatch = Annotated[int | None, typer.Option(help="Windows computed at once on a device (default: measured)")]
HairpinEngine = Annotated[
    str | None, typer.Option("--hairpins", help="What computes stem-loops: numba (cores) or jax (devices)")
]
RmStore = Annotated[bool, typer.Option("--rm-store", help="Remove the store when all is written")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start over instead of resuming")]
Batch = Annotated[int | None, typer.Option("--batch", help="Windows given to the devices at a time")]
PartWindows = Annotated[int | None, typer.Option(help="Windows of one part, the unit of resuming")]
Threads = Annotated[int | None, typer.Option("-t", "--threads", help="CPU cores to use (default: all)")]
Precision = Annotated[str | None, typer.Option(help="float32 or bfloat16 (default: by device)")]
Devices = Annotated[int | None, typer.Option(help="Use at most so many devices")]


@app.command()
def genome(
    fasta: Annotated[str, typer.Argument(metavar="FASTA", help="FASTA (plain, gzip, bgzip), 2bit, or - for stdin")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Track: .bw, .bedgraph[.gz] or .bed[.gz]; none with --shard")
    ] = None,
    bed: Bed = None,
    gff3: Gff3 = None,
    calls_fasta: CallsFasta = None,
    per_strand: PerStrand = False,
    model: Model = "duplex",
    weights: Weights = None,
    adapt: Annotated[bool, typer.Option("--adapt", help="First fit the model's last layers to this genome")] = False,
    folder: Folder = None,
    step: Step = None,
    regions: Regions = None,
    regions_file: RegionsFile = None,
    exclude: Exclude = None,
    min_contig: MinContig = 0,
    contig_alias: ContigAlias = None,
    soft_mask: SoftMask = "scan",
    ambiguous: Ambiguous = "skip",
    calls_per_mb: Calls = 20.0,
    min_score: MinScore = None,
    min_precision: MinPrecision = None,
    clade: Clade = None,
    prevalence: Prevalence = None,
    known: Known = None,
    annotate: Annotate = False,
    store: Annotated[str | None, typer.Option(help="Where scores are kept (default: OUTPUT.store)")] = None,
    rm_store: RmStore = False,
    fresh: Fresh = False,
    batch: Batch = None,
    mini_batch: MiniBatch = None,
    part_windows: PartWindows = None,
    devices: Devices = None,
    threads: Threads = None,
    precision: Precision = None,
    hairpins: HairpinEngine = None,
    shard: Annotated[str | None, typer.Option(help="I/N: scan the I-th of N shards (from 0) into --store")] = None,
) -> None:
    """Scan a genome: a score for every window of both strands, and the loci worth looking at.

    The same command resumes a run that was stopped. With --shard many machines share a scan; `mirscan merge` ends it.
    """
    _check_words(soft_mask, ambiguous, precision, folder)
    _one_of("hairpins", hairpins, (None, "numba", "jax"))
    from mirscan.paths import run_file
    from mirscan.scanning.options import Options
    from mirscan.scanning.run import scan_genome, scan_shard

    options = Options(
        output=output, bed=bed, gff3=gff3, fasta=calls_fasta, per_strand=per_strand, model=model, weights=weights,
        adapt=adapt, folder=folder, step=step, regions=tuple(regions or ()), regions_file=regions_file,
        exclude=tuple(exclude or ()), min_contig=min_contig, contig_alias=contig_alias, soft_mask=soft_mask,  # type: ignore[arg-type]
        ambiguous=ambiguous, calls_per_mb=calls_per_mb, min_score=min_score, store=store,  # type: ignore[arg-type]
        min_precision=min_precision, clade=clade, prevalence=prevalence, known=known, annotate=annotate,
        rm_store=rm_store, fresh=fresh, batch=batch, mini_batch=mini_batch, part_windows=part_windows,
        devices=devices, threads=threads, precision=precision, hairpins=hairpins,  # type: ignore[arg-type]
    )  # fmt: skip
    if shard is not None:
        number, count = _shard(shard, output)
        with stoppable() as stop, progress() as report:
            done = scan_shard(fasta, options, number, count, report=report, stop=stop)
        log.info("%s: shard %s done, %s of %s parts", done["store"], shard, done["mine"], done["parts"])
        return
    if output is None:
        raise UsageError("give -o FILE for the track, or --shard I/N and --store for a part of the work")
    with stoppable() as stop, progress() as report:
        record = scan_genome(fasta, options, report=report, stop=stop)
    log.info(
        "%s: %s of %s windows scored, %s calls, %.0f windows/s; the record is in %s",
        output, f"{record['scored']:,}", f"{2 * record['windows']:,}", f"{record['calls']:,}",
        record["windows_per_second"], run_file(output),
    )  # fmt: skip


@app.command()
def plan(
    fasta: Annotated[str, typer.Argument(metavar="FASTA", help="FASTA (plain, gzip, bgzip) or 2bit")],
    store: Annotated[str, typer.Option(help="Where the plan and later the scores go")],
    model: Model = "duplex",
    weights: Weights = None,
    folder: Folder = None,
    step: Step = None,
    regions: Regions = None,
    regions_file: RegionsFile = None,
    exclude: Exclude = None,
    min_contig: MinContig = 0,
    contig_alias: ContigAlias = None,
    soft_mask: SoftMask = "scan",
    ambiguous: Ambiguous = "skip",
    known: Known = None,
    mini_batch: MiniBatch = None,
    part_windows: PartWindows = None,
    threads: Threads = None,
    precision: Precision = None,
) -> None:
    """Fix what a scan computes and in how many parts, for shards to fill; they do it themselves where it is missing."""
    _check_words(soft_mask, ambiguous, precision, folder)
    from mirscan.scanning.options import Options
    from mirscan.scanning.run import plan_scan

    options = Options(
        model=model, weights=weights, folder=folder, step=step, regions=tuple(regions or ()),
        regions_file=regions_file, exclude=tuple(exclude or ()), min_contig=min_contig, contig_alias=contig_alias,
        soft_mask=soft_mask, ambiguous=ambiguous, known=known, store=store,  # type: ignore[arg-type]
        mini_batch=mini_batch, part_windows=part_windows, threads=threads, precision=precision,  # type: ignore[arg-type]
    )  # fmt: skip
    url, parts = plan_scan(fasta, options)
    typer.echo(f"{url}\t{parts} parts")


@app.command()
def batch(
    fasta: Annotated[Path | None, typer.Argument(metavar="[GENOME]", help="FASTA or 2bit; or give --manifest")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Track: .bw, .bedgraph[.gz] or .bed[.gz]")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Table of many genomes: genome, output [bed, gff3, fasta, store]")
    ] = None,
    bed: Bed = None,
    gff3: Gff3 = None,
    calls_fasta: CallsFasta = None,
    per_strand: PerStrand = False,
    model: Model = "duplex",
    weights: Weights = None,
    folder: Folder = None,
    step: Step = None,
    regions: Regions = None,
    regions_file: RegionsFile = None,
    exclude: Exclude = None,
    min_contig: MinContig = 0,
    contig_alias: ContigAlias = None,
    soft_mask: SoftMask = "scan",
    ambiguous: Ambiguous = "skip",
    calls_per_mb: Calls = 20.0,
    min_score: MinScore = None,
    min_precision: MinPrecision = None,
    clade: Clade = None,
    prevalence: Prevalence = None,
    known: Known = None,
    annotate: Annotate = False,
    store: Annotated[
        str | None, typer.Option(help="Where scores are kept, seen by all nodes (default: OUTPUT.store)")
    ] = None,
    rm_store: RmStore = False,
    fresh: Fresh = False,
    batch_windows: Batch = None,
    mini_batch: MiniBatch = None,
    part_windows: PartWindows = None,
    precision: Precision = None,
    engine: Annotated[str, typer.Option(help="What hands out the parts: ray")] = "ray",
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster, or auto (default: $RAY_ADDRESS, else this machine alone)")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="At most so many (default: one a GPU, TPU host, or node without either)")
    ] = None,
    threads: Annotated[int | None, typer.Option("-t", "--threads", help="CPU cores of each worker")] = None,
    attempts: Annotated[int, typer.Option(help="How often a part is tried before it is given up")] = 3,
    timeout: Annotated[float | None, typer.Option(help="Seconds that one part may take (default: no limit)")] = None,
) -> None:
    """Scan one genome or many on every accelerator of a Ray cluster; the files are those of `mirscan genome`.

    Genomes, weights and stores must be at the same place for all nodes. The same command resumes.
    """
    _one_of("engine", engine, ("ray",))
    _check_words(soft_mask, ambiguous, precision, folder)
    from mirscan.cluster.driver import scan_batch
    from mirscan.cluster.runs import runs_of
    from mirscan.scanning.options import Options

    options = Options(
        output=output, bed=bed, gff3=gff3, fasta=calls_fasta, per_strand=per_strand, model=model, weights=weights,
        folder=folder, step=step, regions=tuple(regions or ()), regions_file=regions_file,
        exclude=tuple(exclude or ()), min_contig=min_contig, contig_alias=contig_alias, soft_mask=soft_mask,  # type: ignore[arg-type]
        ambiguous=ambiguous, calls_per_mb=calls_per_mb, min_score=min_score, store=store,  # type: ignore[arg-type]
        min_precision=min_precision, clade=clade, prevalence=prevalence, known=known, annotate=annotate,
        rm_store=rm_store, fresh=fresh, batch=batch_windows, mini_batch=mini_batch, part_windows=part_windows,
        precision=precision,  # type: ignore[arg-type]
    )  # fmt: skip
    with stoppable() as stop, progress() as report:
        records = scan_batch(
            runs_of(fasta, manifest, options), manifest=manifest, address=address, workers=workers, threads=threads,
            attempts=attempts, timeout=timeout, report=report, stop=stop,
        )  # fmt: skip
    for record in records:
        log.info("%s: %s windows scored, %s calls", record["outputs"][0], f"{record['scored']:,}", record["calls"])


@app.command()
def adapt(
    fasta: Annotated[str, typer.Argument(metavar="GENOME", help="FASTA (plain, gzip, bgzip), 2bit, or - for stdin")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the weights")],
    weights: Annotated[Path | None, typer.Option(help="Folder of other weights of duplex than the shipped")] = None,
    seed: Annotated[int, typer.Option(help="Draws the sample of the genome and the order of learning")] = 0,
    threads: Threads = None,
) -> None:
    """Fit the last layers of duplex to a genome: a new clade's background is learned without any label.

    Then: mirscan genome GENOME --model duplex-adapted --weights OUTPUT -o scores.bw
    """
    from mirscan.training.adapt import adapt_file

    found = adapt_file(fasta, output, source=weights, seed=seed, threads=threads, log=log.info)
    log.info("%s: %s", output, "adapted" if found.used else "the shipped layers, which were better")


@app.command()
def fold(
    fasta: Annotated[str, typer.Argument(metavar="GENOME", help="FASTA (plain, gzip, bgzip), 2bit, or - for stdin")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Energies: .bw, .bedgraph[.gz]; hairpins: .bed[.gz], .gff3[.gz]")
    ],
    span: Annotated[int, typer.Option(help="Longest stem-loop in bases, 40 to 200")] = 120,
    per_strand: PerStrand = False,
    regions: Regions = None,
    regions_file: RegionsFile = None,
    exclude: Exclude = None,
    min_contig: MinContig = 0,
    threads: Threads = None,
    hairpins: HairpinEngine = None,
) -> None:
    """Compute the stem-loops of a genome: their energy over each base, or a list of the hairpins worth a look."""
    _one_of("hairpins", hairpins, (None, "numba", "jax"))
    from mirscan.commands.fold import fold_genome

    written = fold_genome(
        fasta, output, span=span, per_strand=per_strand, regions=regions or (), regions_file=regions_file,
        exclude=exclude or (), min_contig=min_contig, threads=threads, engine=hairpins,  # type: ignore[arg-type]
    )  # fmt: skip
    for path in written:
        log.info("wrote %s", path)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the example; made if absent")] = Path("demo"),
    model: Model = "duplex",
    weights: Weights = None,
) -> None:
    """Make a small example genome with known precursors in it, scan it, and say what was found."""
    from mirscan.commands.demo import demonstrate

    with stoppable() as stop, progress() as report:
        findings = demonstrate(out, model=model, weights=weights, report=report, stop=stop)
    typer.echo(findings)


def _results(
    store: Annotated[str, typer.Argument(help="Store of a scan, whole or of all shards")],
    output: Output,
    genome: Annotated[Path | None, typer.Option(help="The genome: calls then have sequences and structures")] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder of the weights, if not the shipped ones")] = None,
    per_strand: PerStrand = False,
    bed: Bed = None,
    gff3: Gff3 = None,
    calls_fasta: CallsFasta = None,
    calls_per_mb: Calls = 20.0,
    min_score: MinScore = None,
    min_precision: MinPrecision = None,
    clade: Clade = None,
    prevalence: Prevalence = None,
    annotate: Annotate = False,
) -> None:
    from mirscan.scanning.options import Options
    from mirscan.scanning.results import merge

    options = Options(
        output, bed=bed, gff3=gff3, fasta=calls_fasta, per_strand=per_strand, weights=weights,
        calls_per_mb=calls_per_mb, min_score=min_score, min_precision=min_precision, clade=clade,
        prevalence=prevalence, annotate=annotate,
    )  # fmt: skip
    for path in merge(store, options, genome):
        log.info("wrote %s", path)


app.command("export", help="Write tracks and calls from a store; nothing is scanned again.")(_results)
app.command("merge", help="Join what shards have scanned: tracks and calls, as one run would have written them.")(
    _results
)


@app.command()
def info(store: Annotated[str, typer.Argument(help="Store of a scan")]) -> None:
    """Say what a store holds, what is done and what is missing."""
    from mirscan.store import ScoreStore

    for key, value in ScoreStore.open(store).summary().items():
        shown = ranges(value) if key == "parts_missing" else f"{value:,}" if isinstance(value, int) else value
        typer.echo(f"{key.replace('_', ' '):<16} {shown}")


@app.command()
def evaluate(
    calls: Annotated[str, typer.Argument(help="Calls (BED), or a store, which also tells how deep they rank")],
    truth: Annotated[Path, typer.Argument(help="GFF3 of the known hairpins")],
    megabases: Annotated[float | None, typer.Option(help="Scanned sequence; needed with a BED")] = None,
    by: Annotated[str, typer.Option(help="What ranks a store's hairpins: score, homology or annotation")] = "score",
    split: Annotated[str | None, typer.Option(help="Also by the values of this attribute of the GFF3")] = None,
    curve: Annotated[Path | None, typer.Option(help="Also write the precision-recall curve (TSV)")] = None,
) -> None:
    """Judge calls by known hairpins: average precision, F1, recall by calls per megabase."""
    from mirscan.commands.evaluate import judge, table

    _one_of("by", by, ("score", "homology", "annotation"))
    figures = judge(calls, truth, megabases, by, split, curve)
    for line in table(figures):
        typer.echo(line)
    typer.echo(f"antisense of a known hairpin among the best 5 calls a megabase: {figures['all'].antisense}", err=True)


@app.command()
def score(
    model: Annotated[str, typer.Argument(help="A model of `mirscan models`")],
    fasta: Annotated[Path, typer.Argument(metavar="FASTA", help="Candidate precursors (plain or gzip)")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Table: name, bases, score, energy, structure")],
    weights: Weights = None,
    folder: Annotated[str, typer.Option(help="What folds them, where a model needs it: viennarna or hairpins")] = (
        "viennarna"
    ),
    devices: Devices = None,
    threads: Threads = None,
    precision: Precision = None,
) -> None:
    """Score candidate precursors, one by one."""
    _one_of("folder", folder, ("viennarna", "hairpins"))
    _one_of("precision", precision, (None, "float32", "bfloat16"))
    from mirscan.commands.score import score_fasta

    count = score_fasta(
        model, fasta, output, weights=weights, folder=folder, precision=precision, devices=devices, threads=threads
    )
    log.info("%s: %s sequences scored by %s", output, f"{count:,}", model)


@app.command()
def models() -> None:
    """List the models, their weights and the figures they reached."""
    from mirscan.checkpoints.weights import registry
    from mirscan.models import MODELS

    shipped = registry()
    for name, spec in MODELS.items():
        typer.echo(f"{name}\n    {spec.summary}\n    {spec.reference}")
        if name in shipped:
            for figure, value in shipped[name].get("figures", {}).items():
                typer.echo(f"    {figure.replace('_', ' ')}: {value}")
        else:
            typer.echo("    no weights shipped: train it, then --weights FOLDER")


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="A model of `mirscan models`")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the training; an unfinished one resumes")],
    data: Annotated[Path | None, typer.Option(help="Table with columns name, sequence, label (1 or 0)")] = None,
    folder: Annotated[str, typer.Option(help="What folds the sequences: viennarna or hairpins")] = "viennarna",
    seed: Annotated[int, typer.Option(min=0, help="Of the random weights and the order of examples, with --data")] = 0,
    stage: Annotated[
        str | None, typer.Option(help="mire2e: structure, energy or classifier; weights joins the three")
    ] = None,
    precursors: Annotated[Path | None, typer.Option(help="FASTA of known precursors, named as in miRBase")] = None,
    genome: Annotated[list[Path] | None, typer.Option(help="Background FASTA; X.gff3 beside X.fa.gz is used")] = None,
    validation: Annotated[list[str] | None, typer.Option(help="Glob over STEM:CONTIG to hold out")] = None,
    test: Annotated[list[str] | None, typer.Option(help="Glob over STEM:CONTIG to keep unseen")] = None,
    pseudo: Annotated[Path | None, typer.Option(help="FASTA of pseudo hairpins")] = None,
    folded: Annotated[int, typer.Option(help="Background windows to fold")] = 40_000,
    negatives: Annotated[int, typer.Option(help="Background windows for the classifier")] = 60_000,
    start: Annotated[Path | None, typer.Option(help="Checkpoint to begin from instead of random weights")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's")] = None,
    threads: Threads = None,
) -> None:
    """Train a published model on labelled sequences (--data), or mire2e on a genome, stage after stage.

    mire2e: structure, energy, classifier, then `--stage weights`.
    """
    from dataclasses import replace

    _one_of("folder", folder, ("viennarna", "hairpins"))
    if data is not None:
        if stage or precursors or genome:
            raise UsageError("--data: a model learns from a table or, in stages, from genomes; give one")
        from mirscan.training.from_table import train_file

        written = train_file(
            model, data, output, folder=folder, epochs=epochs, seed=seed, start=start, threads=threads, log=log.info
        )
        typer.echo(written)
        return

    from mirscan.devices import configure
    from mirscan.training.mire2e import RECIPES, STAGES, assemble, train_stage
    from mirscan.training.mire2e_windows import Sources

    if stage is None:
        raise UsageError("give --data TABLE, or for mire2e --stage")
    _one_of("stage", stage, (*STAGES, "weights"))
    configure(threads)
    if stage == "weights":
        typer.echo(assemble(model, output, {}))
        return
    if precursors is None or not genome:
        raise UsageError("training needs --precursors and at least one --genome")
    beside = [(path, path.with_name(path.name.split(".fa")[0] + ".gff3")) for path in genome]
    sources = Sources(
        precursors=precursors,
        genomes=tuple((fasta, gff3 if gff3.is_file() else None) for fasta, gff3 in beside),
        held_out=(*((g, "validation") for g in validation or ()), *((g, "test") for g in test or ())),
        pseudo=pseudo,
    )
    recipe = RECIPES[stage] if epochs is None else replace(RECIPES[stage], epochs=epochs)
    cores = threads or len(os.sched_getaffinity(0))
    train_stage(
        model,
        stage,
        sources,
        output,
        recipe=recipe,
        start=start,
        folded=folded,
        negatives=negatives,
        processes=cores,
        log=log.info,
    )


@app.command()
def bench(
    model: Annotated[
        list[str] | None, typer.Option(help="MODEL[:PRECISION[:MINI_BATCH]] (default: all shipped); repeatable")
    ] = None,
    compare: Annotated[tuple[str, str] | None, typer.Option(help="Two such settings, timed in turns")] = None,
    rounds: Annotated[int | None, typer.Option(help="Measurements; the median is printed (3; 7 to compare)")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures here")] = None,
    precision: Precision = None,
    devices: Devices = None,
    threads: Threads = None,
) -> None:
    """Measure how fast models scan here, beside this machine's peaks and RNA.fold in the same run."""
    _one_of("precision", precision, (None, "float32", "bfloat16"))
    if rounds is not None and rounds < 1:
        raise UsageError(f"--rounds {rounds}: must be at least 1")
    from mirscan.commands.bench import bench as measure
    from mirscan.commands.bench import compare as measure_both
    from mirscan.commands.bench import keep, table
    from mirscan.paths import Paths

    Paths().writes("--json", json_file).look()
    if compare:
        result = measure_both(*compare, rounds=rounds or 7, threads=threads, devices=devices, precision=precision)
    else:
        result = measure(model or (), rounds=rounds or 3, threads=threads, devices=devices, precision=precision)
    typer.echo(table(result))
    if json_file:
        keep(result, json_file)


@app.command()
def doctor(
    model: Annotated[list[str] | None, typer.Option(help="Models to check (default: all shipped); repeatable")] = None,
    devices: Annotated[int | None, typer.Option(help="Look at no more devices than this")] = None,
    threads: Threads = None,
) -> None:
    """Check this machine: versions, devices, and whether the shipped models score here as they should."""
    from mirscan.commands.doctor import examine, versions
    from mirscan.devices import configure

    configure(threads)
    for name, number in versions().items():
        typer.echo(f"{name:<20}{number}")
    failed = 0
    for check in examine(model or (), devices):
        verdict = "ok" if check.passed else "WRONG"
        failed += not check.passed
        off = f"off by {check.difference:.2g}, {check.allowed:g} allowed"
        typer.echo(f"{verdict:<6}{check.what:<32}{check.where:<24}{off}")
    if failed:
        raise ModelError(f"{failed} checks failed: do not trust scores of this machine; see the lines marked WRONG")


def main() -> None:
    """Entry point: one clear line and the documented exit code for whatever a user can cause."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    try:
        with stoppable():
            app()
    except (ModelError, UsageError, InputError, IncompleteError) as error:
        code = {ModelError: 1, UsageError: 2, InputError: 3, IncompleteError: 4}[type(error)]
        _quit(code, str(error))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _quit(4, f"disk full{f' at {error.filename}' if error.filename else ''}: free space, run the command again")
        if error.filename is None:
            raise
        _quit(3, f"{error.filename}: {error.strerror}")


def _quit(code: int, message: str) -> None:
    log.error("%s", " ".join(message.split()))
    sys.exit(code)


def _one_of(option: str, value: str | None, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"--{option} {value}: choose {', '.join(filter(None, allowed))}")


def _check_words(soft_mask: str, ambiguous: str, precision: str | None, folder: str | None) -> None:
    _one_of("folder", folder, (None, "hairpins", "viennarna"))
    _one_of("soft-mask", soft_mask, ("scan", "skip"))
    _one_of("ambiguous", ambiguous, ("skip", "zero"))
    _one_of("precision", precision, (None, "float32", "bfloat16"))


def _shard(text: str, output: Path | None) -> tuple[int, int]:
    """``I/N`` as two numbers."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(count) > 0):
        raise UsageError(f"--shard {text}: give I/N, such as 0/8 for the first of eight")
    if output is not None:
        raise UsageError("--shard scans into the store alone: -o is for `mirscan merge`")
    return int(number), int(count)
