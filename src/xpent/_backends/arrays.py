"""What array libraries disagree on: namespaces, dtypes, devices, and whether data can be looked at."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias, TypeGuard

import array_api_compat

Array: TypeAlias = Any
DType: TypeAlias = Any

# Of the dtypes of NumPy, for which this is quicker than to ask; the zero gradients of JAX, say, are of another kind.
_KINDS = {"f": "real floating", "i": "integral", "u": "integral", "b": "bool"}


def namespace(x: Array) -> ModuleType:
    """The array API namespace of an array."""
    return _namespace("x", x)


def common_namespace(**arrays: Array | None) -> ModuleType:
    """The array API namespace that all the arrays share, on one device; those that are None are left out."""
    arrays = {name: array for name, array in arrays.items() if array is not None}
    spaces = {name: _namespace(name, array) for name, array in arrays.items()}
    first, xp = next(iter(spaces.items()))
    for name, space in spaces.items():
        if _is_masked(arrays[name]):
            raise TypeError(f"{name} is a masked array, whose mask would be lost: pass its data, and the mask as where")
        if space is not xp:
            raise TypeError(
                f"all arrays must come from one library: {first} is {_kind(arrays[first])}, "
                f"{name} is {_kind(arrays[name])}"
            )
    # JAX moves what it may move and names the devices itself where it may not; a tracer has no device.
    devices = {name: _device(array) for name, array in arrays.items() if not is_numpy(array)}
    if len(set(devices.values())) > 1:
        listed = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise ValueError(f"all arrays must be on one device, got {listed}")
    return xp


def _namespace(name: str, array: Array) -> ModuleType:
    if is_numpy(array) and array.dtype.kind in _KINDS:
        return _numpy()
    if is_torch(array):
        from xpent._backends import torch

        return torch.xp
    try:
        space: ModuleType = array_api_compat.array_namespace(array)
    except TypeError:
        raise TypeError(
            f"{name} must be an array of NumPy, PyTorch, JAX or another library that follows the "
            f"array API standard, got {_kind(array)}"
        ) from None
    return space


def _numpy() -> ModuleType:
    space = sys.modules.get("array_api_compat.numpy")  # an import statement takes longer
    return importlib.import_module("array_api_compat.numpy") if space is None else space


def _is_masked(array: Array) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(array, numpy.ma.MaskedArray)


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def is_numpy(value: Any) -> bool:
    """Whether the value is an array of NumPy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def is_torch(value: Any) -> bool:
    """Whether the value is a torch tensor, without the cache of array-api-compat, which torch.compile warns of."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_jax(value: Any) -> bool:
    """Whether the value is a JAX array, concrete or traced."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.Array)


def is_array(value: Any) -> TypeGuard[Array]:
    """Whether the value of an option is an array, rather than a word or number of Python."""
    return value is not None and not isinstance(value, str | tuple | int | float)


def _device(x: Array) -> Any:
    return x.device if is_torch(x) else None if is_jax(x) else array_api_compat.device(x)


def holds(x: Array, *kinds: str) -> bool:
    """Whether the dtype of an array is of one of the kinds, named as in the array API standard."""
    if is_numpy(x):
        return _KINDS.get(x.dtype.kind) in kinds
    return bool(namespace(x).isdtype(x.dtype, kinds))


def is_floating(x: Array) -> bool:
    """Whether an array holds real floating-point numbers, bfloat16 included."""
    return holds(x, "real floating")


def is_real(x: Array) -> bool:
    """Whether an array holds real numbers: floating-point ones, integers or booleans."""
    return holds(x, "real floating", "integral", "bool")


def accumulation_dtype(x: Array) -> DType:
    """The dtype to compute and sum in: at least 32 bits, the library's default for integers and booleans."""
    if is_numpy(x) and x.dtype.kind == "f" and x.dtype.itemsize >= 4:
        return x.dtype
    xp = namespace(x)
    if not is_floating(x):
        return xp.__array_namespace_info__().default_dtypes()["real floating"]
    return xp.float32 if xp.finfo(x.dtype).bits < 32 else x.dtype


def index_dtype(x: Array) -> DType:
    """The library's default integer dtype, in which every class index fits."""
    return namespace(x).__array_namespace_info__().default_dtypes()["integral"]


def variable(number: float, like: Array) -> Array | float:
    """A number that is another in every call, as an array where a compiler could take it for a constant."""
    if is_numpy(like) or (is_torch(like) and not sys.modules["torch"].compiler.is_compiling()):
        return number
    return namespace(like).full((), number, dtype=accumulation_dtype(like), device=_device(like))


def constant(index: int) -> int:
    """The same index, not negative, fixed.

    With dynamic shapes torch.compile keeps an int open to change, and takes ``0 in (0,)`` for false then.
    """
    return len(range(index))


def cast(x: Array, dtype: DType) -> Array:
    """The array in another dtype, or itself where it has that dtype already."""
    return x if x.dtype == dtype else namespace(x).astype(x, dtype)


def class_indices(x: Array) -> Array:
    """0, 1, ... C - 1 for the C entries of the last axis, on the device of ``x``."""
    return namespace(x).arange(x.shape[-1], dtype=index_dtype(x), device=_device(x))


def empty(shape: tuple[int, ...], dtype: DType, like: Array) -> Array:
    """An array to be written to, on the device of another."""
    if is_torch(like):
        from xpent._backends import torch

        return torch.empty(shape, dtype, like.device)
    return namespace(like).empty(shape, dtype=dtype, device=_device(like))


def zeros(shape: tuple[int, ...], dtype: DType, like: Array) -> Array:
    """An array of zeros, on the device of another."""
    if is_torch(like):
        return empty(shape, dtype, like).zero_()
    return namespace(like).zeros(shape, dtype=dtype, device=_device(like))


def opaque(x: Array) -> Array:
    """The same, but XLA does not see what it is, even where it is constant."""
    return sys.modules["jax"].lax.optimization_barrier(x) if is_jax(x) else x


def contiguous(x: Array) -> Array:
    """A plain array in C order and native bytes on NumPy, whose sums follow the layout, for bits that repeat."""
    if not is_numpy(x):
        return x
    return sys.modules["numpy"].require(x, x.dtype.newbyteorder("="), "CAE")


def take(x: Array, index: Array) -> Array:
    """The entry of each row at its index, (..., 1); ``index`` is (..., 1), the rows are (..., C)."""
    if is_numpy(x) and x.ndim == 2:
        return x[_row_numbers(x), index[:, 0]][:, None]
    if is_torch(x):
        return x.gather(-1, index)  # take_along_dim makes torch.compile believe in constant shapes
    return namespace(x).take_along_axis(x, index, axis=-1)


def put(x: Array, index: Array, value: Array | float) -> Array:
    """The rows with the entry at each index replaced by that row's value; in ``x`` itself where that is possible.

    Compilers fuse a comparison with all indices into what is done with the rows anyway; elsewhere it costs a pass.
    """
    if is_numpy(x) and x.ndim == 2:
        x[_row_numbers(x), index[:, 0]] = value[:, 0] if is_array(value) else value
        return x
    if is_numpy(x):
        sys.modules["numpy"].put_along_axis(x, index, value, -1)
        return x
    if is_jax(x):
        return namespace(x).put_along_axis(x, index, value, axis=-1, inplace=False)
    if are_eager(x, index, value) if is_array(value) else are_eager(x, index):
        return x.scatter_(-1, index, value)
    return namespace(x).where(class_indices(x) == index, value, x)


def _row_numbers(x: Array) -> Array:
    return sys.modules["numpy"].arange(x.shape[0])


def in_place(function: Callable[..., Array], x: Array, *others: Array) -> Array:
    """What an elementwise function of the array API makes of arrays, in ``x`` itself where that is possible."""
    return function(x, *others, out=x) if are_eager(x, *others) else function(x, *others)


def matmul(a: Array, b: Array) -> Array:
    """The product of two matrices."""
    if are_eager(a, b):
        return namespace(a).matmul(a, b, out=empty((a.shape[0], b.shape[1]), a.dtype, a))
    return namespace(a).matmul(a, b)


def are_eager(*arrays: Array) -> bool:
    """Whether what is made of arrays is evaluated at once, can be written to and is not recorded by autograd."""
    if is_torch(arrays[0]):
        from xpent._backends import torch

        return torch.are_eager(*arrays)
    return is_numpy(arrays[0])


def transposes_jvp(x: Array) -> bool:
    """Whether the library goes backward by transposing the forward mode."""
    return is_jax(x)


def adds_one_by_one(x: Array) -> bool:
    """Whether a sum over an axis is compiled to a loop whose rounding errors grow with its length: on a CPU."""
    if is_torch(x):
        from xpent._backends import torch

        return torch.adds_one_by_one(x)
    return is_jax(x)


def visible(x: Array) -> Array | None:
    """An array with the same data where it can be looked at for free, on a CPU and not traced; else None."""
    if is_torch(x):
        from xpent._backends import torch

        return torch.visible(x)
    if is_jax(x):
        from xpent._backends import jax

        return jax.visible(x)
    return x if is_numpy(x) or array_api_compat.is_array_api_strict_namespace(namespace(x)) else None


def is_known_true(x: Array) -> bool:
    """Whether all entries are true, as far as that can be seen for free."""
    seen = visible(x)
    return seen is not None and bool(namespace(seen).all(seen))


def to_int(x: Array) -> int:
    """The one integer of an array whose data is visible; int() of a torch tensor fails for large uint64."""
    return int(x.item() if is_torch(x) else x)


def quiet(x: Array) -> contextlib.AbstractContextManager[Any]:
    """Silence the floating-point warnings of NumPy and what is built on it: infinities and NaN are answers here."""
    if is_torch(x) or is_jax(x) or "numpy" not in sys.modules:
        return contextlib.nullcontext()
    silence: contextlib.AbstractContextManager[Any] = sys.modules["numpy"].errstate(all="ignore")
    return silence
