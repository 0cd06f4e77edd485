"""What a person at a terminal sees and does: signals, progress, counts."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mirscan.errors import Stop, Stopped

log = logging.getLogger("mirscan")


def ranges(numbers: list[int]) -> str:
    """How many numbers, and the first ten of them."""
    shown = ", ".join(map(str, numbers[:10]))
    return f"{len(numbers):,}" + (f" ({shown}{', ...' if len(numbers) > 10 else ''})" if numbers else "")


@contextmanager
def stoppable() -> Iterator[Stop]:
    """A first SIGINT or SIGTERM asks the command to stop, a second one ends it at once."""
    stop = Stop()
    received: list[int] = []

    def ask(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)
        log.info("stopping; the same command resumes")
        stop.request()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    except Stopped:
        sys.exit(128 + received[0])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress() -> Iterator[Callable[[Any], None]]:
    """A bar on a terminal, else one line in 30 seconds; on standard error in both cases."""
    from mirscan.scanning.loop import Progress

    def line(progress: Progress) -> str:
        rate = (progress.done - progress.resumed) / max(progress.seconds, 1e-9)
        left = (progress.total - progress.done) / max(rate, 1e-9)
        return f"{progress.done:,} of {progress.total:,} windows, {rate:,.0f} windows/s, {_clock(left)} left"

    if log.level > logging.INFO:
        yield lambda progress: None
    elif sys.stderr is not None and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("scanning"), BarColumn(), TextColumn("{task.description}"))
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("compiling", total=None)
            yield lambda p: bar.update(task, total=p.total, completed=p.done, description=line(p))
    else:
        shown = [time.monotonic()]

        def report(progress: Progress) -> None:
            if time.monotonic() - shown[0] >= 30:
                shown[0] = time.monotonic()
                log.info(line(progress))

        yield report


def _clock(seconds: float) -> str:
    if seconds >= 172_800:
        return f"{seconds / 86_400:.1f} days"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
