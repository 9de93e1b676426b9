"""`xpent.scipy` compared with `scipy.special` and exact values, and derivatives of weighted sums."""

import doctest
import importlib
import inspect
import warnings

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpent.scipy
from xpent import conformance
from xpent._weighted import weighted_logsumexp

pytestmark = pytest.mark.unoptimized
INF, NAN = np.inf, np.nan
X = np.asarray([[1.0, -2.0, 0.5], [3.0, 1.0, -1.0]])
B = np.asarray([[1.0, -0.5, 0.25], [-2.0, 0.0, 1.0]])
NAMES = ("softmax", "log_softmax", "logsumexp")
EDGES = [
    ([-INF, -INF], None), ([INF, 0], None), ([NAN, 0], None), ([INF, INF], [1, -1]), ([NAN, 0], [0, 1]),
    ([INF, 0], [0, 1]), ([INF, 0], [-1, 1]), ([1, 2], [0, 0]), ([1, 1], [1, -1]), ([1, 2], [1, -1]), ([1, 2], [NAN, 1]),
    ([1, 2], [INF, 1]), ([-INF, 1], [INF, 1]), ([-INF, 0], [-1, 1]), ([0, 0, 0], [1, 2, -3]), ([0.3] * 3, [1, -2, 1]),
    ([0.0, 0], [INF, -INF]), (3, None), (3.0, -2), ([1 + 1j, 2 + 3j], None), ([1 + 9j], None), ([-INF + 1j], None),
    ([1.0, 2], [1j, -1]), ([1j, 2.0], [0, 0]), ([1 + 4j], [-1]), ([1 + np.pi * 1j], None), ([NAN + 1j, 0], None),
    ([1 + 2j, NAN], [1, 0]),
]  # fmt: skip


def original(name):
    return getattr(importlib.import_module("scipy.special"), name)


def without_warnings(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments, **options)


def exact(x, b):
    """The sum of b exp(x), and the sum of the absolute values of its terms."""
    with mpmath.workdps(60):
        terms = [mpmath.mpf(float(w)) * mpmath.exp(mpmath.mpf(float(v))) for v, w in zip(x, b, strict=True)]
        return sum(terms), sum([abs(term) for term in terms])


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_those_of_scipy(name):
    theirs = inspect.signature(original(name))
    ours = inspect.signature(getattr(xpent.scipy, name))
    plain = [[(p.name, p.kind, p.default) for p in signature.parameters.values()] for signature in (ours, theirs)]
    assert plain[0] == plain[1]


@pytest.mark.parametrize(("a", "b"), EDGES, ids=str)
def test_edge_cases_of_logsumexp_are_those_of_scipy(a, b):
    for keepdims in (False, True):
        theirs = without_warnings(original("logsumexp"), a, b=b, keepdims=keepdims, return_sign=True)
        ours = xpent.scipy.logsumexp(a, b=b, keepdims=keepdims, return_sign=True)
        pairs = [*zip(ours, theirs, strict=True)]
        pairs.append((xpent.scipy.logsumexp(a, b=b), without_warnings(original("logsumexp"), a, b=b)))
        for one, other in pairs:
            assert type(one) is type(other)
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1), (1, 0), (), np.int64(1)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble", "int32", "complex64", "complex128"])
def test_axes_and_dtypes_are_those_of_scipy(axis, dtype):
    x, tolerance = X.astype(dtype), 1e-6 if dtype in ("float32", "complex64") else 1e-14
    if dtype.startswith("complex"):
        x = x * (1 + 0.25j)
    calls = [(name, {}) for name in NAMES]
    calls += [("logsumexp", {"b": b, "keepdims": k}) for b in (None, 2.0, [0.5, 1, 3]) for k in (False, True)]
    for name, options in calls:
        theirs = original(name)(x, axis=axis, **options)
        ours = getattr(xpent.scipy, name)(x, axis=axis, **options)
        assert type(ours) is type(theirs)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_scalars_lists_and_empty_arrays_are_those_of_scipy(name):
    ours, theirs = getattr(xpent.scipy, name), original(name)
    for x, axis in ((1.5, None), (2, 0), (np.float32(1.0), -1), ([1, 2], 0), (np.ones((0, 2)), 1), (-INF, None)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = theirs(x, axis=axis)
        found = ours(x, axis=axis)
        assert type(found) is type(expected)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_result_is_exact_where_scipy_is_inaccurate():
    np.testing.assert_allclose(xpent.scipy.log_softmax([0.0, -50.0])[0], -np.exp(-50.0), rtol=1e-15)
    np.testing.assert_allclose(
        xpent.scipy.softmax(np.asarray([1, 3], np.uint8)), [1 / (1 + np.e**2), 1 / (1 + np.e**-2)]
    )
    assert xpent.scipy.logsumexp([], return_sign=True) == (-INF, 0.0)
    assert xpent.scipy.logsumexp([1000, 0], b=[0, 0], return_sign=True) == (-INF, 0.0)
    assert xpent.scipy.softmax([]).shape == (0,)


def test_invalid_input_raises_clear_errors():
    for name in NAMES:
        function = getattr(xpent.scipy, name)
        for axis, error in ((2, ValueError), ((0, 0), ValueError), ([0], TypeError), (0.5, TypeError)):
            with pytest.raises(error, match="axis"):
                function(X, axis=axis)
        with pytest.raises(TypeError, match="None"):
            function(None)
        with pytest.raises(TypeError, match="masked"):
            function(np.ma.masked_array([1.0]))
        with pytest.raises(TypeError, match="numbers"):
            function(np.asarray(["a"]))
    with pytest.raises(ValueError, match="broadcast"):
        xpent.scipy.logsumexp([1.0, 2.0], b=[1.0, 2.0, 3.0])


def test_integers_with_integer_weights_are_floating_point():
    found = xpent.scipy.logsumexp(np.asarray([1, 2]), b=np.asarray([1, 2]))
    assert found.dtype == np.float64
    assert found == pytest.approx(original("logsumexp")([1, 2], b=[1, 2]), rel=1e-15)


numbers = st.integers(-40, 40).map(lambda n: n / 4)


@given(st.data())
def test_random_options_of_logsumexp_are_exact(data):
    rows, columns = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 5)))
    x = np.asarray(data.draw(st.lists(numbers, min_size=rows * columns, max_size=rows * columns)))
    x = x.reshape(rows, columns) + data.draw(st.sampled_from([0.0, 1000.0, -1000.0]))
    b = np.asarray(data.draw(st.lists(numbers, min_size=columns, max_size=columns)))
    axis, keepdims = data.draw(st.sampled_from([1, -1, (1,)])), data.draw(st.booleans())
    found, sign = xpent.scipy.logsumexp(x, axis=axis, b=b, keepdims=keepdims, return_sign=True)
    theirs = without_warnings(original("logsumexp"), x, axis=axis, b=b, keepdims=keepdims, return_sign=True)[0]
    assert found.shape == sign.shape == theirs.shape
    for row, value, its_sign in zip(x, found.ravel(), sign.ravel(), strict=True):
        total, size = exact(row, b)
        if size == 0:
            assert (value, its_sign) == (-INF, 0)
            continue
        if abs(total) < 1e-10 * size:  # cancellation: only rounding errors of the terms may remain
            assert np.exp(value - float(mpmath.log(size))) < 1e-10
            continue
        logarithm = mpmath.log(abs(total))
        allowed = 2.0**-53 * (60 * float(size / abs(total)) + abs(float(logarithm)))
        assert abs(float(logarithm - mpmath.mpf(float(value)))) <= allowed
        assert its_sign == mpmath.sign(total)


@pytest.mark.rounding
def test_weighted_sums_are_exact_on_every_library(xp):
    x, b = xp.asarray(X), xp.asarray(B)
    value, sign = xp.call(xpent.scipy.logsumexp, x, axis=1, b=b, return_sign=True) if not xp.is_traced else jitted(x, b)
    totals = [exact(*row) for row in zip(xp.to_numpy(x), xp.to_numpy(b), strict=True)]
    expected = [float(mpmath.log(abs(total))) for total, _ in totals]
    np.testing.assert_allclose(xp.to_numpy(value), expected, rtol=8 * xp.u, atol=32 * xp.u_computed)
    np.testing.assert_array_equal(xp.to_numpy(sign), [1, -1])
    assert xp.dtype_of(value) == xp.dtype_of(sign) == xp.dtype_name


def jitted(x, b):
    jax = pytest.importorskip("jax")
    return jax.jit(lambda x, b: xpent.scipy.logsumexp(x, axis=1, b=b, return_sign=True))(x, b)


@pytest.mark.only_for(lambda xp: not xp.is_traced and xp.dtype_name in ("float32", "float64"))
def test_result_is_an_array_of_the_library(xp):
    for name in NAMES:
        found = getattr(xpent.scipy, name)(xp.asarray(X), axis=(0, 1))
        expected = getattr(xpent.scipy, name)(X)
        assert xp.dtype_of(found) == xp.dtype_name
        np.testing.assert_allclose(xp.to_numpy(found), expected, rtol=16 * xp.u)
        masked = getattr(xpent.scipy, name)(xp.asarray(np.asarray([-INF, -INF])))
        assert np.all(np.isneginf(xp.to_numpy(masked)) if name == "logsumexp" else np.isnan(xp.to_numpy(masked)))


DERIVATIVES = [
    ([1.0, -2.0, 0.5], [1.0, 2.0, 0.25]),
    ([1.0, -2.0, 0.5], [1.0, -2.0, 0.25]),
    ([1.0, -2.0, 0.5], [1.0, 0.0, -0.5]),
    ([1.0, 1.0, 1.25], [-1.0, 2.0, -0.875]),
    ([1.0, 1.0, 1.25], [-1.0, 1.25, 0.0]),
]


def expected_gradients(x, b):
    x, b = np.asarray(x), np.asarray(b)
    total = np.sum(b * np.exp(x))
    return b * np.exp(x) / total, np.exp(x) / total


@pytest.mark.library("torch")
@pytest.mark.parametrize(("x", "b"), DERIVATIVES, ids=str)
def test_derivatives_in_torch_are_exact_for_all_weights(x, b):
    import torch

    arrays = [torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in (x, b)]

    def function(x, b):
        return weighted_logsumexp(x, b, axis=0, return_sign=True)[0]

    for found, expected in zip(torch.autograd.grad(function(*arrays), arrays), expected_gradients(x, b), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    forward = torch.func.jacfwd(function, (0, 1))(*arrays)
    for found, expected in zip(forward, expected_gradients(x, b), strict=True):
        np.testing.assert_allclose(found.detach(), expected, rtol=1e-12)
    assert torch.autograd.gradgradcheck(function, arrays)


@pytest.mark.library("torch")
def test_gradient_with_weight_zero_and_an_overflowing_exponential_is_finite_in_torch():
    import torch

    x, b = torch.tensor([1000.0, 0.0, INF], requires_grad=True), torch.tensor([0.0, 1.0, 0.0], requires_grad=True)
    value = xpent.scipy.logsumexp(x, b=b)
    of_x, of_b = torch.autograd.grad(value, (x, b))
    assert (value.item(), of_x.tolist(), of_b.tolist()[1:]) == (0.0, [0.0, 1.0, 0.0], [1.0, 0.0])
    assert of_b[0] > 1e38


@pytest.mark.library("torch")
def test_small_entries_of_the_gradient_are_accurate_in_torch():
    import torch

    x = torch.cat([torch.full((64, 1), 50.25), torch.randn(64, 300)], 1).requires_grad_()
    b = torch.cat([torch.tensor([1e-35]), torch.rand(300)])
    (of_x,) = torch.autograd.grad(xpent.scipy.logsumexp(x, axis=1, b=b).sum(), x)
    terms = b.double() * torch.exp(x.detach().double())
    # The rounding error of the sum of all probabilities, 1e-7, is much larger than the first probability.
    np.testing.assert_allclose(of_x[:, 0], terms[:, 0] / terms.sum(1), rtol=1e-5)


@pytest.mark.library("torch")
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5), st.sampled_from([0.0, 500.0]))
def test_derivatives_of_random_weighted_sums_in_torch_are_exact(pairs, offset):
    import torch

    x, b = [np.asarray(part) for part in zip(*pairs, strict=True)]
    total, size = exact(x, b)
    if abs(total) < 1e-3 * size or size == 0:
        return
    arrays = [torch.tensor(part, requires_grad=True) for part in (x + offset, b)]
    value, _ = xpent.scipy.logsumexp(arrays[0], b=arrays[1], return_sign=True)
    of_x, of_b = torch.autograd.grad(value, arrays)
    units = 2.0**-53 * (60 + np.ptp(x)) * float(size / abs(total))
    for j, (v, w) in enumerate(zip(x, b, strict=True)):
        with mpmath.workdps(60):
            term = mpmath.exp(mpmath.mpf(float(v))) / total
        assert float(of_x[j]) == pytest.approx(float(w * term), rel=units, abs=1e-300)
        assert float(of_b[j]) == pytest.approx(float(term), rel=units, abs=1e-300)


@pytest.mark.library("jax", "jax-jit")
def test_derivatives_in_jax_are_exact_for_all_weights():
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    x, b = [jnp.asarray(np.asarray(part)) for part in zip(*DERIVATIVES, strict=True)]

    def function(x, b):
        return weighted_logsumexp(x, b, axis=0, return_sign=True)[0]

    def theirs(x, b):
        return jax.scipy.special.logsumexp(x, axis=0, b=b, return_sign=True)[0]

    @jax.jit
    def both(x, b):
        return [jax.vmap(mode(f, (0, 1)))(x, b) for f in (function, theirs) for mode in (jax.jacfwd, jax.jacrev)]

    *ours, of_jax, _ = both(x, b)
    expected = [np.stack(part) for part in zip(*[expected_gradients(*pair) for pair in DERIVATIVES], strict=True)]
    for found in ours:
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)
    np.testing.assert_allclose(of_jax[0], expected[0], rtol=1e-12)
    is_zero = np.asarray(b) == 0
    np.testing.assert_allclose(of_jax[1], np.where(is_zero, 0.0, expected[1]), rtol=1e-12)  # JAX omits these terms


@pytest.mark.parametrize(
    "library",
    [pytest.param(name, marks=pytest.mark.library(name)) for name in ("numpy", "torch", "jax")],
)
@pytest.mark.parametrize("name", NAMES)
def test_dropin_passes_the_conformance_suite(name, library):
    function = getattr(xpent.scipy, name)

    def along_the_last_axis(x, *, axis=-1):
        return function(x, axis=axis)

    by_library = {"value_and_grad": None} if library == "numpy" else {}  # the others have automatic differentiation
    report = conformance.check(along_the_last_axis, library=library, computes=name, dtypes=["float32"], **by_library)
    assert sum(outcome.status == "pass" for outcome in report.outcomes) >= 7
    assert [(outcome.case, outcome.message) for outcome in report.surprises] == []


@pytest.mark.library("numpy")
@pytest.mark.parametrize("name", NAMES)
def test_docstrings_describe_every_parameter_and_their_examples_pass(name):
    function = getattr(xpent.scipy, name)
    text = inspect.getdoc(function)
    for section in ("Parameters", "Returns", "Raises", "Notes", "Examples"):
        assert f"\n{section}\n{'-' * len(section)}\n" in text
    for parameter in inspect.signature(function).parameters:
        assert f"\n{parameter} : " in text, parameter
    (test,) = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0
