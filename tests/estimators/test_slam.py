"""SLAM from training to labels: with either loss and either solver, with missing pixels, from a file, in any blocks."""

import dataclasses

import numpy as np
import pytest
import torch
from support.trained import GRID, observed, spectra_with_labels

from specxr import SLAM
from specxr.estimators.base import Estimator
from specxr.estimators.emulated import slam as slam_module
from specxr.vocabulary import MaskBit, Result

NAMES = ("teff", "logg", "feh")
ESTIMATORS = {
    "epsilon": SLAM(gamma=(0.03, 0.1, 1.0), n_folds=3),
    "squared": SLAM(loss="squared", c=(10.0, 1e3), gamma=(0.03, 0.1)),
}


@pytest.fixture(scope="module")
def training():
    return spectra_with_labels(300, snr=200.0)


@pytest.fixture(scope="module")
def held_out():
    return spectra_with_labels(150, seed=1)


@pytest.fixture(scope="module")
def fitted(training):
    return {name: estimator.fit(training) for name, estimator in ESTIMATORS.items()}


@pytest.fixture(scope="module")
def block(held_out):
    return observed(held_out, 60)


def emulated(slam, labels):
    return slam.emulator.flux(torch.from_numpy(labels))[:, : GRID.wavelength.size].numpy()


def rows_of(block, rows):
    return dataclasses.replace(block, flux=block.flux[rows], ivar=block.ivar[rows], mask=block.mask[rows])


@pytest.mark.parametrize("loss", ESTIMATORS)
def test_injected_labels_are_recovered(fitted, block, held_out, loss):
    slam = fitted[loss]
    assert isinstance(slam, Estimator)
    out = slam.estimate(block)
    converged = out["result"] == Result.CONVERGED
    assert converged.mean() > 0.7  # of labels drawn up to the very bounds
    for name in NAMES:
        difference = (out[name] - held_out.labels[name])[converged]
        error = np.median(out[f"{name}_err"][converged])
        assert abs(np.median(difference)) < 0.4 * error, name
        # Errors of the emulator are shared by many pixels: formal errors are too small until they are calibrated.
        assert 1.4826 * np.median(abs(difference - np.median(difference))) < 2 * error, name
    assert np.median(out["chi2"] / out["n_good"]) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("loss", ESTIMATORS)
def test_what_it_says_of_its_pixels_is_right(fitted, training, held_out, loss):
    slam = fitted[loss]
    error = np.mean((emulated(slam, held_out.label_array) - held_out.flux) ** 2, axis=0)
    noise = np.mean(1 / training.ivar, axis=0)
    deviation = slam.emulator.cv_mse.numpy()
    assert deviation.mean() == pytest.approx(noise.mean() + error.mean(), rel=0.08)
    np.testing.assert_allclose(slam.variance, np.maximum(deviation - noise, 0), atol=1e-9)
    assert abs(slam.emulator.cv_md.numpy()).max() < 1e-3


def test_scikit_learn_gives_the_same_machines(training, held_out):
    few = dataclasses.replace(
        training[np.arange(150)],
        flux=training.flux[:150, 100:140],
        ivar=training.ivar[:150, 100:140],
        mask=training.mask[:150, 100:140],
        grid=training.grid[100:140],
    )
    one, other = (
        SLAM(solver=solver, gamma=(0.1, 1.0), n_folds=3).fit(few) for solver in ("torch", "sklearn")
    )
    alike = [
        (getattr(one.emulator, name) == getattr(other.emulator, name)).numpy() for name in ("gamma", "c")
    ]
    alike = np.logical_and(*alike)
    assert alike.mean() > 0.9  # neighbouring choices can be equally good
    labels = torch.from_numpy(held_out.label_array)
    ours, theirs = (s.emulator.flux(labels)[:, :40].numpy() for s in (one, other))
    spread = few.flux.std(axis=0)
    assert abs((ours - theirs) / spread)[:, alike].max() < 2e-3


@pytest.mark.parametrize("loss", ESTIMATORS)
def test_bad_pixels_are_not_learnt_from(training, held_out, fitted, loss):
    rng = np.random.default_rng(3)
    bad = rng.random(training.flux.shape) < 0.05
    bad[:, 17] = True
    spoilt = dataclasses.replace(
        training,
        flux=np.where(bad, 40.0, training.flux).astype("f4"),
        mask=np.where(bad, int(MaskBit.MISSING), training.mask).astype("u1"),
    )
    slam = ESTIMATORS[loss].fit(spoilt)
    assert np.flatnonzero(np.isinf(slam.variance)).tolist() == [17]
    others = np.arange(GRID.wavelength.size) != 17
    residual, clean = (emulated(s, held_out.label_array) - held_out.flux for s in (slam, fitted[loss]))
    assert residual[:, others].std() < 1.2 * clean[:, others].std()
    out = slam.estimate(observed(held_out, 60))
    assert (out["n_good"] <= GRID.wavelength.size - 1).all()
    assert np.isfinite(out["teff"]).all()


def test_a_saved_model_gives_the_same_labels(fitted, block, tmp_path):
    path = tmp_path / "slam.safetensors"
    fitted["epsilon"].save(path)
    again = SLAM.load(path, priors={"feh": (-0.3, 1e-3)})
    assert (again.gamma, again.n_folds, again.loss) == ((0.03, 0.1, 1.0), 3, "epsilon")
    known = again.estimate(block)
    np.testing.assert_allclose(known["feh"], -0.3, atol=0.01)
    free = dataclasses.replace(again, priors={}).estimate(block)
    wanted = fitted["epsilon"].estimate(block)
    for name in NAMES:
        np.testing.assert_array_equal(free[name], wanted[name])


def test_the_seed_decides(training):
    few = training[np.arange(80)]
    estimator = SLAM(gamma=(0.1,), c=(1.0,), n_folds=3)
    one, two = estimator.fit(few), estimator.fit(few)
    assert one.fingerprint == two.fingerprint
    assert dataclasses.replace(estimator, seed=1).fit(few).fingerprint != one.fingerprint


@pytest.mark.parametrize(("loss", "total"), [("epsilon", 9), ("squared", 4)])
def test_progress_is_told(training, loss, total):
    seen = []
    ESTIMATORS[loss].fit(training[np.arange(60)], lambda *told: seen.append(told))
    done, of, rms = zip(*seen, strict=True)
    assert done == tuple(range(1, total + 1))
    assert set(of) == {total}
    assert all(0 < r < 2 for r in rms)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "huber"}, "loss 'huber' is not known"),
        ({"solver": "libsvm"}, "solver 'libsvm' is not known"),
        ({"c": ()}, "c is \\(\\)"),
        ({"gamma": (0.1, -1.0)}, "gamma is"),
        ({"epsilon": (np.nan,)}, "epsilon is"),
        ({"n_folds": 1}, "at least 2 are required"),
        ({"solver": "sklearn", "loss": "squared"}, "closed form"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SLAM(**options)


def test_more_folds_than_stars_are_refused(training):
    with pytest.raises(ValueError, match="20 folds .* 12 training stars"):
        SLAM(n_folds=20).fit(training[np.arange(12)])


def test_without_scikit_learn_its_solver_is_refused(monkeypatch):
    monkeypatch.setattr(slam_module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="install specxr\\[sklearn\\]"):
        SLAM(solver="sklearn")
