"""What computes the stem-loops of a strand on this machine: its cores, or its accelerators. The values are the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from mirscan.kernels.hairpins import Scan, scan_hairpins
from mirscan.structure.turner import turner_tables

EngineName = Literal["numba", "jax"]
CPU_CHUNK, ACCELERATOR_CHUNK = 1 << 12, 1 << 20
"""Rows a device computes at once: what fits a core's cache, or what makes the launches of a diagonal count little."""
MARGIN = 1 << 10
"""Rows that a piece of a contig needs beside its own (`mirscan.structure.proposals`): both together fill a chunk."""
SHORT = 1 << 15
"""Rows below which the kernel on a core is done before an accelerator has gone through its chunk."""
WORTH = 20_000_000
"""Bases below which compiling and measuring take longer than they save."""


def choose_engine(
    name: EngineName | None = None, *, bases: int = 0, threads: int = 1, devices: int | None = None
) -> Engine:
    """What is to compute the stem-loops; every choice gives the same values.

    Parameters
    ----------
    name : {"numba", "jax"}, optional
        The cores, or the devices of JAX, whatever they are. By default the devices if they are accelerators, if there
        is enough to do, and if a measurement, made once a process, says that they are faster.
    bases : int
        How much there is to do.
    threads : int
        Cores that would share it.
    devices : int, optional
        Use at most so many; all by default.

    Raises
    ------
    ValueError
        If there is no engine of that name.
    UsageError
        If there are fewer devices.
    """
    if name not in ("numba", "jax", None):
        raise ValueError(f"engine {name!r}: there are numba and jax")
    if name == "jax" or (name is None and bases >= WORTH and _devices_are_faster(threads, devices)):
        return device_engine(devices)
    return NUMBA


def device_engine(limit: int | None = None) -> Engine:
    """The recurrence on the devices of this machine, at most ``limit``."""
    from mirscan.devices import backend, local_devices
    from mirscan.structure.recurrence_jax import DeviceScan

    devices = tuple(local_devices(limit))
    if backend() == "cpu":  # every core is a device, and every thread has one of its own
        return Engine(DeviceScan(devices, CPU_CHUNK), NUMBA.piece)
    return Engine(DeviceScan(devices, ACCELERATOR_CHUNK, SHORT), ACCELERATOR_CHUNK - MARGIN)


@cache
def _devices_are_faster(threads: int, limit: int | None) -> bool:
    """Whether accelerators, at most ``limit``, together take less time for a base than so many cores."""
    from mirscan.devices import backend, local_devices

    if backend() == "cpu":
        return False
    on_devices = seconds_per_base(device_engine(limit)) / len(local_devices(limit))
    return on_devices < seconds_per_base(NUMBA) / threads


def seconds_per_base(engine: Engine) -> float:
    """Time (s) for a base of one strand of random bases: the better of two runs after one that compiles."""
    codes, tables = np.random.default_rng(0).integers(0, 4, engine.piece).astype(np.uint8), turner_tables()
    engine.scan(codes, tables)
    times = []
    for _ in range(2):
        start = time.perf_counter()
        engine.scan(codes, tables)
        times.append(time.perf_counter() - start)
    return min(times) / engine.piece


TILE = 1 << 15
"""Rows of a contig that one thread computes at a time; results do not depend on it."""


class Engine(NamedTuple):
    """What computes the stem-loops of a strand.

    Attributes
    ----------
    scan : callable
        `mirscan.kernels.hairpins.scan_hairpins`, or what is called like it and gives the same values.
    piece : int
        Bases of a contig that one thread best gives it at a time.
    """

    scan: Callable[..., Scan]
    piece: int


NUMBA = Engine(scan_hairpins, 1 << 17)
"""The kernel on a core."""


_Result = TypeVar("_Result")


def over_tiles(job: Callable[[int, int], _Result], length: int, threads: int, tile: int = TILE) -> list[_Result]:
    """``job(first, last)`` of every tile of a contig, at most ``threads`` at a time, results in order."""
    firsts = range(0, length, tile)
    lasts = [min(first + tile, length) for first in firsts]
    if threads <= 1:
        return [job(first, last) for first, last in zip(firsts, lasts, strict=True)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(job, firsts, lasts))
