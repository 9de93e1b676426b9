"""The operations that array libraries do differently, defined with the array API standard alone."""

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
    """An array library, for code that works with any.

    The methods here use the array API standard only, so that this class supports every library that follows it.
    Subclasses override what their library does better. Methods that say so may overwrite an argument; callers pass them
    arrays of their own.
    """

    has_devices = True  # whether arrays of one call must be on one device
    differentiates = False  # whether the library may differentiate, record or trace what is computed

    transposes_jvp = False  # whether the library goes backward by transposing the forward mode
    # A block of a linear layer has as many rows as make ``block_logits``. If each block adds to the gradient of the
    # weight, it has at least ``block_rows``, unless their logits exceed a quarter of that gradient: see docs/linear.md.
    block_logits = 2**24
    block_rows = 256

    def __init__(self, xp: ModuleType) -> None:
        self.xp = xp
        self.of_data: Backend = self  # the backend of the arrays that `inspectable` returns

    def converts(self, other: Backend) -> bool:
        """Whether arrays of a library may stand beside those of this one, which converts them."""
        return other is self

    def own(self, values: Any) -> Any:
        """The same nested tuples, with numbers, and arrays that the library `converts`, as its own arrays."""
        return values

    def call_key(self, arrays: tuple[Any, ...]) -> Any:
        """A key of everything that the checks of plain arrays depend on except their data, None for other arrays."""
        return None

    def check_dense(self, x: Array) -> None:
        """Raise TypeError if an array is nested, so that its rows cannot be counted."""

    # Dtypes and devices

    def isdtype(self, dtype: DType, *kinds: str) -> bool:
        """Whether a dtype is of one of the kinds, named as in the array API standard."""
        return bool(self.xp.isdtype(dtype, kinds))

    def is_floating(self, x: Array) -> bool:
        """Whether an array holds real floating-point numbers."""
        return self.isdtype(x.dtype, "real floating")

    def is_real(self, x: Array) -> bool:
        """Whether an array holds floating-point numbers, integers or booleans."""
        return self.isdtype(x.dtype, "real floating", "integral", "bool")

    def accumulation_dtype(self, dtype: DType) -> DType:
        """The dtype to compute in: at least 32 bits, the default floating dtype for integers and booleans."""
        if not self.isdtype(dtype, "real floating"):
            return self.xp.__array_namespace_info__().default_dtypes()["real floating"]
        return self.xp.float32 if self.xp.finfo(dtype).bits < 32 else dtype

    def product_dtype(self, *arrays: Array) -> DType | None:
        """The dtype of the product of matrices and of what is added to it, None where the library has none."""
        dtypes = {x.dtype for x in arrays}
        return dtypes.pop() if len(dtypes) == 1 else None

    def as_index(self, x: Array) -> Array:
        """Integers in the default integer dtype, in which every class index fits."""
        return self.cast(x, self.xp.__array_namespace_info__().default_dtypes()["integral"])

    def device(self, x: Array) -> Any:
        """The device of an array, None where the library places arrays itself."""
        return array_api_compat.device(x)

    @staticmethod
    def is_array(value: Any) -> bool:
        """Whether the value of an option is meant as an array rather than a number, a string or None."""
        return value is not None and type(value) is not float and not isinstance(value, numbers.Real | str)

    def inspectable(self, x: Array) -> Array | None:
        """An array with the same data if looking at it costs no transfer and no compilation, else None."""
        return x if array_api_compat.is_array_api_strict_namespace(self.xp) else None

    def is_known_true(self, x: Array) -> bool:
        """Whether all entries are known to be true."""
        data = self.inspectable(x)
        return data is not None and bool(self.xp.all(data))

    def all_within(self, index: Array, count: int) -> bool:
        """Whether all entries of an inspectable, non-empty array of integers lie in [0, count)."""
        return bool(self.xp.min(index) >= 0) and bool(self.xp.max(index) < count)

    def item(self, x: Array) -> Any:
        """The Python number that an inspectable array of shape () holds."""
        return int(x) if self.isdtype(x.dtype, "integral") else float(x)

    # Creation and conversion

    def cast(self, x: Array, dtype: DType) -> Array:
        """The array in another dtype, or itself if it has that dtype."""
        return x if x.dtype == dtype else self.xp.astype(x, dtype)

    def as_computed(self, x: Array) -> Array:
        """The array in the dtype to compute in."""
        return self.cast(x, self.accumulation_dtype(x.dtype))

    def empty(self, shape: tuple[int, ...], dtype: DType, like: Array) -> Array:
        """An array to be written to, on the device of another."""
        return self.xp.empty(shape, dtype=dtype, device=self.device(like))

    def zeros(self, shape: tuple[int, ...], dtype: DType, like: Array) -> Array:
        """An array of zeros, on the device of another."""
        return self.xp.zeros(shape, dtype=dtype, device=self.device(like))

    def scalar(self, number: float, like: Array) -> Array | float:
        """A number that differs from call to call, as an array where a compiler would take it for a constant."""
        return number

    def operand(self, x: Array | float, like: Array) -> Array | float:
        """The number in the form that multiplies arrays fastest; arrays are returned unchanged."""
        return x

    def static_int(self, index: int) -> int:
        """The same non-negative int, as a constant of what is compiled."""
        return index

    def class_indices(self, x: Array) -> Array:
        """0, 1, ..., C - 1 for the C entries of the last axis."""
        return self.as_index(self.xp.arange(x.shape[-1], device=self.device(x)))

    def permute_dims(self, x: Array, order: tuple[int, ...]) -> Array:
        """The array with its axes in another order."""
        return self.xp.permute_dims(x, order)

    def with_class_axis(self, x: Array) -> Array:
        """One entry per row, (...,), as rows, (..., 1)."""
        return x[..., None]

    def without_class_axis(self, x: Array) -> Array:
        """The inverse of `with_class_axis`."""
        return x[..., 0]

    def broadcast_to(self, x: Array, shape: tuple[int, ...]) -> Array:
        """The array repeated to a shape, a view where the library has views."""
        return self.xp.broadcast_to(x, shape)

    def gather(self, table: Array, index: Array) -> Array:
        """The entries of a 1-dimensional array at an array of indices."""
        return self.xp.reshape(self.xp.take(table, self.xp.reshape(index, (-1,)), axis=0), index.shape)

    def any_of_row(self, x: Array) -> Array:
        """Whether any entry of each row is true, (..., 1)."""
        return self.xp.any(x, axis=-1, keepdims=True)

    def contiguous(self, x: Array) -> Array:
        """The same array in the layout that sums of rows should read."""
        return x

    # Rows: the class axis is the last, and what has one entry per row has shape (..., 1)

    def sum_all(self, x: Array) -> Array:
        """The sum of all entries, of shape ()."""
        return self.xp.sum(x)

    def total(self, x: Array) -> Array:
        """The sum of each row."""
        return self.xp.sum(x, axis=-1, keepdims=True)

    def largest(self, x: Array) -> Array:
        """The maximum of each row."""
        return self.xp.max(x, axis=-1, keepdims=True)

    def shift(self, m: Array) -> Array:
        """What to subtract from rows with maximum m before exp: m, but a finite number for -inf and NaN for +inf.

        The exponentials of a fully masked row are 0 then, and those of a row with +inf are NaN.
        """
        m = self.xp.where(m == -math.inf, 0.0, m)
        # Were NaN a constant here, compilers would not see that the forward and the backward pass share their sums.
        return m + 0.0 * m

    def first_maximum(self, x: Array) -> tuple[Array, Array | None]:
        """The maximum of each row and the index where it is first attained, None if `exp_and_rest` needs no index."""
        index = self.xp.argmax(x, axis=-1, keepdims=True)
        return self.take(x, index), index

    def one_of_row(self, x: Array) -> Array:
        """An array of shape (..., 1) with the dtype of the rows, whose values do not matter."""
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

        JAX may differentiate functions of rows itself (its scan drops custom derivatives at second order), and would
        multiply NaN by 0.
        """
        return self.xp.where(is_active, x, 0.0)

    def zero_rows(self, x: Array, is_active: Array) -> Array:
        """The rows with those that are not active set to 0, whatever they hold; may overwrite ``x``."""
        return self.xp.where(is_active, x, 0.0)

    def subtract(self, x: Array, y: Array, out: Array | None = None) -> Array:
        """x - y, in ``out`` if the library can write there."""
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
        """exp(x), in ``out`` if the library can write there."""
        return self.xp.exp(x)

    def exponentials(self, x: Array, index: Array, out: Array | None = None) -> tuple[Array, Array, Array, Array]:
        """The terms of a sum of exponentials, with the one at the index of each row apart.

        Returns e = exp(x - m) with 0 at the index of each row, where m is the maximum of the row, the sum r of each row
        of it, the term t at the index, and log((r + t) / t). A library may multiply e, r and t of a row by one factor,
        because callers use their ratios, but not where t underflows. In a fully masked row e and t are 0 and r is 1, so
        that the loss of its target is +inf and the gradient there -1. ``out`` may be ``x``.
        """
        largest = self.largest(x)
        m = self.shift(largest)
        z = self.take(x, index) - m
        e = self.put(self.scaled_exp(x - m), index, 0.0)
        r, t = self.with_masked(self.total(e) * 2.0**-64, largest), self.xp.exp(z)
        return e * 2.0**-64, r, t, self.log_ratio(r, t, z)

    def with_masked(self, r: Array, m: Array) -> Array:
        """The sums r, with 1 added where the maximum m of the row is -inf, so that they can be divided by."""
        return r + self.cast(m == -math.inf, r.dtype)

    def exponential_sums(self, x: Array, index: Array) -> tuple[Array, Array, Array]:
        """The same without the terms."""
        return self.exponentials(x, index)[1:]

    def log_ratio(self, r: Array, t: Array, z: Array) -> Array:
        """log((r + t) / t) for t = exp(z), which may underflow."""
        xp, is_normal = self.xp, z > -64.0
        return xp.where(is_normal, xp.log1p(r / xp.where(is_normal, t, 1.0)), xp.log(r + t) - z)

    def exp_and_rest(self, d: Array, index: Array | None, out: Array | None = None) -> tuple[Array, Array]:
        """exp(d) and the sum of each row of it without its first maximum, whose index `first_maximum` returned.

        The maximum of each row of ``d`` is 0, up to rounding.
        """
        e = self.scaled_exp(d)
        return e * 2.0**-64, self.total(self.xp.where(self.class_indices(e) == index, 0.0, e)) * 2.0**-64

    def smallest_term(self, dtype: DType) -> float:
        """A sum of exponentials below this for each term is inaccurate, because its terms may be subnormal."""
        info = self.xp.finfo(dtype)
        return 4.0 * float(info.smallest_normal) / float(info.eps)

    def scaled_exp(self, d: Array) -> Array:
        """2**64 exp(d) for d <= 0, as the square of 2**32 exp(d / 2).

        A sum of many exponentials can be a normal number though each of them is subnormal, hence inaccurate or 0.
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
        """The product x @ b. Where the library differentiates it, entries of x that are not finite count as 0."""
        return self.matmul(x, b)

    def add_product(self, total: Array, a: Array, b: Array) -> Array:
        """total + a.T @ b; may overwrite ``total``, and needs no other array of its size if the library allows it."""
        return total + self.matmul(a.T, b)

    # Evaluation

    def for_kernels(self, *values: Any) -> Backend:
        """The backend that evaluates functions of rows of the arrays among these values, in nested tuples and lists.

        It writes to its own arrays where nothing can ask for derivatives of the results.
        """
        return self

    def keeps_gradients(self) -> bool:
        """Whether a forward pass may keep the gradients that it computes, where the library does not differentiate."""
        return True

    def block_entries(self, x: Array) -> int | None:
        """Entries of ``x`` that one thread computes at a time, None if all at once."""
        return None

    def rows_of_block(self, count: int, classes: int, depth: int, given: int | None) -> int | None:
        """Rows in a block of a linear layer, None for all of them.

        As given, else as many as divide all rows if that fills a block to 4/5. ``depth`` is that of the gradient of the
        weight, 0 if it is not computed.
        """
        most = max(1, self.block_logits // classes, min(self.block_rows, depth // 4)) if given is None else given
        if count <= most:
            return None
        if given is not None:
            return given
        fewest = math.ceil(count / most)
        return math.ceil(count / next((k for k in range(fewest, 5 * fewest // 4 + 1) if count % k == 0), fewest))

    def for_each(self, task: Callable[[Any], None], items: Sequence[Any]) -> None:
        """Call a function for every item, on several threads if the library computes with one."""
        for item in items:
            task(item)

    def loop(
        self,
        function: Callable[..., tuple[list[Array], list[Array]]],
        sums: list[Array],
        arrays: tuple[Array | None, ...],
        rows: int,
    ) -> tuple[list[Array], list[Array]]:
        """Call ``function(sums, *block)`` for blocks of rows; return the last sums and the outputs of all blocks.

        All rows may be one block.
        """
        return function(sums, *arrays)

    def run_kernel(
        self, kernel: Callable[..., Sequence[Array]], static: Any, dtypes: tuple[DType, ...], *arguments: Any
    ) -> list[Array]:
        """The arrays that ``kernel(backend, static, *arguments)`` returns, in the dtypes given."""
        found = kernel(self, static, *arguments)
        return [y if y.dtype == dtype else self.cast(y, dtype) for y, dtype in zip(found, dtypes, strict=True)]

    def errstate(self) -> contextlib.AbstractContextManager[Any]:
        """The library's settings while a rule is evaluated: infinities, NaN and broadcasting raise nothing."""
        numpy = sys.modules.get("numpy")
        return contextlib.nullcontext() if numpy is None else numpy.errstate(all="ignore")

    def apply(self, rule: Any, primals: tuple[Array, ...], constants: Any, options: Any) -> Any:
        """Evaluate a rule so that the library differentiates it through the rule's own derivatives."""
        return rule.value(self, primals, constants, options)
