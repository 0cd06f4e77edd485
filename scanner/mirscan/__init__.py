"""mirscan: reads a genome and says where the microRNA precursors are.

The names below are the public interface. They are loaded on first use (PEP 562), so that
``import mirscan`` and ``mirscan --help`` start no accelerator and compile nothing.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "scan_genome": "mirscan.scanning.run",
    "open_genome": "mirscan.genome",
    "load_model": "mirscan.models",
    "MODELS": "mirscan.models",
    "Options": "mirscan.scanning.options",
    "InputError": "mirscan.types",
}
__all__ = sorted(_HOME)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mirscan' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
