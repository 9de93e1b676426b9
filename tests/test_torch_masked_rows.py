"""Masked, fully masked and non-finite rows in autograd and torch.func, compared with exact derivatives."""

import functools
import itertools

import numpy as np
import pytest
import torch
from masked_cases import (
    BIAS,
    FEATURES,
    IS_UNMASKED,
    LABELS,
    NAMES,
    NON_FINITE,
    ROWS,
    WEIGHT,
    assert_close,
    cases,
    layer,
    masked,
)
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp

import xpent

F = torch.nn.functional
pytestmark = pytest.mark.library("torch")
every_name = pytest.mark.parametrize("name", NAMES)
every_row = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
every_how = pytest.mark.parametrize("how", ["-inf", "where"])


def build(name, row, how, asarray):
    """A function of a row, the row, and its exact derivatives."""
    function, exact = cases(asarray, torch.special.entr)[name]
    x, options = masked(row, how, asarray)
    return functools.partial(function, **options), x, exact(row)


@every_name
@every_row
@every_how
def test_autograd_gives_exact_first_and_second_derivatives(name, row, how, asarray):
    function, x, (first, second) = build(name, row, how, asarray)
    x.requires_grad_()
    y = function(x)
    found = []
    for entry in y.reshape(-1):
        (gradient,) = torch.autograd.grad(entry, x, create_graph=True)
        rows = [torch.autograd.grad(g, x, retain_graph=True, materialize_grads=True)[0] for g in gradient]
        found.append((gradient, torch.stack(rows)))
    gradients, hessians = (torch.stack(parts).reshape(*y.shape, *parts[0].shape) for parts in zip(*found, strict=True))
    assert_close(gradients, first)
    assert_close(hessians, second, order=2)
    y.sum().backward()
    assert_close(x.grad, np.sum(first, axis=tuple(range(y.ndim))))


@every_name
@every_row
@every_how
def test_torch_func_gives_exact_first_and_second_derivatives(name, row, how, asarray):
    function, x, (first, second) = build(name, row, how, asarray)
    # In forward mode PyTorch multiplies the derivative of entr, which is infinite at 0, by a tangent of 0.
    modes = [jacrev] if name == "entr" else [jacrev, jacfwd]
    for mode in modes:
        assert_close(mode(function)(x), first)
    for outer, inner in itertools.product([jacrev, jacfwd], modes):
        assert_close(outer(inner(function))(x), second, order=2)
    assert_close(hessian(function)(x), second, order=2)
    v = asarray(np.array([1.0, -2.0, 0.5, 3.0]))
    if name != "entr":
        assert_close(jvp(function, (x,), (v,))[1], first @ v.cpu().numpy(), order=2)
    y, pullback = vjp(function, x)
    g = v if y.ndim else v[3]
    assert_close(pullback(g)[0], g.cpu().numpy() @ first if y.ndim else 3.0 * first, order=2)
    if y.ndim == 0:
        assert_close(grad(function)(x), first)


def losses(targets, more, x):
    return xpent.cross_entropy(x, targets[: len(x)], reduction="none", **more)


def functions_of_batches(asarray):
    labels = np.array([0, 3, 2, 2])
    found = {name: getattr(xpent, name) for name in ("softmax", "log_softmax", "logsumexp")}
    for kind, targets in (("indices", labels), ("one-hot", np.eye(4)[labels])):
        for more in ({}, {"label_smoothing": 0.25, "z_loss": 0.5}):
            found[f"{kind} {more}"] = functools.partial(losses, asarray(targets), more)
    return found


def derivatives(function, x, g, v):
    """First and second derivatives by torch.func and by autograd, for a cotangent g and a tangent v."""

    def gradient(x):
        return vjp(function, x)[1](g)[0]

    leaf = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(function(leaf), leaf, g, create_graph=True)
    (second,) = torch.autograd.grad(first, leaf, v)
    of_second_order = [vjp(gradient, x)[1](v)[0], jvp(gradient, (x,), (v,))[1], second]
    return [gradient(x), jvp(function, (x,), (v,))[1], first, *of_second_order]


@pytest.mark.parametrize("name", functions_of_batches(np.asarray))
def test_non_finite_rows_with_cotangent_zero_have_derivatives_of_zero(name, asarray):
    function, x, count = functions_of_batches(asarray)[name], asarray(NON_FINITE), 2
    v = torch.cos(torch.arange(x.numel()).to(x)).reshape(x.shape)
    g = torch.sin(v) if function(x).ndim == 2 else torch.sin(v[:, 0])
    v[count:], g[count:] = 0.0, 0.0
    alone = derivatives(function, x[:count], g[:count], v[:count])
    for found, expected in zip(derivatives(function, x, g, v), alone, strict=True):
        assert not torch.any(found[count:])
        assert_close(found[:count], expected.detach().cpu().numpy(), order=2)


@pytest.mark.parametrize("block_size", [None, 1])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.25}], ids=str)
@pytest.mark.parametrize("kind", ["indices", "one-hot"])
def test_linear_layer_with_a_masked_bias_agrees_with_one_without_the_class(kind, options, block_size, asarray):
    targets = asarray(LABELS if kind == "indices" else np.eye(4)[LABELS])
    labels = asarray(np.cumsum(IS_UNMASKED)[LABELS] - 1)
    primals = [asarray(array) for array in (FEATURES, WEIGHT, BIAS)]
    tangents = [torch.cos(array) for array in (*primals[:2], primals[1][:, 0])]
    is_unmasked = asarray(IS_UNMASKED)

    def ours(*primals):
        return layer(targets, *primals, block_size=block_size, **options)

    def theirs(features, weight, bias):
        return F.cross_entropy(F.linear(features, weight[is_unmasked], bias[is_unmasked]), labels, **options)

    for gradient in (grad, jacfwd):
        found, exact = (products(gradient(f, (0, 1, 2)), primals, tangents) for f in (ours, theirs))
        for y, expected in zip(found, exact, strict=True):
            assert_close(y, expected.numpy(force=True), order=2)
    found, exact = (of_autograd(f, primals, tangents) for f in (ours, theirs))
    for y, expected in zip(found, exact, strict=True):
        assert_close(y, expected.numpy(force=True), order=2)


def products(gradient, primals, tangents):
    """The gradients, and the Hessian times a tangent."""
    firsts, seconds = jvp(gradient, tuple(primals), tuple(tangents))
    return [*firsts, *seconds]


def of_autograd(function, primals, tangents):
    leaves = [array.clone().requires_grad_() for array in primals]
    firsts = torch.autograd.grad(function(*leaves), leaves, create_graph=True)
    return [*firsts, *torch.autograd.grad(firsts, leaves, tangents)]
