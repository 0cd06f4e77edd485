"""The manifest of a batch: a table of genomes and their outputs."""

from __future__ import annotations

import os
from pathlib import Path

from mirscan.errors import InputError

COLUMNS = ("genome", "output")


MORE_COLUMNS = ("bed", "gff3", "fasta", "store")
"""Outputs and places that each genome has for itself; all other options are common to a manifest."""


def read_manifest(path: Path) -> list[dict[str, str]]:
    """The genomes of a batch: a table with a header, tab-separated, a row for each genome.

    Returns
    -------
    list of dict
        Column to value: ``genome`` and ``output``, and those of ``bed``, ``gff3``, ``fasta`` and ``store`` that the
        row fills. Lines that are empty or begin with # are left out.

    Raises
    ------
    InputError
        With file and line: a column that is missing or unknown, a row of another length or without genome or output,
        a genome that is no file, an output that two rows share.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a table of genome<TAB>output") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: no text ({error.reason}); give a table of genome<TAB>output") from error
    rows = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line.strip() and line[0] != "#"]
    if not rows:
        raise InputError(f"{path}: no row; give a header genome<TAB>output and a row for each genome")
    at, header = rows[0]
    odd = [name for name in COLUMNS if name not in header]
    odd += [name for name in header if name not in COLUMNS + MORE_COLUMNS or header.count(name) > 1]
    if odd:
        raise InputError(f"{path}:{at}: column {odd[0]!r}: the header names genome, output and, where wanted, "
                         f"{', '.join(MORE_COLUMNS)}, once each, with tabs between")  # fmt: skip
    found, written = [], dict[str, int]()
    for number, values in rows[1:]:
        if len(values) != len(header):
            raise InputError(f"{path}:{number}: {len(values)} columns, the header has {len(header)}")
        row = {name: value.strip() for name, value in zip(header, values, strict=True) if value.strip()}
        for name in COLUMNS:
            if name not in row:
                raise InputError(f"{path}:{number}: no {name}")
        if not Path(row["genome"]).is_file():
            raise InputError(f"{path}:{number}: {row['genome']}: no such file")
        for name in {*row} - {"genome"}:
            place = row[name] if "://" in row[name] else os.path.abspath(row[name])
            if place in written:
                raise InputError(f"{path}:{number}: {row[name]} is already written by line {written[place]}")
            written[place] = number
        found.append(row)
    if not found:
        raise InputError(f"{path}: no genome below the header")
    return found
