"""Calls and hairpins → GFF3 (Sequence Ontology specification 1.26): plain text, or BGZF for a name in ``.gz``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from mirscan.formats.atomic import Output
from mirscan.formats.intervals import check_call, shortest
from mirscan.types import Call, Hairpin

_RESERVED = re.compile(r"[;=&,%\x00-\x1f\x7f]")


def write_calls(path: str | Path, calls: Iterable[Call], contigs: Sequence[tuple[str, int]] = ()) -> None:
    """Write calls as features of type ``pre_miRNA`` (SO:0001244), 1-based and closed, in the order given.

    Column 6 is the raw score; attributes are ``ID``, ``Name``, ``energy`` (kcal/mol), ``structure`` (dot-bracket),
    ``windows`` (merged windows); ``precision``, ``precision_low`` and ``precision_high`` (estimated, with its
    interval), ``flags`` (words), ``homology`` (bases), ``known`` (the best known precursor) and ``annotation`` where a
    call has them. A sorted file in BGZF can be indexed by ``tabix -p gff``.

    Parameters
    ----------
    path : str or Path
        The final name, or ``-`` for standard output.
    calls : iterable of Call
        With names that are unique: they become IDs.
    contigs : sequence of (name, length)
        Contigs to declare by ``##sequence-region``.

    Raises
    ------
    ValueError
        If a name is repeated or a call cannot be written (`mirscan.formats.intervals.check_call`). Nothing is
        published then.
    OSError
        From the file system. Nothing is published then.
    """
    seen: set[str] = set()
    with Output(path) as output:
        output.write(_header(contigs))
        for call in calls:
            check_call(call)
            if call.name in seen:
                raise ValueError(f"two calls have the name {call.name}")
            seen.add(call.name)
            output.write(_row(call).encode())


def write_hairpins(path: str | Path, hairpins: Iterable[Hairpin], contigs: Sequence[tuple[str, int]] = ()) -> None:
    """Write hairpins as features of type ``stem_loop`` (SO:0000313), 1-based and closed, as they come: none is kept.

    Column 6 is the energy (kcal/mol); attributes are ``ID`` and ``Name`` (``hairpin_1`` and so on) and ``structure``
    (dot-bracket, 5' to 3' on the strand).

    Parameters
    ----------
    path : str or Path
        The final name, or ``-`` for standard output.
    hairpins : iterable of Hairpin
        Sorted by contig and start if the file is to be indexed.
    contigs : sequence of (name, length)
        Contigs to declare by ``##sequence-region``.

    Raises
    ------
    OSError
        From the file system. Nothing is published then.
    """
    with Output(path) as output:
        output.write(_header(contigs))
        for number, hairpin in enumerate(hairpins, start=1):
            place = f"{seqid(hairpin.contig)}\tmirscan\tstem_loop\t{hairpin.start + 1}\t{hairpin.end}"
            name = f"ID=hairpin_{number};Name=hairpin_{number};structure={hairpin.structure}"
            output.write(f"{place}\t{hairpin.energy:.2f}\t{hairpin.strand}\t.\t{name}\n".encode())


def _header(contigs: Sequence[tuple[str, int]]) -> bytes:
    lines = (f"##sequence-region {seqid(name)} 1 {length}\n" for name, length in contigs)
    return ("##gff-version 3\n" + "".join(lines)).encode()


def seqid(contig: str) -> str:
    """A contig's name as column 1 holds it: all but letters, digits and ``.:^*$@!+_?-|`` is percent-encoded."""
    return quote(contig, safe=".:^*$@!+_?-|").replace("~", "%7E")


def attribute(text: str) -> str:
    """A value as column 9 holds it: ``;=&,%`` and control characters are percent-encoded."""
    return _RESERVED.sub(lambda match: f"%{ord(match[0]):02X}", text)


def _row(call: Call) -> str:
    attributes = {"ID": call.name, "Name": call.name}
    if call.energy is not None:
        attributes["energy"] = f"{call.energy:.2f}"
    if call.structure is not None:
        attributes["structure"] = call.structure
    attributes["windows"] = str(call.windows)
    if call.precision is not None:
        names = ("precision", "precision_low", "precision_high")
        attributes |= {name: f"{value:.3g}" for name, value in zip(names, call.precision, strict=True)}
    if call.homology is not None:
        attributes["homology"] = f"{call.homology:g}"
    if call.known is not None:
        attributes["known"] = call.known
    if call.annotation is not None:
        attributes["annotation"] = shortest(call.annotation)
    pairs = [f"{key}={attribute(value)}" for key, value in attributes.items()]
    if call.flags:
        pairs.append("flags=" + ",".join(map(attribute, call.flags)))
    last = ";".join(pairs)
    place = f"{call.start + 1}\t{call.end}"
    return f"{seqid(call.contig)}\tmirscan\tpre_miRNA\t{place}\t{shortest(call.score)}\t{call.strand}\t.\t{last}\n"
