"""Candidate precursor loci of a hairpin model: the best hairpins of a store that do not overlap a better one."""

from __future__ import annotations

import bisect
import math
from typing import TYPE_CHECKING

import numpy as np

from mirscan.flags import NEAR, find_flags
from mirscan.folding import turner_tables
from mirscan.kernels.bases import decode, reverse_complement
from mirscan.kernels.hairpins import dot_brackets, trace_hairpins
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
        Threshold instead of the budget.

    Raises
    ------
    IncompleteError
        If parts of the store are missing or damaged.
    """
    if calls_per_mb < 0:
        raise ValueError(f"calls_per_mb {calls_per_mb}: need at least 0")
    plan = store.plan
    megabases = store.summary(verify=False)["scored"] / 2 * plan.grid.step / 1e6
    budget = math.ceil(calls_per_mb * megabases) if min_score is None else None
    # hairpins at the seam of two parts may displace one another: hold some more than the budget
    held = None if budget is None else 2 * budget + 2 * plan.parts
    floor = np.float32(0 if min_score is None else min_score)
    best: np.ndarray | None = None
    for part in range(plan.parts):
        table = store.read_hairpins(part)
        table = table[(table["score"] >= floor) & (table["score"] > 0)]
        best = table if best is None else np.concatenate([best, table])
        best = best[non_redundant(best)]
        if held is not None and len(best) > held:
            best = best[:held]
            floor = best["score"][-1]
    if best is None or not len(best):
        return []
    best = best[:budget]
    best = best[np.lexsort((best["minus"], best["end"], best["start"], best["contig"]))]
    return [_call(row, number, store, genome) for number, row in enumerate(best, 1)]


def non_redundant(table: np.ndarray) -> np.ndarray:
    """Rows of the hairpins that overlap no better one on their strand, best first; of equals the first by place."""
    order = np.lexsort((table["minus"], table["end"], table["start"], table["contig"], -table["score"]))
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


def _call(row: np.void, number: int, store: ScoreStore, genome: Genome | None) -> Call:
    start, end, minus = int(row["start"]), int(row["end"]), bool(row["minus"])
    sequence = structure = flags = None
    if genome is not None:
        contig, low = int(row["contig"]), max(0, start - NEAR)
        around = genome.codes(contig, low, min(end + NEAR, genome.contigs[contig].length))
        flags = find_flags(around, start - low, end - low)
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
    )
