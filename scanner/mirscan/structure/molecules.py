"""Candidate precursors, read, folded and kept: sequences to the molecules that models are given."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import itertools
import sys
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mirscan.errors import InputError, UsageError
from mirscan.files.atomic import save_arrays
from mirscan.genome.fasta import BLOCK, FastaReader, inflate
from mirscan.kernels.bases import ABSENT, AMBIGUOUS, CODE
from mirscan.kernels.stems import pair_table
from mirscan.structure.engines import over_tiles
from mirscan.structure.folders import HairpinFolder, ViennaFolder, fold_stem_loops
from mirscan.types import ModelSpec, Molecules

FOLDERS = ("viennarna", "hairpins")
"""What folds: RNAfold's minimum free energy structures, or the best stem-loop alone, many times faster."""
LONGEST = 2000
"""Bases of a molecule: the longest known precursors, of plants, have 900; whatever is longer is no candidate."""
TILE = 128
"""Windows that a thread folds at a time."""
_RNA = np.frombuffer(b"ACGUN", dtype=np.uint8)

RowFolder = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Codes (B, L) to partners (B, L) and energies (B,), as in `mirscan.types.Molecules`."""


class Sequences(NamedTuple):
    """The records of a FASTA of candidate precursors.

    Attributes
    ----------
    names : list of str
        First token of each header.
    texts : list of str
        A, C, G, U and N, upper case.
    """

    names: list[str]
    texts: list[str]


def read_sequences(path: Path) -> Sequences:
    """Read a FASTA, plain or gzip, ``-`` being standard input.

    Lower case counts as upper case, T as U, every ambiguity code as N.

    Raises
    ------
    InputError
        If the file cannot be read, holds no record, or a record is empty, nameless or longer than `LONGEST`.
    """
    names: list[str] = []
    pieces: list[list[bytes]] = []
    places: list[str] = []
    try:
        with contextlib.ExitStack() as held:
            file = sys.stdin.buffer if str(path) == "-" else held.enter_context(open(path, "rb"))
            head = file.read(BLOCK)
            packed = head.startswith(b"\x1f\x8b")
            blocks: Iterable[bytes] = itertools.chain([head], iter(lambda: file.read(BLOCK), b""))
            for name, where, letters in FastaReader(inflate(blocks, str(path)) if packed else blocks, str(path)):
                if not letters.size:
                    names.append(name.decode("utf-8", "replace"))
                    pieces.append([])
                    places.append(where)
                else:
                    pieces[-1].append(_RNA[np.minimum(CODE[letters], AMBIGUOUS)].tobytes())
                if sum(map(len, pieces[-1])) > LONGEST:
                    raise InputError(
                        f"{where}: {names[-1]!r} has more than {LONGEST} bases, too many for a precursor; "
                        "scan long sequences with `mirscan genome`"
                    )
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not names:
        raise InputError(f"{path}: no FASTA record found")
    for record, piece, where in zip(names, pieces, places, strict=True):
        if not record.isprintable() or not record:
            raise InputError(f"{where}: the record has no name that can be printed; write one after '>'")
        if not piece:
            raise InputError(f"{where}: {record!r} has no sequence; remove the record")
    return Sequences(names, [b"".join(piece).decode("ascii") for piece in pieces])


def molecules_of(texts: Sequence[str], structures: Sequence[tuple[str, float]] | None = None) -> Molecules:
    """Molecules of sequences, with structures (dot-bracket and kcal/mol) or unfolded.

    Parameters
    ----------
    texts : sequence of str
        IUPAC letters in either case, DNA or RNA; whatever is no A, C, G, T or U counts as N.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    width = int(lengths.max(initial=0))
    codes = np.full((len(texts), width), ABSENT, dtype=np.uint8)
    inside = np.arange(width) < lengths[:, None]
    codes[inside] = np.minimum(CODE[np.frombuffer("".join(texts).encode("ascii"), dtype=np.uint8)], AMBIGUOUS)
    if structures is None:
        return Molecules(codes, lengths, np.full(codes.shape, -1, np.int16), np.zeros(len(texts), np.float32))
    partners = pair_table([structure for structure, _ in structures], width)
    return Molecules(codes, lengths, partners, np.array([energy for _, energy in structures], dtype=np.float32))


def fold_sequences(texts: Sequence[str], folder: str = "viennarna", processes: int = 1) -> list[tuple[str, float]]:
    """Dot-bracket and energy (kcal/mol) of each sequence.

    Raises
    ------
    UsageError
        If ViennaRNA is asked for and not installed.
    """
    if folder == "hairpins":
        return HairpinFolder().fold(texts)
    _need_viennarna()
    with ViennaFolder(processes) as vienna:
        return vienna.fold(texts)


def digest_of(texts: Sequence[str], folder: str) -> str:
    """Sha256 (hex) of sequences and of what folds them."""
    return hashlib.sha256("\n".join([folder, *texts]).encode()).hexdigest()


def fold_once(texts: Sequence[str], path: Path, folder: str = "viennarna", processes: int = 1) -> Molecules:
    """Folded molecules of sequences; the folds are kept in ``path`` (.npz) and used again for the same sequences."""
    digest = digest_of(texts, folder)
    with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile), np.load(path) as saved:
        if str(saved["digest"]) == digest:
            structures = list(zip(saved["structures"].tolist(), saved["energies"].tolist(), strict=True))
            return molecules_of(texts, structures)
    structures = fold_sequences(texts, folder, processes)
    path.parent.mkdir(parents=True, exist_ok=True)
    texts_of, energies = [text for text, _ in structures], [value for _, value in structures]
    save_arrays(path, {"digest": digest, "structures": texts_of, "energies": energies})
    return molecules_of(texts, structures)


def row_folder(spec: ModelSpec, folder: str, threads: int = 1) -> RowFolder | None:
    """What folds the windows of a model; None for one that needs no structure."""
    if "fold" not in spec.needs:
        return None
    if folder == "hairpins":

        def fold_rows(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            tiles = over_tiles(lambda first, last: fold_stem_loops(codes[first:last]), len(codes), threads, tile=TILE)
            return np.concatenate([tile[0] for tile in tiles]), np.concatenate([tile[1] for tile in tiles])

        return fold_rows
    _need_viennarna()
    vienna = ViennaFolder(threads)

    def fold(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        texts = [_RNA[row[row < ABSENT]].tobytes().decode("ascii") for row in codes]
        folded = molecules_of(texts, vienna.fold(texts))
        partners = np.full(codes.shape, -1, dtype=np.int16)
        partners[:, : folded.partners.shape[1]] = folded.partners
        return partners, folded.energies

    return fold


def window_inputs(spec: ModelSpec, codes: np.ndarray, fold: RowFolder | None) -> tuple[np.ndarray, ...]:
    """The inputs of a window model for windows, codes uint8 (B, window)."""
    if spec.encode is None:
        return (codes,)
    lengths = np.full(len(codes), codes.shape[1], dtype=np.int64)
    if fold is None:
        partners, energies = np.full(codes.shape, -1, dtype=np.int16), np.zeros(len(codes), dtype=np.float32)
    else:
        partners, energies = fold(codes)
    return spec.encode(Molecules(codes, lengths, partners, energies))


def _need_viennarna() -> None:
    if importlib.util.find_spec("RNA") is None:
        raise UsageError("ViennaRNA is not installed: pip install viennarna, or fold with --fold-with hairpins")
