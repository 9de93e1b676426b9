"""The backend of arrays, found once for each call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import array_api_compat

from xpent._backends.base import Array, Backend

# Functions of the standard that xpent needs. For those that newer versions of the standard add, there is a fallback.
REQUIRED = (
    "__array_namespace_info__", "all", "any", "arange", "argmax", "astype", "bool", "broadcast_to", "empty", "exp",
    "finfo", "float32", "iinfo", "isdtype", "isfinite", "log", "log1p", "matmul", "max", "min",
    "ones_like", "permute_dims", "reshape", "sum", "take", "tanh", "where", "zeros", "zeros_like",
)  # fmt: skip

_by_type: dict[type, Backend] = {}
_by_namespace: dict[ModuleType, Backend] = {}


def backend_of(
    required: dict[str, Array],
    optional: dict[str, Array | None] | None = None,
    scalars: dict[str, Array | float | None] | None = None,
) -> Backend:
    """The backend that all the arrays have in common, on one device.

    Optional arrays may be None, and scalars may also be numbers.

    Raises
    ------
    TypeError
        If a value is not an array, is a masked array, or arrays come from different libraries of which none converts
        those of the others.
    ValueError
        If arrays are on different devices.
    """
    arrays = required
    for name, array in (optional or {}).items():
        if array is not None:
            arrays = {**arrays, name: array}
    for name, value in (scalars or {}).items():
        if Backend.is_array(value):
            arrays = {**arrays, name: value}
    backend = of_torch = None
    device: Any = None
    torch = sys.modules.get("torch")
    for name, array in arrays.items():
        if torch is not None and isinstance(array, torch.Tensor):
            of_array = of_torch = of_torch or _torch()
        else:
            of_array = _by_type.get(type(array)) or _find(name, array)
        if backend is None:
            backend, device = of_array, of_array.device(array) if of_array.has_devices else None
        elif of_array is not backend and of_array.converts(backend):
            backend = of_array
        elif of_array is not backend and not backend.converts(of_array):
            listed = _listed(arrays, lambda x: f"{type(x).__module__}.{type(x).__qualname__}")
            raise TypeError(f"all arrays must come from one library, got {listed}")
        elif of_array.has_devices and of_array.device(array) != device:
            listed = _listed(arrays, lambda x, b=of_array: f"on {b.device(x)}")  # type: ignore[misc]
            raise ValueError(f"all arrays must be on one device, got {listed}")
    assert backend is not None
    return backend


def call_key(arrays: tuple[Any, ...]) -> Any:
    """`Backend.call_key` of arrays, None if they are not plain arrays of one library."""
    if not arrays:
        return None
    torch = sys.modules.get("torch")
    is_tensor = torch is not None and isinstance(arrays[0], torch.Tensor)
    backend = _torch() if is_tensor else _by_type.get(type(arrays[0]))
    return None if backend is None else backend.call_key(arrays)


def _listed(arrays: dict[str, Array], describe: Callable[[Array], str]) -> str:
    return ", ".join([f"{name} {describe(array)}" for name, array in arrays.items()])


def _torch() -> Backend:
    # Not kept in a dictionary: torch.compile would recompile when it changes.
    from xpent._backends.torch import TORCH

    return TORCH


def _find(name: str, array: Array) -> Backend:
    jax, numpy = sys.modules.get("jax"), sys.modules.get("numpy")
    if numpy is not None and isinstance(array, numpy.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, whose mask would be ignored: pass {name}.data; "
            f"to mask classes, pass where=~{name}.mask"
        )
    if numpy is not None and isinstance(array, numpy.ndarray | numpy.generic):
        from xpent._backends.numpy import NUMPY

        return _by_type.setdefault(type(array), NUMPY)
    if jax is not None and isinstance(array, jax.Array):
        from xpent._backends.jax import JAX

        return _by_type.setdefault(type(array), JAX)
    return _of_namespace(name, array)


def _of_namespace(name: str, array: Array) -> Backend:
    try:
        xp = array_api_compat.array_namespace(array)
    except TypeError:
        remedy = f": pass {name}.to_numpy()" if hasattr(array, "to_numpy") else ""
        if isinstance(array, list | tuple):
            remedy = f": convert it first, for example with numpy.asarray({name})"
        raise TypeError(
            f"{name} must be an array of NumPy, PyTorch, JAX or another library that follows the "
            f"array API standard, got {type(array).__module__}.{type(array).__qualname__}{remedy}"
        ) from None
    if xp not in _by_namespace:
        missing = [function for function in REQUIRED if not hasattr(xp, function)]
        if missing:
            raise TypeError(
                f"{name} is an array of {xp.__name__}, which cannot be used: of the array API standard it lacks "
                f"{', '.join(missing)}"
            )
        _by_namespace[xp] = Backend(xp)
    return _by_namespace[xp]


def as_arrays(**values: Any) -> tuple[Backend, ModuleType, list[Array]]:
    """Arrays of one library, in one floating-point or complex dtype, of array-likes and numbers; None is skipped.

    Returns their backend and the library's namespace of the array API standard, too. Without an array among the values
    the library is NumPy. One value alone keeps its dtype.
    """
    given: list[Any] = [value for value in values.values() if value is not None]
    arrays = {name: value for name, value in values.items() if hasattr(value, "dtype")}
    if not arrays:
        from xpent._backends.numpy import NUMPY as backend
    else:
        backend = backend_of(arrays)  # type: ignore[assignment]
    if len(arrays) == len(given) == 1:
        return backend, array_api_compat.array_namespace(*given), given
    like = next(iter(arrays.values()), None)
    xp = backend.xp if like is None else array_api_compat.array_namespace(*arrays.values())
    device = {} if like is None or backend.device(like) is None else {"device": backend.device(like)}
    given = [
        v if hasattr(v, "dtype") or isinstance(v, complex | float | int) else xp.asarray(v, **device) for v in given
    ]
    if len(given) == 1:
        return backend, xp, [xp.asarray(*given)]
    try:
        dtype = xp.result_type(*given, 1.0)
    except TypeError:  # the standard defines no result of integers and floating-point numbers
        kinds = ("real floating", "complex floating")
        floating = [v.dtype for v in given if hasattr(v, "dtype") and xp.isdtype(v.dtype, kinds)]
        floating += [xp.asarray(v).dtype for v in given if isinstance(v, complex)]
        dtype = xp.result_type(*floating, xp.__array_namespace_info__().default_dtypes()["real floating"])
    converted = [xp.astype(v, dtype) if hasattr(v, "dtype") else xp.asarray(v, dtype=dtype, **device) for v in given]
    return backend, xp, converted


def namespace_of(*arrays: Array) -> ModuleType:
    """The namespace of the array API standard that arrays of one library have in common."""
    xp: ModuleType = array_api_compat.array_namespace(*arrays)
    return xp
