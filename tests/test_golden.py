"""Known values from published examples."""

import numpy as np
import pytest
from exactness import differentiate

import xpent

pytestmark = pytest.mark.rounding
LOGITS = [[[1.0, 3, 5, 7], [1, -9, 4, 8]]]  # batch, time, class
LABELS = [[3, 1]]
ONE_HOT = [[[0, 0, 0, 1], [0, 1, 0, 0]]]
TARGETS = {
    "indices": np.asarray(LABELS),
    "integer one-hot": np.asarray(ONE_HOT),
    "one-hot": np.asarray(ONE_HOT, dtype=float),
}
LOSSES = [[0.14507794, 17.01904505]]
GRADIENT = [
    [
        [2.14400878e-03, 1.58422012e-02, 1.17058913e-01, -1.35045123e-01],
        [8.94679461e-04, -9.99999959e-01, 1.79701173e-02, 9.81135163e-01],
    ]
]


DECIMALS = 0.5e-8  # half a unit of the last of eight decimals
DIGITS = 0.5e-8 * 10.0 ** np.floor(np.log10(np.abs(GRADIENT)))  # half a unit of the last of nine digits


def assert_close(xp, actual, expected, given, u):
    """Compare with known values, which are rounded; a few units of the dtype are also allowed."""
    error = np.abs(xp.to_numpy(actual) - expected)
    assert np.all(error <= given + (4 + 2 * 17) * u * np.abs(expected)), xp.to_numpy(actual)


def test_softmax_of_one_two_three(xp):
    y = xp.call(xpent.softmax, xp.asarray([1.0, 2, 3]))
    assert_close(xp, y, [0.09003057, 0.24472847, 0.66524096], DECIMALS, xp.u)


def test_softmax_of_thousands_is_one_hot(xp):
    y = xp.call(xpent.softmax, xp.asarray([1000.0, 2000, 3000]))
    assert xp.to_numpy(y).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "targets", [np.asarray(LABELS), np.asarray(ONE_HOT), np.asarray(ONE_HOT, dtype=float)], ids=TARGETS
)
def test_losses_and_gradient_of_their_sum(xp, targets):
    x, t = xp.asarray(LOGITS), xp.asarray(targets)
    losses, (from_losses, *_) = differentiate(xp, xpent.cross_entropy, x, t, reduction="none")
    assert_close(xp, losses, LOSSES, DECIMALS, xp.u_computed)
    assert_close(xp, from_losses, GRADIENT, DIGITS, xp.u)
    total, (from_sum, *_) = differentiate(xp, xpent.cross_entropy, x, t, reduction="sum")
    assert_close(xp, total, np.sum(LOSSES), 2 * DECIMALS, xp.u_computed)
    assert_close(xp, from_sum, GRADIENT, DIGITS, xp.u)
    assert_close(xp, xp.call(xpent.grad(xpent.cross_entropy), x, t, reduction="sum"), GRADIENT, DIGITS, xp.u)
    assert_close(xp, xp.call(xpent.grad(xpent.cross_entropy), x, t), np.divide(GRADIENT, 2), DIGITS, xp.u)


def test_cross_entropy_of_log_probabilities_is_that_of_the_probabilities(xp):
    log_p = np.log(np.exp(LOGITS) / np.sum(np.exp(LOGITS), axis=-1, keepdims=True))
    targets = xp.asarray(np.asarray(ONE_HOT))
    losses, (gradient,) = differentiate(xp, xpent.cross_entropy, xp.asarray(log_p), targets, reduction="none")
    rounding = 2 * xp.u * np.max(np.abs(log_p))  # of the logarithms to the dtype
    assert_close(xp, losses, LOSSES, DECIMALS + rounding, xp.u_computed)
    assert_close(xp, gradient, GRADIENT, DIGITS + rounding, xp.u)


def test_jacobian_is_p_times_one_minus_p_on_the_diagonal_and_minus_p_times_p_off_it(xp):
    p = [0.09003057, 0.24472847, 0.66524096]
    expected = [[p[i] * (1 - p[i]) if i == j else -p[i] * p[j] for j in range(3)] for i in range(3)]
    assert_close(xp, xp.call(xpent.softmax_jacobian, xp.asarray([1.0, 2, 3])), expected, DECIMALS, xp.u)


def test_confident_row_is_accurate(xp):
    x, t = xp.asarray([100.0, 80, 0]), xp.asarray(0)
    u, digits = (4 + 100) / (4 + 2 * 17) * xp.u_computed, 0.5e-16
    loss, (gradient,) = differentiate(xp, xpent.cross_entropy, x, t)
    assert_close(xp, loss, 2.0611536e-9, digits, u)
    if xp.dtype_name == "float16":  # it cannot represent such small numbers
        return
    assert_close(xp, gradient[:2], [-2.0611536e-9, 2.0611536e-9], digits, max(u, xp.u))
    tail = xp.to_numpy(gradient)[2]
    assert tail == 0 or np.isclose(tail, 3.8e-44, rtol=0.05)
