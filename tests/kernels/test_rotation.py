"""Rotation: Gray's profile, integrated over pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from specxr.kernels.broadening import rotate, rotation_kernel

C = 299792.458
LN_STEP = 14.0 / C


def gray(x: float, epsilon: float) -> float:
    """Gray (2005), eq. 18.14, for shifts in units of the largest."""
    disc = 2 * (1 - epsilon) * np.sqrt(1 - x**2) + 0.5 * np.pi * epsilon * (1 - x**2)
    return disc / (np.pi * (1 - epsilon / 3))


@settings(max_examples=15)
@given(vsini=st.floats(1.0, 400.0), epsilon=st.floats(0.0, 1.0))
def test_taps_are_the_profile_integrated_over_pixels(vsini, epsilon):
    kernel = rotation_kernel(torch.tensor([vsini]).double(), LN_STEP, 32, epsilon)[0].numpy()
    largest = np.log1p(vsini / C) / LN_STEP
    for offset in (0, 1, 5, 12, 27):
        edges = np.clip(np.array([offset - 0.5, offset + 0.5]) / largest, -1, 1)
        expected = quad(gray, *edges, args=(epsilon,), epsabs=1e-12)[0]
        assert kernel[32 + offset] == pytest.approx(expected, abs=1e-7)
        assert kernel[32 - offset] == pytest.approx(expected, abs=1e-7)


@settings(max_examples=25)
@given(vsini=st.lists(st.floats(0.0, 400.0), min_size=1, max_size=5), epsilon=st.floats(0.0, 1.0))
def test_light_is_conserved_and_the_variance_is_the_profiles(vsini, epsilon):
    v = torch.tensor(vsini, dtype=torch.float64)
    kernel = rotation_kernel(v, LN_STEP, 32, epsilon)
    np.testing.assert_allclose(kernel.sum(-1), 1.0, rtol=1e-12)
    offset = torch.arange(-32.0, 33.0, dtype=torch.float64)
    largest = np.log1p(np.array(vsini) / C) / LN_STEP
    expected = largest**2 * ((1 - epsilon) / 4 + 2 * epsilon / 15) / (1 - epsilon / 3)
    wide = largest > 8  # a narrow profile is of the size of the pixels, and its taps' variance is not its own
    found = ((kernel * offset**2).sum(-1)).numpy() - 1 / 12  # a pixel's own width
    np.testing.assert_allclose(found[wide], expected[wide], rtol=0.02)


def test_no_rotation_changes_nothing():
    flux = torch.rand(3, 200, dtype=torch.float64)
    assert torch.equal(rotate(flux, torch.zeros(3, dtype=torch.float64), LN_STEP, 20), flux)


def test_a_star_does_not_depend_on_its_neighbours():
    flux = torch.rand(4, 300, dtype=torch.float64)
    vsini = torch.tensor([3.0, 400.0, 90.0, 0.0], dtype=torch.float64)
    whole = rotate(flux, vsini, LN_STEP, 32)
    for star in range(4):
        assert torch.equal(rotate(flux[[star]], vsini[[star]], LN_STEP, 32)[0], whole[star])


def test_faster_stars_than_the_kernel_holds_are_refused():
    with pytest.raises(ValueError, match="the kernel reaches 10"):
        rotation_kernel(torch.tensor([300.0]), LN_STEP, 10)
