"""One rule says which pixels count, and the mask bits of what is wrong agree with it."""

import dask.array as da
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from specxr.spectra.pixels import faults, usable
from specxr.vocabulary import MASK_DTYPE, UNUSABLE, MaskBit

VALUES = st.sampled_from([-1.0, 0.0, 1.0, np.nan, np.inf, -np.inf])
SPECTRA = arrays("f8", (3, 7), elements=VALUES)


@given(SPECTRA, SPECTRA)
def test_a_pixel_is_usable_where_nothing_is_wrong(flux, ivar):
    bits = faults(flux, ivar)
    assert bits.dtype == MASK_DTYPE
    mask = np.zeros_like(bits)
    np.testing.assert_array_equal(usable(flux, ivar, mask, UNUSABLE, weighted=False), bits == 0)
    np.testing.assert_array_equal(usable(flux, ivar, mask, UNUSABLE), (bits == 0) & ~np.isnan(ivar))
    np.testing.assert_array_equal((bits & MaskBit.BAD_FLUX) > 0, ~np.isfinite(flux))
    np.testing.assert_array_equal(
        (bits & MaskBit.NO_IVAR) > 0, ~((ivar > 0) & np.isfinite(ivar)) & ~np.isnan(ivar)
    )


def test_faults_of_a_lazy_array_stay_lazy(forbid_compute):
    bits = faults(da.ones((4, 5), chunks=2), da.zeros((4, 5), chunks=2))
    assert isinstance(bits, da.Array)
    assert bits.dtype == MASK_DTYPE


def test_only_the_bits_that_are_named_leave_a_pixel_out():
    mask = np.array(
        [[0, int(MaskBit.BAD_ONCE), int(MaskBit.MISSING), int(MaskBit.MISSING | MaskBit.BAD_ONCE)]], "u2"
    )
    one = np.ones((1, 4))
    assert usable(one, one, mask, MaskBit.MISSING).tolist() == [[True, True, False, False]]
    assert usable(one, one, mask, MaskBit.BAD_ONCE).tolist() == [[True, False, True, False]]
