"""The errors a user can cause, with the exit code of each, and the request to stop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class InputError(Exception):
    """Bad input: one line that says what, where and what to do. The command line exits with 3."""


class UsageError(Exception):
    """Options that contradict each other or ask for what a model cannot do. The command line exits with 2."""


class IncompleteError(Exception):
    """Work that stopped half-way and can be resumed. The command line exits with 4."""


class ModelError(Exception):
    """A model gave no number for a window. The command line exits with 1."""


class Stopped(BaseException):
    """Work was left because someone asked for it; what is finished is kept. The command line exits with 130 or 143.

    No `Exception`, as `KeyboardInterrupt` is none: nothing on the way may take it for a failure and carry on.
    """


class Stop:
    """A request to stop. Whatever runs is left at once, except in a patient block, which comes to its own end."""

    def __init__(self) -> None:
        self.requested = False
        self._patient = False

    def request(self) -> None:
        """Ask; signal handlers call this in the main thread.

        Raises
        ------
        Stopped
            Unless a patient block is running.
        """
        self.requested = True
        if not self._patient:
            raise Stopped

    @contextlib.contextmanager
    def patiently(self) -> Iterator[None]:
        """Within this block look at ``requested`` now and then; `Stopped` is raised at its end."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False
        if self.requested:
            raise Stopped
