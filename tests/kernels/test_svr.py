"""Kernel machines of all pixels at once against scikit-learn, one pixel after another."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge
from sklearn.svm import SVR

from specxr.kernels.machines.rbf import Kernel, rbf
from specxr.kernels.machines.ridge import ridge
from specxr.kernels.machines.selection import Point, cross_validate, folds_of, train_machines
from specxr.kernels.machines.svr import Batched, Machines
from specxr.kernels.machines.svr_reference import Reference


def problem(n_star, n_pixel, seed, noise=0.1, n_label=3):
    """Standardised labels and flux: pixels from nearly linear in the labels to strongly bent ones."""
    rng = np.random.default_rng(seed)
    labels = rng.uniform(-1.7, 1.7, (n_star, n_label))
    bend = rng.uniform(0.1, 2.0, n_pixel)
    phase = labels @ rng.normal(0, 1, (n_label, n_pixel)) * bend + rng.uniform(0, 6, n_pixel)
    flux = np.sin(phase) + labels @ rng.normal(0, 0.3, (n_label, n_pixel))
    flux += noise * rng.standard_t(4, flux.shape)
    flux = (flux - flux.mean(0)) / flux.std(0)
    return torch.from_numpy(labels), torch.from_numpy(flux)


def everywhere(flux):
    return torch.ones(flux.shape, dtype=torch.bool)


def silent(done, total, rms):
    pass


def predict(machines: Machines, labels, gamma, where):
    return (rbf(where, labels, gamma) @ machines.dual.double() + machines.intercept).numpy()


def cost(machines, matrix, flux, c, epsilon):
    function = matrix @ machines.dual
    beyond = ((flux - function - machines.intercept).abs() - epsilon).clamp(min=0.0)
    return 0.5 * (machines.dual * function).sum(0) + c * beyond.sum(0)


def sklearn_predictions(labels, flux, gamma, c, epsilon, where, tol=1e-5):
    machine = SVR(C=c, gamma=gamma, epsilon=epsilon, tol=tol).fit(labels.numpy(), flux.numpy())
    return machine.predict(where.numpy())


def test_fifty_pixels_at_their_own_hyperparameters_agree_with_sklearn():
    labels, flux = problem(500, 50, seed=1)
    unseen, _ = problem(200, 1, seed=2)
    points = [Point(gamma, c, 0.05) for gamma in (0.1, 1.0, 10.0) for c in (0.1, 1.0, 10.0)]
    kernels = {gamma: Kernel.of(labels, gamma) for gamma in (0.1, 1.0, 10.0)}
    assert kernels[0.1].factor is not None
    assert kernels[10.0].factor is None
    usable, fold = everywhere(flux), folds_of(500, 5, seed=0)
    mse, _ = cross_validate(kernels, flux, usable, points, fold, Batched, silent)
    chosen = mse.argmin(0)
    machines = train_machines(kernels, flux, usable, points, chosen, Batched)
    assert len(chosen.unique()) > 2
    for pixel, i in enumerate(chosen.tolist()):
        gamma, c, epsilon = points[i]
        wanted = sklearn_predictions(labels, flux[:, pixel], gamma, c, epsilon, unseen)
        np.testing.assert_allclose(
            predict(machines, labels, gamma, unseen)[:, pixel], wanted, rtol=0, atol=1e-3
        )


@settings(max_examples=25)
@given(
    seed=st.integers(0, 9999),
    n_star=st.integers(10, 80),
    gamma=st.sampled_from([0.03, 0.3, 3.0]),
    c=st.floats(0.03, 30.0),
    epsilon=st.floats(0.0, 0.5),
    noise=st.floats(0.02, 1.0),
)
def test_any_problem_has_sklearns_solution(seed, n_star, gamma, c, epsilon, noise):
    labels, flux = problem(n_star, 2, seed, noise)
    kernel = Kernel.of(labels, gamma)
    widths = torch.full((2,), epsilon, dtype=torch.float64)
    found = Batched(kernel, c).solve(flux, everywhere(flux), widths)
    wanted = Reference(kernel, c).solve(flux, everywhere(flux), widths)
    assert abs(found.dual.sum(0)).max() < 1e-6 * c * n_star
    # The function is unique, the intercept where no star lies on the edge of the tube is not: compare what it costs.
    matrix = kernel.matrix
    np.testing.assert_allclose(matrix @ found.dual, matrix @ wanted.dual, atol=2e-3)
    ours, theirs = (cost(machines, matrix, flux, c, epsilon) for machines in (found, wanted))
    assert (ours <= theirs * (1 + 1e-4) + 1e-4).all()


def test_the_thin_factor_changes_nothing():
    labels, flux = problem(300, 5, seed=3)
    thin = Kernel.of(labels, 0.1)
    full = Kernel(labels, 0.1, None)
    torch.testing.assert_close(thin.factor @ thin.factor.mT, full.matrix, atol=1e-5, rtol=0)
    widths = torch.full((5,), 0.05, dtype=torch.float64)
    one, other = (Batched(kernel, 1.0).solve(flux, everywhere(flux), widths) for kernel in (thin, full))
    np.testing.assert_allclose(
        predict(one, labels, 0.1, labels), predict(other, labels, 0.1, labels), atol=1e-3
    )


def test_stars_of_little_weight_have_little_of_the_penalty():
    labels, flux = problem(150, 3, seed=6, noise=0.5)
    weight = torch.rand(flux.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    widths = torch.full((3,), 0.05, dtype=torch.float64)
    kernel = Kernel.of(labels, 0.3)
    found = Batched(kernel, 1.0).solve(flux, weight, widths)
    wanted = Reference(kernel, 1.0).solve(flux, weight, widths)
    assert (found.dual.abs() <= weight + 1e-4).all()
    np.testing.assert_allclose(kernel.matrix @ found.dual, kernel.matrix @ wanted.dual, atol=2e-3)


def test_a_pixel_of_few_stars_is_learnt_from_those():
    labels, flux = problem(200, 4, seed=4)
    usable = torch.rand(flux.shape, generator=torch.Generator().manual_seed(5)) > 0.2
    spoilt = torch.where(usable, flux, 1e3)
    widths = torch.full((4,), 0.05, dtype=torch.float64)
    found = Batched(Kernel.of(labels, 0.3), 1.0).solve(spoilt, usable, widths)
    for pixel in range(4):
        rows = usable[:, pixel]
        wanted = sklearn_predictions(labels[rows], flux[rows, pixel], 0.3, 1.0, 0.05, labels)
        np.testing.assert_allclose(predict(found, labels, 0.3, labels)[:, pixel], wanted, atol=1e-3)


def test_the_reference_solver_is_sklearn():
    labels, flux = problem(80, 3, seed=6)
    usable = everywhere(flux)
    usable[:10, 1] = False
    widths = torch.tensor([0.05, 0.1, 0.2], dtype=torch.float64)
    found = Reference(Kernel.of(labels, 0.3), 2.0).solve(flux, usable, widths)
    for pixel, width in enumerate(widths.tolist()):
        rows = usable[:, pixel]
        wanted = sklearn_predictions(labels[rows], flux[rows, pixel], 0.3, 2.0, width, labels, tol=1e-4)
        np.testing.assert_allclose(predict(found, labels, 0.3, labels)[:, pixel], wanted, atol=1e-6)


def test_cross_validation_measures_what_the_reference_measures():
    labels, flux = problem(150, 6, seed=7)
    points = [Point(gamma, c, e) for gamma in (0.1, 3.0) for c in (0.1, 10.0) for e in (0.05, 0.3)]
    kernels = {gamma: Kernel.of(labels, gamma) for gamma in (0.1, 3.0)}
    usable, fold = everywhere(flux), folds_of(150, 3, seed=1)
    usable[::7, 2] = False
    ours = cross_validate(kernels, flux, usable, points, fold, Batched, silent)
    reference = cross_validate(kernels, flux, usable, points, fold, Reference, silent)
    torch.testing.assert_close(ours[0], reference[0], rtol=0.02, atol=1e-3)
    torch.testing.assert_close(ours[1], reference[1], rtol=0, atol=3e-3)


def test_folds_are_alike_in_size_and_follow_the_seed():
    fold = folds_of(103, 5, seed=3)
    assert sorted(torch.bincount(fold).tolist()) == [20, 20, 21, 21, 21]
    assert torch.equal(fold, folds_of(103, 5, seed=3))
    assert not torch.equal(fold, folds_of(103, 5, seed=4))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_ridge_is_sklearns_and_its_errors_are_those_of_leaving_stars_out(missing, weighted):
    labels, flux = problem(40, 3, seed=8)
    weight = torch.ones(40, dtype=torch.float64)
    if weighted:
        weight = torch.rand(40, generator=torch.Generator().manual_seed(7), dtype=torch.float64) + 0.01
    usable = torch.rand(flux.shape, generator=torch.Generator().manual_seed(9)) >= missing
    gammas, penalties = (0.1, 1.0), (0.5, 50.0)
    machines, chosen, mse, md = ridge(
        labels, torch.where(usable, flux, 7.0), usable, gammas, penalties, weight, silent
    )
    for pixel in range(3):
        x, y, w = (a[usable[:, pixel]].numpy() for a in (labels, flux[:, pixel], weight))
        for i, (gamma, c) in enumerate((g, c) for g in gammas for c in penalties):
            machine = KernelRidge(kernel="rbf", gamma=gamma, alpha=0.5 / c)
            left_out = [
                machine.fit(np.delete(x, k, 0), np.delete(y, k), np.delete(w, k)).predict(x[k : k + 1])[0]
                - y[k]
                for k in range(len(y))
            ]
            mean_square = np.average(np.square(left_out), weights=w)
            assert mse[i, pixel].item() == pytest.approx(mean_square, rel=1e-6)
            assert md[i, pixel].item() == pytest.approx(np.average(left_out, weights=w), abs=1e-6)
            if i == chosen[pixel]:
                wanted = machine.fit(x, y, w).predict(labels.numpy())
                found = predict(machines, labels, gamma, labels)[:, pixel]
                np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert torch.equal(chosen, mse.argmin(0))
