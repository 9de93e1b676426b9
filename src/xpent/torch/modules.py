"""The modules of torch.nn that xpent computes, and the replacement of PyTorch's cross-entropy by ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional

from xpent.torch.functional import cross_entropy, linear_cross_entropy, log_softmax, nll_loss, softmax


class _NotScriptable:
    """A module for which `torch.jit.script` raises an error, because TorchScript cannot compile xpent."""

    def __prepare_scriptable__(self) -> NoReturn:
        name = type(self).__name__
        raise RuntimeError(
            f"torch.jit.script cannot compile xpent.torch.{name}: use torch.compile, torch.export or torch.jit.trace, "
            f"or torch.nn.{name} in the model that is scripted"
        )


class CrossEntropyLoss(_NotScriptable, torch.nn.CrossEntropyLoss):
    """`torch.nn.CrossEntropyLoss`, computed by `xpent.torch.cross_entropy`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of logits and targets."""
        return cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class LinearCrossEntropyLoss(_NotScriptable, torch.nn.LinearCrossEntropyLoss):
    """`torch.nn.LinearCrossEntropyLoss`, computed by `xpent.torch.linear_cross_entropy`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of features and targets."""
        shape, bias = (self.num_classes, *self.out_features), self.linear.bias
        return linear_cross_entropy(
            input,
            self.linear.weight.reshape(*shape, self.linear.in_features),
            target,
            linear_bias=None if bias is None else bias.reshape(shape),
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            options=self.options,
        )


class NLLLoss(_NotScriptable, torch.nn.NLLLoss):
    """`torch.nn.NLLLoss`, computed by `xpent.torch.nll_loss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of log-probabilities and class indices."""
        return nll_loss(input, target, weight=self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class Softmax(_NotScriptable, torch.nn.Softmax):
    """`torch.nn.Softmax`, computed by `xpent.torch.softmax`."""

    def forward(self, input: Tensor) -> Tensor:
        """Compute the softmax of logits."""
        return softmax(input, self.dim, _stacklevel=5)


class LogSoftmax(_NotScriptable, torch.nn.LogSoftmax):
    """`torch.nn.LogSoftmax`, computed by `xpent.torch.log_softmax`."""

    def forward(self, input: Tensor) -> Tensor:
        """Compute the logarithm of the softmax of logits."""
        return log_softmax(input, self.dim, _stacklevel=5)


@contextlib.contextmanager
def patch() -> Iterator[None]:
    """Replace `torch.nn.functional.cross_entropy` by `xpent.torch.cross_entropy`, in a ``with`` block or a function.

    `torch.nn.CrossEntropyLoss` calls it and is replaced, too. Names that other modules imported from
    `torch.nn.functional` before are not.

    Returns
    -------
    context manager and decorator
        On exit, also after an exception, it restores the original function.

    Raises
    ------
    RuntimeError
        If it is replaced already, for example in another thread.

    Notes
    -----
    The replacement holds for the whole process.

    Examples
    --------
    >>> import torch, xpent.torch
    >>> logits, labels = torch.tensor([[100.0, 80.0, 0.0]]), torch.tensor([0])
    >>> with xpent.torch.patch():
    ...     torch.nn.CrossEntropyLoss()(logits, labels)
    tensor(2.0612e-09)
    """
    replaced: Any = functional.cross_entropy
    if replaced is cross_entropy:
        raise RuntimeError("torch.nn.functional.cross_entropy is patched already, and can be patched only once")
    functional.cross_entropy = cross_entropy
    try:
        yield
    finally:
        functional.cross_entropy = replaced
