"""Stem-loop energies of a whole contig: every pair of every hairpin up to a span, exactly, each computed once.

The recurrence is that of Zuker and Stiegler (1981) without multiloops: the energy of the best stem-loop closed by the
pair (i, j) is the least of its hairpin loop and of every stack, bulge or interior loop on top of an inner pair (p, q),
with up to eight unpaired bases a side. Loop energies are the nearest-neighbour set of Turner 2004 (Mathews et al. 2004,
doi:10.1073/pnas.0401799101), given as `Tables`; the outermost pair gets the mismatch or dangles of its real
neighbours, as RNAfold's ``-d2`` does. Ambiguous bases never pair and are priced as A inside a loop.

Rows run from 3' to 5': for one 5' base all tables have one fixed side, so that the other side becomes one vector over
3' bases. A row needs only the eight-and-one rows after it and the real bases around, so any piece of a contig can be
computed alone and is equal to the whole, in memory that does not grow with the contig.
Energies are integers, int16, in dcal/mol (0.01 kcal/mol): sums and minima are exact and thirty-two fit a register.
"""

from typing import NamedTuple

import numpy as np

from mirscan.kernels._jit import kernel

MAX_SPAN = 200
"""Longest stem-loop in bases: beyond it a perfect stem would leave the range of int16."""
INF = 15000
"""Energy of what cannot pair. Two of them and any cost still fit int16."""

SIDE = 8  # unpaired bases on one side of an interior loop or bulge
LANES = 32  # one register of int16: loops of constant length are what the compiler turns into plain vector code
LEFT = 32  # columns before the first pair of a row, always INF: inner pairs too short to exist
STRETCH = 256  # columns of one quantity: LEFT and the widest row
CLOSED, MISMATCHED, MISMATCHED_23, ONE_SIDED, BULGED = range(0, 5 * STRETCH, STRETCH)
ROW = 5 * STRETCH  # a row: V(i, j), then V with the cost of its outer side for the kinds of loop around it
DEPTH = 32  # rows before the last ones are copied back to the front
WORK = 9 * STRETCH
LOOP, INT11, INT12, INT21, INT22, GENERIC, ONE, BULGE, EXTERIOR = range(0, WORK, STRETCH)
BLOCK = 512  # 5' bases that share a profile
REACH = BLOCK + STRETCH  # 3' bases they can reach
TRACED = 4096  # 5' ends whose pairs are kept at once while tracing
GAP = 256  # bases between hairpins that are cheaper to compute than to start again
KEY = 1024  # keys: energy * 1024 + length, so that one minimum finds both


class Scan(NamedTuple):
    """What `scan_hairpins` finds in rows ``first .. last`` of a strand; energies int16 in dcal/mol.

    Attributes
    ----------
    windows : (last - first,) int16
        Best hairpin anywhere inside the ``span`` bases from each row on; 0 where none is below 0.
    opened : (last - first,) int16
        Best hairpin whose 5' end is the row; 0 where none is below 0.
    lengths : (last - first,) int16
        Bases of that hairpin, the shorter one of equals; 0 where there is none.
    centres : (2 (last - first) + span + 32,) int32
        By ``i + j - 2 first``: ``(energy + compactness * length) * KEY + length`` of the least hairpin around that
        centre among those that open in these rows.
    """

    windows: np.ndarray
    opened: np.ndarray
    lengths: np.ndarray
    centres: np.ndarray


class Tables(NamedTuple):
    """Loop energies, int16 in dcal/mol; `mirscan.structure.turner.turner_tables` makes them.

    Bases count A 0, C 1, G 2, U 3; a key of several bases reads them 5' to 3' as digits to base four. Entries of bases
    that cannot pair are 0 except where INF is named.

    Attributes
    ----------
    pair : (4, 4)
        0 for the six canonical pairs, INF otherwise.
    terminal : (4, 4)
        Penalty of an AU or GU pair at the end of a helix.
    one_sided : (4, 4)
        The same at a 1 x n interior loop, n > 2.
    stack : (16, 16)
        By (i, p) and (q, j).
    mismatch_hairpin, mismatch_interior, mismatch_23 : (16, 16)
        Of a pair's inside, by (i, i+1) and (j-1, j).
    outer_interior, outer_23 : (16, 16)
        Of a pair's outside, by (p-1, p) and (q, q+1).
    int11 : (64, 64)
        By (i, x, p) and (q, y, j).
    int12 : (64, 256)
        One unpaired base on the 5' side, two on the 3' side.
    int21 : (256, 64)
        Two and one.
    int22 : (256, 256)
        Two and two.
    exterior : (20, 20)
        Outermost pair with its neighbours (4 = none): by (5' neighbour, i) as ``neighbour * 4 + i`` and (j, 3'
        neighbour) as ``j * 5 + neighbour``.
    hairpin : (256,)
        Initiation by unpaired bases.
    triloop, tetraloop, hexaloop : (1024,), (4096,), (65536,)
        Total energy of special loops by all their bases, closing pair included; INF where there is none.
    bulge : (9,)
        Initiation by unpaired bases.
    interior : (9, 9)
        Initiation and asymmetry by unpaired bases on both sides.
    """

    pair: np.ndarray
    terminal: np.ndarray
    one_sided: np.ndarray
    stack: np.ndarray
    mismatch_hairpin: np.ndarray
    mismatch_interior: np.ndarray
    mismatch_23: np.ndarray
    outer_interior: np.ndarray
    outer_23: np.ndarray
    int11: np.ndarray
    int12: np.ndarray
    int21: np.ndarray
    int22: np.ndarray
    exterior: np.ndarray
    hairpin: np.ndarray
    triloop: np.ndarray
    tetraloop: np.ndarray
    hexaloop: np.ndarray
    bulge: np.ndarray
    interior: np.ndarray


# Kernels of one row. They take whole arrays and places in them and cut views of constant length themselves: a view
# handed from one kernel to another would be counted by reference, atomically, and cost as much as the work.


@kernel()
def _inner_loops(
    rows: np.ndarray,
    at: int,
    loops: np.ndarray,
    width: int,
    interior: np.ndarray,
    one_sided: np.ndarray,
    bulge: np.ndarray,
) -> None:
    """Minima over the loops whose energy splits into inner side, size and outer side: 75 terms a cell.

    Every index is a constant away from one array, in loops of constant length: so they compile to plain vector code
    (four rows of seven terms are what the compiler still unrolls).
    """
    for block in range(0, width, LANES):
        row = rows[at + block : at + block + 10 * ROW]
        out = loops[block : block + WORK]
        for x in range(LANES):
            least = np.int16(INF)
            for a in range(4):
                for b in range(7):
                    y = np.int16(row[x + (3 + a) * ROW + MISMATCHED + LEFT - 6 - a - b] + interior[7 * a + b])
                    least = y if y < least else least
            out[GENERIC + x] = least
        for x in range(LANES):
            least = out[GENERIC + x]
            for a in range(3):
                for b in range(7):
                    y = np.int16(row[x + (7 + a) * ROW + MISMATCHED + LEFT - 10 - a - b] + interior[7 * a + b + 28])
                    least = y if y < least else least
            out[GENERIC + x] = least
        for x in range(LANES):
            least = np.int16(INF)
            for u in range(6):
                y = np.int16(row[x + 2 * ROW + ONE_SIDED + LEFT - 6 - u] + one_sided[u])
                least = y if y < least else least
                y = np.int16(row[x + (4 + u) * ROW + ONE_SIDED + LEFT - 6 - u] + one_sided[u])
                least = y if y < least else least
            out[ONE + x] = least
        for x in range(LANES):
            least = np.int16(INF)
            for u in range(7):
                y = np.int16(row[x + ROW + BULGED + LEFT - 4 - u] + bulge[u])
                least = y if y < least else least
                y = np.int16(row[x + (3 + u) * ROW + BULGED + LEFT - 4 - u] + bulge[u])
                least = y if y < least else least
            out[BULGE + x] = least


@kernel()
def _small_loops(
    loops: np.ndarray,
    partners: np.ndarray,
    begin: int,
    end: int,
    first: int,
    right3: np.ndarray,
    right4: np.ndarray,
    left3: int,
    left4: int,
    int11: np.ndarray,
    int12: np.ndarray,
    int21: np.ndarray,
    int22: np.ndarray,
) -> None:
    """Loops of one or two bases a side, each with a table of its own, for the bases the 5' base pairs with."""
    for k in range(begin, end):
        j = partners[k]
        x = np.uint16(j - first)  # unsigned: an index that may be negative is checked each time
        three = right3[j]
        four = right4[j]
        loops[INT11 + x] = int11[left3, three]
        loops[INT12 + x] = int12[left3, four]
        loops[INT21 + x] = int21[left4, three]
        loops[INT22 + x] = int22[left4, four]


@kernel()
def _hairpin_loops(
    loops: np.ndarray,
    width: int,
    hairpin: np.ndarray,
    mismatch: np.ndarray,
    at: int,
    triloop: int,
    tetraloop: int,
    hexaloop: int,
) -> None:
    """The loop of three to ``width + 2`` bases closed by each pair; three, four and six bases have special ones."""
    for block in range(0, width, LANES):
        out = loops[block : block + WORK]
        size = hairpin[block : block + LANES + 3]
        ends = mismatch[at + block : at + block + LANES]
        for x in range(LANES):
            out[LOOP + x] = np.int16(size[3 + x] + ends[x])
    loops[LOOP] = triloop
    if tetraloop < INF:
        loops[LOOP + 1] = tetraloop
    if hexaloop < INF:
        loops[LOOP + 3] = hexaloop


@kernel()
def _close(
    rows: np.ndarray,
    at: int,
    loops: np.ndarray,
    width: int,
    bulge: int,
    two_three: int,
    stack: np.ndarray,
    stack_3: np.ndarray,
    mismatch: np.ndarray,
    mismatch_23: np.ndarray,
    one_sided: np.ndarray,
    terminal: np.ndarray,
    at4: int,
    at16: int,
    at_5: int,
) -> None:
    """V(i, j), the least of all loops the pair closes; INF where it is no pair."""
    for block in range(0, width, LANES):
        row = rows[at + block : at + block + 10 * ROW]
        other = loops[block : block + WORK]
        here = stack[at16 + block : at16 + block + LANES]
        over_5 = stack[at_5 + block : at_5 + block + LANES]
        over_3 = stack_3[at16 + block : at16 + block + LANES]
        inside = mismatch[at16 + block : at16 + block + LANES]
        inside_23 = mismatch_23[at16 + block : at16 + block + LANES]
        one = one_sided[at4 + block : at4 + block + LANES]
        end = terminal[at4 + block : at4 + block + LANES]
        for x in range(LANES):
            least = other[LOOP + x]
            y = np.int16(row[x + ROW + CLOSED + LEFT - 2] + here[x])
            least = y if y < least else least
            y = np.int16(np.int16(row[x + ROW + CLOSED + LEFT - 3] + over_3[x]) + bulge)
            least = y if y < least else least
            y = np.int16(np.int16(row[x + 2 * ROW + CLOSED + LEFT - 3] + over_5[x]) + bulge)
            least = y if y < least else least
            y = np.int16(row[x + 2 * ROW + CLOSED + LEFT - 4] + other[INT11 + x])
            least = y if y < least else least
            y = np.int16(row[x + 2 * ROW + CLOSED + LEFT - 5] + other[INT12 + x])
            least = y if y < least else least
            y = np.int16(row[x + 3 * ROW + CLOSED + LEFT - 5] + other[INT21 + x])
            least = y if y < least else least
            y = np.int16(row[x + 3 * ROW + CLOSED + LEFT - 6] + other[INT22 + x])
            least = y if y < least else least
            y = row[x + 3 * ROW + MISMATCHED_23 + LEFT - 7]
            z = row[x + 4 * ROW + MISMATCHED_23 + LEFT - 7]
            y = y if y < z else z
            y = np.int16(np.int16(y + inside_23[x]) + two_three)
            least = y if y < least else least
            y = np.int16(other[GENERIC + x] + inside[x])
            least = y if y < least else least
            y = np.int16(other[ONE + x] + one[x])
            least = y if y < least else least
            y = np.int16(other[BULGE + x] + end[x])
            least = y if y < least else least
            row[x + CLOSED + LEFT] = least if end[x] < INF else np.int16(INF)


@kernel()
def _outside(
    rows: np.ndarray,
    at: int,
    loops: np.ndarray,
    width: int,
    outer: np.ndarray,
    outer_23: np.ndarray,
    one_sided: np.ndarray,
    terminal: np.ndarray,
    exterior: np.ndarray,
    at4: int,
    at_outer: int,
    at_exterior: int,
    limit: np.ndarray,
    at_limit: int,
    ends: np.ndarray,
    at_ends: int,
) -> None:
    """V with the cost of the pair's outside, for every kind of loop around it and for none: a hairpin of its own."""
    for block in range(0, width, LANES):
        row = rows[at + block : at + block + ROW]
        out = loops[block : block + WORK]
        beyond = outer[at_outer + block : at_outer + block + LANES]
        beyond_23 = outer_23[at_outer + block : at_outer + block + LANES]
        one = one_sided[at4 + block : at4 + block + LANES]
        end = terminal[at4 + block : at4 + block + LANES]
        for x in range(LANES):
            v = row[x + CLOSED + LEFT]
            row[x + MISMATCHED + LEFT] = np.int16(v + beyond[x])
            row[x + MISMATCHED_23 + LEFT] = np.int16(v + beyond_23[x])
            row[x + ONE_SIDED + LEFT] = np.int16(v + one[x])
            row[x + BULGED + LEFT] = np.int16(v + end[x])
        outermost = exterior[at_exterior + block : at_exterior + block + LANES]
        least = limit[at_limit + block : at_limit + block + LANES]
        best = ends[at_ends + block : at_ends + block + LANES]
        for x in range(LANES):
            y = np.int16(row[x + CLOSED + LEFT] + outermost[x])
            z = least[x]
            y = y if y > z else z
            out[EXTERIOR + x] = y
            z = best[x]
            best[x] = y if y < z else z


@kernel()
def _keys(
    loops: np.ndarray,
    width: int,
    plain: np.ndarray,
    costs: np.ndarray,
    lanes: np.ndarray,
    centres: np.ndarray,
    at: int,
) -> int:
    """Key of the best hairpin of this row (energy, length); keys of the best around each centre so far.

    ``plain`` and ``costs`` are what a length adds to the one and the other, ``lanes`` is room for a minimum.
    """
    for x in range(LANES):
        lanes[x] = INF * KEY
    for block in range(0, width, LANES):
        energies = loops[block : block + WORK]
        length = plain[block : block + LANES]
        cost = costs[block : block + LANES]
        best = centres[at + block : at + block + LANES]
        for x in range(LANES):
            energy = np.int32(np.int32(energies[EXTERIOR + x]) * np.int32(KEY))
            key = np.int32(energy + length[x])
            z = lanes[x]
            lanes[x] = key if key < z else z
            key = np.int32(energy + cost[x])
            z = best[x]
            best[x] = key if key < z else z
    least = lanes[0]
    for x in range(LANES):
        least = min(least, lanes[x])
    return least


@kernel()
def _best(ends: np.ndarray, at: int, width: int, limit: np.ndarray, at_limit: int, lanes: np.ndarray) -> np.int16:
    """The least of a window, 0 where none is below."""
    for x in range(LANES):
        lanes[x] = 0
    for block in range(0, width, LANES):
        best = ends[at + block : at + block + LANES]
        least = limit[at_limit + block : at_limit + block + LANES]
        for x in range(LANES):
            y = best[x]
            z = least[x]
            y = y if y > z else z
            z = lanes[x]
            lanes[x] = y if y < z else z
    lowest = lanes[0]
    for x in range(LANES):
        lowest = min(lowest, lanes[x])
    return lowest


class _Space(NamedTuple):
    """Room for one run: rows of V and its sums, loops of one row, and profiles of a block of 5' bases.

    A profile is a table by 5' key (rows, flattened) and 3' position: for one 5' base a vector over 3' bases.
    """

    rows: np.ndarray
    loops: np.ndarray
    ends: np.ndarray
    limit: np.ndarray
    plain: np.ndarray
    costs: np.ndarray
    lanes: np.ndarray
    low: np.ndarray
    bases: np.ndarray
    known: np.ndarray
    right3: np.ndarray
    right4: np.ndarray
    partners: np.ndarray
    before: np.ndarray
    terminal: np.ndarray
    one_sided: np.ndarray
    stack: np.ndarray
    stack_3: np.ndarray
    hairpin: np.ndarray
    mismatch: np.ndarray
    mismatch_23: np.ndarray
    outer: np.ndarray
    outer_23: np.ndarray
    exterior: np.ndarray


def _space(rows: int, span: int, compactness: int) -> _Space:
    def int16(size: int, value: int = 0) -> np.ndarray:
        room = np.full(size + LANES, value, dtype=np.int16)
        start = -room.ctypes.data % (2 * LANES) // 2  # on a cache line: vectors that straddle two cost twice
        return room[start : start + size]

    plain = np.arange(5, STRETCH + 5, dtype=np.int32)
    return _Space(
        rows=int16((DEPTH + 10) * ROW, value=INF),
        loops=int16(WORK + STRETCH),
        ends=int16(rows + span + STRETCH, value=INF),
        limit=np.repeat(np.array([np.iinfo(np.int16).min, INF], dtype=np.int16), STRETCH),
        plain=plain,
        costs=plain * np.int32(compactness * KEY + 1),
        lanes=np.empty(LANES, dtype=np.int32),
        low=int16(LANES),
        bases=np.empty(REACH + 16, dtype=np.int64),
        known=np.empty(REACH + 16, dtype=np.bool_),
        right3=np.zeros(REACH, dtype=np.uint8),
        right4=np.zeros(REACH, dtype=np.uint8),
        partners=np.empty(4 * REACH, dtype=np.uint16),
        before=np.zeros((4, REACH + 1), dtype=np.int32),
        terminal=int16(4 * REACH),
        one_sided=int16(4 * REACH),
        stack=int16(16 * REACH),
        stack_3=int16(16 * REACH),
        hairpin=int16(16 * REACH),
        mismatch=int16(16 * REACH),
        mismatch_23=int16(16 * REACH),
        outer=int16(16 * REACH),
        outer_23=int16(16 * REACH),
        exterior=int16(20 * REACH),
    )


@kernel()
def _profile(out: np.ndarray, table: np.ndarray, right: np.ndarray, size: int) -> None:
    for key in range(table.shape[0]):
        row = table[key]
        for x in range(size):
            out[key * REACH + x] = row[right[x]]


@kernel()
def _prepare(codes: np.ndarray, block: int, size: int, tables: Tables, space: _Space) -> None:
    """Profiles of ``size`` 3' positions from ``block`` on, and which of them each base pairs with."""
    bases, known = space.bases, space.known
    right2 = np.empty(size, dtype=np.uint8)
    skipped = np.empty(size, dtype=np.uint8)
    outer = np.empty(size, dtype=np.uint8)
    exterior = np.empty(size, dtype=np.uint8)
    for x in range(size + 16):  # from eight before the block on; what is no base counts as A
        j = block - 8 + x
        known[x] = 0 <= j < len(codes) and codes[j] < 4
        bases[x] = np.int64(codes[j]) if known[x] else 0
    for x in range(size):
        y = x + 8
        right2[x] = bases[y - 1] * 4 + bases[y]
        skipped[x] = bases[y - 2] * 4 + bases[y]
        space.right3[x] = bases[y - 2] * 16 + right2[x]
        space.right4[x] = bases[y - 3] * 64 + space.right3[x]
        outer[x] = bases[y] * 4 + bases[y + 1]
        exterior[x] = bases[y] * 5 + (bases[y + 1] if known[y + 1] else 4)
    _profile(space.stack, tables.stack, right2, size)
    _profile(space.stack_3, tables.stack, skipped, size)
    _profile(space.hairpin, tables.mismatch_hairpin, right2, size)
    _profile(space.mismatch, tables.mismatch_interior, right2, size)
    _profile(space.mismatch_23, tables.mismatch_23, right2, size)
    _profile(space.outer, tables.outer_interior, outer, size)
    _profile(space.outer_23, tables.outer_23, outer, size)
    _profile(space.exterior, tables.exterior, exterior, size)
    for base in range(4):
        found = 0
        for x in range(size):
            other = bases[x + 8]
            pairs = known[x + 8] and tables.pair[base, other] == 0
            space.terminal[base * REACH + x] = tables.terminal[base, other] if pairs else INF
            space.one_sided[base * REACH + x] = tables.one_sided[base, other]
            space.before[base, x] = found
            space.partners[base * REACH + found] = x
            found += pairs
        space.before[base, size] = found


@kernel()
def _stem_loops(
    codes: np.ndarray,
    first: int,
    last: int,
    span: int,
    tables: Tables,
    space: _Space,
    scan: Scan,
    closed: np.ndarray,
) -> None:
    """Fill a `Scan` of ``codes[first:last]`` and, if it has as many rows, ``closed`` with V(i, j).

    Rows up to ``last + span`` are computed for what they contribute. ``closed`` is (last - first, STRETCH): the pair
    (i, j) of row i stands in column ``LEFT + j - i - 4``, without the outermost pair's neighbours.
    """
    rows, loops, ends, limit, plain, costs, lanes, low = space[:8]
    bases, known, right3, right4, partners, before = space[8:14]
    terminal, one_sided, stack, stack_3, hairpin, mismatch, mismatch_23, outer, outer_23, exterior = space[14:]
    int11, int12, int21, int22, sizes = tables.int11, tables.int12, tables.int21, tables.int22, tables.hairpin
    triloops, tetraloops, hexaloops = tables.triloop, tables.tetraloop, tables.hexaloop
    windows, opened, lengths, centres = scan
    interior = np.empty(49, dtype=np.int16)  # of two bases a side and more; the smallest have tables of their own
    for a in range(7):
        for b in range(7):
            interior[7 * a + b] = tables.interior[2 + a, 2 + b] if a + b > 1 else INF
    long_side, bulge = tables.interior[1, 3:].copy(), tables.bulge[2:].copy()
    bulge_of_one, two_three, shortest = tables.bulge[1], tables.interior[2, 3], np.int64(sizes[3])
    keep = len(closed) == last - first
    widest = (span - 4 + LANES - 1) // LANES * LANES
    stop = min(len(codes), last + span - 5)
    block = stop
    depth = DEPTH
    for i in range(stop - 1, first - 1, -1):
        if i < block:
            block = max(first, i + 1 - BLOCK)
            _prepare(codes, block, i - block + 5 + widest, tables, space)
        if depth == 0:
            for x in range(9 * ROW):
                rows[DEPTH * ROW + x] = rows[x]
            depth = DEPTH
        depth -= 1
        row = depth * ROW
        reach = min(span, last + span - 1 - i) - 4
        width = (reach + LANES - 1) // LANES * LANES
        out = i - first
        pairs = known[i - block + 8]
        if pairs:
            x = i - block + 8
            base = bases[x]
            left2 = base * 4 + bases[x + 1]
            left3 = left2 * 4 + bases[x + 2]
            left4 = left3 * 4 + bases[x + 3]
            left6 = (left4 * 4 + bases[x + 4]) * 4 + bases[x + 5]
            at = x - 8 + 4  # 3' position of the first column
            at4 = base * REACH + at
            at16 = left2 * REACH + at
            triloop = np.int64(triloops[left6 // 4])
            if triloop == INF:
                triloop = shortest + terminal[at4]
            hexaloop = hexaloops[(left6 * 4 + bases[x + 6]) * 4 + bases[x + 7]]
            # Loops written base by base come first: a vector has to wait for what single stores have only just left.
            begin, end = base * REACH + before[base, at], base * REACH + before[base, at + width]
            _small_loops(loops, partners, begin, end, at, right3, right4, left3, left4, int11, int12, int21, int22)
            _hairpin_loops(loops, width, sizes, hairpin, at16, triloop, tetraloops[left6], hexaloop)
            _inner_loops(rows, row, loops, width, interior, long_side, bulge)
            at_5 = (base * 4 + bases[x + 2]) * REACH + at
            _close(
                rows, row, loops, width, bulge_of_one, two_three,
                stack, stack_3, mismatch, mismatch_23, one_sided, terminal, at4, at16, at_5,
            )  # fmt: skip
            at_outer = (bases[x - 1] * 4 + base) * REACH + at
            at_exterior = ((bases[x - 1] if known[x - 1] else 4) * 4 + base) * REACH + at
            _outside(
                rows, row, loops, width, outer, outer_23, one_sided, terminal, exterior,
                at4, at_outer, at_exterior, limit, STRETCH - reach, ends, out + 4,
            )  # fmt: skip
        else:
            for x in range(ROW):
                rows[row + x] = INF
        if i >= last:
            continue
        windows[out] = _best(ends, out + 4, width, limit, STRETCH - reach, low)
        if pairs:
            key = _keys(loops, width, plain, costs, lanes, centres, 2 * out + 4)
            opened[out] = min(0, key // KEY)
            lengths[out] = key % KEY if key < 0 else 0
        if keep:
            for x in range(STRETCH):
                closed[out, x] = rows[row + x]


def scan_hairpins(
    codes: np.ndarray,
    tables: Tables,
    span: int = 120,
    first: int = 0,
    last: int | None = None,
    compactness: int = 15,
) -> Scan:
    """Best stem-loops of one strand, for the rows (5' ends) ``first .. last`` of a contig.

    Pieces are equal to the whole whatever their size: neighbours are the contig's own. The caller gives the reverse
    complement for the other strand. Runs without the GIL; memory grows with the piece, some 14 bytes a row.

    Parameters
    ----------
    codes : (n,) uint8
        The contig, 0..3; anything above never pairs.
    tables : Tables
        From `mirscan.structure.turner.turner_tables`.
    span : int
        Longest stem-loop in bases, 5 to `MAX_SPAN`.
    first, last : int
        Rows to report; the whole contig by default.
    compactness : int
        Cost of a base in dcal/mol in ``centres``, so that a compact stem wins over a longer one of the same loop.

    Returns
    -------
    Scan

    Raises
    ------
    ValueError
        If the span or the rows are out of range.
    """
    last = len(codes) if last is None else last
    scan, nothing = _empty(codes, span, first, last), np.empty((0, STRETCH), dtype=np.int16)
    _stem_loops(codes, first, last, span, tables, _space(last - first, span, compactness), scan, nothing)
    return scan


def _empty(codes: np.ndarray, span: int, first: int, last: int) -> Scan:
    if not 5 <= span <= MAX_SPAN:
        raise ValueError(f"span {span}: need 5 to {MAX_SPAN} bases")
    if not 0 <= first <= last <= len(codes):
        raise ValueError(f"rows {first} to {last} of a contig of {len(codes)} bases")
    rows = last - first
    energies = np.zeros((3, rows), dtype=np.int16)
    centres = np.full(2 * rows + span + LANES, INF * KEY, dtype=np.int32)
    return Scan(energies[0], energies[1], energies[2], centres)


@kernel()
def compact_hairpins(
    centres: np.ndarray,
    low: int,
    high: int,
    radius: int,
    ceiling: int,
    start: np.ndarray,
    length: np.ndarray,
    score: np.ndarray,
) -> int:
    """Centres whose hairpin is the least within ``radius`` on both sides; the first one of equals.

    Parameters
    ----------
    centres : (n,) int32
        Keys of a `Scan`.
    low, high : int
        Centres to judge; their neighbours only compete.
    radius : int
        In half bases: a centre is ``i + j``.
    ceiling : int
        Highest score worth looking at, dcal/mol.
    start, length, score : (high - low,) int32, output
        5' end relative to the scan's first row, bases, energy + compactness * length.

    Returns
    -------
    int
        How many were found.
    """
    found = 0
    for c in range(low, high):
        mine = centres[c] // KEY
        if mine > ceiling:
            continue
        least = True
        for d in range(max(0, c - radius), min(len(centres), c + radius + 1)):
            other = centres[d] // KEY
            if other < mine or (other == mine and d < c):
                least = False
                break
        if least:
            length[found] = centres[c] % KEY
            start[found] = (c - length[found] + 1) // 2
            score[found] = mine
            found += 1
    return found


@kernel()
def _base(codes: np.ndarray, x: int) -> np.int64:
    return np.int64(codes[x]) if codes[x] < 4 else np.int64(0)


@kernel()
def _key(codes: np.ndarray, first: int, last: int) -> np.int64:
    """The bases from ``first`` to ``last``, both included, as digits to base four."""
    key = np.int64(0)
    for x in range(first, last + 1):
        key = key * 4 + _base(codes, x)
    return key


@kernel()
def _hairpin_energy(codes: np.ndarray, i: int, j: int, tables: Tables) -> np.int64:
    size = j - i - 1
    energy = np.int64(tables.hairpin[size])
    if size == 3:
        special = tables.triloop[_key(codes, i, j)]
        return np.int64(special) if special < INF else energy + tables.terminal[_base(codes, i), _base(codes, j)]
    if size == 4 and tables.tetraloop[_key(codes, i, j)] < INF:
        return np.int64(tables.tetraloop[_key(codes, i, j)])
    if size == 6 and tables.hexaloop[_key(codes, i, j)] < INF:
        return np.int64(tables.hexaloop[_key(codes, i, j)])
    return energy + tables.mismatch_hairpin[_key(codes, i, i + 1), _key(codes, j - 1, j)]


@kernel()
def _inner_energy(codes: np.ndarray, i: int, j: int, p: int, q: int, tables: Tables) -> np.int64:
    """Stack, bulge or interior loop between the pairs (i, j) and (p, q)."""
    a = p - i - 1
    b = j - q - 1
    outer = (_base(codes, i), _base(codes, j))
    inner = (_base(codes, q), _base(codes, p))
    if a == 0 or b == 0:
        size = a + b
        if size > 1:
            return np.int64(tables.bulge[size]) + tables.terminal[outer] + tables.terminal[inner]
        stack = np.int64(tables.stack[outer[0] * 4 + inner[1], inner[0] * 4 + outer[1]])
        return stack + (tables.bulge[1] if size == 1 else 0)
    if a <= 2 and b <= 2:
        left = _key(codes, i, p)
        right = _key(codes, q, j)
        if a == 1:
            return np.int64(tables.int11[left, right] if b == 1 else tables.int12[left, right])
        return np.int64(tables.int21[left, right] if b == 1 else tables.int22[left, right])
    energy = np.int64(tables.interior[a, b])
    if a == 1 or b == 1:
        return energy + tables.one_sided[outer] + tables.one_sided[inner]
    inside = (_key(codes, i, i + 1), _key(codes, j - 1, j))
    outside = (_key(codes, p - 1, p), _key(codes, q, q + 1))
    if a + b == 5:
        return energy + tables.mismatch_23[inside] + tables.outer_23[outside]
    return energy + tables.mismatch_interior[inside] + tables.outer_interior[outside]


@kernel()
def _trace(
    codes: np.ndarray,
    first: int,
    closed: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    tables: Tables,
    partners: np.ndarray,
) -> None:
    """Follow each hairpin's minima inwards; hairpin loops first, then inner pairs from the outside in."""
    for h in range(len(starts)):
        i = starts[h]
        j = i + lengths[h] - 1
        origin = i
        partners[h, :] = -1
        while True:
            partners[h, i - origin] = j - origin
            partners[h, j - origin] = i - origin
            value = np.int64(closed[i - first, LEFT + j - i - 4])
            if value == _hairpin_energy(codes, i, j, tables):
                break
            p, q = _inner_pair(codes, first, closed, i, j, value, tables)
            i = p
            j = q


@kernel()
def _inner_pair(
    codes: np.ndarray, first: int, closed: np.ndarray, i: int, j: int, value: int, tables: Tables
) -> tuple[int, int]:
    for p in range(i + 1, min(i + SIDE + 2, j - 4)):
        for q in range(j - 1, max(j - SIDE - 2, p + 3), -1):
            inner = np.int64(closed[p - first, LEFT + q - p - 4])
            if inner < INF and inner + _inner_energy(codes, i, j, p, q, tables) == value:
                return p, q
    raise ValueError("no inner pair gives the energy of the outer one")


def trace_hairpins(codes: np.ndarray, tables: Tables, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Pairs of the best stem-loop between given ends.

    Neighbouring hairpins share one pass of the recurrence, so that tracing all proposals of a contig costs about as
    much as finding them.

    Parameters
    ----------
    codes : (n,) uint8
        One strand.
    tables : Tables
    starts, lengths : (B,) int
        5' ends and bases; the two end bases must be able to pair.

    Returns
    -------
    (B, max(lengths)) int16
        Offset of each base's partner from the hairpin's start, -1 where unpaired.

    Raises
    ------
    ValueError
        If a hairpin is outside the contig, too long, too short, or its ends do not pair.
    """
    starts, lengths = np.asarray(starts, dtype=np.int64), np.asarray(lengths, dtype=np.int64)
    ends = starts + lengths
    partners = np.full((len(starts), int(lengths.max(initial=0))), -1, dtype=np.int16)
    order = np.argsort(starts, kind="stable")
    done = 0
    while done < len(order):
        first = stop = int(starts[order[done]])
        until = done
        while until < len(order) and starts[order[until]] < min(stop + GAP, first + TRACED):
            stop = max(stop, int(ends[order[until]]))
            until += 1
        group = order[done:until]
        span = int(lengths[group].max())
        if stop > len(codes) or lengths[group].min() < 5:
            raise ValueError(f"hairpins of {lengths[group].min()} to {span} bases, the last one ending at {stop}")
        closed = np.empty((stop - first, STRETCH), dtype=np.int16)
        scan, space = _empty(codes, span, first, stop), _space(stop - first, span, 0)
        _stem_loops(codes[:stop], first, stop, span, tables, space, scan, closed)
        if (closed[starts[group] - first, LEFT + lengths[group] - 5] >= INF).any():
            raise ValueError(f"the end bases of a hairpin between {first} and {stop} cannot pair")
        pairs = np.full((len(group), partners.shape[1]), -1, dtype=np.int16)
        _trace(codes, first, closed, starts[group], lengths[group], tables, pairs)
        partners[group] = pairs
        done = until
    return partners


def dot_brackets(partners: np.ndarray, lengths: np.ndarray) -> list[str]:
    """Dot-brackets of the rows of `trace_hairpins`."""
    columns = np.arange(partners.shape[1])
    letters = np.where(partners < 0, ord("."), np.where(partners > columns, ord("("), ord(")"))).astype(np.uint8)
    return [row[:length].tobytes().decode("ascii") for row, length in zip(letters, lengths, strict=True)]
