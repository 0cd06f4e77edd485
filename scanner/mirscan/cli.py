"""The command line: each command parses, calls one function below, prints. Nothing heavy is imported before it."""

from __future__ import annotations

import dataclasses
import errno
import logging
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from mirscan.errors import IncompleteError, InputError, ModelError, UsageError
from mirscan.host import cores
from mirscan.scanning.options import DEFAULT_MODEL, INPUT, OUTPUT, STORE, Options
from mirscan.takes import takes
from mirscan.terminal import progress, ranges, stoppable

app = typer.Typer(
    name="mirscan",
    help="Reads a genome and says where the microRNA precursors are.",
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    # panels and colours cost more processor time than all else that --help does: a pipe or a log gets plain text
    rich_markup_mode="rich" if sys.stdout is not None and sys.stdout.isatty() else None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
log = logging.getLogger("mirscan")


@app.callback()
def common(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and end")] = False,
) -> None:
    """Reads a genome and says where the microRNA precursors are."""
    if show_version:
        typer.echo(f"mirscan {version('mirscan')}")
        raise typer.Exit


Genome = Annotated[str, typer.Argument(metavar="GENOME", help="FASTA (plain, gzip, bgzip), 2bit, or - for stdin")]
SCAN = ("model", "weights", "known", "folder", "step", "regions", "regions_file", "exclude", "min_contig",
        "contig_alias", "soft_mask", "ambiguous", "mini_batch", "part_windows", "precision")  # fmt: skip
"""What decides a score, and in which parts it is computed."""
CALLS = ("calls_per_mb", "min_score", "min_precision", "clade", "prevalence", "annotate")
OUTPUTS = ("bed", "gff3", "fasta", "per_strand")


@app.command()
@takes("output", *OUTPUTS, *SCAN, "adapt", *CALLS, "store", "rm_store", "fresh", "batch", "devices", "threads",
       "hairpins", output="Track: .bw, .bedgraph[.gz] or .bed[.gz]; none with --shard")  # fmt: skip
def genome(
    source: Genome,
    options: Options,
    shard: Annotated[
        str | None,
        typer.Option(help="I/N: scan the I-th of N shards (from 0) into --store", rich_help_panel=STORE),
    ] = None,
) -> None:
    """Scan a genome: a score for every window of both strands, and the loci worth looking at.

    The same command resumes a run that was stopped. With --shard many machines share a scan; `mirscan merge` ends it.
    """
    from mirscan.paths import run_file
    from mirscan.scanning.run import scan_genome, scan_shard

    if shard is not None:
        number, count = _shard(shard, options.output)
        with stoppable() as stop, progress() as report:
            done = scan_shard(source, options, number, count, report=report, stop=stop)
        log.info("%s: shard %s done, %s of %s parts", done["store"], shard, done["mine"], done["parts"])
        return
    if options.output is None:
        raise UsageError("give -o FILE for the track, or --shard I/N and --store for a part of the work")
    with stoppable() as stop, progress() as report:
        record = scan_genome(source, options, report=report, stop=stop)
    log.info(
        "%s: %s of %s windows scored, %s calls, %.0f windows/s; the record is in %s",
        options.output, f"{record['scored']:,}", f"{2 * record['windows']:,}", f"{record['calls']:,}",
        record["windows_per_second"], run_file(options.output),
    )  # fmt: skip


@app.command()
@takes("store!", *SCAN, "threads", store="Where the plan and later the scores go")
def plan(source: Genome, options: Options) -> None:
    """Fix what a scan computes and in how many parts, for shards to fill; they do it themselves where it is missing."""
    from mirscan.scanning.run import plan_scan

    url, parts = plan_scan(source, options)
    typer.echo(f"{url}\t{parts} parts")


@app.command()
@takes("output", *OUTPUTS, *SCAN, *CALLS, "store", "rm_store", "fresh", "batch", "hairpins", "threads",
       store="Where scores are kept, seen by all nodes (default: OUTPUT.store)",
       threads="CPU cores of each worker")  # fmt: skip
def batch(
    options: Options,
    source: Annotated[Path | None, typer.Argument(metavar="[GENOME]", help="FASTA or 2bit; or give --manifest")] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="Table of many genomes: genome, output [bed, gff3, fasta, store]", rich_help_panel=INPUT),
    ] = None,
    engine: Annotated[str, typer.Option(help="What hands out the parts: ray")] = "ray",
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster, or auto (default: $RAY_ADDRESS, else this machine alone)")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="At most this many (default: one a GPU, TPU host, or node without either)")
    ] = None,
    attempts: Annotated[int, typer.Option(help="How often a part is tried before it is given up")] = 3,
    timeout: Annotated[float | None, typer.Option(help="Seconds that one part may take (default: no limit)")] = None,
) -> None:
    """Scan one genome or many on every accelerator of a Ray cluster; the files are those of `mirscan genome`.

    Genomes, weights and stores must be at the same place for all nodes. The same command resumes.
    """
    _one_of("engine", engine, ("ray",))
    from mirscan.cluster.driver import scan_batch
    from mirscan.cluster.runs import runs_of

    asked = dataclasses.replace(options, threads=None)
    with stoppable() as stop, progress() as report:
        records = scan_batch(
            runs_of(source, manifest, asked), manifest=manifest, address=address, workers=workers,
            threads=options.threads, attempts=attempts, timeout=timeout, report=report, stop=stop,
        )  # fmt: skip
    for record in records:
        log.info("%s: %s windows scored, %s calls", record["outputs"][0], f"{record['scored']:,}", record["calls"])


@app.command()
@takes("output!", "weights", "threads", output="Folder of the weights")
def adapt(
    source: Genome,
    options: Options,
    seed: Annotated[int, typer.Option(help="Draws the sample of the genome and the order of learning")] = 0,
) -> None:
    """Fit the last layers of duplex to a genome: a new clade's background is learned without any label.

    Then: mirscan genome GENOME --model duplex-adapted --weights OUTPUT -o scores.bw
    """
    from mirscan.training.adapt import adapt_file

    assert options.output is not None
    found = adapt_file(
        source, options.output, source=options.weights, seed=seed, threads=options.threads, log=log.info
    )  # fmt: skip
    log.info("%s: %s", options.output, "adapted" if found.used else "the shipped layers, which were better")


@app.command()
@takes("output!", "per_strand", "regions", "regions_file", "exclude", "min_contig", "threads", "hairpins",
       output="Energies: .bw, .bedgraph[.gz]; hairpins: .bed[.gz], .gff3[.gz]")  # fmt: skip
def fold(
    source: Genome,
    options: Options,
    span: Annotated[int, typer.Option(help="Longest stem-loop in bases, 40 to 200")] = 120,
) -> None:
    """Compute the stem-loops of a genome: their energy over each base, or a list of the hairpins worth a look."""
    from mirscan.commands.fold import fold_genome

    assert options.output is not None
    written = fold_genome(
        source, options.output, span=span, per_strand=options.per_strand, regions=options.regions,
        regions_file=options.regions_file, exclude=options.exclude, min_contig=options.min_contig,
        threads=options.threads, engine=options.hairpins,
    )  # fmt: skip
    for path in written:
        log.info("wrote %s", path)


@app.command()
@takes("model", "weights")
def demo(
    options: Options,
    out: Annotated[Path, typer.Option(help="Folder of the example; made if absent", rich_help_panel=OUTPUT)] = Path(
        "demo"
    ),
) -> None:
    """Make a small example genome with known precursors in it, scan it, and say what was found."""
    from mirscan.commands.demo import demonstrate

    with stoppable() as stop, progress() as report:
        findings = demonstrate(out, model=options.model, weights=options.weights, report=report, stop=stop)
    typer.echo(findings)


@takes("output!", *OUTPUTS, *CALLS, "weights", weights="Folder of the weights, if not the shipped ones")
def _results(
    store: Annotated[str, typer.Argument(help="Store of a scan, whole or of all shards")],
    options: Options,
    genome: Annotated[
        Path | None, typer.Option(help="The genome: calls then have sequences and structures", rich_help_panel=INPUT)
    ] = None,
) -> None:
    from mirscan.scanning.results import merge

    for path in merge(store, options, genome):
        log.info("wrote %s", path)


app.command("export", help="Write tracks and calls from a store; nothing is scanned again.")(_results)
app.command("merge", help="Join what shards have scanned: tracks and calls, as one run would have written them.")(
    _results
)


@app.command()
@takes()
def info(store: Annotated[str, typer.Argument(help="Store of a scan")]) -> None:
    """Say what a store holds, what is done and what is missing."""
    from mirscan.store import ScoreStore

    for key, value in ScoreStore.open(store).summary().items():
        shown = ranges(value) if key == "parts_missing" else f"{value:,}" if isinstance(value, int) else value
        typer.echo(f"{key.replace('_', ' '):<16} {shown}")


@app.command()
@takes()
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
@takes("output!", "model", "weights", "folder", "devices", "threads", "precision",
       output="Table: name, bases, score, energy, structure")  # fmt: skip
def score(
    fasta: Annotated[str, typer.Argument(metavar="FASTA", help="Candidate precursors (plain or gzip), or - for stdin")],
    options: Options,
    second: Annotated[Path | None, typer.Argument(hidden=True, metavar=" ")] = None,
) -> None:
    """Score candidate precursors, one by one."""
    from mirscan.commands.score import score_fasta

    name, path = options.model, Path(fasta)
    if second is not None:
        if options.model != DEFAULT_MODEL:
            raise UsageError(
                f"score {fasta} {second} --model {options.model}: give one FASTA, and one model by --model"
            )
        log.warning("mirscan score MODEL FASTA is the old form: use mirscan score FASTA --model MODEL")
        name, path = fasta, second
    assert options.output is not None
    count = score_fasta(
        name, path, options.output, weights=options.weights, folder=options.folder or "viennarna",
        precision=options.precision, devices=options.devices, threads=options.threads,
    )  # fmt: skip
    log.info("%s: %s sequences scored by %s", options.output, f"{count:,}", name)


@app.command()
@takes()
def models(
    every: Annotated[bool, typer.Option("--all", help="Also those without weights, to be trained")] = False,
) -> None:
    """List the models, their weights and the figures they reached."""
    from mirscan.checkpoints.weights import registry
    from mirscan.models import MODELS

    shipped = registry()
    for name in sorted(MODELS, key=lambda name: (name != DEFAULT_MODEL, name not in shipped)):
        if name in shipped or every:
            typer.echo(f"{name}{' (default)' if name == DEFAULT_MODEL else ''}")
            typer.echo(f"    {MODELS[name].summary}\n    {MODELS[name].reference}")
            for figure, value in shipped.get(name, {}).get("figures", {}).items():
                typer.echo(f"    {figure.replace('_', ' ')}: {value}")
        if name not in shipped and every:
            typer.echo("    no weights shipped: train it, then --weights FOLDER")
    if not every:
        typer.echo(f"{len(MODELS) - len(shipped)} more have no weights yet: mirscan models --all")


@app.command()
@takes("output!", "folder", "threads", output="Folder of the training; an unfinished one resumes")
def train(
    model: Annotated[str, typer.Argument(help="A model of `mirscan models --all`")],
    options: Options,
    data: Annotated[Path | None, typer.Option(help="Table with columns name, sequence, label (1 or 0)")] = None,
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
) -> None:
    """Train a published model on labelled sequences (--data), or mire2e on a genome, stage after stage.

    mire2e: structure, energy, classifier, then `--stage weights`.
    """
    from dataclasses import replace

    assert options.output is not None
    output, threads = options.output, options.threads
    if data is not None:
        if stage or precursors or genome:
            raise UsageError("--data: a model learns from a table or, in stages, from genomes; give one")
        from mirscan.training.from_table import train_file

        written = train_file(
            model, data, output, folder=options.folder or "viennarna", epochs=epochs, seed=seed, start=start,
            threads=threads, log=log.info,
        )  # fmt: skip
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
    count = cores(threads)
    train_stage(
        model,
        stage,
        sources,
        output,
        recipe=recipe,
        start=start,
        folded=folded,
        negatives=negatives,
        processes=count,
        log=log.info,
    )


@app.command()
@takes("precision", "devices", "threads")
def bench(
    options: Options,
    model: Annotated[
        list[str] | None, typer.Option(help="MODEL[:PRECISION[:MINI_BATCH]] (default: all shipped); repeatable")
    ] = None,
    compare: Annotated[tuple[str, str] | None, typer.Option(help="Two such settings, timed in turns")] = None,
    rounds: Annotated[int | None, typer.Option(help="Measurements; the median is printed (3; 7 to compare)")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures here")] = None,
) -> None:
    """Measure how fast models scan here, beside this machine's peaks and RNA.fold in the same run."""
    if rounds is not None and rounds < 1:
        raise UsageError(f"--rounds {rounds}: must be at least 1")
    from mirscan.commands.bench import bench as measure
    from mirscan.commands.bench import compare as measure_both
    from mirscan.commands.bench import keep, table
    from mirscan.paths import Paths

    Paths().writes("--json", json_file).look()
    asked: dict[str, Any] = {name: getattr(options, name) for name in ("threads", "devices", "precision")}
    if compare:
        result = measure_both(*compare, rounds=rounds or 7, **asked)
    else:
        result = measure(model or (), rounds=rounds or 3, **asked)
    typer.echo(table(result))
    if json_file:
        keep(result, json_file)


@app.command()
@takes("devices", "threads", devices="Look at no more devices than this")
def doctor(
    options: Options,
    model: Annotated[list[str] | None, typer.Option(help="Models to check (default: all shipped); repeatable")] = None,
) -> None:
    """Check this machine: versions, devices, and whether the shipped models score here as they should."""
    from mirscan.commands.doctor import examine, versions
    from mirscan.devices import configure

    configure(options.threads)
    for name, number in versions().items():
        typer.echo(f"{name:<20}{number}")
    failed = 0
    for check in examine(model or (), options.devices):
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


def _shard(text: str, output: Path | None) -> tuple[int, int]:
    """``I/N`` as two numbers."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(count) > 0):
        raise UsageError(f"--shard {text}: give I/N, such as 0/8 for the first of eight")
    if output is not None:
        raise UsageError("--shard scans into the store alone: -o is for `mirscan merge`")
    return int(number), int(count)
