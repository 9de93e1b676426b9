"""Masked and fully masked rows under the transformations of JAX, beside exact derivatives."""

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
TANGENT = np.array([1.0, -2.0, 0.5, 3.0])
run_modes = pytest.mark.parametrize("run", [lambda function: function, jax.jit], ids=["eager", "jit"])


@pytest.mark.parametrize("how", ["-inf", "where"])
@pytest.mark.parametrize("name", NAMES)
def test_first_and_second_derivatives_are_exact(name, how):
    function, exact = cases(jnp.asarray, jax.scipy.special.entr)[name]

    @jax.jit
    def derivatives(x, options):
        of = functools.partial(function, **options)
        first, second = {"jacrev": jax.jacrev(of)(x)}, {"hessian": jax.hessian(of)(x)}
        second["jacrev"] = jax.jacrev(jax.jacrev(of))(x)
        # JAX multiplies the derivative of entr, infinite at 0, by a tangent of 0; only a cotangent reaches xpent.
        if name != "entr":
            first["jacfwd"], second["jacfwd"] = jax.jacfwd(of)(x), jax.jacfwd(jax.jacfwd(of))(x)
        return first, second

    for row in ROWS.values():
        for order, (found, expected) in enumerate(zip(derivatives(*masked(row, how, jnp.asarray)), exact(row)), 1):
            for derivative in found.values():
                assert_close(derivative, expected, order)


@pytest.mark.parametrize(
    "name", ["entropy", "reverse KL", "entr", "index 0, smoothing 0.25", "one-hot 1, smoothing 0.0"]
)
def test_without_jit_derivatives_are_exact(name):
    function, exact = cases(jnp.asarray, jax.scipy.special.entr)[name]
    for how in ("-inf", "where"):
        x, options = masked(POLICY, how, jnp.asarray)
        of, (first, second) = functools.partial(function, **options), exact(POLICY)
        assert_close(jax.grad(of)(x), first)
        assert_close(jax.hessian(of)(x), second, order=2)
        if name != "entr":
            assert_close(jax.jvp(of, (x,), (jnp.asarray(TANGENT),))[1], first @ TANGENT, order=2)


@run_modes
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.25}], ids=str)
@pytest.mark.parametrize("kind", ["indices", "one-hot"])
def test_a_linear_layer_with_a_masked_bias_is_one_without_the_class(kind, options, run):
    optax = pytest.importorskip("optax")
    targets = jnp.asarray(LABELS if kind == "indices" else np.eye(4)[LABELS])
    one_hot = np.eye(3)[np.cumsum(IS_UNMASKED)[LABELS] - 1]
    q = jnp.asarray(optax.smooth_labels(one_hot, options.get("label_smoothing", 0.0)))
    primals = tuple([jnp.asarray(array) for array in (FEATURES, WEIGHT, BIAS)])
    tangents = tuple([jnp.cos(array) for array in (*primals[:2], primals[1][:, 0])])

    def theirs(features, weight, bias):
        return optax.softmax_cross_entropy(features @ weight[IS_UNMASKED].T + bias[IS_UNMASKED], q).mean()

    def products(function):
        """The derivative along a tangent, the gradients, and the Hessian times a tangent."""
        gradient = jax.grad(function, (0, 1, 2))
        return lambda *primals: [jax.jvp(function, primals, tangents)[1], *jax.jvp(gradient, primals, tangents)]

    for block_size in (None, 1):
        ours = functools.partial(layer, targets, block_size=block_size, **options)
        found, exact = run(products(ours))(*primals), jax.jit(products(theirs))(*primals)
        for y, expected in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
            assert_close(y, np.asarray(expected), order=2)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.25}, {"z_loss": 0.5}], ids=str)
@pytest.mark.parametrize("targets", [np.asarray(0), np.eye(4)[0]], ids=["index", "one-hot"])
def test_checkify_finds_no_nan_where_a_class_is_masked(targets, options):
    t = jnp.asarray(targets)

    def loss(x):
        return xpent.cross_entropy(x, t, **options)

    for function in (loss, jax.value_and_grad(loss), jax.hessian(loss)):
        error, _ = jax.jit(checkify.checkify(function, errors=checkify.float_checks))(jnp.asarray(POLICY))
        assert error.get() is None
    error, _ = checkify.checkify(loss, errors=checkify.float_checks)(jnp.asarray(np.full(4, np.nan)))
    assert "nan generated" in error.get()
