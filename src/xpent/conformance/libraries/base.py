"""The interface to array libraries, its implementation with the array API standard, and NumPy."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from xpent.conformance.dtypes import DTYPES, Numbers

Function = Callable[..., Any]
Arrays = tuple[Any, ...]
Options = dict[str, Any]
Argument = int | str  # the position of an array, or the name of an option that is one


class Unsupported(Exception):  # noqa: N818 - an outcome, not an error
    """A library or an implementation does not support a feature; the message is the reason."""


def of_one(function: Function, arrays: Arrays, options: Options, argument: Argument) -> tuple[Function, Any]:
    """The function of a single argument, with the others fixed, and the value of that argument."""
    if isinstance(argument, str):
        return lambda x: function(*arrays, **{**options, argument: x}), options[argument]
    return lambda x: function(*arrays[:argument], x, *arrays[argument + 1 :], **options), arrays[argument]


class Library:
    """A library that follows the Python array API standard, without automatic differentiation or compilation."""

    def __init__(self, name: str, device: str = "cpu") -> None:
        self.name, self.device = name, device
        try:
            self.asarray(np.zeros(1), "float32")
        except Exception as error:
            raise ValueError(f"{name} cannot create an array on {device!r}: {error}") from error

    @property
    def version(self) -> str:
        """The installed version."""
        return str(getattr(importlib.import_module(self.name.partition(".")[0]), "__version__", "unknown"))

    def enabled(self) -> AbstractContextManager[Any]:
        """A context in which all dtypes of the library are enabled; every case runs in it."""
        return nullcontext()

    @property
    def xp(self) -> Any:
        """The array API namespace."""
        return importlib.import_module(self.name)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The floating-point dtypes of the library."""
        return tuple(dtype for dtype in DTYPES if hasattr(self.xp, dtype))

    def asarray(self, values: Numbers, dtype: str) -> Any:
        """An array of the library on the device; the values must be exact in the dtype."""
        if self.device != "cpu":
            raise ValueError("a device is supported only for PyTorch and JAX")
        return self.xp.asarray(np.array(values), dtype=getattr(self.xp, dtype))

    def array(self, values: Numbers, dtype: str, layout: str = "C") -> Any:
        """An array with a memory layout; floating-point numbers have the dtype, other values keep theirs."""
        dtype = dtype if values.dtype.kind == "f" else str(values.dtype)
        is_plain = layout == "C" or values.ndim < 2
        return self.asarray(values, dtype) if is_plain else self.laid_out(values, dtype, layout)

    def to_numpy(self, array: Any) -> Numbers:
        """Copy an array to NumPy; floating-point numbers become float64."""
        for method in ("get", "compute"):  # the methods of CuPy and Dask
            array = getattr(array, method)() if hasattr(array, method) else array
        array = np.array(array)
        if array.dtype.kind in "cOSUM":
            raise TypeError(f"the result must be real, got dtype {array.dtype}")
        return array if array.dtype.kind in "biu" else array.astype(np.float64)  # type: ignore[no-any-return]

    def laid_out(self, values: Numbers, dtype: str, layout: str) -> Any:
        """An array with a memory layout other than "C"."""
        raise Unsupported(f"{self.name} does not expose the memory layout")

    def forget(self) -> None:
        """Clear the cache of compiled functions."""

    def call(self, function: Function, arrays: Arrays, options: Options) -> Any:
        """Call a function."""
        return function(*arrays, **options)

    def vjp(
        self, function: Function, arrays: Arrays, options: Options, argument: Argument, cotangent: Any
    ) -> tuple[Any, Any]:
        """The value, and the gradient multiplied by a cotangent; None stands for ones."""
        raise Unsupported(f"{self.name} has no autodiff")

    def jvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """The derivative along a tangent of the first array, in forward mode."""
        raise Unsupported(f"{self.name} has no autodiff")

    def hvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """The product of a tangent of the first array and the Hessian of the sum of the result."""
        raise Unsupported(f"{self.name} has no autodiff")

    @property
    def imports(self) -> str:
        """The import statements for the code of `literal` and `lines`."""
        return f"import numpy as np\nimport {self.name} as xp"

    def literal(self, values: str, dtype: str) -> str:
        """Source code of an array, from the source code of its values."""
        return f"xp.asarray({values}, dtype=xp.{dtype})"

    ones, like_value = "xp.ones_like(value)", ""  # source code of a cotangent, and of a cast to the dtype of the value
    lines: Mapping[str, tuple[str, ...]] = {"value": ("print({call})",)}  # source code of the methods


class NumPy(Library):
    """NumPy, with read-only arrays."""

    imports = "import numpy as np"
    ones = "np.ones_like(value)"

    def literal(self, values: str, dtype: str) -> str:
        """Source code of an array, from the source code of its values."""
        return f"np.asarray({values}, dtype=np.{dtype})"

    def asarray(self, values: Numbers, dtype: str) -> Any:
        """A read-only copy."""
        if self.device != "cpu":
            raise ValueError(f"NumPy supports only the device 'cpu', got {self.device!r}")
        array = np.array(values, dtype=dtype)
        array.flags.writeable = False
        return array

    def laid_out(self, values: Numbers, dtype: str, layout: str) -> Any:
        """An array with a memory layout other than "C"."""
        if layout == "broadcast":
            return np.broadcast_to(np.array(values[:1], dtype=dtype), values.shape)
        if layout == "Fortran":
            return np.array(values, dtype=dtype, order="F")
        step = {"strided": 2, "reversed": -1}[layout]
        array = np.zeros([abs(step) * size for size in values.shape], dtype=dtype)[
            (slice(None, None, step),) * values.ndim
        ]
        array[...] = values
        return array
