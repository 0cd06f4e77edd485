"""A finished store to what was asked for: tracks, and calls with the precision that is estimated for them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from mirscan.calls.of_hairpins import pick
from mirscan.calls.of_windows import call
from mirscan.calls.precision import Calibration, find_calibration, known_per_megabase
from mirscan.checkpoints import weights
from mirscan.errors import InputError, UsageError
from mirscan.files.atomic import is_stream
from mirscan.files.kinds import STORE, WEIGHTS
from mirscan.formats import bed, fasta, gff3
from mirscan.genome import Genome, open_genome
from mirscan.models import find_model
from mirscan.paths import Paths
from mirscan.scanning.options import Options, check_choice, flag_of
from mirscan.scanning.tracks import check_format, export, track_files
from mirscan.store import ScoreStore
from mirscan.structure.folders import ViennaFolder
from mirscan.types import Call, Contig

log = logging.getLogger("mirscan")


def write_results(
    store: ScoreStore, opened: Genome | None, options: Options, calibration: Calibration | None
) -> tuple[list[Path], list[Call]]:
    """Write tracks, and calls where a file for them is given, from a store that is finished.

    Without the genome calls have no sequence, structure or flags.
    """
    assert options.output is not None
    log.info("writing %s", options.output)
    written = list(export(store, options.output, per_strand=options.per_strand))
    calls: list[Call] = []
    if outputs_of(options):
        calls = find_calls(store, opened, options, calibration)
        write_calls(calls, store.plan.contigs, options.bed, options.gff3, options.fasta)
    return written, calls


def merge(url: str, options: Options, genome: Path | None = None) -> list[Path]:
    """`mirscan merge` and `mirscan export`: the results of a store that one or many runs have filled.

    Parameters
    ----------
    url : str
        The store.
    options : Options
        Only what concerns results is looked at.
    genome : Path, optional
        The genome of the scan: calls then have sequences, structures and flags, as one run would have written them.

    Raises
    ------
    IncompleteError
        If parts are missing, naming them.
    InputError
        If the genome is another one than was scanned.
    """
    assert options.output is not None
    store = ScoreStore.open(url)
    check_choice(options)
    if options.fasta and genome is None:
        raise UsageError("--calls-fasta: sequences are in the genome; give it with --genome")
    calls = outputs_of(options)
    paths = Paths().reads_folder("the store", url, STORE).reads("--genome", genome)
    add_outputs(paths.reads_folder("--weights", options.weights, WEIGHTS), options).look()
    calibration = calibration_of(store.plan.model, store.plan.weights_digest, options)
    check_contigs(store.plan.contigs, options)
    store.finish()
    if genome is None or not calls:
        return [*write_results(store, None, options, calibration)[0], *calls]
    with open_scanned(genome, store, options.output) as opened:
        return [*write_results(store, opened, options, calibration)[0], *calls]


def open_scanned(genome: Path | str, store: ScoreStore, output: Path) -> Genome:
    """The genome that a store holds the scores of, which its calls are cut from.

    Raises
    ------
    InputError
        If it is another one.
    """
    opened = open_genome(genome, spool=output.parent, soft_mask=store.plan.soft_mask)
    if opened.digest != store.plan.genome_digest:
        opened.close()
        raise InputError(f"{genome}: not the genome of {store.url}, which was {store.plan.genome}")
    return opened


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


def add_outputs(paths: Paths, options: Options, role: str = "") -> Paths:
    """Tell which tracks and calls a command writes; ``role`` says for which of many genomes."""
    if options.output is not None:
        main, *strands = track_files(options.output, options.per_strand)
        if main.suffix.lower() in (".bw", ".bigwig") and is_stream(main):
            raise InputError(f"{main}: a bigWig cannot be written to a pipe; give a file, or a bedGraph")
        paths.writes(f"--output{role}", main)
        for path in strands:
            paths.writes_beside(f"--per-strand{role}", path, main, track=True)
    for name in ("bed", "gff3", "fasta"):
        paths.writes(f"{flag_of(name).shown(name)}{role}", getattr(options, name))
    return paths


def check_contigs(contigs: Sequence[Contig], options: Options) -> None:
    """Refuse, before anything is computed, tracks whose format cannot hold these contigs.

    Raises
    ------
    InputError
        Naming the file and the contig.
    """
    if options.output is not None:
        for path in track_files(options.output, options.per_strand):
            check_format(path, [(contig.name, contig.length) for contig in contigs])


def outputs_of(options: Options) -> list[Path]:
    """The files that calls go into."""
    return [path for path in (options.bed, options.gff3, options.fasta) if path]
