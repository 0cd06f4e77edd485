"""Score store → track files: bigWig, bedGraph, BED, streamed part by part."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from mirscan.errors import IncompleteError, InputError, UsageError
from mirscan.formats.bed import BedGraphWriter, BedWriter
from mirscan.formats.bigwig import BigWigWriter, check_bigwig
from mirscan.formats.intervals import SortedIntervals
from mirscan.store import ScoreStore

CURVES = (".bw", ".bigwig", ".bedgraph", ".bedgraph.gz")
"""A value for each base or window."""
SUFFIXES = (*CURVES, ".bed", ".bed.gz")
"""What a track file may be called, in any case of letters."""


_Writer: TypeAlias = BigWigWriter | BedGraphWriter | BedWriter
_Track: TypeAlias = tuple[_Writer, Callable[[np.ndarray], np.ndarray]]


def export(store: ScoreStore, output: str | os.PathLike[str], *, per_strand: bool = False) -> tuple[Path, ...]:
    """Write the scores of a finished store as tracks.

    Parameters
    ----------
    store : ScoreStore
        A finished scan.
    output : path
        Its suffix says what is written: ``.bw`` or ``.bedgraph[.gz]`` the higher score of both strands for every
        window; ``.bed[.gz]`` one row for every window and strand. Each window is drawn at its track interval
        (`mirscan.types.Grid.intervals`); a score of 0 is drawn, a window that was not scored is absent.
    per_strand : bool
        Also write each strand's own scores, beside ``output`` (see `track_files`).

    Returns
    -------
    tuple of Path
        The files written. Each appears whole or not at all, and none before the whole store was read.

    Raises
    ------
    UsageError
        If the suffix is none of these.
    InputError
        If a file cannot be written.
    IncompleteError
        If parts of the store are missing or damaged, or the disk is full.
    """
    files = track_files(output, per_strand)
    plan = store.plan
    with _explained(files), contextlib.ExitStack() as stack:
        tracks = _open_tracks(files, store, stack)
        for part, scores in store.iter_scores():
            row = 0
            for piece in plan.pieces(*plan.bounds(part)):
                start, end = plan.grid.intervals(plan.contigs[piece.contig].length, piece.first, piece.count)
                for writer, column in tracks:
                    writer.add_intervals(piece.contig, start, end, column(scores[row : row + piece.count]))
                row += piece.count
    return files


def track_files(output: str | os.PathLike[str], per_strand: bool = False) -> tuple[Path, ...]:
    """The files that `export` writes: ``x.bw``, and per strand ``x.plus.bw`` and ``x.minus.bw``.

    Raises
    ------
    UsageError
        If the suffix is no track's, or strands are asked for apart in a BED, which keeps them apart anyway.
    """
    path = Path(output)
    suffix = suffix_of(path)
    if not per_strand:
        return (path,)
    if suffix in (".bed", ".bed.gz"):
        raise UsageError(f"-o {path} has a row for each strand already; leave out --per-strand")
    stem, ending = path.name[: -len(suffix)], path.name[-len(suffix) :]
    return (path, path.with_name(f"{stem}.plus{ending}"), path.with_name(f"{stem}.minus{ending}"))


def check_format(path: Path, contigs: Sequence[tuple[str, int]]) -> None:
    """Make sure, before anything is computed, that a track's format can hold the contigs.

    Raises
    ------
    InputError
        Naming the file and the contig.
    """
    try:
        if suffix_of(path) in (".bw", ".bigwig"):
            check_bigwig(contigs)
        else:
            SortedIntervals(contigs)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def suffix_of(path: Path, suffixes: Sequence[str] = SUFFIXES) -> str:
    """The one of ``suffixes`` that a file's name ends in, in any case of letters.

    Raises
    ------
    UsageError
        If it ends in none of them.
    """
    for suffix in suffixes:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return suffix
    raise UsageError(f"-o {path}: the name must end in one of {' '.join(suffixes)}")


def _open_tracks(files: Sequence[Path], store: ScoreStore, stack: contextlib.ExitStack) -> list[_Track]:
    contigs = [(contig.name, contig.length) for contig in store.plan.contigs]
    columns: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
        np.asarray if suffix_of(files[0]) in (".bed", ".bed.gz") else _best_strand,
        lambda scores: scores[:, 0],
        lambda scores: scores[:, 1],
    )
    tracks: list[_Track] = []
    for path, column in zip(files, columns, strict=False):
        writer = _writer(path, contigs, store.plan.grid.step)
        stack.enter_context(writer)
        tracks.append((writer, column))
    return tracks


def _best_strand(scores: np.ndarray) -> np.ndarray:
    """The higher score of both strands; NaN only where neither was scored."""
    return np.fmax(scores[:, 0], scores[:, 1])


def _writer(path: Path, contigs: list[tuple[str, int]], step: int) -> _Writer:
    try:
        match suffix_of(path):
            case ".bw" | ".bigwig":
                return BigWigWriter(path, contigs, step_hint=step)
            case ".bedgraph" | ".bedgraph.gz":
                return BedGraphWriter(path, contigs)
            case _:
                return BedWriter(path, contigs)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


@contextlib.contextmanager
def _explained(files: Sequence[Path]) -> Iterator[None]:
    """Say which file the system refused, and whether trying again helps."""
    try:
        yield
    except OSError as error:
        where = error.filename or files[0]
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise IncompleteError(f"disk full at {where}; free space and run the same command again") from error
        raise InputError(f"{where} cannot be written: {error.strerror or error}") from error
