"""Structures and energies: ViennaRNA as the exact folder, the stem-loop kernel as the fast one."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Protocol

import numpy as np

from mirscan.kernels.bases import ABSENT, encode
from mirscan.kernels.hairpins import MAX_SPAN, dot_brackets, scan_hairpins, trace_hairpins
from mirscan.structure.turner import turner_tables


class Folder(Protocol):
    """Whatever turns sequences into structures."""

    def fold(self, sequences: Sequence[str]) -> list[tuple[str, float]]:
        """Dot-bracket and energy (kcal/mol) of each sequence, in order.

        Raises
        ------
        ValueError
            If a sequence is empty.
        """
        ...


class ViennaFolder:
    """Minimum free energy structures by ViennaRNA (``RNAfold``'s defaults: Turner 2004, 37 degrees, ``-d2``).

    ViennaRNA holds Python's lock, so parallel folding takes processes: they are started by spawning, on first use,
    and a script that asks for several must guard its main part with ``if __name__ == "__main__"``. A worker that dies
    is an error (``BrokenProcessPool``), never a lost record.

    Parameters
    ----------
    processes : int
        1 or less folds in this process.
    chunk : int
        Sequences sent to a process at a time.
    """

    def __init__(self, processes: int = 1, chunk: int = 64) -> None:
        if chunk < 1:
            raise ValueError(f"chunk {chunk}: need at least one sequence")
        self._processes = processes
        self._chunk = chunk
        self._pool: ProcessPoolExecutor | None = None

    def fold(self, sequences: Sequence[str]) -> list[tuple[str, float]]:
        """See `Folder.fold`."""
        texts = [_upper_rna(sequence, number) for number, sequence in enumerate(sequences)]
        if self._processes <= 1 or len(texts) <= self._chunk:
            return _fold_chunk(texts)
        if self._pool is None:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._processes, mp_context=spawn)
        chunks = [texts[start : start + self._chunk] for start in range(0, len(texts), self._chunk)]
        return list(itertools.chain.from_iterable(self._pool.map(_fold_chunk, chunks)))

    def close(self) -> None:
        """Stop the processes; the next fold starts new ones."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def __enter__(self) -> ViennaFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _upper_rna(sequence: str, number: int) -> str:
    if not sequence:  # RNA.fold("") would return an energy of 1e5
        raise ValueError(f"sequence {number} is empty")
    return sequence.upper().replace("T", "U")


def _fold_chunk(sequences: list[str]) -> list[tuple[str, float]]:
    import RNA

    return [tuple(RNA.fold(sequence)) for sequence in sequences]


class HairpinFolder:
    """The best stem-loop of each sequence, its pairs and energy, by the stem-loop kernel.

    For hairpins this is RNAfold's answer (identical energy for 94 % of human precursors) many times faster;
    multiloops and several hairpins side by side are left out. A sequence without any hairpin below 0 kcal/mol is
    returned open, with energy 0.

    Parameters
    ----------
    span : int
        Longest stem-loop in bases.
    chunk : int
        Sequences computed in one pass.
    """

    def __init__(self, span: int = MAX_SPAN, chunk: int = 256) -> None:
        self._span = span
        self._chunk = chunk

    def fold(self, sequences: Sequence[str]) -> list[tuple[str, float]]:
        """See `Folder.fold`."""
        texts = [_upper_rna(sequence, number) for number, sequence in enumerate(sequences)]
        chunks = (texts[start : start + self._chunk] for start in range(0, len(texts), self._chunk))
        return [folded for chunk in chunks for folded in self._fold_chunk(chunk)]

    def _fold_chunk(self, sequences: list[str]) -> list[tuple[str, float]]:
        lengths = np.array([len(sequence) for sequence in sequences])
        codes = np.full((len(sequences), int(lengths.max())), ABSENT, dtype=np.uint8)
        for row, sequence in zip(codes, sequences, strict=True):
            row[: len(sequence)] = encode(np.frombuffer(sequence.encode("ascii"), dtype=np.uint8))
        partners, energies = fold_stem_loops(codes, self._span)
        return list(zip(dot_brackets(partners, lengths), energies.tolist(), strict=True))


def fold_stem_loops(codes: np.ndarray, span: int = MAX_SPAN) -> tuple[np.ndarray, np.ndarray]:
    """The best stem-loop of each row of bases, by the stem-loop kernel in one pass.

    Parameters
    ----------
    codes : (B, L) uint8
        `mirscan.kernels.bases.ABSENT` beyond the end of a row.
    span : int
        Longest stem-loop in bases.

    Returns
    -------
    partners : (B, L) int16
        Column of the base that each base pairs with; -1 where it is unpaired.
    energies : (B,) float32
        kcal/mol; 0 where a row has no stem-loop below 0.
    """
    rows, width = codes.shape
    partners = np.full((rows, width), -1, dtype=np.int16)
    energies = np.zeros(rows, dtype=np.float32)
    if not rows or not width:
        return partners, energies
    # One contig of all rows, so far apart that no stem-loop reaches from one to the next.
    span = max(5, min(span, width))
    contig = np.full((rows, width + span), ABSENT, dtype=np.uint8)
    contig[:, :width] = codes
    scan = scan_hairpins(contig.reshape(-1), turner_tables(), span)
    opened = scan.opened.reshape(rows, -1)[:, :width]
    first = opened.argmin(axis=1)
    energy = opened[np.arange(rows), first]
    found = np.flatnonzero(energy < 0)
    energies[found] = energy[found] / np.float32(100)
    places = found * (width + span) + first[found]
    lengths = scan.lengths[places]
    traced = trace_hairpins(contig.reshape(-1), turner_tables(), places, lengths)
    row, column = np.nonzero(traced >= 0)
    partners[found[row], first[found][row] + column] = traced[row, column] + first[found][row]
    return partners, energies
