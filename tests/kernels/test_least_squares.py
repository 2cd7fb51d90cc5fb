"""The batched Levenberg-Marquardt engine against scipy, and its promise that neighbours do not matter."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from specxr.kernels.least_squares import Linearisation, damped_step, levenberg_marquardt
from specxr.vocabulary import Result

X = torch.linspace(0, 4, 40, dtype=torch.float64)
LOWER = torch.tensor([0.0, 0.05, -1.0], dtype=torch.float64)
UPPER = torch.tensor([5.0, 5.0, 1.0], dtype=torch.float64)


def decays(n, seed, noise=0.02):
    """Noisy exponentials a exp(-b x) + c, one a star."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(n, 3, dtype=torch.float64, generator=generator) * torch.tensor([3, 2, 1.0]) + 0.5
    clean = truth[:, :1] * torch.exp(-truth[:, 1:2] * X) + truth[:, 2:]
    return clean + noise * torch.randn(clean.shape, dtype=torch.float64, generator=generator)


def model_of(data):
    def evaluate(p, star):
        falling = torch.exp(-p[:, 1:2] * X)
        residual = p[:, :1] * falling + p[:, 2:] - data[star]
        jacobian = torch.stack((falling, -p[:, :1] * X * falling, torch.ones_like(falling)), dim=2)
        return Linearisation(
            (residual**2).sum(-1),
            (jacobian.mT @ residual[:, :, None])[:, :, 0],
            jacobian.mT @ jacobian,
            residual[:, :1],
        )

    return evaluate


def residual(p, y):
    return p[0] * np.exp(-p[1] * X.numpy()) + p[2] - y


def solve(data, star=None, start=None, lanes=8, **options):
    star = torch.arange(len(data)) if star is None else star
    start = (
        torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64).expand(len(star), 3) if start is None else start
    )
    return levenberg_marquardt(model_of(data), star, start, LOWER, UPPER, lanes=lanes, **options)


@settings(max_examples=20)
@given(seed=st.integers(0, 9999), n=st.integers(1, 20))
def test_minima_are_scipys_bounds_included(seed, n):
    data = decays(n, seed)
    found = solve(data, rtol=1e-12)
    for star in range(n):
        wanted = least_squares(
            residual,
            [1, 1, 0],
            args=(data[star].numpy(),),
            bounds=(LOWER.numpy(), UPPER.numpy()),
            xtol=1e-15,
            ftol=1e-15,
            gtol=1e-15,
        )
        assert found.cost[star].item() <= 2 * wanted.cost * (1 + 1e-6)
    assert set(found.result.tolist()) <= {int(Result.CONVERGED)}


@settings(max_examples=20)
@given(seed=st.integers(0, 9999), n=st.integers(1, 40), data=st.data())
def test_a_star_is_the_same_to_the_bit_whoever_its_neighbours_are(seed, n, data):
    spectra = decays(n, seed, noise=0.5)
    order = data.draw(st.permutations(range(n)))
    cut = data.draw(st.integers(0, n))
    whole = solve(spectra)
    for part in (order[:cut], order[cut:]):
        alone = solve(spectra, star=torch.tensor(part, dtype=torch.int64))
        assert torch.equal(alone.parameters, whole.parameters[part])
        assert torch.equal(alone.cost, whole.cost[part])
        assert torch.equal(alone.n_iter, whole.n_iter[part])


def test_a_star_that_is_not_finite_ends_alone():
    data = decays(5, 1)
    spoiled = data.clone()
    spoiled[2] = torch.nan
    found, wanted = solve(spoiled), solve(data)
    assert found.result.tolist() == [0, 0, int(Result.NON_FINITE), 0, 0]
    others = [0, 1, 3, 4]
    assert torch.equal(found.parameters[others], wanted.parameters[others])


def test_max_iter_is_told():
    found = solve(decays(3, 2), max_iter=2)
    assert found.result.tolist() == [int(Result.MAX_ITER)] * 3
    assert found.n_iter.tolist() == [2] * 3


def test_no_jobs():
    found = solve(decays(0, 0))
    assert found.parameters.shape == (0, 3)


def test_extra_belongs_to_the_accepted_point():
    data = decays(4, 3)
    found = solve(data)
    wanted = model_of(data)(found.parameters, torch.arange(4)).extra
    assert torch.equal(found.extra, wanted)


def test_an_undamped_step_solves_a_quadratic_and_predicts_its_decrease():
    hessian = torch.tensor([[[2.0, 0.5], [0.5, 1.0]]], dtype=torch.float64)
    gradient = torch.tensor([[0.4, -0.2]], dtype=torch.float64)
    far = torch.full((2,), 9.0, dtype=torch.float64)
    trial, predicted = damped_step(
        torch.zeros(1, 2, dtype=torch.float64),
        gradient,
        hessian,
        torch.zeros(1, dtype=torch.float64),
        -far,
        far,
    )
    wanted = -torch.linalg.solve(hessian[0], gradient[0])
    torch.testing.assert_close(trial[0], wanted)
    decrease = gradient[0] @ torch.linalg.solve(hessian[0], gradient[0])
    assert predicted.item() == pytest.approx(decrease.item())


def test_a_parameter_pushed_against_its_bound_is_held_and_the_others_move():
    hessian = torch.eye(2, dtype=torch.float64)[None]
    gradient = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    at = torch.tensor([[0.0, 0.5]], dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    trial, _ = damped_step(at, gradient, hessian, torch.zeros(1, dtype=torch.float64), zero, zero + 9)
    assert trial[0].tolist() == [0.0, 0.0]


def test_bounds_of_one_job_hold_its_parameter_and_no_other():
    data = decays(3, 5)
    lower, upper = LOWER.repeat(3, 1), UPPER.repeat(3, 1)
    lower[1, 1] = upper[1, 1] = 0.7
    start = torch.ones(3, 3, dtype=torch.float64)
    found = levenberg_marquardt(model_of(data), torch.arange(3), start, lower, upper, lanes=8)
    free = levenberg_marquardt(model_of(data), torch.arange(3), start, LOWER, UPPER, lanes=8)
    assert found.parameters[1, 1] == 0.7
    assert torch.equal(found.parameters[[0, 2]], free.parameters[[0, 2]])
    wanted = least_squares(
        lambda p: residual([p[0], 0.7, p[1]], data[1].numpy()), [1, 0], bounds=([0, -1], [5, 1])
    )
    assert found.cost[1].item() == pytest.approx(2 * wanted.cost, rel=1e-6)
