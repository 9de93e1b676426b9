"""Types of the public functions: the kind of array that is given is the kind that is returned."""

from __future__ import annotations

from typing import Any, ParamSpec, Protocol, TypeVar


class Array(Protocol):
    """An array of any library. `xpent._backends.base.Array` is the same inside the package, with all operations."""

    @property
    def dtype(self) -> Any: ...

    @property
    def ndim(self) -> int: ...

    @property
    def shape(self) -> Any: ...


ArrayT = TypeVar("ArrayT", bound=Array)
P = ParamSpec("P")
R = TypeVar("R")
