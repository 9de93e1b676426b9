"""Make an implementation of a function given by name, as on the command line."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Collection
from typing import Any

from xpent.conformance.cases import BY_ID
from xpent.conformance.implementation import Implementation
from xpent.conformance.target import load, target
from xpent.conformance.trial import Raised, Trial

OPTIONS = ("library", "device", "signature", "computes", "gradient", "without")


def named(
    path: str,
    *,
    library: str | None = None,
    device: str | None = None,
    signature: str | None = None,
    computes: str | None = None,
    gradient: str | None = None,
    without: Collection[str] | None = None,
    prefix: str = "--",
) -> Implementation:
    """Make an implementation of "module:function". ``prefix`` is that of the options in error messages."""
    how: dict[str, Any] = {"library": library, "device": device, "signature": signature, "computes": computes}
    how = {name: value for name, value in how.items() if value is not None}
    if gradient is not None:
        how["value_and_grad"] = load(gradient)
    how["lacks"] = dict.fromkeys(without or (), "is excluded")
    make = functools.partial(target, load(path), name=path, **how)
    found = make()
    if library is None:
        _check_library(found, make, f"{prefix}library")
    return found


def _check_library(found: Implementation, make: functools.partial[Implementation], option: str) -> None:
    """Raise ValueError if the function fails with NumPy arrays but not with those of PyTorch or JAX."""
    error = _error_of_plain_call(found)
    if error is None:
        return
    for library in ("torch", "jax"):
        if importlib.util.find_spec(library) is not None and _error_of_plain_call(make(library=library)) is None:
            raise ValueError(f"with NumPy arrays {found.name} {error}, but it takes arrays of {library}: "
                             f"add {option} {library}")  # fmt: skip


def _error_of_plain_call(implementation: Implementation) -> str | None:
    """The error that a call without options raises, or None."""
    (function,) = implementation.functions
    case = BY_ID[{"cross_entropy": "rows", "linear_cross_entropy": "linear-rows"}.get(function, function)]
    try:
        Trial(implementation, case, "float32").compute("value")
    except Raised as error:
        return str(error).removeprefix("value ")
    return None
