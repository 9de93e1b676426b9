"""The private interfaces of PyTorch that xpent uses."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch._dynamo import maybe_mark_dynamic
from torch.autograd import forward_ad
from torch.jit._trace import TracerWarning
from torch.utils._python_dispatch import is_in_torch_dispatch_mode
from torch.utils._pytree import tree_map
from torch.utils._triton import has_triton

__all__ = ["TracerWarning", "has_triton", "maybe_mark_dynamic", "tree_map"]

# The versions of PyTorch with which these names have been tested.
VERSIONS = ((2, 13), (2, 13))

_PLAIN = (torch.Tensor, torch.nn.Parameter)
_functorch = torch._C._functorch

is_tracing = torch._C._is_tracing  # whether torch.jit.trace is active
is_any_autocast_enabled = torch._C._is_any_autocast_enabled


def are_plain(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether no tensor is of a subclass, traced or wrapped by a transform."""
    if torch.compiler.is_compiling() or is_in_torch_dispatch_mode() or is_tracing():
        return False
    for x in tensors:
        if type(x) not in _PLAIN:
            return False
        if _functorch.is_functorch_wrapped_tensor(x) or _functorch.is_legacy_batchedtensor(x):
            return False
    return True


def data_of_subclass(x: torch.Tensor) -> torch.Tensor | None:
    """The plain tensor with the data of a subclass that has data of its own, else None."""
    if type(x) in _PLAIN or torch.compiler.is_compiling():
        return None
    if type(x).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return None
    with torch._C.DisableTorchFunctionSubclass():
        data = x.as_subclass(torch.Tensor)
    return data if are_plain((data,)) else None


def are_eager(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether operations on tensors are evaluated eagerly, and recorded neither in reverse nor in forward mode."""
    if not are_plain(tensors) or forward_ad._current_level >= 0:
        return False
    return not torch.is_grad_enabled() or not any(x.requires_grad for x in tensors)


def is_in_forward_mode() -> bool:
    """Whether a level of forward-mode differentiation is active."""
    return not torch.compiler.is_compiling() and forward_ad._current_level >= 0


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def is_transforming() -> bool:
    """Whether a transform of torch.func is active."""
    return _functorch.peek_interpreter_stack() is not None


def is_transformed() -> bool:
    """Whether a transform of torch.func or a level of forward-mode differentiation is active."""
    return is_transforming() or is_in_forward_mode()


def apply_function(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """``function.apply`` of plain tensors, where no transform is active, without looking for one."""
    return super(torch.autograd.Function, function).apply(*arguments)  # type: ignore[misc]


def forward_mode() -> contextlib.AbstractContextManager[Any]:
    """Enable forward-mode differentiation where PyTorch has disabled it."""
    enabled: contextlib.AbstractContextManager[Any] = forward_ad._set_fwd_grad_enabled(True)
    return enabled


def has_saved_tensors_hooks() -> bool:
    """Whether hooks for saved tensors are active, as they are in activation checkpointing."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


def without_base(outputs: Any) -> Any:
    """The same tensor or tuple of tensors, none of which autograd takes for a view."""
    if isinstance(outputs, tuple):
        return tuple([without_base(output) for output in outputs])
    return outputs.data if outputs._is_view() else outputs


def keeps_graph() -> bool:
    """Whether the backward pass that is running was asked to keep its graph, or may have been, where it is compiled."""
    return torch.compiler.is_compiling() or torch._C._autograd._get_current_graph_task_keep_graph()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def is_differentiated_by_func() -> bool:
    """Whether torch.func.grad, vjp or jvp is active."""
    kinds = _functorch.TransformType
    levels = _functorch.get_interpreter_stack() or ()
    return any(level.key() in (kinds.Grad, kinds.Jvp) for level in levels)
