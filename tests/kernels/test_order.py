"""Order statistics by counting against sorting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from specxr.kernels.compiled.order import fill_quantiles

NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    flux=arrays(np.float32, st.integers(1, 40), elements=NUMBERS),
    quantile=st.sampled_from([0.0, 0.3, 0.5, 0.97, 1.0]),
    data=st.data(),
)
def test_quantiles_are_those_of_sorted_numbers(flux, quantile, data):
    good = data.draw(arrays(np.bool_, flux.shape))
    out = np.empty(1)
    fill_quantiles(flux[None], good[None], quantile, out)
    if not good.any():
        assert np.isnan(out[0])
        return
    values = np.sort(flux[good]).astype("f8")
    position = quantile * (len(values) - 1)
    expected = np.interp(position, np.arange(len(values)), values)
    assert out[0] == pytest.approx(expected, rel=1e-12, abs=1e-12 * np.abs(values).max())


def test_each_star_is_for_itself():
    flux = np.array([[3, 1, 2, 9], [-1, -2, -3, 9], [5, 5, 5, 5]], "f4")
    out = np.empty(3)
    fill_quantiles(flux, np.array([[1, 1, 1, 0]] * 3, bool), 0.5, out)
    np.testing.assert_array_equal(out, [2, -2, 5])
