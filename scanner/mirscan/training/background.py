"""Random sequence that a model learns to tell precursors from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mirscan.kernels.bases import ABSENT, AMBIGUOUS, reverse_complement
from mirscan.known.precursors import Locus, kmers


class Background:
    """Sequence of one part to draw windows from, free of known hairpins (either strand) and of their homologues."""

    POOL, LONGEST = 8192, 250
    """Stretches kept as flanks, and the longest precursor that is embedded in one, bases."""

    def __init__(
        self, contigs: Iterable[tuple[str, np.ndarray]], loci: Iterable[Locus], known: np.ndarray, window: int
    ) -> None:
        places: dict[str, list[Locus]] = {}
        for locus in loci:
            places.setdefault(locus.contig, []).append(locus)
        pieces = []
        for name, codes in contigs:
            codes = codes.copy()
            for locus in places.get(name, ()):
                codes[max(0, locus.start - 20) : locus.end + 20] = ABSENT
            pieces += [codes, np.full(1, ABSENT, dtype=np.uint8)]
        self.codes, self.known = np.concatenate(pieces), known
        generator = np.random.default_rng(0)
        pool = self.draw(generator, self.POOL, self.LONGEST + 2 * window)
        share = _strong(pool).mean(axis=1)
        order = np.argsort(share, kind="stable")
        self.pool, self.share = pool[order], share[order]

    def draw(self, generator: np.random.Generator, count: int, length: int) -> np.ndarray:
        """Random stretches, uint8 (count, length), either strand, without ambiguous bases or 20-mers of precursors."""
        kept: list[np.ndarray] = []
        while sum(map(len, kept)) < count:
            starts = generator.integers(0, len(self.codes) - length, size=min(2 * count, 20_000))
            block = self.codes[starts[:, None] + np.arange(length)]
            block = block[(block < AMBIGUOUS).all(axis=1)]
            words = kmers(block, 20)
            found = np.minimum(np.searchsorted(self.known, words), len(self.known) - 1)
            block = block[~(self.known[found] == words).any(axis=1)]
            turned = generator.random(len(block)) < 0.5
            block[turned] = reverse_complement(block[turned])
            kept.append(block)
        return np.concatenate(kept)[:count]

    def flanks(self, generator: np.random.Generator, codes: np.ndarray) -> np.ndarray:
        """One of the 64 stretches of the pool that are nearest to ``codes`` in G+C content."""
        near = np.searchsorted(self.share, _strong(codes).mean()) - 32
        return self.pool[np.clip(near, 0, len(self.pool) - 64) + generator.integers(64)]


def _strong(codes: np.ndarray) -> np.ndarray:
    return (codes == 1) | (codes == 2)
