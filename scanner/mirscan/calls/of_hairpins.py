"""Candidate precursor loci of a hairpin model: the best hairpins of a store that do not overlap a better one."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mirscan.calls.annotation import CLAIM, WEIGHTS, count_claims
from mirscan.calls.annotation import annotate as annotated
from mirscan.calls.flags import NEAR, find_flags
from mirscan.errors import UsageError
from mirscan.kernels.bases import decode, reverse_complement
from mirscan.kernels.hairpins import dot_brackets, trace_hairpins
from mirscan.structure.turner import turner_tables
from mirscan.types import STRANDS, Call

if TYPE_CHECKING:
    from mirscan.genome import Genome
    from mirscan.store import ScoreStore


def pick(
    store: ScoreStore,
    genome: Genome | None = None,
    *,
    calls_per_mb: float = 20.0,
    min_score: float | None = None,
    annotate: bool = False,
) -> list[Call]:
    """Non-redundant hairpins in the genome's order; of two that overlap on a strand the better one stays.

    Parts are read one after another, and only hairpins that can still be among the best are held.

    Parameters
    ----------
    store : ScoreStore
        A finished scan of a hairpin model.
    genome : Genome, optional
        Adds sequence (DNA letters) and dot-bracket, both 5' to 3' on the hairpin's strand, and flags.
    calls_per_mb : float
        Budget: calls per megabase of scored windows, both strands together, rounded up.
    min_score : float, optional
        Threshold instead of the budget, of what ranks.
    annotate : bool
        Rank by score and homology combined (`mirscan.calls.annotation`) instead of the score.

    Raises
    ------
    IncompleteError
        If parts of the store are missing or damaged.
    UsageError
        If ``annotate`` is asked of a scan that cannot give it.
    """
    if calls_per_mb < 0:
        raise ValueError(f"calls_per_mb {calls_per_mb}: need at least 0")
    plan = store.plan
    megabases = store.summary(verify=False)["scored"] / 2 * plan.grid.step / 1e6
    budget = math.ceil(calls_per_mb * megabases) if min_score is None else None
    # hairpins at the seam of two parts may displace one another: hold some more than the budget
    held = None if budget is None else 2 * budget + 2 * plan.parts
    floor = np.float32(0 if min_score is None else min_score)
    value = ranking(store, "annotation" if annotate else "score")
    best: np.ndarray | None = None
    for part in range(plan.parts):
        table = store.read_hairpins(part)
        values = value(table)
        table = table[(values >= floor) & (values > 0)]
        best = table if best is None else np.concatenate([best, table])
        best = best[non_redundant(best, value(best))]
        if held is not None and len(best) > held:
            best = best[:held]
            floor = value(best[-1:])[0]
    if best is None or not len(best):
        return []
    best = best[:budget]
    best = best[np.lexsort((best["minus"], best["end"], best["start"], best["contig"]))]
    names, values = store.read_known(), value(best).tolist()
    calls = [_call(row, number, store, genome, names) for number, row in enumerate(best, 1)]
    if annotate:
        calls = [replace(call, annotation=combined) for call, combined in zip(calls, values, strict=True)]
    return calls


def ranking(store: ScoreStore, by: str) -> Callable[[np.ndarray], np.ndarray]:
    """What ranks the rows of a store's hairpin tables: ``score``, ``homology`` or ``annotation``, float32 (rows,).

    Raises
    ------
    UsageError
        If the scan has no homology, or its model no weights for the combination.
    IncompleteError
        If parts of the store are missing or damaged.
    """
    plan = store.plan
    if by != "score" and not plan.known_digest:
        raise UsageError(f"{by}: hairpins were compared with no known precursors; scan with --known FASTA")
    if by != "annotation":
        return lambda table: table[by]
    if plan.model not in WEIGHTS:
        raise UsageError(f"annotation: no weights are fitted for model {plan.model!r}, only for {', '.join(WEIGHTS)}")
    tables = (store.read_hairpins(part) for part in range(plan.parts))
    like = np.concatenate([table[table["homology"] >= CLAIM] for table in tables])
    claims = count_claims(like, len(store.read_known()))
    return lambda table: annotated(table, claims, WEIGHTS[plan.model])


def non_redundant(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rows of the hairpins that overlap no better one on their strand, best first; of equals the first by place."""
    order = np.lexsort((table["minus"], table["end"], table["start"], table["contig"], -values))
    chosen: dict[tuple[int, bool], tuple[list[int], list[int]]] = {}
    kept = []
    columns = (table[name][order].tolist() for name in ("contig", "minus", "start", "end"))
    for row, contig, minus, start, end in zip(order.tolist(), *columns, strict=True):
        starts, ends = chosen.setdefault((contig, minus), ([], []))
        at = bisect.bisect_right(starts, start)
        if (at == 0 or ends[at - 1] <= start) and (at == len(starts) or starts[at] >= end):
            starts.insert(at, start)
            ends.insert(at, end)
            kept.append(row)
    return np.array(kept, dtype=np.int64)


def _call(row: np.void, number: int, store: ScoreStore, genome: Genome | None, names: Sequence[str]) -> Call:
    start, end, minus = int(row["start"]), int(row["end"]), bool(row["minus"])
    sequence = structure = flags = None
    if genome is not None:
        contig, low = int(row["contig"]), max(0, start - NEAR)
        around = genome.codes(contig, low, min(end + NEAR, genome.contigs[contig].length))
        flags = find_flags(around, start - low, end - low, float(row["copies"]))
        codes = around[start - low : end - low]
        codes = reverse_complement(codes) if minus else codes
        sequence = decode(codes).decode()
        length = np.array([end - start])
        (structure,) = dot_brackets(trace_hairpins(codes, turner_tables(), np.zeros(1, np.int64), length), length)
    return Call(
        contig=store.plan.contigs[int(row["contig"])].name,
        start=start,
        end=end,
        strand=STRANDS[int(minus)],
        score=float(row["score"]),
        name=f"mirscan_{number:06d}",
        energy=float(row["energy"]),
        structure=structure,
        sequence=sequence,
        flags=flags,
        homology=float(row["homology"]) if names else None,
        known=names[row["known"]] if names and row["known"] >= 0 else None,
    )
