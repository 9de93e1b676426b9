"""Example code for type checkers: types must be as asserted, and every line with an ignored error must be an error."""

from typing import assert_type

import jax
import numpy as np
import numpy.typing as npt
import torch

import xpent

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def plain_values(x: Floats, q: Floats, labels: Ints, mask: npt.NDArray[np.bool_]) -> Floats:
    assert_type(xpent.softmax(x), Floats)
    assert_type(xpent.log_softmax(x, axis=(0, 1), where=mask), Floats)
    assert_type(xpent.logsumexp(x, axis=None, keepdims=True), Floats)
    assert_type(xpent.softmax_jacobian(x, axis=0), Floats)
    assert_type(xpent.cross_entropy(x, q, label_smoothing=0.1, z_loss=1e-4), Floats)
    assert_type(xpent.linear_cross_entropy(x, q, labels, bias=x[0], softcap=30.0, block_size=64), Floats)
    return xpent.cross_entropy(x, labels, class_weight=x[0], ignore_index=-100, reduction="none", normalizer=None)


def gradients(x: Floats, w: Floats, labels: Ints) -> Floats:
    assert_type(xpent.grad(xpent.logsumexp)(x), Floats)
    assert_type(xpent.value_and_grad(xpent.cross_entropy)(x, labels, label_smoothing=0.1), tuple[Floats, Floats])
    step = xpent.value_and_grad(xpent.linear_cross_entropy, argnums=(0, 1))
    loss, (grad_x, grad_w) = step(x, w, labels, softcap=30.0)
    assert_type(loss, Floats)
    assert_type(grad_w, Floats)
    assert_type(xpent.grad(xpent.cross_entropy, (0,))(x, labels), tuple[Floats, ...])
    return grad_x


def products(x: Floats, labels: Ints) -> Floats:
    losses, pullback = xpent.vjp(xpent.cross_entropy, x, labels, reduction="none", axis=0)
    assert_type(losses, Floats)
    (grad_x,) = pullback(losses)
    assert_type(xpent.jvp(xpent.softmax, (x,), (grad_x,), axis=0), tuple[Floats, Floats])
    assert_type(xpent.jvp(xpent.logsumexp, [x], [x]), tuple[Floats, Floats])
    (loss, _), pullback_of_both = xpent.vjp(xpent.value_and_grad(xpent.cross_entropy), x, labels)
    (second,) = pullback_of_both((loss, grad_x))
    assert_type(second, Floats)
    _, hessian_product = xpent.jvp(xpent.grad(xpent.cross_entropy), (x, labels), (x, None))
    return hessian_product


def in_torch(x: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    assert_type(xpent.softmax(x, where=x > 0), torch.Tensor)
    assert_type(xpent.value_and_grad(xpent.cross_entropy)(x, labels), tuple[torch.Tensor, torch.Tensor])
    compiled = torch.compile(xpent.cross_entropy, fullgraph=True)  # pyright: ignore[reportUnknownMemberType]
    assert_type(compiled(x, labels), torch.Tensor)
    assert_type(xpent.linear_cross_entropy(x, weight, labels, z_loss=torch.tensor(1e-4)), torch.Tensor)
    return xpent.cross_entropy(x, labels, sample_weight=x[:, 0]).mean()


def in_jax(x: jax.Array, labels: jax.Array) -> jax.Array:
    assert_type(xpent.log_softmax(x), jax.Array)
    assert_type(xpent.grad(xpent.cross_entropy, argnums=(0,))(x, labels), tuple[jax.Array, ...])
    assert_type(xpent.cross_entropy(x, np.asarray([0, 1])), jax.Array)
    _, pullback = xpent.vjp(xpent.softmax, x)
    return pullback(x)[0]


def mistakes(x: Floats, labels: Ints) -> None:
    xpent.softmax([1.0, 2.0])  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    xpent.softmax(x, dim=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    xpent.cross_entropy(x, labels, reduction="avg")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    xpent.cross_entropy(x, labels, 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    xpent.grad(xpent.cross_entropy)(x, labels, weight=x)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    xpent.value_and_grad(xpent.cross_entropy)(x)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    xpent.vjp(xpent.cross_entropy, x, labels, dim=1)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue]
    xpent.jvp(xpent.softmax, x, x)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
