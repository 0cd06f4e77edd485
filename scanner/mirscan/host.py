"""This machine: the cores that a process may use, and where caches lie."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cores(threads: int | None = None) -> int:
    """How many cores to use: those asked for, else all that this process may use (macOS does not say; all there)."""
    if threads:
        return threads
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cache_folder() -> Path:
    """Where this user's machine keeps what it can make again: ``$MIRSCAN_CACHE``, or ``mirscan`` among the caches.

    For a user without a home it is among the temporary files.
    """
    chosen, caches = os.environ.get("MIRSCAN_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if chosen:
        return Path(chosen)
    if caches:
        return Path(caches) / "mirscan"
    try:
        return Path.home() / ".cache" / "mirscan"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"mirscan-cache-{os.getuid()}"
