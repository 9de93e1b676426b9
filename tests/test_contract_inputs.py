"""Memory layouts of the inputs, no modification of inputs, and repeatability."""

import numpy as np
import pytest
from exactness import assert_within, differentiate, spread

import xpent
from xpent.conformance import oracle

pytestmark = pytest.mark.unoptimized
RNG = np.random.default_rng(7)
X, LABELS = RNG.integers(-8, 8, size=(6, 5)).astype(float), RNG.integers(5, size=6)
Q = RNG.dirichlet(np.ones(5), size=6)
FUNCTIONS = (xpent.softmax, xpent.log_softmax, xpent.logsumexp)
LAYOUTS = ["contiguous", "fortran", "every other", "backwards", "stride zero"]


def lay_out(xp, values, layout):
    """The same (N, C) numbers in another layout if the library supports it; stride zero repeats the first row."""
    x, flip = xp.asarray(values), xp.module.flip
    if layout == "fortran":
        return xp.asarray(np.ascontiguousarray(values.T)).T
    if layout == "every other":
        return xp.asarray(np.repeat(np.repeat(values, 2, axis=0), 2, axis=-1))[::2, ::2]
    if layout == "backwards" and xp.name != "torch":
        return flip(xp.asarray(values[:, ::-1].copy()), axis=1)
    return xp.module.broadcast_to(x[:1, :], x.shape) if layout == "stride zero" else x


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_results_and_is_not_modified(xp, layout):
    x, q, labels = lay_out(xp, X, layout), lay_out(xp, Q, layout), xp.asarray(LABELS)
    before = xp.to_numpy(x).copy(), xp.to_numpy(q).copy()
    for function, exact in zip(FUNCTIONS, (oracle.softmax, oracle.log_softmax), strict=False):
        assert_within(xp, xp.call(function, x), exact(before[0]), 4 + spread(before[0]))
    for targets, theirs in ((labels, LABELS), (q, before[1])):
        exact = oracle.CrossEntropy(before[0], theirs)
        loss, (gradient, *_) = differentiate(xp, xpent.cross_entropy, x, targets)
        assert_within(xp, loss, exact.loss, np.max(4 + 2 * spread(before[0])))
        assert_within(xp, gradient, exact.gradient, 4 + 2 * spread(before[0]), exact.gradient_scale)
    np.testing.assert_array_equal(xp.to_numpy(x), before[0])
    np.testing.assert_array_equal(xp.to_numpy(q), before[1])


def test_arguments_are_not_modified(xp):
    rows = np.asarray([True, False, True, True, True])
    arrays = {"x": xp.asarray(X), "t": xp.asarray(LABELS)}
    options = {"class_weight": xp.asarray(Q[0]), "sample_weight": xp.asarray(X[:, 0] ** 2), "where": xp.asarray(rows)}
    before = {name: xp.to_numpy(array).copy() for name, array in {**arrays, **options}.items()}
    xp.call(
        lambda x, t, **options: xpent.jvp(xpent.value_and_grad(xpent.cross_entropy), (x, t), (x, None), **options),
        *arrays.values(),
        **options,
    )
    for name, array in {**arrays, **options}.items():
        np.testing.assert_array_equal(xp.to_numpy(array), before[name])


@pytest.fixture(params=["float64", "float32", "float16"])
def big(request):
    """Logits and distributions with rows that are long enough for pairwise and vectorized sums."""
    rng = np.random.default_rng(3)
    x, q = rng.normal(scale=3, size=(12, 1003)), rng.dirichlet(np.ones(1003), size=12)
    return x.astype(request.param), q.astype(request.param)


def by_row(x, targets, axis=-1, **options):
    """All results with one row per row of NumPy logits."""
    yield from (function(x, axis=axis) for function in FUNCTIONS)
    options |= {"axis": axis, "reduction": "none", "label_smoothing": 0.1, "z_loss": 0.01}
    losses, pullback = xpent.vjp(xpent.cross_entropy, x, targets, **options)
    yield from (losses, *pullback(np.ones_like(losses)))


@pytest.mark.parametrize("part", [slice(0, 1), slice(3, 4), slice(1, None, 2), slice(5, 12)], ids=str)
def test_bits_of_a_row_do_not_depend_on_the_other_rows(big, part):
    x, q = big
    for targets in (np.arange(12) * 80, q):
        for of_all, of_part in zip(by_row(x, targets), by_row(x[part], targets[part]), strict=True):
            np.testing.assert_array_equal(of_part, of_all[part])


def test_bits_of_a_row_do_not_depend_on_the_layout(big):
    x, q = big
    expected = list(by_row(x, q))
    for lay_out in (np.asfortranarray, lambda a: np.repeat(a, 2, axis=1)[:, ::2]):
        for answer, same in zip(by_row(lay_out(x), lay_out(q)), expected, strict=True):
            np.testing.assert_array_equal(answer, same)
    for lay_out in (np.asarray, np.ascontiguousarray):
        for answer, same in zip(by_row(lay_out(x.T), lay_out(q.T), axis=0), expected, strict=True):
            np.testing.assert_array_equal(answer.T, same)


@pytest.mark.parametrize("function", [xpent.cross_entropy, xpent.grad(xpent.cross_entropy)], ids=["value", "gradient"])
def test_data_are_checked_in_every_call_with_the_same_shapes(xp, function):
    is_ignored = np.arange(6) == 2
    x, labels, ignored = map(xp.asarray, (X, LABELS, np.where(is_ignored, -1, LABELS)))
    options = {"reduction": "sum", "ignore_index": -1}
    xp.call(function, x, labels, **options)
    found = xp.call(function, x, ignored, **options)
    expected = xp.call(function, x, labels, reduction="sum", sample_weight=xp.asarray(1.0 - is_ignored))
    np.testing.assert_array_equal(xp.to_numpy(found), xp.to_numpy(expected))
    if not xp.is_traced:
        with pytest.raises(ValueError, match="out of range"):
            function(x, xp.asarray(LABELS + 5), **options)


def test_option_types_are_checked_in_every_call_with_the_same_shapes(xp):
    x, labels = xp.asarray(X), xp.asarray(LABELS)
    xpent.cross_entropy(x, labels, label_smoothing=1.0)
    with pytest.raises(TypeError, match="label_smoothing must be a number"):
        xpent.cross_entropy(x, labels, label_smoothing=True)
