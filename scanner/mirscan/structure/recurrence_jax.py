"""The stem-loop recurrence of `mirscan.kernels.hairpins` by diagonals, for accelerators: the same integers.

All pairs (i, i + d) of one distance d depend on closer pairs alone, so a diagonal is one vector over the 5' bases of a
chunk and the recurrence is one loop over diagonals; what a diagonal reads of those before it stands in a ring. A chunk
comes with the contig's own bases around it, so results are equal to the kernel's however a contig is cut. Hairpins are
traced on the host: few are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirscan.kernels.bases import ABSENT
from mirscan.kernels.hairpins import INF, KEY, LANES, MAX_SPAN, SIDE, Scan, Tables, scan_hairpins

Array = jax.Array

FLANK = 8  # bases on both sides of a chunk that keys of several bases reach into
DEPTH = 2 * SIDE + 2  # diagonals in the ring: the widest interior loop leaves out sixteen bases and two pairs
BEYOND = SIDE + 1  # columns of the ring after the last 5' base, always INF: pairs inside its own
CLOSEST = 4  # distance of the closest bases that pair
CLOSED, MISMATCHED, MISMATCHED_23, ONE_SIDED, BULGED = range(5)


class _Side(NamedTuple):
    """The bases on one side of a pair as keys of `Tables`, uint8, by the position of the paired base.

    Attributes
    ----------
    known
        Whether the base is one that can pair; bool.
    one, two, three, four
        The base, and with it the next one to three inside the pair.
    skipping
        The base and the one after the next.
    outer, exterior
        The base and its neighbour outside; the latter knows a neighbour that is none.
    """

    known: Array
    one: Array
    two: Array
    three: Array
    four: Array
    skipping: Array
    outer: Array
    exterior: Array


class _State(NamedTuple):
    """What one diagonal hands to the next; n 5' bases are those of a chunk and the ``span`` after it.

    Attributes
    ----------
    ring : (5, DEPTH, n + BEYOND) int16
        V of the last diagonals, then V with the cost of its outer side for the kinds of loop around it.
    newest : (n,) int32
        V of the newest diagonal, which is not yet in the ring.
    windows : (n,) int32
        Best hairpin inside the bases from each one on, as many as the diagonals so far reach.
    opened : (n,) int32
        Key of the best hairpin that opens at each base.
    centres : (2, n + span // 2 + 1) int32
        Key of the best one around each even and each odd centre.
    """

    ring: Array
    newest: Array
    windows: Array
    opened: Array
    centres: Array


@partial(jax.jit, static_argnames=("span",))
def _scan_chunk(codes: Array, rows: Array, compactness: Array, tables: Tables, span: int) -> tuple[Array, ...]:
    """The fields of a `Scan` of the first ``rows`` bases after ``FLANK``; the last ``2 * span + FLANK`` are halo.

    Some 300 bytes a row stay on the device while it runs.
    """
    n = len(codes) - 2 * FLANK - span
    fives, threes = _sides(codes)
    five = _Side(*(key[:n] for key in fives))
    unusual = _unusual_loops(codes, tables)[:, :n]
    reported = five.known & (jnp.arange(n) < rows)

    def diagonal(d: Array, state: _State) -> _State:
        """Price the diagonal before, then close the pairs of this one: no value is computed twice."""
        state = _price(state, d - 1, five, _opposite(threes, d - 1, n), tables, reported, compactness)
        return state._replace(newest=_close(state.ring, d, five, _opposite(threes, d, n), tables, unusual))

    nothing = jnp.full(n, INF, dtype=jnp.int32)
    state = _State(
        ring=jnp.full((5, DEPTH, n + BEYOND), INF, dtype=jnp.int16),
        newest=2 * nothing,  # before the first diagonal: no neighbours make it a hairpin
        windows=nothing,
        opened=nothing * KEY,
        centres=jnp.full((2, n + span // 2 + 1), INF * KEY, dtype=jnp.int32),
    )
    state = lax.fori_loop(CLOSEST, span + 1, diagonal, state)  # the last one is closed in vain, and never priced
    found = state.opened < 0
    opened, lengths = (jnp.where(found, part, 0) for part in (state.opened // KEY, state.opened % KEY))
    energies = (x.astype(jnp.int16) for x in (jnp.minimum(state.windows, 0), opened, lengths))
    return *energies, state.centres.T.reshape(-1)


def _key(bases: Array, first: int, last: int) -> Array:
    """The bases from ``first`` to ``last`` beside every position, both included, as digits to base four."""
    shifted = (bases[FLANK + shift : len(bases) - FLANK + shift] for shift in range(first, last + 1))
    return reduce(lambda key, base: 4 * key + base, shifted)


def _sides(codes: Array) -> tuple[_Side, _Side]:
    """The bases of every position as the 5' side of a pair and as its 3' side."""
    bases, neighbours = _known_or(codes, 0), _known_or(codes, 4)
    key = partial(_key, bases)
    one, before, after = key(0, 0), _key(neighbours, -1, -1), _key(neighbours, 1, 1)
    five = one, key(0, 1), key(0, 2), key(0, 3), 4 * one + key(2, 2), key(-1, 0), 4 * before + one
    three = one, key(-1, 0), key(-2, 0), key(-3, 0), 4 * key(-2, -2) + one, key(0, 1), 5 * one + after
    known = codes[FLANK : len(codes) - FLANK] < 4
    fives, threes = (_Side(known, *(key.astype(jnp.uint8) for key in side)) for side in (five, three))
    return fives, threes


def _known_or(codes: Array, value: int) -> Array:
    return jnp.where(codes < 4, codes, value).astype(jnp.int32)


def _unusual_loops(codes: Array, tables: Tables) -> Array:
    """Energy of special hairpin loops by diagonal from 4 to 8 and 5' base; INF on 6, which has none, and on 8."""
    bases = _known_or(codes, 0)
    three, four, six = (
        table[_key(bases, 0, loop + 1)].astype(jnp.int32)
        for table, loop in ((tables.triloop, 3), (tables.tetraloop, 4), (tables.hexaloop, 6))
    )
    none = jnp.full_like(three, INF)
    return jnp.stack([three, four, none, six, none])


def _opposite(threes: _Side, d: Array, n: int) -> _Side:
    """The 3' sides of the pairs of a diagonal, by their 5' bases."""
    return _Side(*(lax.dynamic_slice(key, (d,), (n,)) for key in threes))


def _look_up(table: np.ndarray, five: Array, three: Array) -> Array:
    """Entries by the keys of both sides, which are never out of bounds."""
    entries = jnp.reshape(table, -1).at[five.astype(jnp.int32) * table.shape[1] + three]
    return entries.get(mode="promise_in_bounds", wrap_negative_indices=False).astype(jnp.int32)


def _price(
    state: _State, d: Array, five: _Side, three: _Side, tables: Tables, reported: Array, compactness: Array
) -> _State:
    """Take the newest diagonal, ``d``, into the ring, and its hairpins among the best."""
    v, length = state.newest, d + 1
    quantities = jnp.stack([
        v,
        v + _look_up(tables.outer_interior, five.outer, three.outer),
        v + _look_up(tables.outer_23, five.outer, three.outer),
        v + _look_up(tables.one_sided, five.one, three.one),
        v + _look_up(tables.terminal, five.one, three.one),
    ])  # fmt: skip
    columns = jnp.pad(quantities.astype(jnp.int16), ((0, 0), (0, BEYOND)), constant_values=INF)
    ring = lax.dynamic_update_slice(state.ring, columns[:, None], (0, d % DEPTH, 0))

    energy = v + _look_up(tables.exterior, five.exterior, three.exterior)
    inside = jnp.minimum(state.windows, jnp.roll(state.windows, -1))  # what comes round stays in the halo
    keys = jnp.where(reported, (energy + compactness * length) * KEY + length, INF * KEY)[None]
    place = (d % 2, d // 2)  # the pair (i, i + d) is around the centre 2 i + d
    around = jnp.minimum(lax.dynamic_slice(state.centres, place, keys.shape), keys)
    return _State(
        ring=ring,
        newest=v,
        windows=jnp.minimum(inside, energy),
        opened=jnp.minimum(state.opened, energy * KEY + length),
        centres=lax.dynamic_update_slice(state.centres, around, place),
    )


def _close(ring: Array, d: Array, five: _Side, three: _Side, tables: Tables, unusual: Array) -> Array:
    """V of diagonal ``d``, int32 (n,): the least of all loops a pair closes; INF where it is no pair."""
    n = len(five.one)

    def inner(quantity: int, a: int, b: int) -> Array:
        """The pair inside after ``a`` unpaired bases on the 5' side and ``b`` on the 3' side."""
        place = (quantity, (d - 2 - a - b) % DEPTH, 1 + a)
        return lax.dynamic_slice(ring, place, (1, 1, n))[0, 0].astype(jnp.int32)

    def least(terms: Iterable[Array]) -> Array:
        return reduce(jnp.minimum, terms)

    def look_up(table: np.ndarray, left: Array = five.two, right: Array = three.two) -> Array:
        return _look_up(table, left, right)

    sides = range(2, SIDE + 1)
    bulge, interior = tables.bulge.astype(jnp.int32), tables.interior.astype(jnp.int32)
    terminal = look_up(tables.terminal, five.one, three.one)
    ends = jnp.where(d == CLOSEST, terminal, look_up(tables.mismatch_hairpin))
    special = lax.dynamic_slice(unusual, (jnp.minimum(d - CLOSEST, len(unusual) - 1), 0), (1, n))[0]
    loops = [
        jnp.where(special < INF, special, tables.hairpin[d - 1] + ends),
        inner(CLOSED, 0, 0) + look_up(tables.stack),
        inner(CLOSED, 0, 1) + look_up(tables.stack, five.two, three.skipping) + bulge[1],
        inner(CLOSED, 1, 0) + look_up(tables.stack, five.skipping, three.two) + bulge[1],
        inner(CLOSED, 1, 1) + look_up(tables.int11, five.three, three.three),
        inner(CLOSED, 1, 2) + look_up(tables.int12, five.three, three.four),
        inner(CLOSED, 2, 1) + look_up(tables.int21, five.four, three.three),
        inner(CLOSED, 2, 2) + look_up(tables.int22, five.four, three.four),
        least(inner(MISMATCHED_23, a, 5 - a) for a in (2, 3)) + interior[2, 3] + look_up(tables.mismatch_23),
        least(inner(MISMATCHED, a, b) + interior[a, b] for a in sides for b in sides if a + b > 5)
        + look_up(tables.mismatch_interior),
        least(inner(ONE_SIDED, a, b) + interior[1, max(a, b)] for s in sides[1:] for a, b in ((1, s), (s, 1)))
        + look_up(tables.one_sided, five.one, three.one),
        least(inner(BULGED, a, b) + bulge[max(a, b)] for s in sides for a, b in ((0, s), (s, 0))) + terminal,
    ]  # fmt: skip
    can_pair = five.known & three.known & (look_up(tables.pair, five.one, three.one) == 0)
    return jnp.where(can_pair, least(loops), INF)


_turns = itertools.count()  # chunks of all threads go to the devices in turn


@dataclass(frozen=True)
class DeviceScan:
    """`mirscan.kernels.hairpins.scan_hairpins` on devices: called like it, and equal to it in every value.

    Parameters
    ----------
    devices : tuple of jax.Device
        They take chunks in turn, also those of several threads.
    chunk : int
        Rows of the compiled shape; shorter pieces are padded. Some 300 bytes a row while it is computed.
    short : int
        Rows below which the kernel on the host is used.
    """

    devices: tuple[jax.Device, ...]
    chunk: int
    short: int = 0

    def __call__(
        self,
        codes: np.ndarray,
        tables: Tables,
        span: int = 120,
        first: int = 0,
        last: int | None = None,
        compactness: int = 15,
    ) -> Scan:
        """See `mirscan.kernels.hairpins.scan_hairpins`."""
        last = len(codes) if last is None else last
        if last - first < self.short or not (0 <= first <= last <= len(codes) and 5 <= span <= MAX_SPAN):
            return scan_hairpins(codes, tables, span, first, last, compactness)  # which also says what is wrong
        rows = last - first
        energies = np.empty((3, rows), dtype=np.int16)
        centres = np.full(2 * rows + span + LANES, INF * KEY, dtype=np.int32)
        starts = range(0, rows, self.chunk)
        waiting = [self._submit(codes, tables, span, first + at, last, compactness) for at in starts]
        for at, (*found, around) in zip(starts, waiting, strict=True):
            here = energies[:, at : at + self.chunk]
            here[:] = [np.asarray(values)[: here.shape[1]] for values in found]
            shared = centres[2 * at : 2 * at + len(around)]
            np.minimum(shared, np.asarray(around)[: len(shared)], out=shared)
        return Scan(energies[0], energies[1], energies[2], centres)

    def _submit(
        self, codes: np.ndarray, tables: Tables, span: int, first: int, last: int, compactness: int
    ) -> tuple[jax.Array, ...]:
        """Start a chunk; returns at once."""
        padded = np.full(self.chunk + 2 * (span + FLANK), ABSENT, dtype=np.uint8)
        low, high = max(0, first - FLANK), min(len(codes), first - FLANK + len(padded))
        padded[low - first + FLANK : high - first + FLANK] = codes[low:high]
        device = self.devices[next(_turns) % len(self.devices)]
        rows = min(self.chunk, last - first)
        return _scan_chunk(*jax.device_put((padded, np.int32(rows), np.int32(compactness), tables), device), span=span)
