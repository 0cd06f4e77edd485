"""Known precursors from a FASTA, ready to be compared with the hairpins of a genome."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mirscan.errors import InputError
from mirscan.kernels.homology import WORD, Words, index_words
from mirscan.known.precursors import Precursor, read_precursors


class Known(NamedTuple):
    """Known precursors, as `--known` gives them.

    Attributes
    ----------
    names : tuple of str
        Of the precursors, in the order of the file.
    words : Words
        Their index; it counts precursors in the same order.
    digest : str
        SHA-256 over names and bases: a file and its compressed copy agree.
    """

    names: tuple[str, ...]
    words: Words
    digest: str


def read_known(path: Path) -> Known:
    """Read and index a FASTA of known precursors, plain or gzip.

    Raises
    ------
    InputError
        If the file cannot be read, a name holds a control character, or no record has eleven bases in a row.
    """
    precursors = read_precursors(path)
    for precursor in precursors:
        if not precursor.name.isprintable():
            raise InputError(f"{path}: {precursor.name!r} is no name of a precursor; give a FASTA of hairpins")
    known = index_known(precursors)
    if not len(known.words.places):
        raise InputError(f"{path}: no record has {WORD} bases A, C, G, T or U in a row; give a FASTA of hairpins")
    return known


def index_known(precursors: Sequence[Precursor]) -> Known:
    """Index precursors that were read before."""
    digest = hashlib.sha256()
    for precursor in precursors:
        digest.update(f"{precursor.name}\t{len(precursor.codes)}\n".encode())
        digest.update(precursor.codes.tobytes())
    words = index_words([precursor.codes for precursor in precursors])
    return Known(tuple(precursor.name for precursor in precursors), words, digest.hexdigest())
