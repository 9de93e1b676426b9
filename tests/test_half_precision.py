"""Conversion to float16 by integer arithmetic in the NumPy backend gives the same bits as ``astype``."""

import numpy as np
import pytest

from xpent._backends.numpy import NUMPY, _to_half

pytestmark = pytest.mark.library("numpy")
HALF = np.arange(2**16, dtype=np.uint16).view(np.float16)
FINITE = np.sort(HALF[np.isfinite(HALF)].astype(np.float32))
MIDPOINTS = ((FINITE[:-1].astype(np.float64) + FINITE[1:]) / 2).astype(np.float32)  # exact
LARGEST = np.float32(65504)
OVERFLOW = np.nextafter(LARGEST + np.float32(16), np.float32([0, np.inf]), dtype=np.float32)
VALUES = {
    "every float16": HALF.astype(np.float32),
    "midpoints": MIDPOINTS,
    "just below midpoints": np.nextafter(MIDPOINTS, np.float32(-np.inf)),
    "just above midpoints": np.nextafter(MIDPOINTS, np.float32(np.inf)),
    "just below every float16": np.nextafter(FINITE, np.float32(-np.inf)),
    "just above every float16": np.nextafter(FINITE, np.float32(np.inf)),
    "around the largest": np.asarray([LARGEST, LARGEST + 16, *OVERFLOW, 65536, 1e6, 3e38, np.inf], np.float32),
    "subnormal in float32": np.asarray([0, 1e-45, 1e-40, 1.2e-38, 2.0**-25, 2.0**-26], np.float32),
    "all subnormal in float16": np.linspace(0, 2.0**-14, 1001, endpoint=False, dtype=np.float32),
    "no entry": np.empty((0, 3), np.float32),
}


def assert_same_bits(convert, x):
    """Assert that bits are equal, but only the sign of NaN, because its payload is not preserved."""
    with NUMPY.errstate():
        found, expected = convert(x), x.astype(np.float16)
    assert found.dtype == np.float16
    assert found.shape == x.shape
    is_nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), is_nan)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))
    np.testing.assert_array_equal(found[~is_nan].view(np.uint16), expected[~is_nan].view(np.uint16))


@pytest.mark.parametrize("name", VALUES)
def test_bits_are_those_of_astype(name):
    x = VALUES[name]
    assert_same_bits(_to_half, x)
    assert_same_bits(_to_half, -x)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.5, 6e-8, 65520.0, -np.inf, np.nan])
def test_zero_dimensional_arrays_are_converted(value):
    x = np.asarray(value, np.float32)
    assert_same_bits(_to_half, x)
    if np.isnan(value):
        assert _to_half(x).view(np.uint16) == x.astype(np.float16).view(np.uint16)


def test_casts_of_the_backend_do_not_depend_on_the_layout():
    x = VALUES["midpoints"][:60000].reshape(200, 300)
    for view in (x.T, x[::-2, ::3], np.broadcast_to(x[0], (4, 300))):
        assert_same_bits(lambda x: NUMPY.cast(x, np.dtype(np.float16)), view)
