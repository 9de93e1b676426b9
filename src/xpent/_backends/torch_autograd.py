"""Rules as functions of autograd, torch.func and torch.compile."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import forward_ad

from xpent._backends import torch_private
from xpent._backends.base import Array, Backend

if TYPE_CHECKING:
    from xpent._backends.torch import TorchBackend


@dataclass(eq=False, slots=True)
class _Call:
    """A call of a rule without its tensors."""

    backend: Backend
    kernels: Backend  # of the forward pass
    rule: Any
    primal_count: int
    constants: Any  # a named tuple with None in place of tensors
    positions: tuple[int, ...]  # of the tensors among the constants
    options: Any

    def arguments(self, tensors: Sequence[Any]) -> tuple[tuple[Any, ...], Any, Any]:
        """The primals, constants and options, given the tensors among them."""
        if not self.positions:
            return tuple(tensors), self.constants, self.options
        constants = list(self.constants)
        for position, tensor in zip(self.positions, tensors[self.primal_count :], strict=True):
            constants[position] = tensor
        return tuple(tensors[: self.primal_count]), type(self.constants)(*constants), self.options

    def of_primals(self, flags: Sequence[Any], is_asked: Callable[[Any], bool]) -> Sequence[Any]:
        """The flags of the primals; an error if the derivative with respect to a constant is asked for."""
        if not self.positions:
            return flags
        for position, flag in zip(self.positions, flags[self.primal_count :], strict=True):
            if is_asked(flag):
                name = self.constants._fields[position]
                raise TypeError(f"{name} is a constant: it has no gradient here; pass {name}.detach()")
        return flags[: self.primal_count]


class _Recorded(torch.autograd.Function):
    """A rule recorded by autograd or torch.compile: its forward pass keeps what its backward pass needs."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: torch.Tensor) -> Any:
        argnums = tuple([i for i in range(call.primal_count) if ctx.needs_input_grad[1 + i]])
        value, residuals = call.rule.forward(call.kernels, argnums, *call.arguments(tensors))
        ctx.call, ctx.argnums, ctx.count = call, argnums, len(tensors)
        ctx.gradients = residuals.gradients  # not saved: hooks may keep saved tensors, and these will be overwritten
        saved = residuals.saved
        if not torch.compiler.is_compiling():  # callers may write to what they get, but not to views made in here
            owned = torch_private.without_base(value)
            saved = tuple([owned if tensor is value else tensor for tensor in saved])
            value = owned
        ctx.save_for_backward(*tensors, *saved)
        ctx.set_materialize_grads(False)
        return value

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> Any:
        call, argnums, count, gradients = ctx.call, ctx.argnums, ctx.count, ctx.gradients
        saved = ctx.saved_tensors  # once, since checkpointing recomputes them at each access
        if not [cotangent for cotangent in cotangents if cotangent is not None]:
            return (None,) * (1 + count)
        call.of_primals(ctx.needs_input_grad[1:], bool)
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            # Residuals of the forward pass would be constants in the second derivative.
            found = call.rule.vjp(call.backend, cotangents, argnums, *call.arguments(saved[:count]))
        else:
            is_kept = gradients is not None and torch_private.keeps_graph()
            if not is_kept:
                ctx.gradients = None
            found = None if gradients is None else _scaled(gradients, cotangents[0], is_kept)
            if found is None:
                arguments = call.arguments(saved[:count])
                found = call.rule.backward(call.backend, saved[count:], cotangents, argnums, *arguments)
            else:
                found = [call.backend.cast(y, saved[i].dtype) for i, y in zip(argnums, found, strict=True)]
        by_position = dict(zip(argnums, found, strict=True))
        return (None, *[by_position.get(i) for i in range(count)])


def _scaled(gradients: Sequence[torch.Tensor], factor: torch.Tensor, is_kept: bool) -> Sequence[torch.Tensor] | None:
    """Gradients times a number, in place unless they are kept; None if half precision would be rounded twice."""
    is_eager = torch_private.are_eager((factor,))
    number = factor.item() if is_eager and factor.is_cpu else math.nan
    if number == 0.0:  # gradients may be NaN
        return [torch.zeros_like(gradient) for gradient in gradients]
    if number == 1.0:  # as in loss.backward()
        return [gradient.clone() for gradient in gradients] if is_kept else gradients
    if math.isinf(number):  # infinity times 0 is NaN here, and 0 in the backward pass of the rule
        return None
    # The range of bfloat16 is that of float32, so that powers of two scale it exactly.
    is_power_of_two = abs(math.frexp(number)[0]) == 0.5
    for gradient in gradients:
        if gradient.dtype == torch.float16 or (gradient.dtype == torch.bfloat16 and not is_power_of_two):
            return None
    if is_kept or not is_eager:
        return [gradient * factor for gradient in gradients]
    return [gradient.mul_(factor) for gradient in gradients]


class _Transformed(torch.autograd.Function):
    """A rule inside transforms of torch.func: every derivative is a rule in turn."""

    generate_vmap_rule = True

    @staticmethod
    def forward(call: _Call, *tensors: torch.Tensor) -> Any:
        primals, constants, options = call.arguments(tensors)
        return _contiguous(call.rule.value(call.backend, primals, constants, options))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Any) -> None:
        ctx.call, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> Any:
        call, saved = ctx.call, ctx.saved_tensors
        if all(cotangent is None for cotangent in cotangents):
            return (None,) * (1 + len(saved))
        needed = call.of_primals(ctx.needs_input_grad[1:], bool)
        argnums = tuple([i for i, is_needed in enumerate(needed) if is_needed])
        found = call.rule.vjp(call.backend, cotangents, argnums, *call.arguments(saved))
        by_position = dict(zip(argnums, found, strict=True))
        return (None, *[by_position.get(i) for i in range(len(saved))])


class _ForwardMode(_Transformed):
    """The same with forward mode, which torch.compile does not accept on an autograd.Function."""

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Any) -> Any:
        call = ctx.call
        of_primals = call.of_primals(tangents, lambda tangent: tangent is not None)
        # PyTorch disables forward mode here, so an outer jvp or jacfwd would silently see a derivative of zero.
        with torch_private.forward_mode():
            tensors = [forward_ad.unpack_dual(x).primal for x in ctx.saved_tensors]  # type: ignore[no-untyped-call]
            return _contiguous(call.rule.jvp(call.backend, tuple(of_primals), *call.arguments(tensors))[1])


def _contiguous(outputs: Any) -> Any:
    # Forward mode requires one layout of an output and its tangent.
    return tuple([y.contiguous() for y in outputs]) if isinstance(outputs, tuple) else outputs.contiguous()


def apply(backend: TorchBackend, rule: Any, primals: tuple[Array, ...], constants: Any, options: Any) -> Any:
    """Evaluate a rule so that PyTorch differentiates it through the rule's own derivatives."""
    positions = tuple([i for i, c in enumerate(constants) if isinstance(c, torch.Tensor)])
    tensors = (*primals, *[constants[i] for i in positions])
    is_recorded = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    is_transformed = torch_private.is_transformed()
    is_plain = not is_transformed and torch_private.are_plain(tensors)
    kernels = backend.kernels_on(tensors[0].device) if is_plain else backend
    is_compiling = not is_plain and torch.compiler.is_compiling()
    if is_compiling and torch_private.is_differentiated_by_func():
        raise NotImplementedError(
            "torch.compile bypasses the derivatives of xpent inside torch.func.grad, vjp and jvp; "
            "in compiled code use xpent.grad, xpent.vjp or xpent.jvp, also under torch.func.vmap"
        )
    # A trace holds operations only, which PyTorch differentiates.
    is_traced = not is_plain and not is_compiling and torch_private.is_tracing()
    if is_traced or (not is_recorded and (is_compiling or not is_transformed)):
        return rule.value(kernels, primals, constants, options)
    if positions:
        constants = type(constants)(*[None if isinstance(c, torch.Tensor) else c for c in constants])
    call = _Call(backend, kernels, rule, len(primals), constants, positions, options)
    if is_plain:
        return torch_private.apply_function(_Recorded, call, *tensors)
    function = _Recorded if not is_transformed else _Transformed if is_compiling else _ForwardMode
    return function.apply(call, *tensors)  # type: ignore[no-untyped-call]
