"""`mirscan evaluate`: the calls of a BED, or all that a store scored, against the known hairpins of a GFF3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mirscan.calls.of_hairpins import ranking
from mirscan.errors import InputError, UsageError
from mirscan.evaluation.matching import Figures, Places, evaluate_calls
from mirscan.files.atomic import write_file
from mirscan.files.kinds import STORE
from mirscan.known.precursors import Locus, read_loci
from mirscan.models import find_model
from mirscan.paths import Paths
from mirscan.store import ScoreStore
from mirscan.types import Plan

WINDOWS_PER_MB = 5000
"""Best windows of a megabase that are ranked; the known hairpins below them would not be found by anyone."""


def judge(
    calls: str,
    truth: Path,
    megabases: float | None = None,
    by: str = "score",
    split: str | None = None,
    curve: Path | None = None,
) -> dict[str, Figures]:
    """Figures for every contig that has a known hairpin, for every kind of hairpin, and for ``all`` together.

    Parameters
    ----------
    calls : str
        A BED of calls (columns 1-3, 6, and the score in column 7), or a store. A store's hairpins, or windows, are
        all ranked; a BED can only be judged down to its last call.
    truth : Path
        GFF3 with the known hairpins.
    megabases : float, optional
        Scanned sequence, for rates of calls; needed with a BED, known to a store.
    by : str
        What ranks the hairpins of a store: ``score``, ``homology`` or ``annotation`` (both combined).
    split : str, optional
        An attribute of the known hairpins: figures for each of its values too, calls that find the others set aside.
    curve : Path, optional
        Where to write the precision-recall curve of all of them (TSV).

    Raises
    ------
    InputError
        If a file cannot be read, a row is not BED, no known hairpin lies on a contig that was scanned, or none has the
        attribute.
    UsageError
        If the calls have no such rank.
    """
    paths = Paths().reads("the truth", truth).writes("--curve", curve)
    if Path(calls).is_file():
        paths.reads("the calls", calls).look()
    else:
        paths.reads_folder("the store", calls, STORE).look()
    loci = read_loci(truth)
    if Path(calls).is_file():
        if by != "score":
            raise UsageError(f"--by {by}: a BED is judged by column 7, its score; give the store")
        if megabases is None:
            raise InputError(f"{calls}: a BED does not tell how much was scanned; give --megabases, or the store")
        names, rows, scores = _read_bed(Path(calls))
        sizes: dict[str, float] = {}
        numbers = {name: i for i, name in enumerate(dict.fromkeys([*names, *(locus.contig for locus in loci)]))}
        rows = rows._replace(contig=np.array([numbers[names[i]] for i in rows.contig], dtype=np.int64))
    else:
        store = ScoreStore.open(calls)
        store.finish()
        numbers = {contig.name: i for i, contig in enumerate(store.plan.contigs)}
        rows, scores, covered = _read_store(store, by)
        sizes = {contig.name: covered[i] for i, contig in enumerate(store.plan.contigs)}
        megabases = sum(sizes.values())
        loci = [locus for locus in loci if locus.contig in numbers and scanned(store.plan, locus, numbers)]
    figures = compare(numbers, rows, scores, loci, truth, sizes, megabases, split)
    if curve is not None:
        points = ("\t".join(f"{value:.6g}" for value in row) for row in figures["all"].curve)
        write_file(curve, ("\n".join(["score\tprecision\trecall", *points]) + "\n").encode())
    return figures


def compare(
    numbers: Mapping[str, int],
    rows: Places,
    scores: np.ndarray,
    loci: Sequence[Locus],
    truth: str | Path,
    sizes: Mapping[str, float],
    megabases: float,
    split: str | None = None,
) -> dict[str, Figures]:
    """Figures of scored places, as `judge` returns them.

    Parameters
    ----------
    numbers : mapping
        Name of a contig to its number in ``rows``.
    rows, scores : Places, (N,) float
    loci : sequence of Locus
        Known hairpins.
    truth : str or Path
        Where they come from, for a message.
    sizes : mapping
        Name of a contig to its scanned megabases; figures for each contig are left out where it is empty.
    megabases : float
        Scanned in all.
    split : str, optional
        See `judge`.

    Raises
    ------
    InputError
        If no known hairpin lies on one of the contigs, or none has the attribute.
    """
    loci = [locus for locus in loci if locus.contig in numbers]
    if not loci:
        raise InputError(f"{truth}: none of its hairpins lies on a contig that was scanned; compare the names")
    known = Places(
        np.array([numbers[locus.contig] for locus in loci], dtype=np.int64),
        np.array([locus.start for locus in loci], dtype=np.int64),
        np.array([locus.end for locus in loci], dtype=np.int64),
        np.array([locus.strand == "-" for locus in loci]),
    )
    figures = {}
    for name in dict.fromkeys(locus.contig for locus in loci):
        if name in sizes and len(sizes) > 1:
            mine, hers = rows.contig == numbers[name], known.contig == numbers[name]
            figures[name] = evaluate_calls(rows.take(mine), scores[mine], known.take(hers), sizes[name])
    if split is not None:
        kinds = np.array([locus.attributes.get(split, "") for locus in loci])
        if not kinds.astype(bool).any():
            raise InputError(f"{truth}: no known hairpin has an attribute {split}=")
        for kind in np.unique(kinds[kinds != ""]):
            one, others = known.take(kinds == kind), known.take(kinds != kind)
            figures[f"{split}={kind}"] = evaluate_calls(rows, scores, one, megabases, others)
    figures["all"] = evaluate_calls(rows, scores, known, megabases)
    return figures


def scanned(plan: Plan, locus: Locus, numbers: Mapping[str, int]) -> bool:
    """Whether the middle of a known hairpin lies in what was scanned: a scan of regions is not to blame for others."""
    contig, middle = numbers[locus.contig], (locus.start + locus.end) // 2
    return any(
        piece.first * plan.grid.step <= middle < (piece.first + piece.count - 1) * plan.grid.step + plan.grid.window
        for piece in plan.segments
        if piece.contig == contig
    )


def table(figures: dict[str, Figures]) -> Iterator[str]:
    """One line a contig: known hairpins, average precision and its interval, maximal F1, recall by calls a megabase."""
    rates = next(iter(figures.values())).recall
    yield "contig\tknown\tMb\tAP\tAP_low\tAP_high\tmax_F1\t" + "\t".join(f"recall@{rate}" for rate in rates)
    for name, f in figures.items():
        numbers = [f.average_precision, *f.interval, f.max_f1, *f.recall.values()]
        yield f"{name}\t{f.known}\t{f.megabases:.3f}\t" + "\t".join(f"{number:.3f}" for number in numbers)


def _read_bed(path: Path) -> tuple[list[str], Places, np.ndarray]:
    names: dict[str, int] = {}
    rows: list[tuple[int, int, int, bool, float]] = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        fields = line.split("\t")
        try:
            place = names.setdefault(fields[0], len(names)), int(fields[1]), int(fields[2])
            rows.append((*place, fields[5] == "-", float(fields[6])))
        except (IndexError, ValueError) as error:
            raise InputError(f"{path}:{number}: not a call (BED6 and the score in column 7): {error}") from error
    columns = list(zip(*rows, strict=True)) or [()] * 5
    places = Places(*(np.array(c, dtype=t) for c, t in zip(columns[:4], ("i8", "i8", "i8", "?"), strict=True)))
    return list(names), places, np.array(columns[4], dtype=np.float64)


def _read_store(store: ScoreStore, by: str) -> tuple[Places, np.ndarray, np.ndarray]:
    """Hairpins of a store, or the best of its windows; what ranks them; megabases scored of each contig."""
    plan = store.plan
    covered = np.zeros(len(plan.contigs))
    hairpins = find_model(plan.model).unit == "hairpin"
    value = ranking(store, by)
    kept: list[tuple[np.ndarray, ...]] = []
    for part, scores in store.iter_scores():
        row = 0
        for piece in plan.pieces(*plan.bounds(part)):
            mine = scores[row : row + piece.count]
            row += piece.count
            covered[piece.contig] += np.isfinite(mine).any(axis=1).sum() * plan.grid.step / 1e6
            if not hairpins:
                flat = np.nan_to_num(mine.reshape(-1), nan=-1.0)
                most = max(1, round(WINDOWS_PER_MB * piece.count * plan.grid.step / 1e6))
                best = np.sort(np.argsort(-flat, kind="stable")[:most])
                best = best[flat[best] >= 0]
                starts = plan.grid.starts(plan.contigs[piece.contig].length, piece.first, piece.count)[best // 2]
                contig = np.full(len(best), piece.contig, dtype=np.int64)
                kept.append((contig, starts, starts + plan.grid.window, best % 2 == 1, flat[best]))
        if hairpins:
            found = store.read_hairpins(part)
            kept.append((*(found[name] for name in ("contig", "start", "end", "minus")), value(found)))
    contig, start, end, minus, score = (np.concatenate(columns) for columns in zip(*kept, strict=True))
    return Places(contig.astype(np.int64), start, end, minus), score.astype(np.float64), covered
