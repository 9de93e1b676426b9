"""`xpent.jax` compared with `jax.nn` and exact values, and derivatives in both modes."""

import doctest
import inspect
import math

import numpy as np
import pytest

from xpent import conformance

pytestmark = [pytest.mark.library("jax"), pytest.mark.unoptimized]
jax = pytest.importorskip("jax")
jnp = jax.numpy
ours = pytest.importorskip("xpent.jax")

INF, NAN = np.inf, np.nan
NAMES = ("softmax", "log_softmax", "logsumexp")
U = {"float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
SHAPE = (2, 3, 4)


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_those_of_jax(name):
    pair = [inspect.signature(getattr(module, name)).parameters.values() for module in (ours, jax.nn)]
    mine, theirs = [[(p.name, p.kind, p.default) for p in parameters] for parameters in pair]
    assert mine == theirs


@pytest.mark.parametrize("name", NAMES)
def test_docstrings_are_complete_and_their_examples_pass(name):
    function = getattr(ours, name)
    text = inspect.getdoc(function)
    for word in ("Parameters", "Returns", "Raises", "Notes", "Examples"):
        assert f"\n{word}\n{'-' * len(word)}\n" in text
    for parameter in inspect.signature(function).parameters:
        assert f"\n{parameter} : " in text
    (test,) = doctest.DocTestFinder(recurse=False).find(function, name)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


def units(found, expected, u):
    """The error in units of u, relative to the largest entry."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    is_finite = np.isfinite(expected)
    np.testing.assert_array_equal(found[~is_finite], expected[~is_finite])
    largest = np.max(np.abs(expected), where=is_finite, initial=0.0) or 1.0
    errors = np.abs(np.where(is_finite, found, 0.0) - np.where(is_finite, expected, 0.0))
    return np.max(errors, initial=0.0) / (largest * u)


def random_call(rng, name):
    """float64 arrays and options of a call whose result is well-conditioned."""
    axis = [-1, 0, 1, (0, 2), (2, 1), None, (), np.int64(1)][rng.integers(8)]
    options = {"axis": axis}
    arrays = {"x": rng.normal(size=SHAPE) * 3}
    if rng.random() < 0.5:
        where = rng.random([SHAPE, SHAPE[1:], (2, 3, 1)][rng.integers(3)]) < 0.7
        options["where"] = jnp.asarray(where | (where.size and not where.any()))
    if name == "logsumexp":
        options |= {"keepdims": bool(rng.integers(2)), "return_sign": bool(rng.integers(2))}
        if rng.random() < 0.5:
            arrays["b"] = rng.random([SHAPE, SHAPE[2:], ()][rng.integers(3)]) + 0.25
    return arrays, options


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_of_random_calls_are_those_of_jax(name, dtype):
    rng = np.random.default_rng(0)
    for _ in range(4):
        arrays, options = random_call(rng, name)
        arrays = {key: jnp.asarray(array).astype(dtype) for key, array in arrays.items()}

        def evaluate(module, arrays, options=options):
            def function(arrays):
                x, *b = arrays.values()
                found = getattr(module, name)(x, **options, **({"b": b[0]} if b else {}))
                return found[0] if options.get("return_sign") else found

            value, pullback = jax.vjp(function, arrays)
            # The derivative of an empty sum is NaN in JAX, and 0 in xpent.
            cotangent = jnp.where(jnp.isfinite(value), jnp.cos(jnp.arange(value.size)).reshape(value.shape), 0.0)
            (gradients,) = pullback(cotangent.astype(value.dtype))
            return value, gradients

        value, gradients = evaluate(ours, arrays)
        with jax.numpy_dtype_promotion("standard"):
            in_float64 = {key: array.astype(jnp.float64) for key, array in arrays.items()}
            expected, exact_gradients = evaluate(jax.nn, in_float64)
            assert value.dtype == evaluate(jax.nn, arrays)[0].dtype
        assert units(value, expected, U[dtype]) <= 4
        for key, gradient in gradients.items():
            assert gradient.dtype == dtype
            exact = np.asarray(exact_gradients[key])
            assert units(gradient, np.where(np.isnan(exact), 0.0, exact), U[dtype]) <= 16


@pytest.mark.parametrize("name", NAMES)
def test_scalars_numpy_arrays_integers_and_lists_of_axes_are_as_in_jax(name):
    mine, theirs = getattr(ours, name), getattr(jax.nn, name)
    x = np.asarray([[1, 2, 3], [4, 0, 1]])
    calls = [(2.5, None), (x, 0), (x.astype("float32"), (0, 1)), (jnp.asarray(x, "int8"), -1), (np.ones((0, 2)), 1)]
    for array, axis in calls:
        floating = jnp.exp(array)  # jax.nn subtracts integers from integers
        found, expected = mine(array, axis=axis), theirs(jnp.asarray(array, floating.dtype), axis=axis)
        assert isinstance(found, jax.Array)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(mine(jnp.asarray(x), axis=[0, 1]), mine(jnp.asarray(x), axis=(0, 1)))


@pytest.mark.parametrize("name", NAMES)
def test_invalid_calls_raise_clear_errors(name):
    function, x = getattr(ours, name), jnp.ones((2, 3))
    for axis, error in ((2, ValueError), ((0, 0), ValueError), (0.5, TypeError), ("i", TypeError)):
        with pytest.raises(error, match="axis"):
            function(x, axis=axis)
    for bad in ([1.0, 2.0], None):
        with pytest.raises(TypeError, match="array or a number, got"):
            function(bad)
    with pytest.raises(ValueError, match="masked"):
        function(np.ma.masked_array([1.0]))
    with pytest.raises(TypeError, match="booleans"):
        function(x, where=jnp.ones((2, 3), int))
    with pytest.raises(ValueError, match=r"shape|broadcast"):
        function(x, where=jnp.ones((4, 4), bool))


def test_confident_entries_and_their_gradients_are_exact_where_jax_returns_0():
    x, exact = jnp.asarray([20.0, 0.0], jnp.float32), np.exp(-20.0)
    assert jax.nn.log_softmax(x)[0] == 0.0
    np.testing.assert_allclose(ours.log_softmax(x)[0], -exact, rtol=1e-6)
    for function in (ours.softmax, ours.log_softmax):
        np.testing.assert_allclose(jax.grad(lambda x, f=function: f(x)[0])(x)[0], exact, rtol=1e-6)
    y = jnp.asarray([0.0, -20.0], jnp.float32)
    assert jax.nn.logsumexp(y) == 0.0
    np.testing.assert_allclose(ours.logsumexp(y), exact, rtol=1e-6)


def test_x_is_broadcast_to_a_mask_with_more_axes():
    x, where = jnp.asarray([0.0, 1.0, 2.0]), jnp.asarray([[True, True, True], [True, False, True]])
    for name in NAMES:
        function = getattr(ours, name)
        expected = function(jnp.stack([x, x]), axis=-1, where=where)
        np.testing.assert_array_equal(function(x, axis=-1, where=where), expected)


def test_masked_and_infinite_rows_follow_the_contract():
    rows = jnp.asarray([[-INF, -INF], [INF, 0.0], [NAN, 0.0]])
    np.testing.assert_array_equal(ours.softmax(rows), [[0, 0], [NAN, NAN], [NAN, NAN]])
    np.testing.assert_array_equal(ours.log_softmax(rows), [[-INF, -INF], [NAN, NAN], [NAN, NAN]])
    value, sign = ours.logsumexp(rows, axis=-1, return_sign=True)
    np.testing.assert_array_equal(value, [-INF, INF, NAN])
    np.testing.assert_array_equal(sign, [0, 1, NAN])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["jacfwd", "jacrev"])
def test_derivatives_of_masked_entries_and_rows_are_0_in_both_modes(name, mode):
    x = jnp.asarray([[1.0, NAN, 2.0], [NAN, INF, 1.0], [-INF, -INF, -INF]])
    where = jnp.asarray([[True, False, True], [False] * 3, [True] * 3])

    def function(x):
        y = getattr(ours, name)(x, axis=-1, where=where)
        return jnp.where(jnp.isfinite(y), y, 0.0)

    jacobian = np.asarray(getattr(jax, mode)(function)(x))
    assert np.all(np.isfinite(jacobian))
    assert np.all(jacobian[..., ~np.asarray(where)] == 0)
    assert np.all(jacobian[1:] == 0)
    assert np.any(jacobian[0] != 0)


def test_gradient_of_a_row_of_minus_infinity_is_0_where_jax_returns_nan():
    x = jnp.asarray([-INF, -INF])
    assert np.all(np.isnan(jax.grad(jax.nn.logsumexp)(x)))
    np.testing.assert_array_equal(jax.grad(ours.logsumexp)(x), [0.0, 0.0])


def test_derivative_with_respect_to_a_weight_of_0_is_exact():
    x, b = jnp.asarray([1.0, 2.0]), jnp.asarray([0.0, 1.0])
    for mode in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(mode(lambda b: ours.logsumexp(x, b=b))(b), np.exp([-1.0, 0.0]), rtol=1e-14)
    assert jax.grad(lambda b: jax.nn.logsumexp(x, b=b))(b)[0] == 0.0
    where = jnp.asarray([False, True])
    np.testing.assert_allclose(jax.grad(lambda b: ours.logsumexp(x, b=b, where=where))(b + 1), [0.0, 0.5])


def test_negative_and_complex_sums_are_those_of_jax():
    x, where = jnp.asarray([1.0, 2.0, 0.0]), jnp.asarray([True, True, False])
    b = jnp.asarray([1.0, -1.0, 5.0])
    for z, w in ((x, b), (shifted := jax.lax.complex(x, jnp.full(3, 2.0)), None), (shifted, b.astype(complex))):
        for return_sign in (False, True):
            found = ours.logsumexp(z, b=w, where=where, return_sign=return_sign)
            expected = jax.nn.logsumexp(z, b=w, where=where, return_sign=return_sign)
            np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_bfloat16_array_with_a_number_as_weight_gives_bfloat16():
    x = jnp.asarray([1.0, 2.0], jnp.bfloat16)
    assert ours.logsumexp(x, b=2.0).dtype == jax.nn.logsumexp(x, b=2.0).dtype == jnp.bfloat16


@pytest.mark.parametrize("name", NAMES)
def test_jit_vmap_and_second_derivatives_work(name):
    x = jnp.asarray([[1.0, -2.0, 0.5], [3.0, 1.0, -1.0]])

    def function(x, module=ours):
        return jnp.sum(getattr(module, name)(x, axis=-1) ** 2)

    found = jax.jit(jax.vmap(jax.hessian(function)))(x)
    expected = jax.jit(jax.vmap(jax.hessian(lambda x: function(x, jax.nn))))(x)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_dropin_passes_the_conformance_suite(name):
    function = getattr(ours, name)

    def along_the_last_axis(x, *, axis=-1):
        return function(x, axis=axis)

    report = conformance.check(
        along_the_last_axis, library="jax", computes=name, value_and_grad=None, dtypes=["float32"]
    )
    assert sum(outcome.status == "pass" for outcome in report.outcomes) >= 9
    assert [(outcome.case, outcome.message) for outcome in report.surprises] == []


def test_objects_with_a_jax_array_method_are_accepted():
    class Parameter:
        def __jax_array__(self):
            return jnp.asarray([0.0, 0.0])

    assert float(ours.logsumexp(Parameter())) == math.log(2)
