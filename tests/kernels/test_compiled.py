"""The kernels compiled for the CPU against those in torch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.simulated import GRID, block_of, spectra

from specxr import LASP
from specxr.estimators.lasp.solvers import Problem, solve_lm
from specxr.kernels import broadening, least_squares
from specxr.kernels.clean import FORGIVEN_FIRST, clean
from specxr.kernels.compiled import convolution, fit, model, shape
from specxr.kernels.compiled.clean import choose_pixels
from specxr.kernels.shape import ShapeBasis, padded


def points(n, vsini, seed=0):
    """Parameters on both sides of the emulator's regimes and where they are blended."""
    rng = np.random.default_rng(seed)
    width = rng.uniform(0.1, 30.0, n) if vsini else rng.uniform(0.4, 7.0, n)
    ln_teff = np.log(rng.uniform(4400, 12000, n))
    ln_teff[::4] = np.log(rng.uniform(7500, 8500, len(ln_teff[::4])))
    return np.column_stack(
        (rng.uniform(-11, 11, n), width, ln_teff, rng.uniform(2, 4.9, n), rng.uniform(-2, 0.4, n))
    )


@pytest.mark.parametrize("vsini", [False, True])
def test_template_and_derivatives_are_those_in_torch(vsini):
    forward = LASP("default", vsini=vsini).prepare(GRID).model
    parameters = points(24, vsini)
    space = model.template_workspace(forward.compiled.emulator)
    expected, slopes = forward.template_and_derivatives(torch.from_numpy(parameters))
    for star, own in enumerate(parameters):
        model.fill_template(forward.compiled.emulator, own, space)
        model.fill_derivatives(forward.compiled.emulator, space)
        np.testing.assert_allclose(space.flux, expected[star].numpy(), rtol=1e-12)
        largest = slopes[star].abs().amax(dim=1, keepdim=True).numpy()
        np.testing.assert_allclose(space.derivatives / largest, slopes[star].numpy() / largest, atol=2e-6)


@pytest.mark.parametrize(("degree", "n_pixel"), [(50, 1327), (50, 1326), (17, 301), (0, 100), (1, 101)])
@pytest.mark.parametrize("gap", [False, True])
def test_shape_and_equations_are_those_in_torch(degree, n_pixel, gap):
    rng = np.random.default_rng(degree)
    width = padded(n_pixel)
    template, flux, sqrt_weight = np.zeros((3, 4, width))
    template[:, :n_pixel] = rng.uniform(0.4, 1.0, (4, n_pixel))
    flux[:, :n_pixel] = template[:, :n_pixel] * np.linspace(0.5, 1.5, n_pixel) + rng.normal(
        0, 0.02, (4, n_pixel)
    )
    sqrt_weight[:, :n_pixel] = (rng.uniform(size=(4, n_pixel)) > 0.1) * rng.uniform(0.5, 2, (4, n_pixel))
    if gap:
        sqrt_weight[:, n_pixel // 10 : n_pixel // 2] = 0
    derivatives = rng.normal(0, 1, (4, 5, width)).astype("f4")
    basis = ShapeBasis(degree, n_pixel, torch.float64, "cpu")
    tensors = [torch.from_numpy(array) for array in (template * sqrt_weight, flux * sqrt_weight, sqrt_weight)]
    expected = basis.fit(*tensors[:2])
    gradient, hessian = basis.reduce(expected, tensors[0], torch.from_numpy(derivatives), tensors[2])
    compiled = shape.basis_of(degree, n_pixel, width)
    space, own_gradient, own_hessian = shape.shape_workspace(compiled), np.empty(5), np.empty((5, 5))
    for star in range(4):
        cost = shape.fit_shape(compiled, template[star], (flux * sqrt_weight)[star], sqrt_weight[star], space)
        # A wide gap leaves directions of the polynomial almost free; rounding errors then decide where they end.
        assert cost == pytest.approx(expected.cost[star].item(), rel=1e-4 if gap else 1e-12)
        if gap:
            continue
        polynomial = expected.polynomial[star].numpy()
        np.testing.assert_allclose(space.polynomial, polynomial, atol=1e-9 * abs(polynomial).max())
        shape.fill_gradient(compiled, derivatives[star], sqrt_weight[star], space, own_gradient)
        shape.fill_hessian(compiled, space, own_hessian)
        size = np.sqrt(np.diag(hessian[star].numpy()))
        both = np.outer(size, size)
        np.testing.assert_allclose(own_hessian / both, hessian[star].numpy() / both, atol=1e-5)
        tolerance = 1e-5 * np.sqrt(cost)
        np.testing.assert_allclose(own_gradient / size, gradient[star].numpy() / size, atol=tolerance)


@given(seed=st.integers(0, 999))
def test_steps_are_those_in_torch(seed):
    rng = np.random.default_rng(seed)
    jacobian = rng.normal(size=(20, 5)) * 10.0 ** rng.uniform(-2, 2, 5)
    hessian, gradient = jacobian.T @ jacobian, rng.normal(size=5) * np.sqrt(np.diag(jacobian.T @ jacobian))
    lower, upper = -rng.uniform(0, 1, 5), rng.uniform(0, 1, 5)
    parameters, damping, trial = (
        np.clip(rng.normal(0, 0.7, 5), lower, upper),
        10.0 ** rng.uniform(-6, 2),
        np.empty(5),
    )
    predicted = fit.star_step(parameters, gradient, hessian, damping, lower, upper, trial)
    arrays = (
        torch.from_numpy(a)[None] for a in (parameters, gradient, hessian, np.array(damping), lower, upper)
    )
    expected, decrease = least_squares.damped_step(*arrays)
    np.testing.assert_allclose(trial, expected[0].numpy(), rtol=1e-9, atol=1e-12)
    assert predicted == pytest.approx(decrease.item(), rel=1e-9, abs=1e-9)


@given(seed=st.integers(0, 999))
def test_pixels_chosen_are_those_in_torch(seed):
    rng = np.random.default_rng(seed)
    spectrum, residual = 1 + 0.1 * rng.normal(size=300), rng.normal(0, 0.02, 300)
    residual[rng.integers(0, 300, 12)] += rng.normal(0, 0.5, 12)
    usable = rng.uniform(size=300) > 0.05
    used = usable & (rng.uniform(size=300) > 0.02)
    residual[~usable] = 0
    tensors = [torch.from_numpy(array)[None] for array in (residual, spectrum, usable, used)]
    compiled_result = used.astype("u1")
    choose_pixels(residual, spectrum, usable.astype("u1"), compiled_result, FORGIVEN_FIRST)
    np.testing.assert_array_equal(compiled_result > 0, clean(*tensors, FORGIVEN_FIRST)[0].numpy())


@given(seed=st.integers(0, 99), taps=st.sampled_from([1, 3, 21]))
def test_convolution_is_that_in_torch(seed, taps):
    generator = torch.Generator().manual_seed(seed)
    flux = torch.rand(3, 2, 60, dtype=torch.float64, generator=generator)
    kernel = torch.rand(3, 1, taps, dtype=torch.float64, generator=generator)
    kernel[0, :, : taps // 2] = 0
    compiled_result = convolution.convolve_rows(flux, kernel)
    torch.testing.assert_close(compiled_result, broadening.convolve(flux, kernel), rtol=1e-12, atol=1e-12)


def test_parameters_that_are_not_finite_cost_nan():
    forward = LASP("default").prepare(GRID).model
    compiled = forward.compiled
    space, flux = fit.workspace_of(compiled), np.ones(forward.coefficients.shape[1])
    for i in range(5):
        parameters = np.array([0.0, 1.0, 8.6, 4.0, 0.0])
        parameters[i] = np.nan
        assert np.isnan(fit.cost_at(compiled, parameters, flux, flux, space))


def test_templates_found_are_those_in_torch():
    prepared = LASP("default").prepare(GRID)
    template = prepared.model.template(torch.from_numpy(points(40, False)))
    noise = torch.randn(template.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inside = prepared.model.shape.inside
    flux, sqrt_weight = template * (1 + 0.02 * noise) * inside, inside.expand_as(template).contiguous()
    score, best, shift = prepared.coarse._correlate_compiled(flux, sqrt_weight)
    expected = prepared.coarse._correlate(flux, sqrt_weight)
    torch.testing.assert_close(score.double(), expected[:, 0], atol=1e-5, rtol=1e-5)
    assert (best == expected[:, 1]).double().mean() > 0.99
    assert (shift == expected[:, 2]).double().mean() > 0.99


def test_a_whole_fit_ends_where_that_in_torch_does():
    lasp = LASP("default")
    prepared = lasp.prepare(GRID)
    truth = torch.from_numpy(points(12, False)).clamp(prepared.lower, prepared.upper)
    inside = prepared.model.shape.inside
    template = prepared.model.template(truth)
    noise = torch.randn(template.shape, generator=torch.Generator().manual_seed(0))
    flux = template * (1 + 0.02 * noise) * inside
    sqrt_weight = inside.expand_as(flux).clone()
    sqrt_weight[:4, 300:420] = 0  # gaps
    problem = Problem(prepared.model, flux, sqrt_weight)
    star, start = torch.arange(12), truth + prepared.lower.new_tensor([0.4, 0.1, 0.02, 0.1, 0.1])
    bounds = prepared.lower, prepared.upper
    ours = solve_lm(problem, star, start, *bounds, 1e-9, 64)
    theirs = least_squares.levenberg_marquardt(problem.linearise, star, start, *bounds, lanes=64, rtol=1e-9)
    torch.testing.assert_close(ours.cost, theirs.cost, rtol=1e-8, atol=0)
    assert (ours.result == 0).all()


def test_single_precision_is_fitted_in_double_on_a_cpu():
    flux, *_ = spectra(6, seed=3, snr=30)
    block = block_of(flux)
    block.mask[:, 300:420] = 1  # a gap
    single, double = (LASP("default", dtype=dtype).estimate(block) for dtype in ("float32", "float64"))
    np.testing.assert_array_equal(single["result"], double["result"])
    for name in ("rv", "teff", "logg", "feh"):
        assert (abs(single[name] - double[name]) < 0.02 * double[f"{name}_err"]).all(), name
