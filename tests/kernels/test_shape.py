"""The shape polynomial against least squares in the Legendre basis and automatic differentiation."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import eval_legendre

from specxr.kernels.shape import ShapeBasis, padded


def pad(*spectra):
    """Zeros beyond the last pixel, as `ShapeBasis` wants them."""
    return [torch.nn.functional.pad(a, (0, padded(a.shape[-1]) - a.shape[-1])) for a in spectra]


def problem(seed, n_star=3, n_pixel=300, masked=0.1):
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 1, n_pixel)
    template = 1 - 0.6 * np.exp(-0.5 * ((x - rng.uniform(0.2, 0.8, (n_star, 1))) / 0.02) ** 2)
    flux = template * (1 + 0.5 * np.sin(5 * x + rng.uniform(0, 6, (n_star, 1))))
    flux = flux + rng.normal(0, 0.02, flux.shape)
    weight = (rng.uniform(size=flux.shape) > masked) * rng.uniform(0.5, 2.0, flux.shape)
    return pad(*(torch.from_numpy(a) for a in (template, flux, np.sqrt(weight))))


@given(seed=st.integers(0, 999), degree=st.integers(0, 40), masked=st.floats(0, 0.5))
def test_fit_is_the_least_squares_solution_in_the_legendre_basis(seed, degree, masked):
    template, flux, root = problem(seed, masked=masked)
    fit = ShapeBasis(degree, 300, torch.float64, "cpu").fit(root * template, root * flux)
    x = -1 + 2 * np.arange(300) / 300
    legendre = np.stack([eval_legendre(k, x) for k in range(degree + 1)], axis=1)
    for star in range(len(flux)):
        template_, flux_, root_, polynomial = (
            a[star, :300].numpy() for a in (template, flux, root, fit.polynomial)
        )
        matrix = legendre * template_[:, None]
        wanted = matrix @ np.linalg.lstsq(matrix * root_[:, None], flux_ * root_, rcond=None)[0]
        model = template_ * polynomial
        used = root_ > 0
        # Few pixels and a high degree leave directions almost free: the cost must be the least all the same.
        least = ((root_ * (flux_ - wanted)) ** 2).sum()
        assert fit.cost[star].item() == pytest.approx(least, rel=1e-9)
        np.testing.assert_allclose(
            model[used], wanted[used], atol=1e-9 if degree < 20 and masked < 0.3 else 1e-5
        )


def test_gauss_newton_equations_are_those_of_the_projected_jacobian():
    template, flux, root = problem(7)
    basis = ShapeBasis(12, 300, torch.float64, "cpu")
    derivatives = torch.randn(
        3, 4, flux.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    fit = basis.fit(root * template, root * flux)
    gradient, hessian = basis.reduce(fit, root * template, derivatives, root)
    for star in range(3):
        columns = root[star][:, None] * template[star][:, None] * basis.values[:, :13]
        orthogonal, _ = torch.linalg.qr(columns)
        jacobian = root[star][:, None] * (derivatives[star] * fit.polynomial[star]).mT
        jacobian = jacobian - orthogonal @ (orthogonal.mT @ jacobian)
        torch.testing.assert_close(hessian[star], jacobian.mT @ jacobian, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(gradient[star], -jacobian.mT @ fit.residual[star], rtol=1e-7, atol=1e-9)


def test_gradient_is_that_of_the_cost_by_automatic_differentiation():
    template, flux, root = problem(3)
    basis = ShapeBasis(10, 300, torch.float64, "cpu")
    derivatives = torch.randn(
        3, 2, flux.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(4)
    )

    def cost(parameters):
        moved = template + (parameters[:, :, None] * derivatives).sum(1)
        return 0.5 * basis.fit(root * moved, root * flux).cost.sum()

    zero = torch.zeros(3, 2, dtype=torch.float64)
    wanted = torch.autograd.functional.jacobian(cost, zero)
    gradient, _ = basis.reduce(basis.fit(root * template, root * flux), root * template, derivatives, root)
    torch.testing.assert_close(gradient, wanted, rtol=1e-8, atol=1e-9)


def test_a_gap_that_leaves_the_polynomial_free_still_gives_a_finite_fit_elsewhere():
    template, flux, root = problem(5, n_pixel=600)
    root[:, 150:450] = 0
    fit = ShapeBasis(50, 600, torch.float64, "cpu").fit(root * template, root * flux)
    assert torch.isfinite(fit.cost).all()
    assert (fit.residual.abs() < 0.2).all()


def test_single_precision_follows_double():
    template, flux, root = problem(11, n_pixel=1327)
    double = ShapeBasis(50, 1327, torch.float64, "cpu").fit(root * template, root * flux)
    single = ShapeBasis(50, 1327, torch.float32, "cpu").fit((root * template).float(), (root * flux).float())
    assert single.cost.numpy() == pytest.approx(double.cost.numpy(), rel=1e-4)


def test_stages_of_the_published_program(shared):
    stages = np.load(shared / "pylasp/reference_stages.npz")
    basis = ShapeBasis(50, 1327, torch.float64, "cpu")
    for prefix in ("nc_", "cl_"):
        stored = (stages[prefix + "convolved"], stages["flux"], stages[prefix + "mask"])
        template, flux, root = pad(*(torch.from_numpy(a.astype("f8")) for a in stored))
        fit = basis.fit(root * template, root * flux)
        model = (template * fit.polynomial)[:, :1327]
        np.testing.assert_allclose(model.numpy(), stages[prefix + "model"], rtol=1e-8)
        np.testing.assert_allclose(fit.polynomial[:, :1327].numpy(), stages[prefix + "poly"], rtol=1e-8)
