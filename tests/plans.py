"""A plan of three short contigs, for tests of what needs no genome."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mirscan.types import Contig, Grid, Plan, Segment


def make_plan(
    lengths: Sequence[int] = (1000, 60, 543), part_windows: int = 16, grid: Grid | None = None, **changes: object
) -> Plan:
    """Contigs ``c0``, ``c1`` … of these lengths, scanned as a whole; ``changes`` are fields of the plan."""
    grid = grid or Grid(100, 20)
    contigs = tuple(Contig(f"c{i}", length) for i, length in enumerate(lengths))
    segments = tuple(Segment(i, 0, grid.count(c.length)) for i, c in enumerate(contigs) if grid.count(c.length))
    plan = Plan(
        genome="g.fa",
        genome_digest="d",
        contigs=contigs,
        segments=segments,
        grid=grid,
        model="m",
        weights_digest="w",
        part_windows=part_windows,
        ambiguous="skip",
        soft_mask="scan",
        backend="cpu",
        precision="float32",
        compiled_rows=4,
        selection={"regions": ()},
    )
    return dataclasses.replace(plan, **changes)
