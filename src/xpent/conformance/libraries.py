"""Array libraries: how numbers get in and out of each, and how it differentiates and compiles a function."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

from xpent.conformance.dtypes import DTYPES, Numbers

Function = Callable[..., Any]
Arrays = tuple[Any, ...]
Options = dict[str, Any]
Moved = int | str  # the position of an array, or the name of an option that is one


class Unsupported(Exception):  # noqa: N818 - it is an answer, not an error
    """What a library or an implementation cannot be asked, with the reason."""


def of_one(function: Function, arrays: Arrays, options: Options, moved: Moved) -> tuple[Function, Any]:
    """The function of one of its arrays alone, and that array."""
    if isinstance(moved, str):
        return lambda x: function(*arrays, **{**options, moved: x}), options[moved]
    return lambda x: function(*arrays[:moved], x, *arrays[moved + 1 :], **options), arrays[moved]


class Library:
    """A library that follows the Python array API standard. It differentiates nothing, and compiles nothing."""

    def __init__(self, name: str, device: str = "cpu") -> None:
        self.name, self.device = name, device

    def __str__(self) -> str:
        return self.name if self.device == "cpu" else f"{self.name} on {self.device}"

    @property
    def version(self) -> str:
        """Of the package installed."""
        return version(self.name.partition(".")[0].replace("_", "-"))

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
        return self.xp.asarray(np.array(values), dtype=getattr(self.xp, dtype))

    def to_numpy(self, array: Any) -> Numbers:
        """The same numbers in a NumPy array of its own, floats as float64."""
        for method in ("get", "compute"):  # of CuPy and Dask
            array = getattr(array, method)() if hasattr(array, method) else array
        array = np.array(array)
        return array if array.dtype.kind in "biu" else array.astype(np.float64)

    def laid_out(self, values: Numbers, dtype: str, layout: str) -> Any:
        """An array that lies in memory in another way."""
        raise Unsupported(f"{self.name} does not say how arrays lie in memory")

    def call(self, function: Function, arrays: Arrays, options: Options) -> Any:
        """The value of a function."""
        return function(*arrays, **options)

    def vjp(
        self, function: Function, arrays: Arrays, options: Options, moved: Moved, cotangent: Any
    ) -> tuple[Any, Any]:
        """Value, and the gradient times a cotangent; None stands for ones."""
        raise Unsupported(f"{self.name} does not differentiate")

    def jvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """Derivative by the first array along a tangent, in forward mode."""
        raise Unsupported(f"{self.name} does not differentiate")

    def hvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """Derivative along a tangent of the gradient of the sum of what the function returns, by the first array."""
        raise Unsupported(f"{self.name} does not differentiate")

    @property
    def imports(self) -> str:
        """What `spelt` and `lines` need."""
        return f"import numpy as np\nimport {self.name} as xp"

    def spelt(self, values: str, dtype: str) -> str:
        """Source of an array, from the source of its numbers."""
        return f"xp.asarray({values}, dtype=xp.{dtype})"

    lines: Mapping[str, tuple[str, ...]] = {"value": ("print({call})",)}  # source of what its methods compute


class NumPy(Library):
    """NumPy, whose arrays are read-only where they come in."""

    imports = "import numpy as np"

    def spelt(self, values: str, dtype: str) -> str:
        """Source of an array, from the source of its numbers."""
        return f"np.asarray({values}, dtype=np.{dtype})"

    def asarray(self, values: Numbers, dtype: str) -> Any:
        """An array of its own that cannot be written to."""
        array = np.array(values, dtype=dtype)
        array.flags.writeable = False
        return array

    def laid_out(self, values: Numbers, dtype: str, layout: str) -> Any:
        """An array that lies in memory in another way."""
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


class Torch(Library):
    """PyTorch, differentiated by its tape."""

    imports = "import numpy as np\nimport torch"
    lines: Mapping[str, tuple[str, ...]] = {
        "value": ("print({call})",),
        "vjp": (
            "value, g = {call_of_moved}, {g}",
            "print(torch.autograd.grad(value, {x}, torch.ones_like(value) if g is None else g.to(value.dtype))[0])",
        ),
        "jvp": ("print(torch.func.jvp(lambda {x}: {call}, ({x},), ({v},))[1])",),
        "hvp": (
            "(gradient,) = torch.autograd.grad({call_of_moved}.sum(), {x}, create_graph=True)",
            "print(torch.autograd.grad(gradient, {x}, {v})[0])",
        ),
    }

    def spelt(self, values: str, dtype: str) -> str:
        """Source of a tensor, from the source of its numbers."""
        device = "" if self.device == "cpu" else f", device={self.device!r}"
        return f"torch.tensor({values}, dtype=torch.{dtype}{device})"

    def asarray(self, values: Numbers, dtype: str) -> Any:
        """A tensor on the device."""
        return self.xp.tensor(values, dtype=getattr(self.xp, dtype), device=self.device)

    def to_numpy(self, array: Any) -> Numbers:
        """The same numbers in a NumPy array of its own, floats as float64."""
        array = array.detach().cpu()
        return np.array((array.double() if array.is_floating_point() else array).numpy())

    def laid_out(self, values: Numbers, dtype: str, layout: str) -> Any:
        """A tensor that lies in memory in another way."""
        if layout == "reversed":
            raise Unsupported("torch has no negative strides")
        if layout == "broadcast":
            return self.asarray(values[:1], dtype).expand(values.shape)
        if layout == "Fortran":
            return self.asarray(np.array(values.T), dtype).permute(*reversed(range(values.ndim)))
        array = self.asarray(np.zeros([2 * size for size in values.shape]), dtype)[
            (slice(None, None, 2),) * values.ndim
        ]
        return array.copy_(self.asarray(values, dtype))

    def vjp(
        self, function: Function, arrays: Arrays, options: Options, moved: Moved, cotangent: Any
    ) -> tuple[Any, Any]:
        """Value, and the gradient times a cotangent, by ``torch.autograd.grad``."""
        of_x, x = of_one(function, arrays, options, moved)
        x = x.detach().requires_grad_()
        value = of_x(x)
        g = self.xp.ones_like(value) if cotangent is None else cotangent.to(value.dtype)
        return value, self.xp.autograd.grad(value, x, g)[0]

    def jvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """Derivative along a tangent, by ``torch.func.jvp``."""
        of_x, x = of_one(function, arrays, options, 0)
        return self.xp.func.jvp(of_x, (x,), (tangent,))[1]

    def hvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """Derivative of the gradient along a tangent, by differentiating the backward pass."""
        of_x, x = of_one(function, arrays, options, 0)
        x = x.detach().requires_grad_()
        (gradient,) = self.xp.autograd.grad(of_x(x).sum(), x, create_graph=True)
        return self.xp.autograd.grad(gradient, x, tangent)[0]


class Jax(Library):
    """JAX, with every function under ``jax.jit``."""

    imports = "import numpy as np\nimport jax\nimport jax.numpy as jnp\njax.config.update('jax_enable_x64', True)"
    lines: Mapping[str, tuple[str, ...]] = {
        "value": ("print(jax.jit(lambda {x}: {call})({x}))",),
        "vjp": (
            "value, pullback = jax.vjp(jax.jit(lambda {x}: {call}), {x})",
            "g = {g}",
            "print(pullback(jnp.ones_like(value) if g is None else g.astype(value.dtype))[0])",
        ),
        "jvp": ("print(jax.jvp(jax.jit(lambda {x}: {call}), ({x},), ({v},))[1])",),
        "hvp": ("print(jax.jvp(jax.grad(lambda {x}: {call}.sum()), ({x},), ({v},))[1])",),
    }

    def spelt(self, values: str, dtype: str) -> str:
        """Source of an array, from the source of its numbers."""
        return f"jnp.asarray({values}, dtype=jnp.{dtype})"

    def __init__(self, name: str, device: str = "cpu") -> None:
        super().__init__(name, device)
        import jax

        jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]
        self.jax = jax

    @property
    def xp(self) -> Any:
        """``jax.numpy``."""
        return self.jax.numpy

    def asarray(self, values: Numbers, dtype: str) -> Any:
        """An array on the device."""
        return self.jax.device_put(self.xp.asarray(values, dtype=dtype), self.jax.devices(self.device)[0])

    def call(self, function: Function, arrays: Arrays, options: Options) -> Any:
        """The value of a function."""
        return self._jitted(_plain, function, arrays, options, 0, None)

    def vjp(
        self, function: Function, arrays: Arrays, options: Options, moved: Moved, cotangent: Any
    ) -> tuple[Any, Any]:
        """Value, and the gradient times a cotangent, by ``jax.vjp``."""
        return self._jitted(_jax_vjp, function, arrays, options, moved, cotangent)  # type: ignore[no-any-return]

    def jvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """Derivative along a tangent, by ``jax.jvp``."""
        return self._jitted(_jax_jvp, function, arrays, options, 0, tangent)

    def hvp(self, function: Function, arrays: Arrays, options: Options, tangent: Any) -> Any:
        """Derivative of the gradient along a tangent, by ``jax.jvp`` of ``jax.grad``."""
        return self._jitted(_jax_hvp, function, arrays, options, 0, tangent)

    def _jitted(self, how: Function, function: Function, arrays: Arrays, options: Options, *rest: Any) -> Any:
        constants = {name: value for name, value in options.items() if isinstance(value, self.jax.Array)}
        static = tuple((name, value) for name, value in options.items() if name not in constants)
        return _compiled(how, function, rest[0], static)(arrays, constants, rest[1])


@cache
def _compiled(how: Function, function: Function, moved: Moved, static: tuple[tuple[str, Any], ...]) -> Function:
    """One function for all calls of the same kind, so that it is compiled once for each shape."""
    import jax

    return jax.jit(lambda arrays, constants, v: how(function, arrays, {**constants, **dict(static)}, moved, v))


def _plain(function: Function, arrays: Arrays, options: Options, *_: Any) -> Any:
    return function(*arrays, **options)


def _jax_vjp(function: Function, arrays: Arrays, options: Options, moved: Moved, cotangent: Any) -> tuple[Any, Any]:
    import jax

    value, pullback = jax.vjp(*of_one(function, arrays, options, moved))
    return value, pullback(jax.numpy.ones_like(value) if cotangent is None else cotangent.astype(value.dtype))[0]


def _jax_jvp(function: Function, arrays: Arrays, options: Options, moved: Moved, tangent: Any) -> Any:
    import jax

    of_x, x = of_one(function, arrays, options, moved)
    return jax.jvp(of_x, (x,), (tangent,))[1]


def _jax_hvp(function: Function, arrays: Arrays, options: Options, moved: Moved, tangent: Any) -> Any:
    import jax

    of_x, x = of_one(function, arrays, options, moved)
    return jax.jvp(jax.grad(lambda x: of_x(x).sum()), (x,), (tangent,))[1]


def library(name: str, device: str = "cpu") -> Library:
    """The library of a name: "numpy", "torch", "jax" or the module of another one's namespace."""
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        raise Unsupported(f"{name} is not installed")
    return {"numpy": NumPy, "torch": Torch, "jax": Jax}.get(name, Library)(name, device)
