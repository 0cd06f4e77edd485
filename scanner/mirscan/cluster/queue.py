"""What a batch counts and places, without anything that runs: its genomes, their parts, and the slots of a cluster."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple


class PartQueue:
    """The parts of many runs: which wait, and which have failed how often.

    Parameters
    ----------
    attempts : int
        How often a part may fail by itself before it is given up.

    Attributes
    ----------
    given_up : dict
        By ``(run, part)``: why its last attempt failed.
    """

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts
        self.given_up: dict[tuple[int, int], str] = {}
        self._waiting: dict[int, deque[int]] = {}
        self._failures: Counter[tuple[int, int]] = Counter()
        self._alone: set[tuple[int, int]] = set()
        """Parts that were handed out with others when something failed: by themselves next time."""

    def add(self, run: int, parts: Iterable[int]) -> None:
        """Have parts of a run wait, in this order."""
        self._waiting.setdefault(run, deque()).extend(parts)

    def waiting(self, run: int) -> int:
        """How many parts of a run wait."""
        return len(self._waiting.get(run, ()))

    def take(self, run: int, most: int = 1) -> list[int]:
        """The next parts of a run, at most so many; one that may be to blame for a failure comes alone."""
        parts = self._waiting.get(run, deque())
        taken: list[int] = []
        while parts and len(taken) < most and not (taken and self._suspect(run, parts[0])):
            taken.append(parts.popleft())
            if self._suspect(run, taken[0]):
                break
        return taken

    def failed(self, run: int, parts: Sequence[int], reason: str) -> None:
        """Have parts that were taken together wait again, behind the others; one part alone may be given up."""
        for part in parts:
            if len(parts) > 1:
                self._alone.add((run, part))
            else:
                self._failures[run, part] += 1
            if self._failures[run, part] < self.attempts:
                self.add(run, [part])
            else:
                self.given_up[run, part] = reason

    def _suspect(self, run: int, part: int) -> bool:
        return (run, part) in self._alone or self._failures[run, part] > 0


class Slot(NamedTuple):
    """A place for one worker: an accelerator, or a node without one."""

    node: str
    """The node's id."""
    number: int
    kind: str
    """``GPU``, ``TPU`` or ``CPU``."""
    amount: int
    """How many of that kind a worker takes: one GPU, all chips of a TPU host, cores of a CPU node."""
    cores: int
    """For host work."""


def slots(nodes: Iterable[Mapping[str, Any]], threads: int | None = None, kind: str | None = None) -> list[Slot]:
    """Where workers can run: each GPU of a cluster; without any, each TPU host; without any, each node.

    Parameters
    ----------
    nodes : iterable of mappings
        With ``NodeID``, ``Alive`` and ``Resources`` (name to amount), as Ray lists them.
    threads : int, optional
        At most so many cores a worker; by default all of its node, or its share where the node has several GPUs.
    kind : str, optional
        ``GPU``, ``TPU`` or ``CPU``, where it is settled.
    """
    alive = [(str(node["NodeID"]), node["Resources"]) for node in nodes if node["Alive"]]
    there = (name for name in ("GPU", "TPU") if any(has.get(name, 0) >= 1 for _, has in alive))
    kind = kind or next(there, "CPU")
    found = []
    for node, has in sorted(alive, key=lambda pair: pair[0]):
        amount, cores = int(has.get(kind, 0)), int(has.get("CPU", 0))
        if amount < 1:
            continue
        count = amount if kind == "GPU" else 1
        share = min(cores // count, threads or cores)
        each = {"GPU": 1, "TPU": amount, "CPU": share}[kind]
        found += [Slot(node, number, kind, each, share) for number in range(count)]
    return found


def most_wanting(runs: Mapping[int, tuple[int | None, int]]) -> int | None:
    """The run that an idle worker should open, if any.

    One that nobody has looked at; else the one with most parts for each worker, if it has more of them than workers;
    else one that others are opening, to be ready when its parts are known.

    Parameters
    ----------
    runs : mapping
        Number of a run to the parts that wait (None: nobody has opened it yet) and the workers at it.
    """
    ranked = []
    for number, (waiting, helpers) in runs.items():
        if waiting is None:
            ranked.append((2 if helpers else 0, float(helpers), number))
        elif waiting > helpers:
            ranked.append((1, -waiting / (helpers + 1), number))
    return min(ranked)[2] if ranked else None
