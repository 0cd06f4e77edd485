"""FASTA bytes, plain or gzip, to records: every byte is checked on the way, and errors name the line."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Iterator

import numpy as np

from mirscan.errors import InputError
from mirscan.kernels.bases import CODE
from mirscan.kernels.fasta import (
    BASES,
    BLANK,
    IRREGULAR,
    LINE,
    LINE_BYTES,
    NEXT_RECORD,
    RETURNED,
    STATE_SIZE,
    STOPPED,
    WIDTH,
    strip_lines,
)

BLOCK = 1 << 18
"""Bytes read at once: bases pass through the kernels and the digest while they are in the core's cache."""
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_HEADER_LIMIT = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NOTHING = np.empty(0, dtype=np.uint8)
_OLD_MAC = "a carriage return ends the line alone (old Macintosh line ends?); convert the file with dos2unix -c mac"


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a record's bases lie in the file: what a row of a ``.fai`` index says.

    ``offset`` of the first base, ``width`` bases in ``line_bytes`` bytes a line; ``regular`` when that holds for all.
    """

    offset: int
    width: int
    line_bytes: int
    regular: bool


class FastaReader:
    """The records of a FASTA file, in one pass.

    Iterating gives ``(name, where, letters)``: the name in bytes, ``file:line`` of the header, and a stretch of bases
    (uint8, either case, valid until the next one). A record comes as an empty stretch and then its bases.

    Parameters
    ----------
    blocks : iterable of bytes
        The file's text in stretches of any length.
    source : str
        Name of the file for messages.

    Attributes
    ----------
    layouts : list of Layout
        One a record, once that record is through.
    """

    def __init__(self, blocks: Iterable[bytes], source: str) -> None:
        self.layouts: list[Layout] = []
        self._blocks = blocks
        self._source = source

    def __iter__(self) -> Iterator[tuple[bytes, str, np.ndarray]]:
        """Read the file.

        Raises
        ------
        InputError
            Naming the first line that is no FASTA.
        """
        header: bytes | None = None
        name, where = b"", ""
        line, offset, base = 1, 0, 0
        state: np.ndarray | None = None
        letters = np.empty(BLOCK, dtype=np.uint8)
        for block in self._blocks:
            data = np.frombuffer(block, dtype=np.uint8)
            if data.size > letters.size:
                letters = np.empty(data.size, dtype=np.uint8)
            position = 0
            while position < len(block):
                if header is not None:
                    stop = block.find(b"\n", position) + 1 or len(block)
                    header += block[position:stop]
                    position = stop
                    if len(header) > _HEADER_LIMIT:
                        raise InputError(f"{self._source}:{line}: header longer than 1 MiB; is this a FASTA file?")
                    if header.endswith(b"\n"):
                        name, where = self._name(header, line), f"{self._source}:{line}"
                        header, base = None, offset + position
                        state = np.zeros(STATE_SIZE, dtype=np.int64)
                        state[LINE] = line + 1
                        yield name, where, _NOTHING
                elif state is None:
                    position, line = self._to_first_header(block, line, first=offset == 0)
                    header = b"" if position < len(block) else None
                else:
                    position, count, reason = strip_lines(data, position, CODE, letters, state)
                    if count:
                        yield name, where, letters[:count]
                    if reason == STOPPED:
                        raise InputError(self._refusal(block[position], state, name))
                    if reason == NEXT_RECORD:
                        header, line = b"", int(state[LINE])
                        self._finish(base, state)
                        state = None
            offset += len(block)
        if header is not None:
            name, where = self._name(header, line), f"{self._source}:{line}"
            state, base = np.zeros(STATE_SIZE, dtype=np.int64), offset
            yield name, where, _NOTHING
        if state is not None:
            self._finish(base, state)

    def _to_first_header(self, block: bytes, line: int, first: bool) -> tuple[int, int]:
        mark = len(_BYTE_ORDER_MARK) if first and block.startswith(_BYTE_ORDER_MARK) else 0
        rest = block[mark:].lstrip(b" \t\r\n")
        position = len(block) - len(rest)
        line += block.count(b"\n", 0, position)
        place = f"{self._source}:{line}"
        if not rest or (rest.startswith(b">") and block[mark:position][-1:] in (b"", b"\n")):
            return position, line
        if b"\0" in rest or not rest[:1].isascii():
            raise InputError(f"{place}: binary data, not FASTA; give a FASTA (plain, gzip, bgzip) or 2bit file")
        if rest.startswith(b"@"):
            raise InputError(f"{place}: this looks like FASTQ, reads rather than a genome; give a FASTA file")
        raise InputError(f"{place}: no header: text before the first line that starts with '>'; is this a FASTA file?")

    def _name(self, header: bytes, line: int) -> bytes:
        if b"\r" in header.removesuffix(b"\n").removesuffix(b"\r"):
            raise InputError(f"{self._source}:{line}: {_OLD_MAC}")
        return header[1:].rstrip(b"\r\n").replace(b"\t", b" ").partition(b" ")[0]

    def _finish(self, base: int, state: np.ndarray) -> None:
        # The last line may lack its newline: end it, so that the layout counts it too.
        strip_lines(np.frombuffer(b"\n", dtype=np.uint8), 0, CODE, _NOTHING, state)
        self.layouts.append(Layout(base, int(state[WIDTH]), int(state[LINE_BYTES]), not state[IRREGULAR]))

    def _refusal(self, byte: int, state: np.ndarray, name: bytes) -> str:
        contig = name.decode("utf-8", "replace")
        place = f"{self._source}:{state[LINE]}"
        if state[RETURNED]:
            return f"{place}: {_OLD_MAC}"
        if byte == ord(">"):
            return f"{place}: '>' inside a sequence line of {contig!r}; put the next header on a line of its own"
        if byte == 0:
            return f"{place}: NUL byte in the sequence of {contig!r}: binary or damaged file; get a clean copy"
        if byte >= 128:
            return f"{place}: byte 0x{byte:02x} in the sequence of {contig!r} is not ASCII; get a clean copy"
        if state[BLANK]:
            return f"{place}: blank inside a sequence line of {contig!r} (column {state[BASES] + 1}); remove it"
        advice = "an alignment or a protein? Give unaligned nucleotides" if byte in b"*-." else "only IUPAC letters are"
        return (
            f"{place}: {chr(byte)!r} in the sequence of {contig!r} (column {state[BASES] + 1}) is no nucleotide code; "
            f"{advice}"
        )


def inflate(blocks: Iterable[bytes], source: str) -> Iterator[bytes]:
    """Decompress gzip or bgzip, members in a row, in stretches of at most ``BLOCK`` bytes.

    A bgzip file must end in its empty block: cut at a block's border it is otherwise a sound, shorter gzip file.

    Raises
    ------
    InputError
        If the file is truncated, damaged, or followed by something else.
    """
    member = zlib.decompressobj(wbits=31)
    blocked: bool | None = None
    end, inside = b"", False
    try:
        for block in blocks:
            if blocked is None:
                blocked = block[3:4] == b"\4" and block[12:16] == b"BC\2\0"
            end = (end + block)[-len(_BGZF_END) :]
            text = b""
            while block or len(text) == BLOCK:
                if not inside:
                    # Zeros pad the end of tapes and disk blocks; gzip reads over them, and so do we.
                    block = block.lstrip(b"\0") if member.eof else block
                    if not block:
                        break
                    member = zlib.decompressobj(wbits=31)
                text = member.decompress(block, BLOCK)
                inside = not member.eof
                block = member.unconsumed_tail if inside else member.unused_data
                if text:
                    yield text
    except zlib.error as error:
        raise InputError(f"{source}: damaged gzip data or trailing garbage ({error}); copy the file again") from error
    if inside:
        raise InputError(f"{source}: truncated gzip file; copy it again")
    if blocked and end != _BGZF_END:
        raise InputError(f"{source}: truncated bgzip file: its end-of-file block is missing; copy it again")
