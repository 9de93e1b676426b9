"""PyTorch: `TorchBackend` where operations are recorded, compiled or vectorized, `EagerTorchBackend` where not."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from xpent._backends import torch_autograd, torch_private
from xpent._backends.base import Array, Backend, DType
from xpent._backends.blocked import BlockedBackend

_FLOATING = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
_INTEGRAL = {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64}
_KINDS = {
    **dict.fromkeys(_FLOATING, "real floating"),
    **dict.fromkeys(_INTEGRAL, "integral"),
    torch.bool: "bool",
}

# Entries of a block for each thread. Smaller blocks are limited by the interpreter, larger ones by memory bandwidth.
BLOCK = 2**19

_NO_ERRSTATE: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()


class TorchBackend(Backend):
    """Torch tensors, for operations that autograd, torch.func or torch.compile may see.

    It does not loop over blocks of rows, because autograd and torch.compile would keep the arrays of every block.
    """

    differentiates = True

    def __init__(self) -> None:
        super().__init__(torch)

    def call_key(self, arrays: tuple[Any, ...]) -> Any:
        if not torch_private.are_plain(arrays) or torch_private.is_any_autocast_enabled():
            return None
        return torch.get_default_dtype(), *[(x.dtype, x.shape, x.device) for x in arrays]

    def check_dense(self, x: Array) -> None:
        if x.is_nested:
            raise TypeError(
                "losses do not accept nested tensors: pass the values() of logits or features, and of targets"
            )

    def isdtype(self, dtype: DType, *kinds: str) -> bool:
        return _KINDS.get(dtype) in kinds

    def is_floating(self, x: Array) -> bool:
        return x.dtype in _FLOATING

    def is_real(self, x: Array) -> bool:
        return x.dtype in _KINDS

    def accumulation_dtype(self, dtype: DType) -> DType:
        if dtype in (torch.float32, torch.float64):
            return dtype
        return torch.float32 if dtype in _FLOATING else torch.get_default_dtype()

    def product_dtype(self, *arrays: Array) -> DType | None:
        device = arrays[0].device.type
        if _is_autocast(device) and all(x.dtype != torch.float64 for x in arrays):
            return torch.get_autocast_dtype(device)
        return super().product_dtype(*arrays)

    def as_index(self, x: Array) -> Array:
        return x if x.dtype == torch.int64 else x.to(torch.int64)

    def device(self, x: Array) -> Any:
        return x.device

    def inspectable(self, x: Array) -> Array | None:
        if not x.is_cpu:
            return None
        return x if torch_private.are_plain((x,)) else torch_private.data_of_subclass(x)

    def all_within(self, index: Array, count: int) -> bool:
        lowest, highest = torch.aminmax(index)
        return lowest.item() >= 0 and highest.item() < count

    def item(self, x: Array) -> Any:
        return x.item()  # int(x) fails for large uint64, float(x) warns if x requires a gradient

    def cast(self, x: Array, dtype: DType) -> Array:
        return x if x.dtype == dtype else x.to(dtype)

    def zeros(self, shape: tuple[int, ...], dtype: DType, like: Array) -> Array:
        return self.empty(shape, dtype, like).zero_()

    def empty(self, shape: tuple[int, ...], dtype: DType, like: Array) -> Array:
        return like.new_empty(shape, dtype=dtype)

    def scalar(self, number: float, like: Array) -> Array | float:
        if not torch.compiler.is_compiling():
            return number
        return torch.full((), number, dtype=self.accumulation_dtype(like.dtype), device=like.device)

    def static_int(self, index: int) -> int:
        # With dynamic shapes torch.compile makes the int symbolic, and then evaluates ``0 in (0,)`` as False.
        return len(range(index))

    def class_indices(self, x: Array) -> Array:
        index = torch.arange(x.shape[-1], device=x.device)
        if x.is_cpu and torch.compiler.is_compiling():
            # The compiler stores what it takes a view of. Computing the indices for each row takes longer than exp.
            index = index.as_strided(index.shape, (1,))
        return distributed_like(index, x) if is_distributed(x) else index

    def permute_dims(self, x: Array, order: tuple[int, ...]) -> Array:
        return x.permute(order)

    def with_class_axis(self, x: Array) -> Array:
        return x.unsqueeze(-1)

    def without_class_axis(self, x: Array) -> Array:
        return x.select(-1, 0)

    def gather(self, table: Array, index: Array) -> Array:
        if index.ndim > 0:
            return table[index]
        return table[index.unsqueeze(0)].squeeze(0)  # PyTorch takes an index of shape () for a number, also in vmap

    def any_of_row(self, x: Array) -> Array:
        return x.any(-1, keepdim=True)

    def sum_all(self, x: Array) -> Array:
        return x.sum()

    def total(self, x: Array) -> Array:
        return x.sum(-1, keepdim=True)

    def largest(self, x: Array) -> Array:
        return x.amax(-1, keepdim=True)

    def first_maximum(self, x: Array) -> tuple[Array, Array | None]:
        return x.amax(-1, keepdim=True), None

    def take(self, x: Array, index: Array) -> Array:
        if is_distributed(x):  # DTensor cannot gather where the classes are sharded
            return self.compared(x, index)
        return x.gather(-1, index)  # take_along_dim makes torch.compile specialize on shapes

    def put(self, x: Array, index: Array, value: Array | float) -> Array:
        # A compiler fuses a comparison; scatter would be a pass of its own, and gather sharded classes on every device.
        if torch.compiler.is_compiling() or is_distributed(x):
            return super().put(x, index, value)
        return x.scatter(-1, index, value)

    def exp_and_rest(self, d: Array, index: Array | None, out: Array | None = None) -> tuple[Array, Array]:
        # The largest term is 1, up to rounding, since a compiler may compute x and its maximum differently. If terms
        # above 3/4 sum to less than 3/2, it is the only one of them, else nothing cancels in their sum - 1.
        e = self.scaled_exp(d)
        is_large = e > 0.75 * 2.0**64
        small = self.sum_of_many(torch.where(is_large, 0.0, e)) * 2.0**-64
        large = self.sum_of_many(torch.where(is_large, e, 0.0)) * 2.0**-64
        return e * 2.0**-64, small + torch.where(large < 1.5, 0.0 * large, large - 1.0)

    def sum_of_many(self, x: Array) -> Array:
        # Code compiled for a CPU adds terms one by one: in float32, the sum of 128256 is wrong by up to 340 u.
        if x.dtype != torch.float32 or not x.is_cpu or not torch.compiler.is_compiling():
            return x.sum(-1, keepdim=True)
        return x.sum(-1, keepdim=True, dtype=torch.float64).to(torch.float32)

    def matmul(self, a: Array, b: Array) -> Array:
        if not _is_autocast(a.device.type):
            return torch.matmul(a, b)
        with torch.autocast(a.device.type, enabled=False):  # products in another dtype than that of the layer
            return torch.matmul(a, b)

    def rows_of_block(self, count: int, classes: int, depth: int, given: int | None) -> int | None:
        # A comparison with a dynamic size would add a guard, and a traced graph has no loop.
        is_traced = torch.compiler.is_compiling() or not type(count) is type(classes) is int
        return None if is_traced else super().rows_of_block(count, classes, depth, given)

    def errstate(self) -> contextlib.AbstractContextManager[Any]:
        return _NO_ERRSTATE

    def apply(self, rule: Any, primals: tuple[Array, ...], constants: Any, options: Any) -> Any:
        return torch_autograd.apply(self, rule, primals, constants, options)

    def for_kernels(self, *values: Any) -> Backend:
        tensors = _tensors_among(values)
        return self.kernels_on(tensors[0].device) if torch_private.are_eager(tensors) else self

    def kernels_on(self, device: torch.device) -> Backend:
        """The backend that evaluates functions of rows of plain tensors at once."""
        return FUSED if fuses(device) else EAGER


class EagerTorchBackend(BlockedBackend, TorchBackend):
    """Torch tensors that are evaluated at once, can be written to and are not recorded by autograd."""

    differentiates = False

    def for_kernels(self, *values: Any) -> Backend:
        return self

    def kernels_on(self, device: torch.device) -> Backend:
        return self

    def keeps_gradients(self) -> bool:
        # Checkpointing and offloading use hooks to hold fewer tensors, and do not see these.
        return not torch_private.has_saved_tensors_hooks()

    def block_entries(self, x: Array) -> int:
        return BLOCK * torch.get_num_threads() if x.is_cpu else sys.maxsize

    def empty(self, shape: tuple[int, ...], dtype: DType, like: Array) -> Array:
        """A tensor to be written to; large CPU tensors use memory allocated by NumPy.

        NumPy asks Linux for huge pages and PyTorch does not by default; touching small pages for the first time costs
        more than computing a loss and its gradient.
        """
        size = math.prod(shape) * dtype.itemsize
        numpy = sys.modules.get("numpy")
        if not like.is_cpu or size < 2**22 or numpy is None:
            return torch.empty(shape, dtype=dtype, device=like.device)
        return torch.from_numpy(numpy.empty(size, dtype="u1")).view(dtype).reshape(shape)

    def operand(self, x: Array | float, like: Array) -> Array | float:
        return _scalar(x, self.accumulation_dtype(like.dtype)) if isinstance(x, float) else x

    def first_maximum(self, x: Array) -> tuple[Array, Array | None]:
        # argmax takes longer than everything else for whole rows, which do not need the index.
        return super().first_maximum(x) if self.parts(x) is not None else TorchBackend.first_maximum(self, x)

    def shift(self, m: Array) -> Array:
        if m.is_cpu and math.isfinite(m.sum().item()):
            return m
        return super().shift(m)

    def put(self, x: Array, index: Array, value: Array | float) -> Array:
        return x.scatter_(-1, index, value)

    def zero_rows(self, x: Array, is_active: Array) -> Array:
        if x.is_cpu:
            x[~is_active[..., 0]] = 0.0
            return x
        return x.masked_fill_(~is_active, 0.0)

    def subtract(self, x: Array, y: Array, out: Array | None = None) -> Array:
        return torch.sub(x, y, out=out)

    def multiply(self, x: Array, y: Array | float) -> Array:
        return x.mul_(y)

    def divide(self, x: Array, y: Array) -> Array:
        return x.div_(y)

    def add(self, x: Array, y: Array) -> Array:
        return x.add_(y)

    def exp(self, x: Array, out: Array | None = None) -> Array:
        return torch.exp(x, out=out)

    def _exponentials_of_rows(self, x: Array, index: Array, out: Array | None) -> tuple[Array, Array, Array, Array]:
        if not x.is_cpu:
            return TorchBackend.exponentials(self, x, index)
        # The kernel of softmax takes half as long as subtraction and exp. Its sums may be inaccurate, but they scale
        # all terms of a row equally, and the terms are summed again here.
        is_overwritten = out is not None and out.data_ptr() == x.data_ptr()
        e = torch.softmax(x, -1, out=None if is_overwritten else out)
        t = e.gather(-1, index)
        r = e.scatter_(-1, index, 0.0).sum(-1, keepdim=True)
        log_ratio = torch.log1p(r / t)
        smallest = x.shape[-1] * self.smallest_term(x.dtype)
        if x.numel() == 0:
            return e, r, t, log_ratio
        # Since r + t is 1, both are above the limit if the logarithm lies between these.
        lowest, highest = torch.aminmax(log_ratio)
        if lowest.item() > 2.0 * smallest and highest.item() < -math.log(2.0 * smallest):
            return e, r, t, log_ratio
        rows = ~(torch.minimum(r, t) > smallest)[..., 0]
        largest = x[rows].amax(-1, keepdim=True)
        m = self.shift(largest)
        exact = self.scaled_exp(x[rows] - m).scatter_(-1, index[rows], 0.0)
        z = x[rows].gather(-1, index[rows]) - m
        e[rows], t[rows] = exact * 2.0**-64, torch.exp(z)
        r[rows] = self.with_masked(exact.sum(-1, keepdim=True) * 2.0**-64, largest)
        log_ratio[rows] = self.log_ratio(r[rows], t[rows], z)
        return e, r, t, log_ratio

    def exp_and_rest(self, d: Array, index: Array | None, out: Array | None = None) -> tuple[Array, Array]:
        if not d.is_cpu:
            return super().exp_and_rest(d, index, out)
        e = torch.exp(d, out=out)
        return e, _guarded_rest(e.sum(-1, keepdim=True).sub_(1.0), d, torch.zeros_like(d[..., :1]))

    def rest_sum(self, x: Array, shift: Array, index: Array | None, d: Array | None = None) -> Array:
        if not x.is_cpu or self.parts(x) is not None:
            return super().rest_sum(x, shift, index, d)
        p = torch.softmax(x, -1)  # takes half as long as exp
        return _guarded_rest(p.sum(-1, keepdim=True).div_(p.amax(-1, keepdim=True)).sub_(1.0), x, shift)

    def softmax(self, x: Array, out: Array | None = None) -> Array:
        if not x.is_cpu or self.parts(x) is not None:
            return super().softmax(x, out)
        p = torch.softmax(x, -1, out=out)
        total = p.sum(-1, keepdim=True)  # the sums of the kernel may be inaccurate
        if not math.isfinite(total.sum().item()):
            is_masked = (x.amax(-1, keepdim=True) == -math.inf)[..., 0]
            p[is_masked], total[is_masked] = 0.0, 1.0
        return p.div_(total)

    def matmul(self, a: Array, b: Array) -> Array:
        return torch.mm(a, b, out=self.empty((a.shape[0], b.shape[1]), a.dtype, a))

    def add_product(self, total: Array, a: Array, b: Array) -> Array:
        if b.dtype == torch.bfloat16:  # It has the range of float32. In float16, small entries of a would underflow.
            return total.add_(self.matmul(self.cast(a.T, b.dtype), b))
        return total.addmm_(a.T, self.cast(b, a.dtype))


class FusedTorchBackend(EagerTorchBackend):
    """Torch tensors for eager functions of rows that are compiled first."""

    def block_entries(self, x: Array) -> None:  # type: ignore[override]
        return None

    def run_kernel(
        self, kernel: Callable[..., Sequence[Array]], static: Any, dtypes: tuple[DType, ...], *arguments: Any
    ) -> list[Array]:
        return run_compiled(kernel, static, dtypes, arguments)


# Shapes are checked once, when a call is traced. PyTorch silences such warnings for its own code, too.
warnings.filterwarnings("ignore", category=torch_private.TracerWarning, module=r"xpent\.")

TORCH, EAGER, FUSED = TorchBackend(), EagerTorchBackend(), FusedTorchBackend()


@functools.lru_cache(maxsize=256)
def _scalar(number: float, dtype: torch.dtype) -> torch.Tensor:
    """A number on the CPU, from which PyTorch computes with tensors of any device in half the time."""
    return torch.scalar_tensor(number, dtype=dtype, device="cpu")


def is_distributed(x: torch.Tensor) -> bool:
    """Whether a tensor is a DTensor."""
    distributed = sys.modules.get("torch.distributed.tensor")
    return distributed is not None and isinstance(x, distributed.DTensor)


def distributed_like(x: torch.Tensor, like: Any) -> torch.Tensor:
    """A plain tensor as a DTensor that is replicated over the devices of another: DTensors take no plain operands."""
    from torch.distributed.tensor import DTensor, Replicate

    return DTensor.from_local(x, like.device_mesh, [Replicate()] * like.device_mesh.ndim, run_check=False)


def _is_autocast(device: str) -> bool:
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def _tensors_among(values: Sequence[Any]) -> list[torch.Tensor]:
    """The tensors in nested tuples and lists."""
    found: list[torch.Tensor] = []
    for value in values:
        if value is None:
            continue
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, tuple | list):
            found += _tensors_among(value)
    return found


def _guarded_rest(rest: torch.Tensor, x: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Sums of exp(x - shift) less 1; those that lost digits are computed again, without the largest term."""
    is_exact = rest >= 0.5
    if rest.numel() and not is_exact.all():
        rows = ~is_exact[..., 0]
        e = EAGER.scaled_exp(x[rows] - shift[rows])
        e.scatter_(-1, e.argmax(-1, keepdim=True), 0.0)
        rest[rows] = e.sum(-1, keepdim=True) * 2.0**-64
    return rest


_not_compilable: set[Any] = set()


def fuses(device: torch.device) -> bool:
    """Whether eager functions of rows on a device are compiled: XPENT_COMPILE is 1, and PyTorch can compile them."""
    setting = os.environ.get("XPENT_COMPILE", "")
    if setting not in ("", "0", "1"):
        raise ValueError(f"XPENT_COMPILE must be 0 or 1 if it is set, got {setting!r}")
    if setting != "1":
        return False
    if device.type not in ("cpu", "cuda", "xpu") or (device.type != "cpu" and not torch_private.has_triton()):
        return False
    # Compiled functions cannot be called inside torch.func transforms or while tracing.
    return not torch_private.is_transforming() and not torch_private.is_tracing()


def run_compiled(
    kernel: Callable[..., Any], static: Any, dtypes: tuple[DType, ...], arguments: tuple[Any, ...]
) -> list[Array]:
    """``TORCH.run_kernel(...)``, compiled once for all sizes and numbers; uncompiled where that fails."""
    if (kernel, static, dtypes) not in _not_compilable:
        try:
            found: list[Array] = _compiled(kernel, static, dtypes)(*torch_private.tree_map(_unspecialized, arguments))
            return found
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # the type varies; errors that are not the compiler's are raised again below
            _not_compilable.add((kernel, static, dtypes))
            warnings.warn(
                f"torch.compile failed, so xpent runs uncompiled; unset XPENT_COMPILE to avoid the attempt: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
    return EAGER.run_kernel(kernel, static, dtypes, *arguments)


def _unspecialized(argument: Any) -> Any:
    """An argument for which no program is specialized, neither on its sizes nor on its value."""
    if isinstance(argument, float):
        argument = torch.tensor(argument, dtype=torch.float64, device="cpu")
    elif isinstance(argument, torch.Tensor):
        argument = argument.detach()
    else:
        return argument
    torch_private.maybe_mark_dynamic(argument, list(range(argument.ndim)))
    return argument


@functools.lru_cache(maxsize=1024)
def _compiled(kernel: Callable[..., Any], static: Any, dtypes: tuple[DType, ...]) -> Any:
    return torch.compile(  # type: ignore[call-overload]
        lambda *arguments: TORCH.run_kernel(kernel, static, dtypes, *arguments),
        fullgraph=True,
        recompile_limit=64,
        isolate_recompiles=True,
    )
