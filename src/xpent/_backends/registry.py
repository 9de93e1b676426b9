"""The backend of arrays, found once for each call."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import array_api_compat

from xpent._backends.base import Array, Backend

_by_type: dict[type, Backend] = {}


def backend_of(**arrays: Array | None) -> Backend:
    """The backend that all the arrays have in common, on one device; None is left out.

    Raises
    ------
    TypeError
        If something is no array, or a masked one, or arrays come from different libraries.
    ValueError
        If arrays are on different devices.
    """
    backend: Backend | None = None
    device: Any = None
    for name, array in arrays.items():
        if array is None:
            continue
        of_array = _by_type.get(type(array)) or _find(name, array)
        if backend is None:
            backend, device = of_array, of_array.device(array) if of_array.has_devices else None
        elif of_array is not backend:
            listed = _listed(arrays, lambda x: f"{type(x).__module__}.{type(x).__qualname__}")
            raise TypeError(f"all arrays must come from one library, got {listed}")
        elif of_array.has_devices and of_array.device(array) != device:
            listed = _listed(arrays, lambda x: f"on {of_array.device(x)}")
            raise ValueError(f"all arrays must be on one device, got {listed}")
    assert backend is not None
    return backend


def _listed(arrays: dict[str, Array | None], describe: Callable[[Array], str]) -> str:
    return ", ".join([f"{name} {describe(array)}" for name, array in arrays.items() if array is not None])


def _find(name: str, array: Array) -> Backend:
    torch, jax, numpy = (sys.modules.get(library) for library in ("torch", "jax", "numpy"))
    if torch is not None and isinstance(array, torch.Tensor):
        from xpent._backends.torch import TORCH

        backend: Backend = TORCH
    elif numpy is not None and isinstance(array, numpy.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be lost: pass its data, and the mask as where")
    elif numpy is not None and isinstance(array, numpy.ndarray | numpy.generic):
        backend = importlib.import_module("xpent._backends.numpy").NUMPY
    elif jax is not None and isinstance(array, jax.Array):
        backend = importlib.import_module("xpent._backends.jax").JAX
    else:
        return _of_namespace(name, array)
    return _by_type.setdefault(type(array), backend)


def _of_namespace(name: str, array: Array) -> Backend:
    try:
        xp = array_api_compat.array_namespace(array)
    except TypeError:
        raise TypeError(
            f"{name} must be an array of NumPy, PyTorch, JAX or another library that follows the "
            f"array API standard, got {type(array).__module__}.{type(array).__qualname__}"
        ) from None
    return _by_namespace.setdefault(xp, Backend(xp))


_by_namespace: dict[ModuleType, Backend] = {}
