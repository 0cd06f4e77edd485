"""mirscan: reads a genome and ranks where its microRNA precursors are.

The names below are the public interface, described in docs/python.md. They are loaded on first use (PEP 562), so that
``import mirscan`` and ``mirscan --help`` start no accelerator and compile nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirscan.api import evaluate, hairpins, load_model, scan, score, windows
    from mirscan.api.objects import Calls, Evaluation, Model, Windows
    from mirscan.errors import IncompleteError, InputError, ModelError, Stop, Stopped, UsageError
    from mirscan.genome import open_genome
    from mirscan.models import MODELS
    from mirscan.scanning.options import Options
    from mirscan.scanning.run import scan_genome
    from mirscan.types import Call, Hairpin

__all__ = [
    "MODELS",
    "Call",
    "Calls",
    "Evaluation",
    "Hairpin",
    "IncompleteError",
    "InputError",
    "Model",
    "ModelError",
    "Options",
    "Stop",
    "Stopped",
    "UsageError",
    "Windows",
    "evaluate",
    "hairpins",
    "load_model",
    "open_genome",
    "scan",
    "scan_genome",
    "score",
    "windows",
]
__version__ = "0.1.0"

_HOME = dict.fromkeys(__all__, "mirscan.api") | {
    **dict.fromkeys(["Calls", "Evaluation", "Model", "Windows"], "mirscan.api.objects"),
    "MODELS": "mirscan.models",
    "open_genome": "mirscan.genome",
    "Options": "mirscan.scanning.options",
    "scan_genome": "mirscan.scanning.run",
    "Call": "mirscan.types",
    "Hairpin": "mirscan.types",
    **dict.fromkeys(["IncompleteError", "InputError", "ModelError", "Stop", "Stopped", "UsageError"], "mirscan.errors"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mirscan' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
