"""The Python interface: what the commands do, with sequences and paths in and objects out.

Every function takes paths as text or as `pathlib.Path`, and raises the errors of `mirscan.errors`, each with one line
that says what, where and what to do.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from mirscan.api.objects import Calls, Evaluation, Model, PathLike, Windows, one_line
from mirscan.commands.evaluate import compare, judge, scanned
from mirscan.commands.fold import check_span, tile_hairpins
from mirscan.commands.score import score_texts
from mirscan.devices import configure
from mirscan.errors import InputError, UsageError
from mirscan.evaluation.matching import Places
from mirscan.files.atomic import write_file
from mirscan.files.temporary import scratch
from mirscan.genome import Genome, open_genome
from mirscan.genome.regions import select_segments
from mirscan.kernels import windows as cutting
from mirscan.kernels.bases import ABSENT, AMBIGUOUS, CODE
from mirscan.known.precursors import read_loci
from mirscan.models import compiled_model, find_model
from mirscan.scanning.options import DEFAULT_MODEL, Options
from mirscan.scanning.prepare import prepare
from mirscan.scanning.results import find_calls
from mirscan.scanning.run import scan_parts, scorer_of
from mirscan.structure.hairpins import SPAN
from mirscan.structure.molecules import FOLDERS, LONGEST, read_sequences
from mirscan.types import STRANDS, Grid, Hairpin

_SHORTEST = 20
_numbers = itertools.count()


def scan(
    genome: PathLike,
    *,
    regions: str | Sequence[str] = (),
    model: str = DEFAULT_MODEL,
    weights: PathLike | None = None,
    known: PathLike | None = None,
    annotate: bool = False,
    calls_per_mb: float = 20.0,
    min_score: float | None = None,
    min_precision: float | None = None,
    clade: str | None = None,
    prevalence: float | None = None,
    exclude: str | Sequence[str] = (),
    min_contig: int = 0,
    soft_mask: Literal["scan", "skip"] = "scan",
    ambiguous: Literal["skip", "zero"] = "skip",
    store: PathLike | None = None,
    threads: int | None = None,
    devices: int | None = None,
) -> Calls:
    """Scan a genome, or a sequence, and return the loci worth looking at.

    Parameters
    ----------
    genome : path or str
        FASTA (plain, gzip, bgzip) or 2bit; or a sequence of at least 100 bases, given as text.
    store : path, optional
        Where scores are kept, so that the same call resumes and `mirscan export` can write tracks. In memory by
        default.
    regions, model, weights, known, annotate, calls_per_mb, min_score, min_precision, clade, prevalence, exclude, \
min_contig, soft_mask, ambiguous, threads, devices
        As the options of ``mirscan genome``.

    Returns
    -------
    Calls

    Raises
    ------
    InputError, UsageError, IncompleteError, ModelError
        With one line.
    """
    options = Options(
        model=model, weights=_path(weights), regions=regions, exclude=exclude, min_contig=min_contig,  # type: ignore[arg-type]
        soft_mask=soft_mask, ambiguous=ambiguous, known=_path(known), annotate=annotate, calls_per_mb=calls_per_mb,
        min_score=min_score, min_precision=min_precision, clade=clade, prevalence=prevalence,
        store=os.fspath(store) if store is not None else f"memory://scan-{next(_numbers)}/", threads=threads,
        devices=devices,
    )  # fmt: skip
    with one_line(), _file_of(genome) as path, prepare(path, options) as ready:
        scan_parts(ready, scorer_of(ready))
        ready.store.finish()
        found = find_calls(ready.store, ready.genome, options, ready.calibration)
        scored = ready.store.summary(verify=False)["scored"]
        if store is None:
            ready.store.forget()
        return Calls(found, ready.store.plan, scored / 2 * ready.plan.grid.step / 1e6)


def score(
    sequences: str | Sequence[str] | os.PathLike[str],
    model: str = DEFAULT_MODEL,
    *,
    weights: PathLike | None = None,
    fold_with: Literal["viennarna", "hairpins"] = "viennarna",
    threads: int | None = None,
    devices: int | None = None,
) -> np.ndarray:
    """Score candidate precursors, one number from 0 to 1 for each.

    Parameters
    ----------
    sequences : sequence of str, str, or path
        DNA or RNA letters in either case; one sequence of at least 20; or a FASTA file. Other IUPAC letters count as N.
    model : str
        A model of `mirscan models`.
    fold_with : str
        What folds them, where the model needs structures.

    Returns
    -------
    (N,) float32

    Raises
    ------
    InputError
        If a sequence is empty, longer than 2,000 bases or holds other letters, or the weights are missing.
    """
    if fold_with not in FOLDERS:
        raise UsageError(f"fold_with {fold_with!r}: choose {' or '.join(FOLDERS)}")
    with one_line():
        if isinstance(sequences, os.PathLike) or (isinstance(sequences, str) and not _is_sequence(sequences)):
            texts = read_sequences(Path(sequences)).texts
        else:
            texts = [sequences] if isinstance(sequences, str) else list(sequences)
            for number, text in enumerate(texts):
                _check_sequence(text, f"sequence {number}", LONGEST)
        if not texts:
            return np.empty(0, dtype=np.float32)
        return score_texts(
            model, texts, weights=_path(weights), folder=fold_with, threads=threads, devices=devices
        )[0]  # fmt: skip


def hairpins(sequence: str, *, span: int = SPAN, name: str = "sequence") -> list[Hairpin]:
    """Stem-loops of a sequence on both strands that are worth a look, with exact Turner-2004 energies.

    Parameters
    ----------
    sequence : str
        DNA or RNA letters of any length.
    span : int
        Longest stem-loop in bases, 40 to 200.
    name : str
        What the hairpins have as their contig.

    Returns
    -------
    list of Hairpin
        Sorted by start; 0-based and half-open, energy in kcal/mol.
    """
    check_span(span)
    _check_sequence(sequence, "sequence")
    codes = np.minimum(CODE[np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)], ABSENT)
    found = tile_hairpins(codes, 0, len(codes), span)
    return [Hairpin(name, start, end, STRANDS[n], marks, round(energy, 2)) for start, end, n, energy, marks in found]


def evaluate(
    calls: Calls | PathLike,
    truth: PathLike,
    *,
    megabases: float | None = None,
    by: Literal["score", "homology", "annotation"] = "score",
    split: str | None = None,
) -> Evaluation:
    """Judge calls by known hairpins: average precision, F1, recall by calls per megabase.

    Parameters
    ----------
    calls : Calls, or path
        Of `scan`; or a BED of calls, or a store, which also tells how deep they rank.
    truth : path
        GFF3 of the known hairpins.
    megabases : float, optional
        Scanned sequence; needed with a BED.
    by : str
        What ranks a store's hairpins.
    split : str, optional
        Figures also by the values of this attribute of the GFF3.

    Raises
    ------
    InputError, UsageError
        With one line.
    """
    with one_line():
        if not isinstance(calls, Calls):
            return Evaluation(judge(os.fspath(calls), Path(truth), megabases, by, split))
        if by != "score":
            raise UsageError(f"by {by}: calls are judged by their score; give the store of the scan")
        numbers = {contig.name: number for number, contig in enumerate(calls.plan.contigs)}
        columns = [(numbers[call.contig], call.start, call.end, call.strand == "-") for call in calls]
        rows = np.array(columns, dtype=np.int64).reshape(-1, 4)
        places = Places(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3].astype(bool))
        scores = np.array([call.score for call in calls], dtype=np.float64)
        loci = [x for x in read_loci(Path(truth)) if x.contig in numbers and scanned(calls.plan, x, numbers)]
        return Evaluation(compare(numbers, places, scores, loci, Path(truth), {}, megabases or calls.megabases, split))


def load_model(name: str = DEFAULT_MODEL, weights: PathLike | None = None, *, threads: int | None = None) -> Model:
    """A model with its weights as a compiled function, and its row of the table of models.

    Raises
    ------
    InputError
        If there is no such model, or its weights are missing, damaged, or of another model.
    """
    spec = find_model(name)
    with one_line():
        configure(threads)
        return Model(spec, compiled_model(name, _path(weights)))


def windows(
    genome: PathLike | Genome,
    *,
    window: int = 100,
    step: int = 20,
    batch: int = 256,
    regions: str | Sequence[str] = (),
    strands: Literal["both", "+"] = "both",
    one_hot: bool = True,
) -> Iterator[Windows]:
    """Batches of a genome's windows, for those who train a model of their own.

    Parameters
    ----------
    genome : path, str or Genome
        As `scan` takes it, or what `mirscan.open_genome` returns.
    window, step : int
        Bases of a window, and from one start to the next.
    batch : int
        Rows of a batch; the last one may have fewer.
    regions : str or sequence of str
        ``chr1`` or ``chr1:1,000-2,000`` (1-based); windows lie wholly inside.
    strands : {"both", "+"}
        Whether each window comes on both strands, the plus strand first.
    one_hot : bool
        One-hot floats, or codes.

    Yields
    ------
    Windows
        Those without an ambiguous base only. ``bases`` is a new array in each batch.
    """
    if batch < 1:
        raise UsageError(f"batch {batch}: must be at least 1")
    grid = Grid(window, step)
    chosen = (regions,) if isinstance(regions, str) else tuple(regions)
    with contextlib.ExitStack() as held, one_line():
        if isinstance(genome, Genome):
            opened = genome
        else:
            path = held.enter_context(_file_of(genome))
            opened = held.enter_context(open_genome(path, spool=Path(path).parent))
        both = (False, True) if strands == "both" else (False,)
        stretch = max(1, batch // len(both))
        for segment in select_segments(opened.contigs, grid, regions=chosen):
            length = opened.contigs[segment.contig].length
            for first in range(segment.first, segment.first + segment.count, stretch):
                count = min(stretch, segment.first + segment.count - first)
                starts = grid.starts(length, first, count)
                codes = opened.codes(segment.contig, int(starts[0]), int(starts[-1]) + window)
                good = starts[cutting.scorable(codes, starts - starts[0], window, AMBIGUOUS)]
                if not len(good):
                    continue
                minus = np.tile(both, len(good))
                rows = np.repeat(good, len(both))
                bases = cutting.cut(codes, rows - starts[0], minus, window)
                contig = np.full(len(rows), segment.contig, dtype=np.int64)
                yield Windows(contig, rows, minus, cutting.one_hot(bases) if one_hot else bases)


def _path(path: PathLike | None) -> Path | None:
    return None if path is None else Path(path)


def _is_sequence(text: str) -> bool:
    """Whether a text is a sequence and not the name of a file: ``data`` could be both, so short ones are names."""
    return len(text) >= _SHORTEST and text.isascii() and _has_only_bases(text) and not os.path.exists(text[:255])


def _has_only_bases(text: str) -> bool:
    return bool((CODE[np.frombuffer(text.encode("ascii"), dtype=np.uint8)] <= AMBIGUOUS).all())


def _check_sequence(text: object, what: str, most: int | None = None) -> None:
    if not isinstance(text, str):
        raise UsageError(f"{what}: give text, not {type(text).__name__}")
    if not text or (most is not None and len(text) > most):
        raise InputError(f"{what}: {len(text)} bases; give 1{f' to {most}' if most else ' or more'}")
    if not text.isascii() or not _has_only_bases(text):
        raise InputError(f"{what}: {text[:20]!r} holds a letter that is no nucleotide code")


@contextlib.contextmanager
def _file_of(genome: PathLike) -> Iterator[str]:
    """A path to a genome that is one, or was given as text."""
    if not isinstance(genome, str | os.PathLike):
        raise UsageError(f"genome: give a path or a sequence, not {type(genome).__name__}")
    if isinstance(genome, str) and len(genome) > 255 and os.sep not in genome:  # no name of a file is so long
        _check_sequence(genome, "sequence")
    if not isinstance(genome, str) or not _is_sequence(genome):
        yield os.fspath(genome)
        return
    with scratch() as folder:
        write_file(folder / "1.fa", gzip.compress(f">sequence\n{genome}\n".encode("ascii"), 1))  # packed: no index
        yield str(folder / "1.fa")
