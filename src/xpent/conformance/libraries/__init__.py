"""Array libraries: conversion from and to NumPy, differentiation and compilation."""

from __future__ import annotations

import importlib.util

from xpent.conformance.libraries.base import Argument, Arrays, Function, Library, NumPy, Options, Unsupported

__all__ = ["Argument", "Arrays", "Function", "Library", "Options", "Unsupported", "library"]


def library(name: str, device: str = "cpu") -> Library:
    """The library with a name: "numpy", "torch", "jax" or the import name of another array API namespace."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        raise Unsupported(f"{name} is not installed")
    if name == "torch":
        from xpent.conformance.libraries.torch import Torch

        return Torch(name, device)
    if name == "jax":
        from xpent.conformance.libraries.jax import Jax

        return Jax(name, device)
    return NumPy(name, device) if name == "numpy" else Library(name, device)
