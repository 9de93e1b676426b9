"""Masked and fully masked rows in the transformations of JAX, compared with exact derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify
from masked_cases import (
    BIAS,
    FEATURES,
    IS_UNMASKED,
    LABELS,
    NAMES,
    POLICY,
    ROWS,
    WEIGHT,
    assert_close,
    cases,
    layer,
    masked,
)

import xpent

pytestmark = [pytest.mark.library("jax", "jax-jit"), pytest.mark.unoptimized]
SMOOTH = {"label_smoothing": 0.25}
FEW_NAMES = ["entropy", "entr", "index 0, smoothing 0.25"]
NAMES_AND_MASKS = [(name, "-inf") for name in NAMES] + [(name, "where") for name in ("softmax", *FEW_NAMES)]


@pytest.mark.parametrize(("name", "how"), NAMES_AND_MASKS)
def test_first_and_second_derivatives_are_exact(name, how):
    function, exact = cases(jnp.asarray, jax.scipy.special.entr)[name]

    @jax.jit
    def derivatives(x, options):
        of = functools.partial(function, **options)
        # In forward mode JAX multiplies the derivative of entr, which is infinite at 0, by a tangent of 0.
        modes = [jax.jacrev] if name == "entr" else [jax.jacrev, jax.jacfwd]
        first = [mode(of)(x) for mode in modes]
        return first, [jax.hessian(of)(x), *[mode(mode(of))(x) for mode in modes]]

    for row in ROWS.values():
        found = derivatives(*masked(row, how, jnp.asarray))
        for order, expected in enumerate(exact(row)):
            for derivative in found[order]:
                assert_close(derivative, expected, order + 1)


@pytest.mark.parametrize("name", FEW_NAMES)
def test_without_jit_derivatives_are_exact(name):
    function, exact = cases(jnp.asarray, jax.scipy.special.entr)[name]
    x, v, (first, second) = jnp.asarray(POLICY), np.array([1.0, -2.0, 0.5, 3.0]), exact(POLICY)
    assert_close(jax.grad(function)(x), first)
    assert_close(jax.hessian(function)(x), second, order=2)
    if name != "entr":
        assert_close(jax.jvp(function, (x,), (jnp.asarray(v),))[1], first @ v, order=2)


@pytest.mark.parametrize(
    ("kind", "options", "block_size", "run"),
    [
        ("indices", {}, None, jax.jit),
        ("indices", SMOOTH, 1, jax.jit),
        ("one-hot", {}, 1, jax.jit),
        ("one-hot", SMOOTH, None, lambda function: function),
    ],
    ids=["indices", "indices, smoothing, blocks", "one-hot, blocks", "one-hot, smoothing, eager"],
)
def test_linear_layer_with_a_masked_bias_agrees_with_one_without_the_class(kind, options, block_size, run):
    optax = pytest.importorskip("optax")
    targets = jnp.asarray(LABELS if kind == "indices" else np.eye(4)[LABELS])
    one_hot = jnp.asarray(np.eye(3)[np.cumsum(IS_UNMASKED)[LABELS] - 1])
    q = optax.smooth_labels(one_hot, options.get("label_smoothing", 0.0))
    primals = tuple([jnp.asarray(array) for array in (FEATURES, WEIGHT, BIAS)])
    tangents = tuple([jnp.cos(array) for array in (*primals[:2], primals[1][:, 0])])

    def theirs(features, weight, bias):
        return optax.softmax_cross_entropy(features @ weight[IS_UNMASKED].T + bias[IS_UNMASKED], q).mean()

    def products(function):
        """The derivative along a tangent, the gradients, and the Hessian times the tangent."""
        gradient = jax.grad(function, (0, 1, 2))
        return lambda *primals: [jax.jvp(function, primals, tangents)[1], *jax.jvp(gradient, primals, tangents)]

    ours = functools.partial(layer, targets, block_size=block_size, **options)
    found, exact = run(products(ours))(*primals), jax.jit(products(theirs))(*primals)
    for y, expected in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        assert_close(y, np.asarray(expected), order=2)


@pytest.mark.parametrize(
    ("targets", "options"),
    [(np.asarray(0), SMOOTH), (np.asarray(0), {"z_loss": 0.5}), (np.eye(4)[0], {})],
    ids=["smoothing", "z-loss", "one-hot"],
)
def test_checkify_finds_no_nan_with_masked_classes(targets, options):
    t = jnp.asarray(targets)

    def checked(x):
        return checkify.checkify(
            jax.value_and_grad(lambda x: xpent.cross_entropy(x, t, **options)), errors=checkify.float_checks
        )(x)

    run = jax.jit(checked)
    assert run(jnp.asarray(POLICY))[0].get() is None
    assert "nan generated" in run(jnp.asarray(np.full(4, np.nan)))[0].get()
