"""The operations that differ between array libraries, implemented with the array API standard."""

from __future__ import annotations

import contextlib
import math
import numbers
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, TypeAlias

import array_api_compat

Array: TypeAlias = Any
DType: TypeAlias = Any


class Backend:
    """The operations of an array library that the functions of xpent use.

    The methods of this class use only the array API standard, so that it supports every library that follows the
    standard. Subclasses override methods for a library. Some methods may overwrite an argument, as documented; their
    callers own that array.
    """

    has_devices = True  # whether arrays of one call must be on one device
    differentiates = False  # whether the library may differentiate, record or trace operations

    transposes_jvp = False  # whether reverse mode transposes the jvp
    # A block of a linear layer has about ``block_logits`` logits. If each block adds to the gradient of the weight, it
    # has at least ``block_rows`` rows, unless their logits exceed a quarter of that gradient (see docs/linear.md).
    block_logits = 2**24
    block_rows = 256

    def __init__(self, xp: ModuleType) -> None:
        self.xp = xp
        self.of_data: Backend = self  # the backend of the arrays that `inspectable` returns

    def converts(self, other: Backend) -> bool:
        """Whether the arguments of a call may include arrays of another library, which this one converts."""
        return other is self

    def own(self, values: Any) -> Any:
        """Convert the numbers and arrays in nested tuples to arrays of the library, see `converts`."""
        return values

    def call_key(self, arrays: tuple[Any, ...]) -> Any:
        """A key of everything but data that the checks of plain arrays depend on; None for other arrays."""
        return None

    def check_dense(self, x: Array) -> None:
        """Raise TypeError if an array is nested, so that its rows cannot be counted."""

    # Dtypes and devices

    def isdtype(self, dtype: DType, *kinds: str) -> bool:
        """Whether a dtype is of one of the kinds, named as in the array API standard."""
        return bool(self.xp.isdtype(dtype, kinds))

    def is_floating(self, x: Array) -> bool:
        """Whether an array has a real floating-point dtype."""
        return self.isdtype(x.dtype, "real floating")

    def is_real(self, x: Array) -> bool:
        """Whether an array has a real floating-point, integer or boolean dtype."""
        return self.isdtype(x.dtype, "real floating", "integral", "bool")

    def accumulation_dtype(self, dtype: DType) -> DType:
        """The dtype of intermediate results: at least 32 bits, and the default dtype for integers and booleans."""
        if not self.isdtype(dtype, "real floating"):
            return self.xp.__array_namespace_info__().default_dtypes()["real floating"]
        return self.xp.float32 if self.xp.finfo(dtype).bits < 32 else dtype

    def product_dtype(self, *arrays: Array) -> DType | None:
        """The dtype of a matrix product plus a bias; None if the library does not support these dtypes."""
        dtypes = {x.dtype for x in arrays}
        return dtypes.pop() if len(dtypes) == 1 else None

    def as_index(self, x: Array) -> Array:
        """Cast integers to the default integer dtype, which can represent every class index."""
        return self.cast(x, self.xp.__array_namespace_info__().default_dtypes()["integral"])

    def device(self, x: Array) -> Any:
        """The device of an array; None if the library transfers arrays itself."""
        return array_api_compat.device(x)

    @staticmethod
    def is_array(value: Any) -> bool:
        """Whether the value of an option is meant as an array rather than a number, a string or None."""
        return value is not None and type(value) is not float and not isinstance(value, numbers.Real | str)

    def inspectable(self, x: Array) -> Array | None:
        """An array with the same data if reading it needs no transfer and no compilation, else None."""
        return x if array_api_compat.is_array_api_strict_namespace(self.xp) else None

    def is_known_true(self, x: Array) -> bool:
        """Whether all entries are known to be true."""
        data = self.inspectable(x)
        return data is not None and bool(self.xp.all(data))

    def all_within(self, index: Array, count: int) -> bool:
        """Whether all entries of an inspectable, non-empty array of integers lie in [0, count)."""
        return bool(self.xp.min(index) >= 0) and bool(self.xp.max(index) < count)

    def item(self, x: Array) -> Any:
        """The value of an inspectable array of shape (), as a Python number."""
        return int(x) if self.isdtype(x.dtype, "integral") else float(x)

    # Creation and conversion

    def cast(self, x: Array, dtype: DType) -> Array:
        """Cast an array; return it unchanged if it has the dtype."""
        return x if x.dtype == dtype else self.xp.astype(x, dtype)

    def as_computed(self, x: Array) -> Array:
        """Cast an array to the dtype of intermediate results."""
        return self.cast(x, self.accumulation_dtype(x.dtype))

    def empty(self, shape: tuple[int, ...], dtype: DType, like: Array) -> Array:
        """An uninitialized array on the device of ``like``."""
        return self.xp.empty(shape, dtype=dtype, device=self.device(like))

    def zeros(self, shape: tuple[int, ...], dtype: DType, like: Array) -> Array:
        """An array of zeros on the device of ``like``."""
        return self.xp.zeros(shape, dtype=dtype, device=self.device(like))

    def scalar(self, number: float, like: Array) -> Array | float:
        """A number that may change between calls, as an array if a compiler would treat numbers as constants."""
        return number

    def operand(self, x: Array | float, like: Array) -> Array | float:
        """A number in the form with which products with arrays are fastest; arrays are returned unchanged."""
        return x

    def static_int(self, index: int) -> int:
        """A non-negative int that compilers treat as a constant."""
        return index

    def class_indices(self, x: Array) -> Array:
        """0, 1, ..., C - 1 for the C entries of the last axis."""
        return self.as_index(self.xp.arange(x.shape[-1], device=self.device(x)))

    def permute_dims(self, x: Array, order: tuple[int, ...]) -> Array:
        """The array with its axes in another order."""
        return self.xp.permute_dims(x, order)

    def with_class_axis(self, x: Array) -> Array:
        """Add a class axis of length 1 to an array with one entry per row."""
        return x[..., None]

    def without_class_axis(self, x: Array) -> Array:
        """The inverse of `with_class_axis`."""
        return x[..., 0]

    def broadcast_to(self, x: Array, shape: tuple[int, ...]) -> Array:
        """Broadcast an array to a shape, without a copy if the library has views."""
        return self.xp.broadcast_to(x, shape)

    def gather(self, table: Array, index: Array) -> Array:
        """The entries of a 1-dimensional array at an array of indices."""
        return self.xp.reshape(self.xp.take(table, self.xp.reshape(index, (-1,)), axis=0), index.shape)

    def any_of_row(self, x: Array) -> Array:
        """Whether any entry of each row is true, of shape (..., 1)."""
        return self.xp.any(x, axis=-1, keepdims=True)

    def contiguous(self, x: Array) -> Array:
        """The array in the memory layout for which sums over rows are fast."""
        return x

    # Rows: the class axis is the last axis, and arrays with one entry per row have shape (..., 1)

    def sum_all(self, x: Array) -> Array:
        """The sum of all entries, of shape ()."""
        return self.xp.sum(x)

    def total(self, x: Array) -> Array:
        """The sum of each row."""
        return self.xp.sum(x, axis=-1, keepdims=True)

    def sum_of_many(self, x: Array) -> Array:
        """The sum of each row, also accurate in compiled code for rows of many positive entries."""
        return self.total(x)

    def largest(self, x: Array) -> Array:
        """The maximum of each row."""
        return self.xp.max(x, axis=-1, keepdims=True)

    def shift(self, m: Array) -> Array:
        """The shift of rows with maximum m: m if it is finite, a finite number for -inf, and NaN for +inf.

        With it, the exponentials of a fully masked row are 0, and those of a row with +inf are NaN.
        """
        m = self.xp.where(m == -math.inf, 0.0, m)
        # With a constant NaN, compilers would not merge the sums of the forward and the backward pass.
        return m + 0.0 * m

    def first_maximum(self, x: Array) -> tuple[Array, Array | None]:
        """The maximum of each row and its first index, or None if `exp_and_rest` needs no index."""
        index = self.xp.argmax(x, axis=-1, keepdims=True)
        return self.take(x, index), index

    def one_of_row(self, x: Array) -> Array:
        """An array of shape (..., 1) with the dtype of the rows and arbitrary values."""
        return x[..., :1]

    def take(self, x: Array, index: Array) -> Array:
        """The entry of each row at its index."""
        if hasattr(self.xp, "take_along_axis"):
            return self.xp.take_along_axis(x, index, axis=-1)
        return self.compared(x, index)

    def compared(self, x: Array, index: Array) -> Array:
        """The entry of each row at its index, found by comparison with the class indices."""
        return self.total(self.xp.where(self.class_indices(x) == index, x, 0.0))

    def put(self, x: Array, index: Array, value: Array | float) -> Array:
        """The rows with the entry at each index replaced; may overwrite ``x``."""
        return self.xp.where(self.class_indices(x) == index, value, x)

    def neutral_rows(self, x: Array, is_active: Array) -> Array:
        """Logits with those of inactive rows set to 0, unless `zero_rows` of the results is enough.

        This is for JAX, which may differentiate functions of rows itself, because its scan drops custom derivatives at
        second order. It would multiply NaN by 0.
        """
        return self.xp.where(is_active, x, 0.0)

    def zero_rows(self, x: Array, is_active: Array) -> Array:
        """Set inactive rows to 0, even if they contain NaN; may overwrite ``x``."""
        return self.xp.where(is_active, x, 0.0)

    def subtract(self, x: Array, y: Array, out: Array | None = None) -> Array:
        """x - y, stored in ``out`` if the library supports it."""
        return x - y

    def multiply(self, x: Array, y: Array | float) -> Array:
        """x * y; may overwrite ``x``."""
        return x * y

    def times_gradient(self, v: Array, y: Array) -> Array:
        """v * y for a tangent or cotangent v; 0 where v is 0, even if the gradient y is not finite."""
        return v * self.xp.where((v == 0.0) & ~self.xp.isfinite(y), 0.0, y)

    def divide(self, x: Array, y: Array) -> Array:
        """x / y; may overwrite ``x``."""
        return x / y

    def add(self, x: Array, y: Array) -> Array:
        """x + y; may overwrite ``x``."""
        return x + y

    def exp(self, x: Array, out: Array | None = None) -> Array:
        """exp(x), stored in ``out`` if the library supports it."""
        return self.xp.exp(x)

    def exponentials(self, x: Array, index: Array, out: Array | None = None) -> tuple[Array, Array, Array, Array]:
        """The terms of a sum of exponentials, with the term at the index of each row returned separately.

        With the maximum m of each row, returns e = exp(x - m) with 0 at the index, the sum r of each row of e, the term
        t at the index, and log((r + t) / t). A library may multiply e, r and t of a row by the same factor, because
        callers use only their ratios, but not if t underflows. In a fully masked row e and t are 0 and r is 1, so that
        the loss is +inf and the gradient at the target is -1. ``out`` may be ``x``.
        """
        largest = self.largest(x)
        m = self.shift(largest)
        z = self.take(x, index) - m
        e = self.put(self.scaled_exp(x - m), index, 0.0)
        r, t = self.with_masked(self.sum_of_many(e) * 2.0**-64, largest), self.xp.exp(z)
        return e * 2.0**-64, r, t, self.log_ratio(r, t, z)

    def with_masked(self, r: Array, m: Array) -> Array:
        """Add 1 to the sums r of rows whose maximum m is -inf, so that r is a valid divisor."""
        return r + self.cast(m == -math.inf, r.dtype)

    def exponential_sums(self, x: Array, index: Array) -> tuple[Array, Array, Array]:
        """The results of `exponentials` without e."""
        return self.exponentials(x, index)[1:]

    def log_ratio(self, r: Array, t: Array, z: Array) -> Array:
        """log((r + t) / t) for t = exp(z), which may underflow."""
        xp, is_normal = self.xp, z > -64.0
        return xp.where(is_normal, xp.log1p(r / xp.where(is_normal, t, 1.0)), xp.log(r + t) - z)

    def exp_and_rest(self, d: Array, index: Array | None, out: Array | None = None) -> tuple[Array, Array]:
        """exp(d), and its sum over each row without the first maximum, whose index `first_maximum` returned.

        The maximum of each row of ``d`` is 0, up to rounding.
        """
        e = self.scaled_exp(d)
        return e * 2.0**-64, self.total(self.xp.where(self.class_indices(e) == index, 0.0, e)) * 2.0**-64

    def smallest_term(self, dtype: DType) -> float:
        """A sum of n exponentials below n times this number is inaccurate, because terms may be subnormal."""
        info = self.xp.finfo(dtype)
        return 4.0 * float(info.smallest_normal) / float(info.eps)

    def scaled_exp(self, d: Array) -> Array:
        """2**64 exp(d) for d <= 0, as the square of 2**32 exp(d / 2).

        A sum of many exponentials can be a normal number even if each of them is subnormal, and so inaccurate or 0.
        """
        root = 2.0**32 * self.xp.exp(0.5 * d)
        return root * root

    def rest_sum(self, x: Array, shift: Array, index: Array | None, d: Array | None = None) -> Array:
        """The sum of exp(x - shift) over each row without its first maximum; ``d`` is x - shift if it exists."""
        return self.exp_and_rest(self.subtract(x, shift) if d is None else d, index)[1]

    def softmax(self, x: Array, out: Array | None = None) -> Array:
        """exp(x - m) / sum exp(x - m), where m is the maximum of each row; 0 in a fully masked row."""
        m = self.largest(x)
        e = self.exp(self.subtract(x, self.shift(m), out), out)
        return self.divide(e, self.with_masked(self.total(e), m))

    # Matrices

    def matmul(self, a: Array, b: Array) -> Array:
        """The product of two matrices."""
        return self.xp.matmul(a, b)

    def product_of_rows(self, x: Array, b: Array) -> Array:
        """The product x @ b. In derivatives by the library, non-finite entries of x count as 0."""
        return self.matmul(x, b)

    def add_product(self, total: Array, a: Array, b: Array) -> Array:
        """total + a.T @ b; may overwrite ``total``, and avoids another array of its size if the library allows it.

        ``b`` may have a narrower dtype than ``a`` and ``total``. The product is then computed in the dtype of ``a``, or
        in that of ``b`` if entries of ``a`` cannot underflow in it and the product is faster.
        """
        return total + self.matmul(a.T, self.cast(b, a.dtype))

    # Evaluation

    def for_kernels(self, *values: Any) -> Backend:
        """The backend for kernels with these arguments, which are arrays or nested tuples and lists of them.

        It may write to arrays in place if no derivatives of the results can be requested.
        """
        return self

    def keeps_gradients(self) -> bool:
        """Whether a forward pass may store gradients for the backward pass, if the library does not differentiate."""
        return True

    def block_entries(self, x: Array) -> int | None:
        """The number of entries of ``x`` in a block, which one thread computes; None without blocks."""
        return None

    def rows_of_block(self, count: int, classes: int, depth: int, given: int | None) -> int | None:
        """The number of rows in a block of a linear layer; None for a single block.

        Unless ``given``, it is chosen such that blocks have the same size, if they are then at least 4/5 full.
        ``depth`` is that of the gradient of the weight, 0 if it is not computed.
        """
        most = max(1, self.block_logits // classes, min(self.block_rows, depth // 4)) if given is None else given
        if count <= most:
            return None
        if given is not None:
            return given
        fewest = math.ceil(count / most)
        return math.ceil(count / next((k for k in range(fewest, 5 * fewest // 4 + 1) if count % k == 0), fewest))

    def for_each(self, task: Callable[[Any], None], items: Sequence[Any]) -> None:
        """Call a function for every item, in several threads if the library is single-threaded."""
        for item in items:
            task(item)

    def loop(
        self,
        function: Callable[..., tuple[list[Array], list[Array]]],
        sums: list[Array],
        arrays: tuple[Array | None, ...],
        rows: int,
    ) -> tuple[list[Array], list[Array]]:
        """Call ``function(sums, *block)`` for blocks of rows; return the final sums and the outputs of all blocks.

        A single block may contain all rows.
        """
        return function(sums, *arrays)

    def run_kernel(
        self, kernel: Callable[..., Sequence[Array]], static: Any, dtypes: tuple[DType, ...], *arguments: Any
    ) -> list[Array]:
        """The arrays that ``kernel(backend, static, *arguments)`` returns, in the dtypes given."""
        found = kernel(self, static, *arguments)
        return [y if y.dtype == dtype else self.cast(y, dtype) for y, dtype in zip(found, dtypes, strict=True)]

    def errstate(self) -> contextlib.AbstractContextManager[Any]:
        """A context for evaluating a rule, in which infinities, NaN and broadcasting cause no warnings or errors."""
        numpy = sys.modules.get("numpy")
        return contextlib.nullcontext() if numpy is None else numpy.errstate(all="ignore")

    def apply(self, rule: Any, primals: tuple[Array, ...], constants: Any, options: Any) -> Any:
        """Evaluate a rule such that the library differentiates it with the derivatives of the rule."""
        return rule.value(self, primals, constants, options)
