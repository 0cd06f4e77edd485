"""The two trees of a bigWig: contig name → (number, length), and place in the genome → compressed block.

Layout after Kent et al. 2010 (Bioinformatics 26:2204, supplement).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from mirscan.files.temporary import nameless

_CONTIG_MAGIC, _PLACE_MAGIC = 0x78CA8C91, 0x2468ACE0
_FANOUT = 256
"""Children of a tree node."""
_SPOOL = 1 << 18
"""Bytes of an index or zoom level kept in memory before they move to a temporary file."""

_BRANCH = np.dtype([("first", "<u4"), ("start", "<u4"), ("last", "<u4"), ("end", "<u4"), ("offset", "<u8")])
"""R-tree entry: from base `start` of contig `first` to base `end` of contig `last`, and where in the file."""
_LEAF = np.dtype([*_BRANCH.descr, ("size", "<u8")])
_LEAF_BYTES = struct.Struct("<IIIIQQ")


def spool(folder: Path) -> IO[bytes]:
    """A nameless file that lives in memory while small, then in `folder`: nothing is left behind, even by a kill."""
    return nameless(folder, memory=_SPOOL)


class Block(NamedTuple):
    """A block and the place it covers; `raw` bytes before compression."""

    contig: int
    start: int
    end: int
    raw: int
    data: bytes


class Blocks:
    """Compressed blocks appended to a file from `offset` on, and the leaves of the R-tree over them."""

    def __init__(self, file: IO[bytes], folder: Path, *, offset: int) -> None:
        self.file = file
        self.offset = offset
        self.leaves = spool(folder)
        self.count = 0
        self.largest = 0

    def write(self, blocks: list[Block]) -> None:
        """Append compressed blocks, which follow those before them in the genome."""
        for block in blocks:
            size = len(block.data)
            self.leaves.write(_LEAF_BYTES.pack(block.contig, block.start, block.contig, block.end, self.offset, size))
            self.file.write(block.data)
            self.offset += size
        self.count += len(blocks)
        self.largest = max(self.largest, *(block.raw for block in blocks))

    def write_index(self, file: IO[bytes], *, items: int, shift: int) -> int:
        """Write the R-tree, level by level from the root; return its offset.

        `shift` is added to every block's offset: the bytes before it in the file it was copied to.
        """
        levels = [
            np.concatenate([_parents(leaves) for leaves in self._read(_FANOUT * _FANOUT)] or [np.zeros(1, _BRANCH)])
        ]
        while len(levels[-1]) > 1:
            levels.append(_parents(levels[-1]))
        root, offset = levels[-1][0], file.tell()
        bounds = [int(root[name]) for name in ("first", "start", "last", "end")]
        file.write(struct.pack("<IIQIIIIQII", _PLACE_MAGIC, _FANOUT, self.count, *bounds, offset, items, 0))
        for depth in range(len(levels) - 1, 0, -1):
            children = levels[depth - 1]
            size = 4 + _FANOUT * (_LEAF if depth == 1 else _BRANCH).itemsize
            below = file.tell() + 4 * len(levels[depth]) + children.nbytes
            children["offset"] = below + np.arange(len(children)) * size
            for first in range(0, len(children), _FANOUT):
                _write_node(file, children[first : first + _FANOUT], is_leaf=False)
        for leaves in self._read(_FANOUT):
            leaves["offset"] += shift
            _write_node(file, leaves, is_leaf=True)
        if not self.count:
            _write_node(file, np.empty(0, _LEAF), is_leaf=True)
        return offset

    def _read(self, count: int) -> Iterator[np.ndarray]:
        self.leaves.seek(0)
        while data := self.leaves.read(count * _LEAF.itemsize):
            yield np.frombuffer(data, _LEAF).copy()


def compress(blocks: list[Block], level: int) -> list[Block]:
    """The blocks with their data compressed by zlib."""
    return [block._replace(raw=len(block.data), data=zlib.compress(block.data, level)) for block in blocks]


def _parents(children: np.ndarray) -> np.ndarray:
    """R-tree entries over groups of sorted entries, offsets still 0."""
    first = np.arange(0, len(children), _FANOUT)
    last = np.minimum(first + _FANOUT, len(children)) - 1
    parents = np.zeros(len(first), _BRANCH)
    parents["first"], parents["start"] = children["first"][first], children["start"][first]
    parents["last"], parents["end"] = children["last"][last], children["end"][last]
    return parents


def _write_node(file: IO[bytes], entries: np.ndarray, *, is_leaf: bool) -> None:
    file.write(struct.pack("<BBH", is_leaf, 0, len(entries)) + entries.tobytes())


def contig_tree(names: list[str], lengths: list[int], *, offset: int) -> bytes:
    """The B+ tree from name to (number, length), sorted by the bytes of the names, to stand at `offset` of the file."""
    encoded = [name.encode() for name in names]
    width = max(len(name) for name in encoded)
    order = sorted(range(len(names)), key=encoded.__getitem__)
    fanout = min(_FANOUT, len(names))
    keys = [encoded[k].ljust(width, b"\0") for k in order]
    leaves = [key + struct.pack("<II", k, lengths[k]) for key, k in zip(keys, order, strict=True)]
    counts = [len(leaves)]  # entries of each level, leaves first
    while counts[-1] > fanout:
        counts.append(-(-counts[-1] // fanout))
    full = 4 + fanout * (width + 8)  # bytes of a full node: a leaf's value and a branch's offset both take 8
    tree = bytearray(struct.pack("<IIIIQQ", _CONTIG_MAGIC, fanout, width, 8, len(names), 0))
    for depth in range(len(counts) - 1, 0, -1):
        nodes = -(-counts[depth] // fanout)
        below = offset + len(tree) + 4 * nodes + counts[depth] * (width + 8)
        branches = [keys[k * fanout**depth] + struct.pack("<Q", below + k * full) for k in range(counts[depth])]
        tree += _contig_nodes(branches, fanout, is_leaf=False)
    return bytes(tree + _contig_nodes(leaves, fanout, is_leaf=True))


def _contig_nodes(entries: list[bytes], fanout: int, *, is_leaf: bool) -> bytes:
    groups = (entries[first : first + fanout] for first in range(0, len(entries), fanout))
    return b"".join(struct.pack("<BBH", is_leaf, 0, len(group)) + b"".join(group) for group in groups)
