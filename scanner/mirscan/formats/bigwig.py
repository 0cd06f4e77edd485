"""Sorted intervals with values → bigWig, streamed: flat memory, nothing published unless the whole file is right.

Layout after Kent et al. 2010 (Bioinformatics 26:2204, supplement): header, zoom headers, total summary, contig B+ tree,
data blocks, R-tree over them, and for each zoom level its blocks and their R-tree.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np

from mirscan.files.atomic import AtomicFile, Publication
from mirscan.formats.atomic import InOrder
from mirscan.formats.intervals import CHUNK, SortedIntervals
from mirscan.formats.summaries import Records, Summary, pack
from mirscan.formats.trees import Block, Blocks, compress, contig_tree, spool

_ITEMS = 1024
"""Items of a full data block; zoom blocks hold half as many records, of eight numbers each."""
_REGULAR = 128
"""Shortest run of even steps that is worth a block of its own (4 bytes an item instead of 8 or 12)."""
_ZOOM_LEVELS = 10
"""More are not read by every browser."""
_FIRST_ZOOM = 32
"""Windows in a record of the finest zoom level: zooms then add a third to the file, not a multiple."""
_BATCH = 32
"""Blocks compressed by one task of a thread."""

_MAGIC = 0x888FFC26
_BEDGRAPH, _VARIABLE_STEP, _FIXED_STEP = 1, 2, 3
_SUMMARY_OFFSET = 64 + 24 * _ZOOM_LEVELS
_TREE_OFFSET = _SUMMARY_OFFSET + 40


_LONGEST = 1 << 32
"""Coordinates are 32-bit numbers."""


def check_bigwig(contigs: Sequence[tuple[str, int]]) -> SortedIntervals:
    """Refuse contigs that a bigWig cannot hold.

    Raises
    ------
    ValueError
        See `SortedIntervals`, and lengths must stay below 2^32.
    """
    order = SortedIntervals(contigs)
    for name, length in zip(order.names, order.lengths, strict=True):
        if length >= _LONGEST:
            raise ValueError(f"{name}: {length} bases, but bigWig coordinates end at 2^32 - 1; use bedGraph")
    return order


class BigWigWriter(Publication):
    """Write one bigWig (version 4) from intervals that come contig after contig in order.

    Intervals become one item each; equal neighbours are never merged. Runs of even steps are stored as fixedStep
    blocks, what lies between them as variableStep or bedGraph blocks. The bytes depend on the intervals alone, not on
    how many a call brings. Everything goes to a temporary file beside `path` that is synced and renamed by `close`;
    an exception in a ``with`` block, or in any method, publishes nothing.

    Parameters
    ----------
    path : str or Path
        The final name.
    contigs : sequence of (name, length)
        All contigs, those without data included, in the order of their data.
    step_hint : int
        Bases between windows: the finest zoom level sums up 32 of them, each next one four times more.
    threads : int
        Threads that compress.
    level : int
        zlib level; scores hardly compress, so a higher one costs time and saves little.

    Raises
    ------
    ValueError
        If a contig is unusable: see `SortedIntervals`, and lengths must stay below 2^32.
    OSError
        From here or any method: the file system's own error, a full disk included.
    """

    def __init__(
        self,
        path: str | Path,
        contigs: Sequence[tuple[str, int]],
        *,
        step_hint: int = 20,
        threads: int = 2,
        level: int = 1,
    ) -> None:
        if step_hint < 1:
            raise ValueError(f"step_hint {step_hint}: need at least 1")
        self._order = check_bigwig(contigs)
        self._level = level
        self._filled = 0
        self._contigs, self._starts, self._ends = (np.empty(CHUNK, np.int64) for _ in range(3))
        self._values = np.empty(CHUNK, np.float32)
        self._summary = Summary()
        self._pool = InOrder(threads)
        self._atomic = AtomicFile(path)
        folder = self._atomic.path.parent
        longest = max(self._order.lengths)
        reductions = [_FIRST_ZOOM * step_hint * 4**k for k in range(_ZOOM_LEVELS)]
        self._zooms = [_ZoomLevel(r, folder) for r in reductions if r == reductions[0] or r < longest]
        tree = contig_tree(self._order.names, self._order.lengths, offset=_TREE_OFFSET)
        self._data_offset = _TREE_OFFSET + len(tree)
        self._blocks = Blocks(self._atomic.file, folder, offset=self._data_offset + 8)
        try:
            self._atomic.write(bytes(_TREE_OFFSET) + tree + bytes(8))
        except BaseException:
            self.abort()
            raise

    def add(self, contig: int | str, first: int, values: np.ndarray, step: int, span: int) -> None:
        """Append a run of windows: value ``k`` stands for ``[first + k * step, first + k * step + span)``.

        Parameters
        ----------
        contig : int or str
            Number or name.
        first : int
            Start of the first interval, 0-based.
        values : float32 (n,)
            NaN = absent.
        step, span : int
            Bases from start to start, and bases covered; ``1 <= span <= step``.

        Raises
        ------
        ValueError
            As `add_intervals`.
        """
        for offset in range(0, len(values), CHUNK):
            chunk = values[offset : offset + CHUNK]
            start = first + (offset + np.arange(len(chunk), dtype=np.int64)) * step
            self.add_intervals(contig, start, start + span, chunk)

    def add_intervals(self, contig: int | str, start: np.ndarray, end: np.ndarray, values: np.ndarray) -> None:
        """Append sorted intervals ``[start, end)`` that do not overlap.

        Parameters
        ----------
        contig : int or str
            Number or name.
        start, end : int64 (n,)
            0-based, half-open.
        values : float32 (n,)
            NaN = absent.

        Raises
        ------
        ValueError
            If the intervals are wrong (see `SortedIntervals.chunks`) or the writer is closed. The writer is then
            aborted: a file with a hole must not be published by accident.
        """
        if not self._open:
            raise ValueError("the bigWig writer is closed")
        try:
            for number, *columns in self._order.chunks(contig, start, end, values):
                present = ~np.isnan(columns[2])
                self._append(number, *(columns if present.all() else [column[present] for column in columns]))
        except BaseException:
            self.abort()
            raise

    def _append(self, contig: int, start: np.ndarray, end: np.ndarray, values: np.ndarray) -> None:
        """Fill the buffer; it is written when full, so blocks do not depend on how intervals arrive."""
        taken = 0
        while taken < len(values):
            count = min(CHUNK - self._filled, len(values) - taken)
            source, target = slice(taken, taken + count), slice(self._filled, self._filled + count)
            self._contigs[target] = contig
            self._starts[target], self._ends[target], self._values[target] = start[source], end[source], values[source]
            self._filled += count
            taken += count
            if self._filled == CHUNK:
                self._flush()

    def _flush(self) -> None:
        """Hand the buffered intervals to the data blocks, the zoom levels and the summary."""
        if not self._filled:
            return
        rows = slice(0, self._filled)
        contig, start, end, values = (
            column[rows] for column in (self._contigs, self._starts, self._ends, self._values)
        )
        self._filled = 0
        edges = [0, *(np.flatnonzero(np.diff(contig)) + 1).tolist(), len(contig)]
        blocks = [
            _section(int(contig[first]), start[piece], end[piece], values[piece], step)
            for first, stop in pairwise(edges)
            for piece, step in _pieces(start, end, first, stop)
        ]
        for first in range(0, len(blocks), _BATCH):
            self._pool.submit(self._blocks.write, compress, blocks[first : first + _BATCH], self._level)
        records = Records.of_items(contig, start, end, values)
        self._summary.add(records)
        self._zoom(records, last=False)

    def _zoom(self, records: Records, *, last: bool) -> None:
        """Sum records up in the finest zoom level, what that closes in the next one, and so on."""
        for zoom in self._zooms:
            records = zoom.add(records, last=last)
            for blocks in zoom.full_blocks(last=last):
                self._pool.submit(zoom.blocks.write, compress, blocks, self._level)

    def _publish(self) -> None:
        self._flush()
        self._zoom(Records.none(), last=True)
        self._pool.finish()
        self._pool.stop()
        file = self._atomic.file
        index_offset = self._blocks.write_index(file, items=1, shift=0)
        zoom_headers, finer = [], 0
        for zoom in self._zooms:
            if zoom.count and zoom.count != finer:  # a level that sums up nothing further helps nobody
                zoom_headers.append(zoom.write(file))
            finer = zoom.count
        file.write(struct.pack("<I", _MAGIC))
        largest = max(blocks.largest for blocks in [self._blocks, *(zoom.blocks for zoom in self._zooms)])
        offsets = _TREE_OFFSET, self._data_offset, index_offset
        file.seek(0)
        file.write(struct.pack("<IHHQQQ", _MAGIC, 4, len(zoom_headers), *offsets))
        file.write(struct.pack("<HHQQIQ", 0, 0, 0, _SUMMARY_OFFSET, largest, 0))
        file.write(b"".join(zoom_headers))
        file.seek(_SUMMARY_OFFSET)
        file.write(self._summary.pack())
        file.seek(self._data_offset)
        file.write(struct.pack("<Q", self._blocks.count))
        self._close_spools()
        self._atomic.close()

    def _discard(self) -> None:
        self._pool.stop()
        self._close_spools()
        self._atomic.abort()

    def _close_spools(self) -> None:
        self._blocks.leaves.close()
        for zoom in self._zooms:
            zoom.spool.close()
            zoom.blocks.leaves.close()


class _ZoomLevel:
    """Records of one resolution: the open one, those of a block not yet full, and the finished blocks in a spool."""

    def __init__(self, reduction: int, folder: Path) -> None:
        self.reduction = reduction
        self.count = 0
        self.spool = spool(folder)
        self.blocks = Blocks(self.spool, folder, offset=0)
        self._pending = Records.none()
        self._closed = Records.none()

    def add(self, records: Records, *, last: bool) -> Records:
        """Sum up; return the records that no later one can still join, for the next coarser level."""
        # Reduced first, so that only few records are copied behind the open one.
        records = self._pending.then(records.reduce(self.reduction)).reduce(self.reduction)
        stop = len(records.start) - (0 if last else 1)
        self._pending, closed = records.rows(slice(stop, None)), records.rows(slice(0, stop))
        self._closed = self._closed.then(closed)
        self.count += len(closed.start)
        return closed

    def full_blocks(self, *, last: bool) -> Iterator[list[Block]]:
        """Blocks of closed records ready to be compressed, in batches; a block never spans two contigs."""
        records, size = self._closed, _ITEMS // 2
        if len(records.start) < size and not last:
            return
        edges = [0, *(np.flatnonzero(np.diff(records.contig)) + 1).tolist(), len(records.start)]
        cuts = [
            (first, min(first + size, stop)) for start, stop in pairwise(edges) for first in range(start, stop, size)
        ]
        # The last block may still grow, unless it is full or nothing more will come.
        grows = bool(cuts) and not last and cuts[-1][1] - cuts[-1][0] < size
        kept = cuts.pop()[0] if grows else len(records.start)
        self._closed = records.rows(slice(kept, None))
        packed = pack(records)
        blocks = [
            Block(
                int(packed["contig"][a]), int(packed["start"][a]), int(packed["end"][b - 1]), 0, packed[a:b].tobytes()
            )
            for a, b in cuts
        ]
        for first in range(0, len(blocks), _BATCH):
            yield blocks[first : first + _BATCH]

    def write(self, file: IO[bytes]) -> bytes:
        """Copy the level into the bigWig; return its zoom header."""
        offset = file.tell()
        file.write(struct.pack("<I", self.count))
        self.spool.seek(0)
        shutil.copyfileobj(self.spool, file)
        index_offset = self.blocks.write_index(file, items=_ITEMS // 2, shift=offset + 4)
        return struct.pack("<IIQQ", self.reduction, 0, offset, index_offset)


def _pieces(start: np.ndarray, end: np.ndarray, first: int, stop: int) -> Iterator[tuple[slice, int]]:
    """Cut intervals `first` to `stop` into blocks: ``(rows, step)``, step 0 where steps or spans are uneven.

    Only runs of `_REGULAR` intervals or more become fixedStep blocks, so that scattered short runs and single
    intervals share blocks instead of opening one each.
    """

    def cut(a: int, b: int, step: int) -> Iterator[tuple[slice, int]]:
        for at in range(a, b, _ITEMS):
            yield slice(at, min(at + _ITEMS, b)), step

    done = first
    if stop - first > _REGULAR:
        span = end[first:stop] - start[first:stop]
        link = np.where(span[1:] == span[:-1], np.diff(start[first:stop]), 0)  # step between neighbours of equal span
        edge = np.flatnonzero(np.diff(link, prepend=-1, append=-1))
        run = np.flatnonzero((np.diff(edge) >= _REGULAR) & (link[edge[:-1]] > 0))
        for a, b in zip(edge[run].tolist(), edge[run + 1].tolist(), strict=True):
            begin = max(first + a, done)  # two runs may share an interval; the earlier one keeps it
            yield from cut(done, begin, 0)
            yield from cut(begin, first + b + 1, int(link[a]))
            done = first + b + 1
    yield from cut(done, stop, 0)


def _section(contig: int, start: np.ndarray, end: np.ndarray, values: np.ndarray, step: int) -> Block:
    """One uncompressed data block (Kent et al. 2010, supplement: binary WIG section)."""
    span = end - start
    even = bool((span == span[0]).all())
    kind = _FIXED_STEP if step else _VARIABLE_STEP if even else _BEDGRAPH
    columns = {_FIXED_STEP: [], _VARIABLE_STEP: [start], _BEDGRAPH: [start, end]}[kind]
    items = np.empty((len(values), len(columns) + 1), "<u4")
    for k, column in enumerate(columns):
        items[:, k] = column
    items[:, -1] = values.astype("<f4", copy=False).view("<u4")
    a, b = int(start[0]), int(end[-1])
    header = struct.pack("<IIIIIBBH", contig, a, b, step, int(span[0]) if even else 0, kind, 0, len(values))
    return Block(contig, a, b, 0, header + items.tobytes())
