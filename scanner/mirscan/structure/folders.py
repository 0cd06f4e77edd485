"""Structures and energies: ViennaRNA as the exact folder, the stem-loop kernel as the fast one."""

from __future__ import annotations

import itertools
import multiprocessing
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from mirscan.files import scratch
from mirscan.kernels.bases import ABSENT, encode
from mirscan.kernels.hairpins import INF, MAX_SPAN, Scan, Tables, dot_brackets, scan_hairpins, trace_hairpins

TILE = 1 << 15
"""Rows of a contig that one thread computes at a time; results do not depend on it."""


class Engine(NamedTuple):
    """What computes the stem-loops of a strand.

    Attributes
    ----------
    scan : callable
        `mirscan.kernels.hairpins.scan_hairpins`, or what is called like it and gives the same values.
    piece : int
        Bases of a contig that one thread best gives it at a time.
    """

    scan: Callable[..., Scan]
    piece: int


NUMBA = Engine(scan_hairpins, 1 << 17)
"""The kernel on a core."""

_Result = TypeVar("_Result")


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


def scan_contig(
    codes: np.ndarray,
    span: int = 120,
    threads: int = 1,
    tile: int = TILE,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best stem-loops of one strand of a contig, its tiles spread over threads.

    Parameters
    ----------
    codes : (n,) uint8
        One strand, 5' to 3'.
    span : int
        Longest stem-loop in bases.
    threads : int
        Tiles computed at a time.
    tile : int
        Rows of a tile; any gives the same result.

    Returns
    -------
    windows, opened : (n,) float32
        Energy in kcal/mol of the best hairpin inside the ``span`` bases from each base on, and of the best one whose
        5' end is that base; 0 where there is none below 0.
    lengths : (n,) int16
        Bases of the latter; 0 where there is none.
    """
    windows, opened = np.zeros((2, len(codes)), dtype=np.float32)
    lengths = np.zeros(len(codes), dtype=np.int16)

    def fill(scan: Scan, first: int, last: int) -> None:
        windows[first:last] = scan.windows / np.float32(100)
        opened[first:last] = scan.opened / np.float32(100)
        lengths[first:last] = scan.lengths

    tables = turner_tables()
    over_tiles(
        lambda first, last: fill(scan_hairpins(codes, tables, span, first, last), first, last),
        len(codes),
        threads,
        tile,
    )
    return windows, opened, lengths


def over_tiles(job: Callable[[int, int], _Result], length: int, threads: int, tile: int = TILE) -> list[_Result]:
    """``job(first, last)`` of every tile of a contig, at most ``threads`` at a time, results in order."""
    firsts = range(0, length, tile)
    lasts = [min(first + tile, length) for first in firsts]
    if threads <= 1:
        return [job(first, last) for first, last in zip(firsts, lasts, strict=True)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(job, firsts, lasts))


_TYPES = {"CG": 0, "GC": 1, "GU": 2, "UG": 3, "AU": 4, "UA": 5}
_BASES = "ACGU"


def _parameters() -> dict[str, list[str]]:
    """Sections of ViennaRNA's Turner-2004 parameter file, as words."""
    import RNA

    RNA.params_load_RNA_Turner2004()
    with scratch() as folder:
        RNA.params_save(str(folder / "turner.par"))
        text = (folder / "turner.par").read_text()
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    sections = (block.partition("\n") for block in re.split(r"^# ", text, flags=re.MULTILINE)[1:])
    return {name.strip(): body.split() for name, _, body in sections}


@cache
def turner_tables() -> Tables:
    """Turner-2004 loop energies of the installed ViennaRNA, laid out for `mirscan.kernels.hairpins`.

    Returns
    -------
    Tables
        int16, dcal/mol, read once a process from what ``RNA.params_save`` writes.
    """
    words = _parameters()

    def numbers(section: str, *shape: int) -> np.ndarray:
        special = {"INF": INF, "DEF": -50}
        values = [special[word] if word in special else round(float(word)) for word in words[section]]
        return np.array(values, dtype=np.int64).reshape(shape or -1)

    def pair_type(first: int, second: int) -> int:
        return _TYPES.get(_BASES[first] + _BASES[second], -1)

    def keyed(left: int, right: int, energy) -> np.ndarray:  # type: ignore[no-untyped-def]
        """Table by ``left`` and ``right`` bases; ``energy`` of what cannot pair is 0."""
        table = np.zeros(4 ** (left + right), dtype=np.int16)
        for key, bases in enumerate(itertools.product(range(4), repeat=left + right)):
            table[key] = energy(*bases)
        return table.reshape(4**left, 4**right)

    def inside(table: np.ndarray) -> np.ndarray:
        return keyed(2, 2, lambda i, x, y, j: table[t, x + 1, y + 1] if (t := pair_type(i, j)) >= 0 else 0)

    def outside(table: np.ndarray) -> np.ndarray:
        return keyed(2, 2, lambda x, p, q, y: table[t, y + 1, x + 1] if (t := pair_type(q, p)) >= 0 else 0)

    misc = words["Misc"]
    terminal_penalty, lxc = int(misc[2]), float(misc[4])
    ninio, _, ninio_most = numbers("NINIO").tolist()
    stack = numbers("stack", 7, 7)
    int11, int21 = numbers("int11", 7, 7, 5, 5), numbers("int21", 7, 7, 5, 5, 5)
    int22 = numbers("int22", 6, 6, 4, 4, 4, 4)
    one_sided = numbers("mismatch_internal_1n", 7, 5, 5)
    if (one_sided != one_sided[:, :1, :1]).any():
        raise ValueError("mismatch_internal_1n depends on the mismatch: not the Turner-2004 parameters of ViennaRNA 2")
    exterior, dangle5, dangle3 = (
        numbers("mismatch_exterior", 7, 5, 5),
        numbers("dangle5", 7, 5),
        numbers("dangle3", 7, 5),
    )

    def loop(energy, i, j, p, q):  # type: ignore[no-untyped-def]
        outer, inner = pair_type(i, j), pair_type(q, p)
        return energy(outer, inner) if outer >= 0 and inner >= 0 else 0

    def outermost(x: int, i: int, j: int, y: int) -> int:
        kind = pair_type(i, j)
        if kind < 0:
            return 0
        end = terminal_penalty if kind >= 2 else 0
        if x < 4 and y < 4:
            return end + exterior[kind, x + 1, y + 1]
        return end + (dangle5[kind, x + 1] if x < 4 else 0) + (dangle3[kind, y + 1] if y < 4 else 0)

    def special(section: str, length: int) -> np.ndarray:
        table = np.full(4**length, INF, dtype=np.int16)
        listed = words[section]
        for loop, energy in zip(listed[0::3], listed[1::3], strict=True):
            table[int("".join(str(_BASES.index(letter)) for letter in loop), 4)] = int(energy)
        return table

    hairpin, interior = numbers("hairpin"), numbers("internal")
    sizes = np.arange(256)
    longer = hairpin[30] + np.floor(lxc * np.log(np.maximum(sizes, 30) / 30)).astype(np.int64)
    every = range(4)
    return Tables(
        pair=np.array([[0 if pair_type(i, j) >= 0 else INF for j in every] for i in every], dtype=np.int16),
        terminal=np.array([[terminal_penalty * (pair_type(i, j) >= 2) for j in every] for i in every], dtype=np.int16),
        one_sided=np.array(
            [[one_sided[t, 0, 0] if (t := pair_type(i, j)) >= 0 else 0 for j in every] for i in every], dtype=np.int16
        ),
        stack=keyed(2, 2, lambda i, p, q, j: loop(lambda s, t: stack[s, t], i, j, p, q)),
        mismatch_hairpin=inside(numbers("mismatch_hairpin", 7, 5, 5)),
        mismatch_interior=inside(numbers("mismatch_internal", 7, 5, 5)),
        mismatch_23=inside(numbers("mismatch_internal_23", 7, 5, 5)),
        outer_interior=outside(numbers("mismatch_internal", 7, 5, 5)),
        outer_23=outside(numbers("mismatch_internal_23", 7, 5, 5)),
        int11=keyed(3, 3, lambda i, x, p, q, y, j: loop(lambda s, t: int11[s, t, x + 1, y + 1], i, j, p, q)),
        int12=keyed(3, 4, lambda i, x, p, q, y, z, j: loop(lambda s, t: int21[s, t, x + 1, y + 1, z + 1], i, j, p, q)),
        int21=keyed(4, 3, lambda i, x, y, p, q, z, j: loop(lambda s, t: int21[t, s, z + 1, x + 1, y + 1], i, j, p, q)),
        int22=keyed(4, 4, lambda i, w, x, p, q, y, z, j: loop(lambda s, t: int22[s, t, w, x, y, z], i, j, p, q)),
        exterior=np.array(
            [[outermost(x, i, j, y) for j in every for y in range(5)] for x in range(5) for i in every], dtype=np.int16
        ),
        hairpin=np.where(sizes <= 30, hairpin[np.minimum(sizes, 30)], longer).astype(np.int16),
        triloop=special("Triloops", 5),
        tetraloop=special("Tetraloops", 6),
        hexaloop=special("Hexaloops", 8),
        bulge=numbers("bulge")[:9].astype(np.int16),
        interior=np.array(
            [[min(INF, interior[a + b] + min(ninio_most, ninio * abs(a - b))) for b in range(9)] for a in range(9)],
            dtype=np.int16,
        ),
    )
