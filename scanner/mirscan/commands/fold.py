"""`mirscan fold`: the stem-loops of a genome as a product of its own, an energy track or a list of hairpins."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from mirscan.errors import InputError, UsageError
from mirscan.files.atomic import Publication
from mirscan.formats import bed, gff3
from mirscan.formats.bigwig import BigWigWriter
from mirscan.genome import Genome, open_genome
from mirscan.genome.regions import select_segments
from mirscan.host import cores
from mirscan.kernels.bases import AMBIGUOUS, reverse_complement
from mirscan.kernels.hairpins import MAX_SPAN, dot_brackets, trace_hairpins
from mirscan.kernels.tracks import lay_over
from mirscan.paths import Paths
from mirscan.scanning.tracks import CURVES, suffix_of, track_files
from mirscan.scanning.tracks import SUFFIXES as TRACKS
from mirscan.structure.engines import NUMBA, Engine, EngineName, choose_engine
from mirscan.structure.hairpins import MARGIN, SPAN
from mirscan.structure.proposals import propose
from mirscan.structure.turner import turner_tables
from mirscan.types import STRANDS, Grid, Hairpin

MIN_SPAN = 40
SUFFIXES = (*TRACKS, ".gff3", ".gff3.gz")
"""What an output may be called, in any case of letters: the first four are the track, the others the list."""
UNKNOWN = 1
"""In place of the energy, which is at most 0, of a base that is ambiguous: absent from the track."""
_RUN = 8
"""A track has an item for some thirty bases; the finest zoom of a bigWig then sums up 256 bases."""
_SECONDS = 30
log = logging.getLogger("mirscan")

_Result = TypeVar("_Result")


class Tile(NamedTuple):
    """Bases ``[first, last)`` of a contig, computed at a time; ``start`` and ``end`` are those of its region."""

    contig: int
    first: int
    last: int
    start: int
    end: int


def fold_genome(
    genome: Path | str,
    output: Path | str,
    *,
    span: int = SPAN,
    per_strand: bool = False,
    regions: Sequence[str] = (),
    regions_file: Path | None = None,
    exclude: Sequence[str] = (),
    min_contig: int = 0,
    threads: int | None = None,
    tile: int | None = None,
    engine: EngineName | None = None,
) -> tuple[Path, ...]:
    """Write the stem-loop energies of a genome, or its hairpins, to a file whose suffix says which.

    Contig by contig in tiles, straight into the writers: memory does not grow with the genome. The same bytes whatever
    the tile, the threads and the engine.

    Parameters
    ----------
    genome : path
        FASTA or 2bit; ``-`` is standard input.
    output : path
        ``.bw`` or ``.bedgraph[.gz]``: `strand_energies`, the lower one of both strands. ``.bed[.gz]`` or
        ``.gff3[.gz]``: `tile_hairpins`, sorted by contig and start.
    span : int
        Longest stem-loop in bases, 40 to 200.
    per_strand : bool
        Also write the track of each strand, ``x.plus.bw`` and ``x.minus.bw``.
    regions, regions_file, exclude, min_contig
        As `mirscan.genome.regions.select_segments` takes them. A track has the bases of a region, a list the hairpins
        that lie wholly inside it; both are those of the whole genome.
    threads : int, optional
        All cores by default.
    tile : int, optional
        Bases computed at a time; what suits the engine by default.
    engine : {"numba", "jax"}, optional
        See `mirscan.structure.engines.choose_engine`.

    Returns
    -------
    tuple of Path
        The files written. Each appears whole or not at all.

    Raises
    ------
    InputError, UsageError
        With one line for the user; no output file is then left behind.
    OSError
        From the file system, with the file's name.
    """
    files = _checked(genome, output, span, per_strand, regions_file, min_contig, threads)
    threads = cores(threads)
    log.info("reading %s", genome)
    with open_genome(genome, spool=Path(output).parent) as opened:
        segments = select_segments(
            opened.contigs,
            Grid(1, 1),
            regions=regions,
            regions_file=regions_file,
            exclude=exclude,
            min_contig=min_contig,
        )
        chosen = choose_engine(engine, bases=sum(segment.count for segment in segments), threads=threads)
        tile = tile or chosen.piece
        tiles = [
            Tile(number, first, min(first + tile, start + count), start, start + count)
            for number, start, count in ((s.contig, s.first, s.count) for s in segments)
            for first in range(start, start + count, tile)
        ]
        if not any((opened.codes(t.contig, t.first, t.last) < AMBIGUOUS).any() for t in tiles):
            raise InputError(f"{genome}: no base is left to fold; none was selected, or all are ambiguous")
        log.info("writing %s", output)
        if suffix_of(files[0], SUFFIXES) in CURVES:
            _write_tracks(files, opened, tiles, span, threads, chosen)
        else:
            _write_hairpins(files[0], opened, tiles, span, threads, chosen)
    return files


def strand_energies(codes: np.ndarray, first: int, last: int, span: int = SPAN, engine: Engine = NUMBA) -> np.ndarray:
    """Energy over each base of ``codes[first:last]``, both strands.

    Every base has a best stem-loop that opens there: of those of at most ``span`` bases whose 5' end is that base, the
    one of least energy (the shorter of equals). It is laid over all bases it spans, and a base has the lowest energy
    that lies over it. So a hairpin is a well whose floor reaches from its one end to the other; weaker stem-loops that
    share an arm with it are the steps around. The reverse complement of a contig has the mirror image, strands
    exchanged.

    Parameters
    ----------
    codes : (n,) uint8
        Plus strand, with at least ``2 * span`` bases of the contig before ``first`` and after ``last`` where it has
        them.
    first, last : int
        Bases to report.
    span : int
        Longest stem-loop in bases.

    Returns
    -------
    (2, last - first) int16
        Plus strand first, in dcal/mol (0.01 kcal/mol); 0 where no stem-loop below 0 lies, `UNKNOWN` where the base is
        ambiguous.
    """
    found = np.empty((2, last - first), dtype=np.int16)
    found[0] = _energies(codes, first, last, span, engine)
    found[1] = _energies(reverse_complement(codes), len(codes) - last, len(codes) - first, span, engine)[::-1]
    found[:, codes[first:last] >= AMBIGUOUS] = UNKNOWN
    return found


def _energies(strand: np.ndarray, first: int, last: int, span: int, engine: Engine) -> np.ndarray:
    opens = max(0, first - span + 1)
    scan = engine.scan(strand, turner_tables(), span, opens, last)
    return lay_over(scan.opened, scan.lengths)[first - opens :]


def tile_hairpins(
    codes: np.ndarray, first: int, last: int, span: int = SPAN, engine: Engine = NUMBA
) -> list[tuple[int, int, int, float, str]]:
    """Proposed hairpins (`mirscan.structure.proposals.propose`) of both strands that start in ``codes[first:last]``.

    Parameters
    ----------
    codes : (n,) uint8
        Plus strand, with `mirscan.structure.hairpins.MARGIN` bases of the contig before ``first`` and after
        ``last + span`` where it has them.
    first, last : int
        Where starts may lie.
    span : int
        Longest hairpin in bases.

    Returns
    -------
    list of (start, end, strand, energy, structure)
        Sorted; 0-based and half-open on the plus strand, strand 0 or 1, kcal/mol, dot-bracket 5' to 3' on the strand.
    """
    tables, length = turner_tables(), len(codes)
    stop = min(last + span, length)  # centres of what starts before `last` lie before it
    rows: list[tuple[int, int, int, float, str]] = []
    for number, strand in enumerate((codes, reverse_complement(codes))):
        bounds = (length - stop, length - first) if number else (first, stop)
        found = propose(strand, tables, *bounds, span, scan=engine.scan)
        starts = length - found.ends if number else found.starts
        kept = (starts >= first) & (starts < last)
        starts, lengths = starts[kept], (found.ends - found.starts)[kept]
        structures = dot_brackets(trace_hairpins(strand, tables, found.starts[kept], lengths), lengths)
        columns = starts.tolist(), (starts + lengths).tolist(), found.energies[kept].tolist(), structures
        rows += [
            (start, end, number, energy, structure) for start, end, energy, structure in zip(*columns, strict=True)
        ]
    return sorted(rows)


def _write_tracks(
    files: Sequence[Path], genome: Genome, tiles: Sequence[Tile], span: int, threads: int, engine: Engine
) -> None:
    def job(tile: Tile) -> np.ndarray:
        codes, low = _around(genome, tile, 2 * span)
        return strand_energies(codes, tile.first - low, tile.last - low, span, engine)

    with contextlib.ExitStack() as stack:
        tracks = [stack.enter_context(_Track(path, genome)) for path in files]
        for tile, (plus, minus) in _streamed(job, tiles, threads):
            for track, energies in zip(tracks, (np.minimum(plus, minus), plus, minus), strict=False):
                track.add(tile.contig, tile.first, energies)


def _write_hairpins(path: Path, genome: Genome, tiles: Sequence[Tile], span: int, threads: int, engine: Engine) -> None:
    def job(tile: Tile) -> list[Hairpin]:
        codes, low = _around(genome, tile, span + MARGIN)
        name = genome.contigs[tile.contig].name
        found = tile_hairpins(codes, tile.first - low, tile.last - low, span, engine)
        return [
            Hairpin(name, start + low, end + low, STRANDS[strand], structure, energy)
            for start, end, strand, energy, structure in found
            if end + low <= tile.end
        ]

    hairpins = (hairpin for _, found in _streamed(job, tiles, threads) for hairpin in found)
    with contextlib.closing(hairpins):
        if suffix_of(path, SUFFIXES).startswith(".gff3"):
            gff3.write_hairpins(path, hairpins, [(contig.name, contig.length) for contig in genome.contigs])
        else:
            bed.write_hairpins(path, hairpins)


def _around(genome: Genome, tile: Tile, margin: int) -> tuple[np.ndarray, int]:
    """A tile's bases and those around it, whatever the region; and where they begin."""
    low = max(0, tile.first - margin)
    return genome.codes(tile.contig, low, min(tile.last + margin, genome.contigs[tile.contig].length)), low


def _streamed(job: Callable[[Tile], _Result], tiles: Sequence[Tile], threads: int) -> Iterator[tuple[Tile, _Result]]:
    """Every tile and its result, in order; few are in flight, however fast they come or slowly they are written."""
    turner_tables()  # made once, before several threads ask for it
    total, done, shown = sum(tile.last - tile.first for tile in tiles), 0, time.monotonic()
    waiting: deque[tuple[Tile, Future[_Result]]] = deque()
    coming = iter(tiles)
    with ThreadPoolExecutor(threads) as pool:
        while True:
            for tile in coming:
                waiting.append((tile, pool.submit(job, tile)))
                if len(waiting) > 2 * threads:
                    break
            if not waiting:
                return
            tile, result = waiting.popleft()
            yield tile, result.result()
            done += tile.last - tile.first
            if time.monotonic() - shown >= _SECONDS:
                shown = time.monotonic()
                log.info("%s of %s bases", f"{done:,}", f"{total:,}")


class _Track(Publication):
    """One track file; equal energies side by side are one item, also where one tile ends and the next begins."""

    def __init__(self, path: Path, genome: Genome) -> None:
        contigs = [(contig.name, contig.length) for contig in genome.contigs]
        self._writer: BigWigWriter | bed.BedGraphWriter
        try:
            if suffix_of(path, SUFFIXES) in (".bw", ".bigwig"):
                self._writer = BigWigWriter(path, contigs, step_hint=_RUN)
            else:
                self._writer = bed.BedGraphWriter(path, contigs)
        except ValueError as error:
            raise InputError(f"{path}: {error}") from error
        self._contig, self._start, self._end, self._energy = 0, 0, 0, UNKNOWN  # the item that may still grow

    def add(self, contig: int, first: int, energies: np.ndarray) -> None:
        """Append the energies (int16, dcal/mol) of the bases from ``first`` on."""
        cuts = np.flatnonzero(np.diff(energies)) + 1
        starts, ends = np.append(0, cuts) + first, np.append(cuts, len(energies)) + first
        values = energies[starts - first]
        if (contig, first, values[0]) == (self._contig, self._end, self._energy):
            starts[0] = self._start
        else:
            self._write_last()
        self._contig, self._start, self._end, self._energy = contig, int(starts[-1]), int(ends[-1]), int(values[-1])
        self._write(contig, starts[:-1], ends[:-1], values[:-1])

    def _write_last(self) -> None:
        if self._end:
            self._write(self._contig, *(np.array([x]) for x in (self._start, self._end, self._energy)))

    def _write(self, contig: int, starts: np.ndarray, ends: np.ndarray, energies: np.ndarray) -> None:
        values = energies.astype(np.float32) / np.float32(100)
        values[energies == UNKNOWN] = np.nan
        self._writer.add_intervals(contig, starts, ends, values)

    def _publish(self) -> None:
        self._write_last()
        self._writer.close()

    def _discard(self) -> None:
        self._writer.abort()


def check_span(span: int) -> None:
    """Refuse a length that the recurrence is not made for.

    Raises
    ------
    UsageError
        Naming the shortest and the longest.
    """
    if not MIN_SPAN <= span <= MAX_SPAN:
        raise UsageError(f"--span {span}: choose {MIN_SPAN} to {MAX_SPAN}")


def _checked(
    genome: Path | str,
    output: Path | str,
    span: int,
    per_strand: bool,
    regions_file: Path | None,
    min_contig: int,
    threads: int | None,
) -> tuple[Path, ...]:
    """The files to write; refuses what cannot work, before anything is read."""
    check_span(span)
    if min_contig < 0:
        raise UsageError(f"--min-contig {min_contig}: must not be negative")
    if threads is not None and threads < 1:
        raise UsageError(f"--threads {threads}: must be at least 1")
    path = Path(output)
    if suffix_of(path, SUFFIXES) in TRACKS:
        files = track_files(path, per_strand)
    elif per_strand:
        raise UsageError(f"-o {path} has both strands already; leave out --per-strand")
    else:
        files = (path,)
    if str(genome) != "-" and not Path(genome).is_file():
        raise InputError(f"{genome}: no such file; give a FASTA (plain, gzip or bgzip), a 2bit file, or - for stdin")
    paths = Paths().reads("the genome", genome).reads("--regions-file", regions_file).writes("--output", files[0])
    for strand in files[1:]:
        paths.writes_beside("--per-strand", strand, files[0], track=True)
    paths.look()
    return files
