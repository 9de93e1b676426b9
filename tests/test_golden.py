"""The golden values of the articles this project started from."""

import numpy as np
import pytest

import xpent

LOGITS = [[[1.0, 3, 5, 7], [1, -9, 4, 8]]]
LABELS = [[3, 1]]
LOSSES = [[0.14507794, 17.01904505]]
GRADIENT = [
    [
        [2.14400878e-03, 1.58422012e-02, 1.17058913e-01, -1.35045123e-01],
        [8.94679461e-04, -9.99999959e-01, 1.79701173e-02, 9.81135163e-01],
    ]
]


def assert_close(xp, actual, expected, *, atol=1e-8):
    """Golden values carry nine digits at best, so that much is asked beside a few units of the dtype."""
    np.testing.assert_allclose(xp.to_numpy(actual), expected, rtol=1e-8 + 8 * xp.u, atol=atol)


def test_softmax_of_one_two_three(xp):
    assert_close(xp, xp.call(xpent.softmax, xp.asarray([1.0, 2, 3])), [0.09003057, 0.24472847, 0.66524096])


def test_softmax_of_thousands_is_one_hot(xp):
    y = xp.call(xpent.softmax, xp.asarray([1000.0, 2000, 3000]))
    assert xp.to_numpy(y).tolist() == [0, 0, 1]
