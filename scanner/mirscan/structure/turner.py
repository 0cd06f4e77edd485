"""Turner-2004 loop energies of the installed ViennaRNA, as the stem-loop recurrence reads them."""

from __future__ import annotations

import itertools
import re
from functools import cache

import numpy as np

from mirscan.files.temporary import scratch
from mirscan.kernels.hairpins import INF, Tables

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
