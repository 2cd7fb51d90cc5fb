"""Gaussian broadening against scipy, closed forms and automatic differentiation."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import convolve1d

from specxr.kernels.broadening import convolve, gaussian_kernel

REACH = 45
means = st.floats(-12, 12)
widths = st.floats(0.3, 6)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


@given(mu=means, sigma=widths)
def test_kernel_is_normalised_and_has_the_moments_asked_for(mu, sigma):
    kernel, _ = gaussian_kernel(tensor(mu), tensor(sigma), REACH)
    x = torch.arange(kernel.shape[1], dtype=torch.float64) - kernel.shape[1] // 2
    assert kernel.sum().item() == pytest.approx(1, abs=1e-14)
    if sigma > 0.8:  # narrower ones are undersampled
        mean = (kernel[0] * x).sum().item()
        assert mean == pytest.approx(mu, abs=2e-3 * sigma)
        assert (kernel[0] * (x - mean) ** 2).sum().item() == pytest.approx(sigma**2, rel=1e-3)


@given(mu=means, sigma=widths)
def test_kernel_derivatives_are_those_of_automatic_differentiation(mu, sigma):
    at = tensor(mu, sigma)
    kernel, derivatives = gaussian_kernel(at[:1], at[1:], REACH)
    jacobian = torch.autograd.functional.jacobian(lambda p: gaussian_kernel(p[:1], p[1:], REACH)[0][0], at)
    torch.testing.assert_close(derivatives[0].mT, jacobian, rtol=1e-10, atol=1e-13)


@given(mu=means, sigma=widths, seed=st.integers(0, 99))
def test_convolution_is_scipys_with_edges_repeated(mu, sigma, seed):
    flux = np.random.default_rng(seed).uniform(0.5, 1.5, (2, 3, 80))
    kernel, _ = gaussian_kernel(tensor(mu, 0.0), tensor(sigma, 1.0), REACH)
    found = convolve(torch.from_numpy(flux), kernel[:, None])
    for star in range(2):
        wanted = convolve1d(flux[star], kernel[star].numpy(), axis=-1, mode="nearest")
        np.testing.assert_allclose(found[star].numpy(), wanted, rtol=1e-12)


def test_positive_mean_moves_lines_to_longer_wavelengths():
    flux = torch.zeros(1, 1, 41, dtype=torch.float64)
    flux[..., 20] = 1
    kernel, _ = gaussian_kernel(tensor(3.0), tensor(1.0), REACH)
    assert convolve(flux, kernel[:, None])[0, 0].argmax() == 23


def test_a_wide_neighbour_does_not_change_a_star_by_a_bit():
    flux = torch.rand(2, 4, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mu, sigma = tensor(0.3, -9.0), tensor(0.9, 5.0)
    alone, _ = gaussian_kernel(mu[:1], sigma[:1], REACH)
    both, _ = gaussian_kernel(mu, sigma, REACH)
    assert both.shape[1] > alone.shape[1]
    assert torch.equal(convolve(flux[:1], alone[:, None])[0], convolve(flux, both[:, None])[0])


def test_stages_of_the_published_program(shared):
    stages = np.load(shared / "pylasp/reference_stages.npz")
    for prefix in ("nc_", "cl_"):
        parameters = torch.from_numpy(stages[prefix + "par_mu_sig_lnT_logg_feh"])
        kernel, _ = gaussian_kernel(parameters[:, 0], parameters[:, 1], REACH)
        half = kernel.shape[1] // 2
        # The stored kernels are those of a correlation: mirrored.
        stored = stages[prefix + "kernel201"][:, ::-1]
        np.testing.assert_allclose(kernel.numpy(), stored[:, 100 - half : 101 + half], rtol=1e-9, atol=1e-15)
        assert (stored[:, : 100 - half] == 0).all()
        found = convolve(torch.from_numpy(stages[prefix + "rebinned"])[:, None], kernel[:, None])[:, 0]
        np.testing.assert_allclose(found.numpy(), stages[prefix + "convolved"], rtol=1e-9)
