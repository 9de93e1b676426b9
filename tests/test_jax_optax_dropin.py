"""`xpent.optax` compared with `optax.losses`, and with exact values where the two differ."""

import doctest
import inspect
import math

import numpy as np
import pytest

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
import jax.numpy as jnp  # noqa: E402

import xpent.optax  # noqa: E402
from xpent import conformance  # noqa: E402

pytestmark = [pytest.mark.library("jax"), pytest.mark.unoptimized]
NAMES = xpent.optax.__all__
U = 2.0**-53


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_those_of_optax(name):
    ours, theirs = [inspect.signature(getattr(module, name)).parameters for module in (xpent.optax, optax.losses)]
    assert [(p.name, p.kind, p.default) for p in ours.values()] == [
        (p.name, p.kind, p.default) for p in theirs.values()
    ]


@pytest.mark.parametrize("name", NAMES)
def test_docstrings_are_complete_and_their_examples_pass(name):
    function = getattr(xpent.optax, name)
    for section in ("Parameters", "Returns", "Raises", "Notes", "Examples"):
        assert f"\n{section}\n{'-' * len(section)}\n" in inspect.getdoc(function)
    for test in doctest.DocTestFinder(recurse=False).find(function, name, globs={}):
        assert test.examples
        assert doctest.DocTestRunner().run(test).failed == 0


def calls():
    """Names, arguments and options of calls for which optax returns accurate losses."""
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(3, 4, 5)))
    shares = jnp.asarray(rng.dirichlet(np.ones(5), size=(3, 4)))
    indices, where = jnp.asarray(rng.integers(0, 5, size=(3, 4))), jnp.asarray(rng.random((3, 4, 5)) < 0.7)
    integers = "softmax_cross_entropy_with_integer_labels"
    for axis in (-1, 0, (1, 2), (0, 2), None):
        yield "softmax_cross_entropy", (logits, shares), {"axis": axis}
        yield "softmax_cross_entropy", (logits, shares), {"axis": axis, "where": where}
        yield "poly_loss_cross_entropy", (logits, shares), {"axis": axis, "epsilon": 0.5}
    yield "softmax_cross_entropy", (logits, shares[0]), {}
    yield "softmax_cross_entropy", (logits[0], shares), {}
    yield "safe_softmax_cross_entropy", (logits, shares), {}
    yield integers, (logits, indices), {}
    yield integers, (logits, indices[:, 0]), {"axis": (1, 2)}
    yield integers, (logits, indices[0, 0]), {"axis": (0, 1, 2)}
    yield integers, (logits, jnp.argmax(where, -1)), {"where": where}
    yield "ranking_softmax_loss", (logits, shares), {}
    yield "ranking_softmax_loss", (logits, shares), {"where": where, "weights": shares + 1}


@pytest.mark.parametrize(("name", "arrays", "options"), [*calls()])
def test_losses_and_gradients_are_those_of_optax(name, arrays, options):
    ours, theirs = [
        jax.value_and_grad(lambda x, f=f: jnp.sum(f(x, *arrays[1:], **options)))(arrays[0])
        for f in (getattr(xpent.optax, name), getattr(optax.losses, name))
    ]
    value, expected = [getattr(module, name)(*arrays, **options) for module in (xpent.optax, optax.losses)]
    assert (value.shape, value.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(value, expected, rtol=64 * U)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=256 * U)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=256 * U, atol=256 * U)


SOFT = {"indices": "takes distributions", "integer distributions": "takes distributions of floats"}
AS_IN_OPTAX = {
    "one-label-for-all-rows": "labels are broadcast, as in optax",
    "where-broadcast": "where has the shape of the logits or of the losses, as in optax",
}


@pytest.mark.parametrize(
    ("name", "lacks", "expected_failures"),
    [
        ("softmax_cross_entropy", SOFT, {}),
        ("safe_softmax_cross_entropy", SOFT, {}),
        ("softmax_cross_entropy_with_integer_labels", {"distributions": "takes labels"}, AS_IN_OPTAX),
    ],
)
def test_dropin_passes_the_conformance_suite(name, lacks, expected_failures):
    report = conformance.check(
        getattr(xpent.optax, name), library="jax", computes="cross_entropy", signature="optax", dtypes=["float32"],
        lacks=lacks, expected_failures=expected_failures,
    )  # fmt: skip
    assert sum(outcome.status == "pass" for outcome in report.outcomes) > 10
    assert [(outcome.case, outcome.message) for outcome in report.surprises] == []


DTYPES = [("float64", 2.0**-53), ("float32", 2.0**-24), ("float16", 2.0**-11), ("bfloat16", 2.0**-8)]


def random_call(rng, name, dtype):
    """Logits, labels and options without confident rows, so that optax is accurate in float64."""
    axis = (-1, 0, (0, 2), (2, 1), None)[rng.integers(5)]
    logits, where = rng.normal(size=(2, 3, 4)), rng.random((2, 3, 4)) < 0.7
    where[0, 0, :2] = where[:, 0, 0] = True
    labels, options = rng.random((2, 3, 4)), {}
    if name == "poly_loss_cross_entropy":
        options["epsilon"] = float(rng.choice([0.0, 0.5, 2.0]))
    if name == "softmax_cross_entropy_with_integer_labels":
        axes = (axis,) if isinstance(axis, int) else (0, 1, 2) if axis is None else axis
        axis = axes if axis is None else axis
        batch = [n for i, n in enumerate((2, 3, 4)) if i not in [a % 3 for a in axes]]
        labels = jnp.asarray(rng.integers(math.prod([(2, 3, 4)[a] for a in axes]), size=batch))
        where = None  # a label may be masked
    else:
        labels = jnp.asarray(labels, dtype=dtype)
    if name not in ("safe_softmax_cross_entropy", "ranking_softmax_loss"):
        options["axis"] = axis
    if name == "ranking_softmax_loss" and rng.random() < 0.5:
        options["weights"] = jnp.asarray(rng.random((2, 3, 4)), dtype=dtype)
    if name in ("softmax_cross_entropy", "ranking_softmax_loss") and rng.random() < 0.5:
        options["where"] = jnp.asarray(where)
    return jnp.asarray(logits, dtype=dtype), labels, options


@pytest.mark.parametrize("name", [name for name in NAMES if name != "smooth_labels"])
@pytest.mark.parametrize(("dtype", "u"), DTYPES, ids=[name for name, _ in DTYPES])
def test_losses_and_gradients_of_random_options_agree_with_optax(name, dtype, u):
    rng, worst = np.random.default_rng(0), 0.0
    for _ in range(4):
        call = random_call(rng, name, dtype)
        found = loss_and_gradient(getattr(xpent.optax, name), *call)
        expected = loss_and_gradient(getattr(optax.losses, name), *jax.tree.map(in_float64, call))
        assert found[0].dtype == dtype
        for one, other in zip(found, expected, strict=True):
            assert one.shape == other.shape
            error = np.max(np.abs(in_float64(one) - other))
            worst = max(worst, float(error / (u * np.max(np.abs(other)))))
    assert worst < 16


def loss_and_gradient(function, logits, labels, options):
    value, pullback = jax.vjp(lambda x: function(x, labels, **options), logits)
    return value, *pullback(jnp.linspace(0.5, 1.0, value.size, dtype=value.dtype).reshape(value.shape))


def in_float64(x):
    is_array = isinstance(x, jax.Array) and jnp.isdtype(x.dtype, "real floating")
    return jnp.asarray(x, dtype="float64") if is_array else x


def test_smoothed_labels_are_those_of_optax():
    labels = jnp.eye(3)
    np.testing.assert_array_equal(xpent.optax.smooth_labels(labels, 0.3), optax.losses.smooth_labels(labels, 0.3))


@pytest.mark.parametrize("jit", [False, True])
def test_confident_and_masked_rows_have_exact_losses_where_optax_returns_0_or_nan(jit):
    compiled = jax.jit if jit else lambda function: function
    soft = compiled(xpent.optax.softmax_cross_entropy)
    logits, one_hot = jnp.asarray([[50.0, 0.0], [0.0, -math.inf]]), jnp.asarray([[1.0, 0.0], [1.0, 0.0]])
    assert np.isnan(optax.losses.softmax_cross_entropy(logits, one_hot)[1])
    np.testing.assert_allclose(soft(logits, one_hot), [math.exp(-50.0), 0.0], rtol=200 * U)
    integers = compiled(xpent.optax.softmax_cross_entropy_with_integer_labels)
    np.testing.assert_allclose(integers(logits, jnp.asarray([0, 0])), [math.exp(-50.0), 0.0], rtol=200 * U)
    np.testing.assert_allclose(integers(jnp.full((1, 2), 1e16), jnp.asarray([0])), [math.log(2)], rtol=4 * U)


def test_labels_out_of_range_raise_an_error_and_are_nan_under_jit():
    function = xpent.optax.softmax_cross_entropy_with_integer_labels
    for label in (-1, 2):
        labels = jnp.asarray([label, 0])
        with pytest.raises(ValueError, match=str(label)):
            function(jnp.zeros((2, 2)), labels)
        np.testing.assert_allclose(jax.jit(function)(jnp.zeros((2, 2)), labels), [math.nan, math.log(2)], rtol=4 * U)
