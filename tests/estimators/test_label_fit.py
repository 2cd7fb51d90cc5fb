"""The fit of labels against scipy, automatic differentiation and injected labels; shifts by fractions of a pixel."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from support.trained import GRID

from specxr.emulators import default
from specxr.estimators.emulated.label_fit import LabelFit, _with_priors
from specxr.kernels.broadening import convolve
from specxr.kernels.compiled.shifted import Stars
from specxr.kernels.least_squares import levenberg_marquardt
from specxr.kernels.shape import padded
from specxr.kernels.shift import TAPS, shift_kernel
from specxr.vocabulary import Result

LN_STEP = GRID.step * math.log(10)
N_PIXEL = GRID.wavelength.size
LOW = torch.tensor([4800.0, 3.2, -1.5], dtype=torch.float64)
HIGH = torch.tensor([7000.0, 4.9, 0.4], dtype=torch.float64)


class Polynomials:
    """The embedded emulator with the padding of trained ones, on a narrower box."""

    labels = ("teff", "logg", "feh")
    bounds = dict(zip(labels, zip(LOW.tolist(), HIGH.tolist(), strict=True), strict=True))

    def __init__(self):
        edges = GRID.wavelength[0] * np.exp((np.arange(padded(N_PIXEL) + 1) - 0.5) * LN_STEP)
        self._emulator = default().on(edges, "vacuum")

    def flux(self, labels):
        return self._emulator.flux(labels)

    def flux_and_derivatives(self, labels):
        return self._emulator.flux_and_derivatives(labels)


def draw(n, seed, margin=0.15):
    u = torch.rand((n, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return LOW + (HIGH - LOW) * (margin + (1 - 2 * margin) * u)


@pytest.fixture(scope="module")
def fit():
    return LabelFit(Polynomials(), LN_STEP, torch.ones(N_PIXEL, dtype=torch.bool), draw(40, 99, 0.05), 300.0)


def simulated(fit, n, seed, snr=80.0):
    """Flux, weight and parameters (rv [km/s], labels)."""
    rng = np.random.default_rng(seed)
    parameters = torch.cat((torch.from_numpy(rng.uniform(-150, 150, (n, 1))), draw(n, seed)), dim=1)
    flux = fit.model(fit.inward(parameters))
    flux = flux + torch.from_numpy(rng.normal(0, 1 / snr, flux.shape))
    weight = torch.full_like(flux, snr**2)
    weight[:, N_PIXEL:] = 0
    weight[torch.from_numpy(rng.random(flux.shape) < 0.03)] = 0
    return flux, weight, parameters


@settings(max_examples=30)
@given(shift=st.floats(-9, 9), seed=st.integers(0, 99))
def test_kernels_keep_constants_and_their_derivative_is_right(shift, seed):
    shift = torch.tensor([shift], dtype=torch.float64)
    kernel, derivative = shift_kernel(shift, 20)
    assert kernel.sum().item() == pytest.approx(1, abs=1e-14)
    wanted = torch.autograd.functional.jacobian(lambda s: shift_kernel(s, 20)[0][0], shift)
    torch.testing.assert_close(derivative[0], wanted[:, 0], rtol=1e-9, atol=1e-9)


def test_whole_pixels_shift_without_interpolation():
    flux = torch.rand((2, 1, 100), dtype=torch.float64)
    kernel, _ = shift_kernel(torch.tensor([3.0, -2.0], dtype=torch.float64), 20)
    moved = convolve(flux, kernel[:, None])
    torch.testing.assert_close(moved[0, 0, 20:80], flux[0, 0, 17:77], rtol=0, atol=1e-14)
    torch.testing.assert_close(moved[1, 0, 20:80], flux[1, 0, 22:82], rtol=0, atol=1e-14)


@given(shift=st.floats(-6, 6))
def test_a_line_as_wide_as_lamosts_arrives_where_it_should(shift):
    x = torch.arange(120, dtype=torch.float64)
    sigma = 2.4 / 2.355
    line = torch.exp(-0.5 * ((x - 60) / sigma) ** 2)
    kernel, _ = shift_kernel(torch.tensor([shift], dtype=torch.float64), 20)
    moved = convolve(line[None, None], kernel[:, None])[0, 0]
    assert (moved - torch.exp(-0.5 * ((x - 60 - shift) / sigma) ** 2)).abs().max() < 2e-3


def test_the_gradient_is_that_of_automatic_differentiation(fit):
    flux, weight, truth = simulated(fit, 6, 1)
    start = fit.inward(truth)
    start[:, 0] += 0.3
    start[:, 1] += 60.0
    used = weight * fit.inside

    def cost(p):
        return (used * (flux - fit.model(p)) ** 2).sum()

    wanted = torch.autograd.functional.jacobian(cost, start) / 2
    found = fit.linearise(start, flux, used)
    torch.testing.assert_close(found.gradient, wanted, rtol=1e-8, atol=1e-8 * float(wanted.abs().max()))
    assert found.cost.sum().item() == pytest.approx(cost(start).item(), rel=1e-12)


def begun(fit, flux, weight, start):
    """Stars for the compiled fit, with a prior on the second parameter, from starts that no template has."""
    one = torch.ones_like(start)
    mean, strength = start + 0.1, torch.tensor([0.0, 1e-4, 0.0, 0.0]) * one
    each = (flux, weight, start, fit.lower * one, fit.upper * one, mean, strength)
    return Stars(*(tensor.numpy() for tensor in each), np.full(len(flux), -1))


def test_the_compiled_fit_is_that_in_torch(fit):
    flux, weight, truth = simulated(fit, 40, 5)
    used = weight * fit.inside
    flux[3] = torch.nan
    start = fit.inward(truth)
    start[0, 0], start[1, 0] = 0.0, 3.0  # kernels of one tap
    start[:, 1] = (start[:, 1] + 100.0).clamp(max=fit.upper[1])
    stars = begun(fit, flux, used, start)
    mean, strength = torch.from_numpy(stars.mean), torch.from_numpy(stars.strength)

    def evaluate(parameters, star):
        point = fit.linearise(parameters, flux[star], used[star])
        return _with_priors(point, parameters, mean[star], strength[star])

    found = fit._descend(stars)
    wanted = levenberg_marquardt(evaluate, torch.arange(40), start, fit.lower, fit.upper, lanes=64)
    np.testing.assert_array_equal(found.result, wanted.result)
    assert set(found.result.tolist()) == {int(Result.CONVERGED), int(Result.NON_FINITE)}
    assert (found.n_iter == wanted.n_iter).double().mean() > 0.9  # rounding may decide on the last step
    ended = found.result == 0
    torch.testing.assert_close(found.cost[ended], wanted.cost[ended], rtol=1e-9, atol=0)
    point = evaluate(found.parameters, torch.arange(40))
    for name in ("cost", "gradient", "hessian", "extra"):
        own, expected = getattr(found, name)[ended], getattr(point, name)[ended]
        scale = expected.abs().amax(0, keepdim=True)
        torch.testing.assert_close(own / scale, expected / scale, rtol=0, atol=1e-9)


def test_a_known_template_saves_its_evaluation_only(fit):
    flux, weight, _ = simulated(fit, 30, 12)
    own = torch.arange(30)  # each star begins at the template of its number
    start = torch.cat((torch.zeros_like(own)[:, None].to(flux), fit._candidates[own]), dim=1)
    stars = begun(fit, flux, weight * fit.inside, start)
    known, unknown = fit._descend(stars._replace(template=own.numpy())), fit._descend(stars)
    np.testing.assert_array_equal(known.n_iter, unknown.n_iter)
    torch.testing.assert_close(known.parameters, unknown.parameters, rtol=1e-9, atol=1e-9)


def test_the_matrix_is_the_gauss_newton_one(fit):
    flux, weight, truth = simulated(fit, 4, 2)
    point = fit.inward(truth)
    used = weight * fit.inside
    found = fit.linearise(point, flux, used).hessian
    for star in range(4):
        jacobian = torch.autograd.functional.jacobian(
            lambda p: fit.model(p[None])[0], point[star], vectorize=True
        )
        wanted = jacobian.mT @ (used[star, :, None] * jacobian)
        scale = wanted.diagonal().rsqrt()
        # Labels are moved to the observed pixels in the diagonal only; it is a matter of a percent.
        difference = (found[star] - wanted) * scale[:, None] * scale
        assert difference.abs().max() < 0.02
        torch.testing.assert_close(
            found[star, 0], wanted[0], rtol=1e-8, atol=1e-8 * float(wanted.abs().max())
        )


def test_injected_labels_are_recovered_within_their_errors(fit):
    flux, weight, truth = simulated(fit, 300, 3)
    found = fit.fit(flux, weight)
    assert ((found.result == 0) & ~(found.lowest | found.highest).any(1)).double().mean() > 0.97
    pull = ((found.parameters - truth) / found.covariance.diagonal(dim1=1, dim2=2).sqrt())[found.result == 0]
    assert (pull.median(0).values.abs() < 0.25).all()
    width = (pull.quantile(0.8413, dim=0) - pull.quantile(0.1587, dim=0)) / 2
    assert ((width - 1).abs() < 0.2).all(), width
    used = ((weight * fit.inside) > 0).sum(-1)
    assert (found.chi2 / used).mean().item() == pytest.approx(1, abs=0.03)


def test_the_minimum_is_scipys(fit):
    flux, weight, truth = simulated(fit, 5, 4, snr=40)
    found = fit.fit(flux, weight)
    used = (weight * fit.inside).sqrt()
    unit = np.array([1.0, 100.0, 0.1, 0.1])
    for star in range(5):
        start = fit.inward(truth)[star].numpy() / unit
        wanted = least_squares(
            lambda p, s=star: (used[s] * (flux[s] - fit.model(torch.from_numpy(p * unit)[None])[0])).numpy(),
            start,
            xtol=1e-12,
            ftol=1e-12,
        )
        assert float(found.chi2[star]) <= 2 * wanted.cost * (1 + 1e-6)
        at = fit.inward(found.parameters)[star].numpy() / unit
        error = found.covariance[star].diagonal().sqrt().numpy()
        assert (abs(at - wanted.x) < 0.02 * error / [LN_STEP**-1 / 3e5, 1, 1, 1] / unit + 1e-3).all()


def test_held_labels_stay_and_have_no_error(fit):
    flux, weight, truth = simulated(fit, 50, 5)
    held = {"rv": truth[:, 0], "logg": truth[:, 2] + 0.1}
    found = fit.fit(flux, weight, fixed=held)
    torch.testing.assert_close(found.parameters[:, 0], truth[:, 0], rtol=0, atol=1e-9)
    assert torch.equal(found.parameters[:, 2], truth[:, 2] + 0.1)
    assert (found.covariance[:, [0, 2]] == 0).all()
    assert not (found.lowest | found.highest).any(-1).all()
    # One label less to find: the others are better known.
    free = fit.fit(flux, weight)
    assert (found.covariance[:, 1, 1] < free.covariance[:, 1, 1]).all()


def test_a_prior_adds_its_information(fit):
    # The errors of logg are small enough that the spectrum is linear in it between the two answers.
    flux, weight, truth = simulated(fit, 50, 6, snr=100)
    mean, width = truth[:, 2] + 0.3, torch.full((50,), 0.1, dtype=torch.float64)
    found = fit.fit(flux, weight, priors={"logg": (mean, width)})
    free = fit.fit(flux, weight)
    # The product of two Gaussians.
    information = 1 / free.covariance[:, 2, 2] + width**-2
    wanted = (free.parameters[:, 2] / free.covariance[:, 2, 2] + mean * width**-2) / information
    ok = (free.result == 0) & ~(free.lowest | free.highest).any(-1) & ~(found.lowest | found.highest).any(-1)
    error = information.rsqrt()
    assert (((found.parameters[:, 2] - wanted) / error).abs()[ok] < 0.4).double().mean() > 0.9
    np.testing.assert_allclose(found.covariance[:, 2, 2][ok].sqrt(), error[ok], rtol=0.2)
    # chi2 is that of the spectrum alone, which is best without a prior.
    assert (found.chi2[ok] >= free.chi2[ok] * (1 - 1e-6)).all()


def test_a_prior_on_the_velocity_is_in_km_per_s(fit):
    flux, weight, truth = simulated(fit, 10, 7)
    width = torch.full((10,), 1e-3, dtype=torch.float64)
    found = fit.fit(flux, weight, priors={"rv": (truth[:, 0] + 5, width)})
    torch.testing.assert_close(found.parameters[:, 0], truth[:, 0] + 5, rtol=0, atol=0.01)
    np.testing.assert_allclose(found.covariance[:, 0, 0].sqrt(), 1e-3, rtol=1e-3)


@settings(max_examples=8)
@given(n=st.integers(1, 90), data=st.data())
def test_fits_are_the_same_to_the_bit_for_any_partition(fit, n, data):
    flux, weight, _ = simulated(fit, 90, 8, snr=20)
    order = data.draw(st.permutations(range(90)))[:n]
    whole = fit.fit(flux[order], weight[order])
    cut = data.draw(st.integers(0, n))
    parts = [fit.fit(flux[rows], weight[rows]) for rows in (order[:cut], order[cut:])]
    for name in ("parameters", "covariance", "chi2", "n_iter", "result"):
        joined = torch.cat([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(getattr(whole, name), joined, err_msg=name)


def test_nothing_to_fit(fit):
    flux, weight, _ = simulated(fit, 3, 9)
    assert len(fit.fit(flux[:0], weight[:0]).parameters) == 0
    found = fit.fit(flux, weight * 0)
    assert torch.isnan(found.covariance).any(-1).any(-1).all()
    assert set(found.result.tolist()) <= set(map(int, Result))


def test_velocities_reach_beyond_no_end(fit):
    assert fit.reach == math.ceil(math.log1p(300 / 299792.458) / LN_STEP) + TAPS
    assert not fit.inside[: fit.reach].any()
    assert not fit.inside[N_PIXEL - fit.reach :].any()
