"""Blocks of a genome: the halves that an adapted model learns from in turn, and samples of the whole."""

from __future__ import annotations

import numpy as np

BLOCK = 250_000
"""Bases of a genome that are in one fold: many times a cluster of precursors."""


def fold_of(contig: int | np.ndarray, starts: np.ndarray, ends: np.ndarray, folds: int) -> np.ndarray:
    """The fold (uint8) of each hairpin, given the number of its contig: neighbouring blocks of a genome take turns."""
    return ((contig + (starts + ends) // 2 // BLOCK) % folds).astype(np.uint8)


SAMPLE = 24_000_000
"""Bases that are looked at: whole blocks, drawn over the whole genome."""


def draw_blocks(lengths: list[int], seed: int) -> list[tuple[int, int, int]]:
    """``(contig, start, end)`` of blocks drawn at random over a genome, until `SAMPLE` bases or all are taken."""
    blocks = [(c, start, min(start + BLOCK, n)) for c, n in enumerate(lengths) for start in range(0, n, BLOCK)]
    order = np.random.default_rng(seed).permutation(len(blocks))
    sizes = np.array([blocks[i][2] - blocks[i][1] for i in order])
    count = int(np.searchsorted(np.cumsum(sizes), SAMPLE)) + 1
    return sorted(blocks[i] for i in order[:count])
