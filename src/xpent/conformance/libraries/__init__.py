"""Array libraries: how numbers get in and out of each, and how it differentiates and compiles a function."""

from __future__ import annotations

import importlib
import importlib.util

from xpent.conformance.libraries.base import Arrays, Function, Library, Moved, Options, Unsupported

__all__ = ["Arrays", "Function", "Library", "Moved", "Options", "Unsupported", "library"]

_OWN = {"numpy": "NumPy", "torch": "Torch", "jax": "Jax"}  # the class in the module with_numpy, and so on


def library(name: str, device: str = "cpu") -> Library:
    """The library of a name: "numpy", "torch", "jax" or the module of another one's namespace."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        raise Unsupported(f"{name} is not installed")
    if name not in _OWN:
        return Library(name, device)
    module = importlib.import_module(f"xpent.conformance.libraries.with_{name}")
    found: Library = getattr(module, _OWN[name])(name, device)
    return found
