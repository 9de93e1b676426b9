"""What is asked of an array library, how any that follows the Python array API standard answers, and NumPy."""

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


class Unsupported(Exception):  # noqa: N818 - it is an answer, not an error
    """What a library or an implementation cannot do, with the reason."""


def of_one(function: Function, arrays: Arrays, options: Options, argument: Argument) -> tuple[Function, Any]:
    """The function of one of its arguments alone, and that argument."""
    if isinstance(argument, str):
        return lambda x: function(*arrays, **{**options, argument: x}), options[argument]
    return lambda x: function(*arrays[:argument], x, *arrays[argument + 1 :], **options), arrays[argument]


class Library:
    """A library that follows the Python array API standard, with neither autodiff nor compiler."""

    def __init__(self, name: str, device: str = "cpu") -> None:
        self.name, self.device = name, device
        try:
            self.asarray(np.zeros(1), "float32")
        except Exception as error:
            raise ValueError(f"{name} makes no array on {device!r}: {error}") from error

    @property
    def version(self) -> str:
        """The installed version."""
        return str(getattr(importlib.import_module(self.name.partition(".")[0]), "__version__", "unknown"))

    def enabled(self) -> AbstractContextManager[Any]:
        """What a case runs in, so that the library has all of its dtypes."""
        return nullcontext()

    @property
    def xp(self) -> Any:
        """The namespace of its functions."""
        return importlib.import_module(self.name)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The floating-point dtypes it has."""
        return tuple(dtype for dtype in DTYPES if hasattr(self.xp, dtype))

    def asarray(self, values: Numbers, dtype: str) -> Any:
        """An array of the library on its device, of numbers that are exact in the dtype."""
        if self.device != "cpu":
            raise ValueError("devices can be named for torch and JAX only")
        return self.xp.asarray(np.array(values), dtype=getattr(self.xp, dtype))

    def array(self, values: Numbers, dtype: str, layout: str = "C") -> Any:
        """An array with this layout in memory; floats are of the dtype, all else stays what it is."""
        dtype = dtype if values.dtype.kind == "f" else str(values.dtype)
        is_plain = layout == "C" or values.ndim < 2
        return self.asarray(values, dtype) if is_plain else self.laid_out(values, dtype, layout)

    def to_numpy(self, array: Any) -> Numbers:
        """The same numbers in a NumPy array of its own, floats as float64."""
        for method in ("get", "compute"):  # of CuPy and Dask
            array = getattr(array, method)() if hasattr(array, method) else array
        array = np.array(array)
        if array.dtype.kind in "cOSUM":
            raise TypeError(f"the answer has dtype {array.dtype}, not a real one")
        return array if array.dtype.kind in "biu" else array.astype(np.float64)  # type: ignore[no-any-return]

    def laid_out(self, values: Numbers, dtype: str, layout: str) -> Any:
        """An array with another layout in memory."""
        raise Unsupported(f"{self.name} does not expose the memory layout")

    def forget(self) -> None:
        """Drop what is compiled, so that functions are traced again."""

    def call(self, function: Function, arrays: Arrays, options: Options) -> Any:
        """The value of a function."""
        return function(*arrays, **options)

    def vjp(
        self, function: Function, arrays: Arrays, options: Options, argument: Argument, cotangent: Any
    ) -> tuple[Any, Any]:
        """Value, and the gradient times a cotangent; None stands for ones."""
        raise Unsupported(f"{self.name} has no autodiff")

    def jvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """Derivative by the first array along a tangent, in forward mode."""
        raise Unsupported(f"{self.name} has no autodiff")

    def hvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """Derivative along a tangent of the gradient of the sum of what the function returns, by the first array."""
        raise Unsupported(f"{self.name} has no autodiff")

    @property
    def imports(self) -> str:
        """What `literal` and `lines` need."""
        return f"import numpy as np\nimport {self.name} as xp"

    def literal(self, values: str, dtype: str) -> str:
        """Source of an array, from the source of its numbers."""
        return f"xp.asarray({values}, dtype=xp.{dtype})"

    ones, like_value = "xp.ones_like(value)", ""  # source of a cotangent, and of a cast to the dtype of the value
    lines: Mapping[str, tuple[str, ...]] = {"value": ("print({call})",)}  # source of what its methods compute


class NumPy(Library):
    """NumPy, with read-only arrays."""

    imports = "import numpy as np"
    ones = "np.ones_like(value)"

    def literal(self, values: str, dtype: str) -> str:
        """Source of an array, from the source of its numbers."""
        return f"np.asarray({values}, dtype=np.{dtype})"

    def asarray(self, values: Numbers, dtype: str) -> Any:
        """An array of its own that cannot be written to."""
        if self.device != "cpu":
            raise ValueError("NumPy has no device but the CPU")
        array = np.array(values, dtype=dtype)
        array.flags.writeable = False
        return array

    def laid_out(self, values: Numbers, dtype: str, layout: str) -> Any:
        """An array with another layout in memory."""
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
