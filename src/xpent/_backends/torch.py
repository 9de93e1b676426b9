"""The bridge to PyTorch: autograd, torch.func and torch.compile."""

from __future__ import annotations

import functools
import inspect
import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import array_api_compat.torch as xp
import torch
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode
from torch.utils._triton import has_triton

from xpent._backends.arrays import Array

__all__ = ["adds_one_by_one", "apply", "are_eager", "empty", "fused", "fuses", "visible", "xp"]


def visible(x: torch.Tensor) -> torch.Tensor | None:
    """The tensor if it is a plain one on the CPU, neither traced nor vmapped, else None."""
    return x if x.device.type == "cpu" and _is_plain(x) else None


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A tensor to be written to, large ones on a CPU in memory of NumPy.

    NumPy asks Linux for huge pages, PyTorch does not by default, and to touch small ones for the first time costs more
    than to compute a loss and its gradient.
    """
    size = math.prod(shape) * dtype.itemsize
    numpy = sys.modules.get("numpy")
    if device.type != "cpu" or size < 2**22 or numpy is None:
        return torch.empty(shape, dtype=dtype, device=device)
    return torch.from_numpy(numpy.empty(size, dtype="u1")).view(dtype).reshape(shape)


def adds_one_by_one(x: torch.Tensor) -> bool:
    """Whether the sum of a row is compiled for a CPU; kernels that exist already are more careful."""
    return torch.compiler.is_compiling() and x.device.type == "cpu"


def are_eager(*arrays: torch.Tensor) -> bool:
    """Whether what is made of tensors is evaluated at once and autograd does not record it, in either mode."""
    return not torch.is_grad_enabled() and not _is_in_forward_mode() and all(_is_plain(array) for array in arrays)


# Since then every function can have a cache of programs of its own: together they would have too many.
CAN_FUSE = "isolate_recompiles" in inspect.signature(torch.compile).parameters

_not_compilable: set[Any] = set()


def fuses(device: torch.device) -> bool:
    """Whether functions of rows on a device are compiled though called eagerly."""
    if torch.compiler.is_compiling():
        return False
    setting = os.environ.get("XPENT_COMPILE", "")
    if setting not in ("", "0", "1"):
        raise ValueError(f"XPENT_COMPILE must be 0 (never) or 1 (on a CPU, too) if it is set, got {setting!r}")
    if setting == "0" or not CAN_FUSE or (device.type == "cpu" and setting != "1"):
        return False
    if device.type not in ("cpu", "cuda", "xpu") or (device.type != "cpu" and not has_triton()):
        return False
    # What is compiled can be called neither inside torch.func, whatever its arguments, nor while it is traced.
    return torch._C._functorch.peek_interpreter_stack() is None and not torch._C._is_tracing()


def fused(function: Callable[..., Any], static: tuple[Any, ...], arrays: Sequence[Any]) -> Any:
    """``function(*static, *arrays)``, compiled for all sizes and numbers at once; as it is where that fails."""
    if (function, static) not in _not_compilable:
        try:
            return _compiled(function, static)(*[array if array is None else _open(array) for array in arrays])
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # there are many kinds, and what is no fault of the compiler is raised again below
            _not_compilable.add((function, static))
            warnings.warn(
                f"xpent goes on without torch.compile, which failed; XPENT_COMPILE=0 does not try it: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
    return function(*static, *arrays)


def _open(array: torch.Tensor | float) -> torch.Tensor:
    """What is compiled for any number instead of this one, and for any sizes."""
    if isinstance(array, torch.Tensor):
        array = array.detach()
    else:
        array = torch.tensor(array, dtype=torch.float64, device="cpu")
    torch._dynamo.maybe_mark_dynamic(array, list(range(array.ndim)))
    return array


@functools.lru_cache(maxsize=1024)
def _compiled(function: Callable[..., Any], static: tuple[Any, ...]) -> Any:
    return torch.compile(  # type: ignore[call-overload]
        lambda *arrays: function(*static, *arrays), fullgraph=True, recompile_limit=64, isolate_recompiles=True
    )


def _is_in_forward_mode() -> bool:
    return not torch.compiler.is_compiling() and forward_ad._current_level >= 0


def _is_plain(x: torch.Tensor) -> bool:
    if torch.compiler.is_compiling() or is_in_torch_dispatch_mode():
        return False
    if type(x) not in (torch.Tensor, torch.nn.Parameter):
        return False
    functorch = torch._C._functorch
    return not functorch.is_functorch_wrapped_tensor(x) and not functorch.is_legacy_batchedtensor(x)


@dataclass(frozen=True, eq=False)
class _Job:
    """What is not a tensor: the rule, its options, and the keywords of the constants that follow the primals."""

    rule: Any
    options: dict[str, Any]
    names: tuple[str, ...]

    def split(self, arrays: Sequence[Any]) -> tuple[Sequence[Any], dict[str, Any]]:
        count = len(arrays) - len(self.names)
        return arrays[:count], dict(zip(self.names, arrays[count:], strict=True))

    def primals_only(self, arrays: Sequence[Any], is_needed: Callable[[Any], bool]) -> Sequence[Any]:
        primals, constants = self.split(arrays)
        for name, value in constants.items():
            if is_needed(value):
                raise TypeError(f"{name} is a constant: it has no gradient here; pass {name}.detach()")
        return primals


class _Evaluate(torch.autograd.Function):
    """Any rule."""

    generate_vmap_rule = True

    @staticmethod
    def forward(job: _Job, *arrays: torch.Tensor) -> Any:
        primals, constants = job.split(arrays)
        return _contiguous(job.rule.value(*primals, **constants, **job.options))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Any) -> None:
        ctx.job, *arrays = inputs
        ctx.save_for_backward(*arrays)
        ctx.save_for_forward(*arrays)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> Any:
        job, saved = ctx.job, ctx.saved_tensors  # once: checkpointing computes them again at each look
        if all(cotangent is None for cotangent in cotangents):
            return (None,) * (1 + len(saved))
        needed = job.primals_only(ctx.needs_input_grad[1:], bool)
        primals, constants = job.split(saved)
        wanted = tuple([i for i, is_needed in enumerate(needed) if is_needed])
        gradients = job.rule.vjp(cotangents, wanted, *primals, **constants, **job.options)
        found = dict(zip(wanted, gradients, strict=True))
        return (None, *[found.get(i) for i in range(len(saved))])


class _EvaluateForward(_Evaluate):
    """The same with forward mode, which torch.compile refuses to see on an autograd.Function."""

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Any) -> Any:
        moved = ctx.job.primals_only(tangents, lambda tangent: tangent is not None)
        # PyTorch turns forward mode off in here, and an outer jvp or jacfwd would silently see a derivative of zero.
        with forward_ad._set_fwd_grad_enabled(True):
            primals, constants = ctx.job.split([forward_ad.unpack_dual(x).primal for x in ctx.saved_tensors])  # type: ignore[no-untyped-call]
            return _contiguous(ctx.job.rule.jvp(tuple(moved), *primals, **constants, **ctx.job.options)[1])


class _EvaluateWithGradients(_EvaluateForward):
    """A number and its gradients with respect to some primals, made in one pass and kept for the way back."""

    generate_vmap_rule = False

    @staticmethod
    def forward(job: _Job, wanted: tuple[int, ...], *arrays: torch.Tensor) -> Any:  # type: ignore[override]
        primals, constants = job.split(arrays)
        return _contiguous(job.rule.value_and_gradient.value(*primals, wanted=wanted, **constants, **job.options))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], outputs: Any) -> None:
        ctx.job, ctx.wanted, *arrays = inputs
        ctx.gradients = outputs[1:]  # not among the saved tensors, which others may see: they will be written to
        ctx.mark_non_differentiable(*ctx.gradients)
        ctx.save_for_backward(*arrays)
        ctx.save_for_forward(*arrays)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> Any:
        job, wanted, arrays, cotangent, gradients = ctx.job, ctx.wanted, ctx.saved_tensors, cotangents[0], ctx.gradients
        keeps_graph = torch._C._autograd._get_current_graph_task_keep_graph()
        if not keeps_graph:
            ctx.gradients = None
        if cotangent is None:
            return (None,) * (2 + len(arrays))
        if torch.is_grad_enabled():  # the gradients will be differentiated, so they must not be constants
            primals, constants = job.split(arrays)
            gradients = job.rule.vjp((cotangent,), wanted, *primals, **constants, **job.options)
        elif keeps_graph or not _is_plain(cotangent):
            gradients = [gradient * cotangent for gradient in gradients]
        elif cotangent.device.type != "cpu" or cotangent != 1.0:
            gradients = [gradient.mul_(cotangent) for gradient in gradients]
        found = {i: gradient.to(arrays[i].dtype) for i, gradient in zip(wanted, gradients, strict=True)}
        return (None, None, *[found.get(i) for i in range(len(arrays))])

    @staticmethod
    def jvp(ctx: Any, _: None, __: None, *tangents: Any) -> Any:
        return (_EvaluateForward.jvp(ctx, _, *tangents), *[None] * len(ctx.wanted))


def _contiguous(outputs: Any) -> Any:
    # Forward mode demands one layout of an output and its tangent.
    return tuple([y.contiguous() for y in outputs]) if isinstance(outputs, tuple) else outputs.contiguous()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _is_differentiated_by_func() -> bool:
    # torch.compile inlines a Function whose arguments do not require grad, as those of torch.func do not, and what
    # PyTorch makes of a maximum then is neither exact nor right where two logits tie.
    kinds = torch._C._functorch.TransformType
    levels = torch._C._functorch.get_interpreter_stack() or ()
    return any(level.key() in (kinds.Grad, kinds.Jvp) for level in levels)


def _moving(primals: Sequence[torch.Tensor], constants: Sequence[torch.Tensor]) -> tuple[int, ...]:
    """The primals whose gradients autograd alone, and at first order, will ask for."""
    if not torch.is_grad_enabled() or _is_in_forward_mode() or any(constant.requires_grad for constant in constants):
        return ()
    moving = tuple([i for i, primal in enumerate(primals) if primal.requires_grad])
    return moving if all(map(_is_plain, (*primals, *constants))) else ()


def apply(rule: Any, primals: tuple[Array, ...], constants: dict[str, Array], options: dict[str, Any]) -> Any:
    """Evaluate a rule so that autograd and torch.func differentiate it through its own derivatives."""
    arrays = (*primals, *constants.values())
    if not torch.compiler.is_compiling():
        job = _Job(rule, options, tuple(constants))
        moving = _moving(primals, tuple(constants.values()))
        if moving and rule.keeps_gradients(moving, *primals, **options):
            return _EvaluateWithGradients.apply(job, moving, *arrays)[0]  # type: ignore[no-untyped-call]
        return _EvaluateForward.apply(job, *arrays)  # type: ignore[no-untyped-call]
    if _is_differentiated_by_func():
        raise NotImplementedError(
            "torch.compile cannot see the derivatives of xpent inside torch.func.grad, vjp or jvp; "
            "inside what is compiled, use xpent.grad, xpent.vjp or xpent.jvp, also under torch.func.vmap"
        )
    if torch.is_grad_enabled() and any(array.requires_grad for array in arrays):
        return _Evaluate.apply(_Job(rule, options, tuple(constants)), *arrays)  # type: ignore[no-untyped-call]
    # torch.compile inlines a Function that needs no gradient, but not one of a variable number of arguments.
    return rule.value(*primals, **constants, **options)
