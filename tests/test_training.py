"""Training sets and the door of training: bad input is refused before anything is learnt; errors are honest."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline
from scipy.stats import norm
from support.program import ok, refused
from support.trained import GRID, observed, spectra_with_labels, training_cube

import specxr
from specxr import Payne
from specxr.cubes.store import open_labels, write_cube
from specxr.estimators.domain import Domain
from specxr.estimators.error_laws import Calibration, Law
from specxr.estimators.held_out import calibrate_by_folds
from specxr.spectra.normalisation import Normalisation
from specxr.training import training_set
from specxr.vocabulary import MaskBit, Result

TINY = Payne(hidden=(8,), max_rounds=2, validation=0.2)


class Never(Payne):
    """It must not come to training."""

    def fit(self, *args, **kwargs):
        raise AssertionError("training has begun")


@pytest.fixture(scope="module")
def training():
    return spectra_with_labels(60)


def with_labels(training, **labels):
    return dataclasses.replace(training, labels={**training.labels, **labels})


def without_variance(training):
    flux = training.flux.copy()
    flux[:, 40:42] = 0.97
    return dataclasses.replace(training, flux=flux)


def without_pixels(training):
    mask = training.mask.copy()
    mask[7] = int(MaskBit.MISSING)
    return dataclasses.replace(training, mask=mask)


def twice(training):
    return training[np.append(np.arange(60), 12)]


BAD = {
    "not finite for 1 of 60": lambda t: with_labels(
        t, logg=np.where(np.arange(60) == 3, np.nan, t.labels["logg"])
    ),
    "is 5777 for every star": lambda t: with_labels(t, teff=np.full(60, 5777.0)),
    "are the same up to scale": lambda t: with_labels(t, alpha_m=0.1 - 2 * t.labels["feh"]),
    "'colour' cannot be learnt": lambda t: with_labels(t, colour=t.labels["feh"] ** 2),
    "'rv' cannot be learnt": lambda t: with_labels(t, rv=t.labels["feh"] ** 2),
    "3 stars for 3 labels": lambda t: t[np.arange(3)],
    "steps of linear": lambda t: dataclasses.replace(
        t, grid=dataclasses.replace(GRID, sampling="linear", step=1.0)
    ),
    "has no labels": lambda t: dataclasses.replace(t, labels={}),
    r"label logg has shape \(5,\)": lambda t: with_labels(t, logg=np.arange(5.0)),
    "2 pixels have the same flux": without_variance,
    "1 training spectra have no good pixel, the first in row 7": without_pixels,
    "there twice, the first in row 60": twice,
    "ivar of the training set has shape": lambda t: dataclasses.replace(t, ivar=t.ivar[:, :-1]),
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_learnt_from_is_refused(training, message):
    with pytest.raises(ValueError, match=message):
        BAD[message](training).check()
    with pytest.raises(ValueError, match=message):
        TINY.fit(BAD[message](training))


def test_a_pixel_that_no_star_has_is_left_out(training):
    mask = training.mask.copy()
    mask[:, 100:110] = int(MaskBit.INTERSTELLAR)
    payne = TINY.fit(dataclasses.replace(training, mask=mask))
    assert np.isinf(payne.variance[100:110]).all()
    assert np.isfinite(payne.variance[:100]).all()
    block = observed(training, 50)
    flux = block.flux.copy()
    flux[:, 100:110] = 7.0
    clean, out = payne.estimate(block), payne.estimate(dataclasses.replace(block, flux=flux))
    for name in out:
        np.testing.assert_array_equal(out[name], clean[name], err_msg=name)


def test_some_of_the_stars(training):
    part = training[np.array([3, 5])]
    assert len(part) == 2
    np.testing.assert_array_equal(part.labels["feh"], training.labels["feh"][[3, 5]])
    assert part.fingerprint != training.fingerprint


# -- the door ----------------------------------------------------------------------------------------------------


def test_labels_are_taken_by_name(training):
    cube = training_cube(20)
    assert list(training_set(cube).labels) == ["teff", "logg", "feh"]
    assert list(training_set(cube, ["feh", "teff"]).labels) == ["feh", "teff"]
    with pytest.raises(
        ValueError, match="vsini cannot be learnt from this cube; its labels are teff, logg, feh"
    ):
        training_set(cube, ["teff", "vsini"])
    with pytest.raises(ValueError, match="name one twice"):
        training_set(cube, ["teff", "teff"])
    with pytest.raises(ValueError, match="no labels along 'star'"):
        training_set(cube.drop_vars(["teff", "logg", "feh"]))


def test_spectra_that_are_not_normalised_are_refused():
    cube = training_cube(20)
    del cube.attrs["normalisation"]
    with pytest.raises(ValueError, match="no attribute 'normalisation'"):
        specxr.train(cube, Never())


def test_nothing_is_trained_on_bad_labels():
    cube = training_cube(20)
    with pytest.raises(ValueError, match="not finite"):
        specxr.train(cube.assign(teff=cube.teff.where(cube.teff > 5500)), Never())


def test_velocities_bring_spectra_to_rest():
    cube = training_cube(30)
    rest, rv = training_set(cube), np.linspace(-200, 200, 30)
    # Moved by another way than the package's: a spline through all pixels.
    x = np.log(GRID.wavelength)
    moved = np.stack(
        [CubicSpline(x, f)(x - np.log1p(v / 299792.458)) for f, v in zip(rest.flux, rv, strict=True)]
    )
    mask = cube["mask"].values.copy()
    mask[4, 150] = int(MaskBit.BAD_FLUX)
    shifted = cube.assign(
        flux=(cube.flux.dims, moved.astype("f4")), mask=(cube["mask"].dims, mask), rv=("star", rv)
    )
    found = training_set(shifted)
    inner = slice(12, -12)
    difference = (found.flux - rest.flux)[:, inner][found.good[:, inner]]
    assert abs(difference).max() < 0.01
    assert difference.std() < 1e-3
    # A bad pixel spoils one or two, where it has gone to; the ends are not known.
    gone = 150 - np.log1p(rv[4] / 299792.458) / (1e-4 * np.log(10))
    assert set(np.flatnonzero(~found.good[4, inner]) + 12) == {int(np.floor(gone)), int(np.ceil(gone))}
    assert not found.good[0, -2:].any() or not found.good[0, :2].any()
    with pytest.raises(ValueError, match="rv is not finite for 1"):
        training_set(shifted.assign(rv=("star", np.where(np.arange(30) == 3, np.nan, rv))))


def test_only_the_payne_keeps_a_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="a method that keeps one is required"):
        specxr.train(training_cube(20), specxr.SLAM(loss="squared"), checkpoint=tmp_path / "state")


# -- honest errors -----------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(a=st.floats(0.05, 1), b=st.floats(1, 20), c=st.floats(0.5, 1.5))
def test_a_law_is_found_again(a, b, c):
    snr = np.geomspace(8, 300, 15)
    law = Law(100 * a, 100 * b, c)
    np.testing.assert_allclose(Law.fit(snr, law(snr))(snr), law(snr), rtol=0.02)


def test_a_power_law_like_the_papers_is_found_again():
    snr = np.geomspace(2.3, 19.2, 12)
    wanted = 388.88 * snr**-0.47  # M-dwarf paper, equation 7
    np.testing.assert_allclose(Law.fit(snr, wanted)(snr), wanted, rtol=0.01)


def test_errors_that_are_too_small_are_corrected():
    rng = np.random.default_rng(0)
    n = 6000
    snr = np.exp(rng.uniform(np.log(10), np.log(200), n))
    formal = rng.uniform(0.5, 1.5, n) * 1000 / snr
    floor = 10.0
    difference = 5.0 + rng.normal(size=n) * np.hypot(2 * formal, floor)
    truth = rng.uniform(5000, 6000, n)
    found = Calibration.of({"teff": truth + difference}, {"teff": formal}, {"teff": truth}, snr, folds=5)
    label = found.labels["teff"]
    assert label.bias == pytest.approx(difference.mean())
    assert label.scatter == pytest.approx(difference.std())
    assert label.coverage == pytest.approx(norm.cdf(1) - norm.cdf(-1), abs=0.03)
    assert label.pull_scatter == pytest.approx(1, abs=0.05)
    assert found.factor("teff", np.array([10.0]), np.ones(1))[0] == pytest.approx(2, abs=0.3)
    # Beyond the range of S/N the ratio stays as it is at its end.
    assert found.factor("teff", np.array([1e4]), np.ones(1)) == found.factor(
        "teff", np.array([snr.max()]), np.ones(1)
    )
    assert Calibration.from_dict(found.to_dict()) == found
    assert found.factor("logg", np.array([10.0]), np.ones(1)) == 1


def test_held_out_stars_have_honest_errors():
    training = spectra_with_labels(600)
    small = Payne(hidden=(24, 24), max_rounds=12, patience=4)
    payne = calibrate_by_folds(small, training, folds=3, snr=(15, 150))
    assert small.model is None
    unseen = spectra_with_labels(400, seed=9)
    coverage = []
    for snr in (20, 60):
        out = payne.estimate(observed(unseen, snr, seed=snr))
        fine = out["result"] == Result.CONVERGED
        for name in payne.labels:
            pull = (out[name] - unseen.labels.get(name, 0.0)) / out[f"{name}_err"]
            coverage.append((abs(pull[fine]) < 1).mean())
        for i, name in enumerate(payne.labels):
            np.testing.assert_allclose(np.sqrt(out["covariance"][:, i, i]), out[f"{name}_err"], rtol=1e-12)
    assert np.mean(coverage) == pytest.approx(0.683, abs=0.06)
    assert min(coverage) > 0.5
    for label in payne.model.calibration.labels.values():
        assert label.coverage == pytest.approx(0.683, abs=0.08)


def test_calibration_needs_stars_and_folds(training):
    with pytest.raises(ValueError, match="folds is 1"):
        calibrate_by_folds(TINY, training, folds=1)
    with pytest.raises(ValueError, match="at least 20 are required"):
        calibrate_by_folds(TINY, training[np.arange(15)], folds=3)


@given(seed=st.integers(0, 99))
@settings(max_examples=10)
def test_the_domain_holds_what_it_was_made_of_and_nothing_far_away(seed):
    rng = np.random.default_rng(seed)
    labels = np.column_stack([rng.normal(6000, 300, 400), rng.normal(4, 0.3, 400)])
    domain = Domain(labels)
    stars = torch.from_numpy(labels)
    assert not domain.outside(stars)[~domain.rare(stars).any(-1)].any()
    assert domain.rare(stars).any(-1).double().mean() < 0.06
    inside = domain.outside(torch.tensor([[6000.0, 4.0]], dtype=torch.float64))
    outside = domain.outside(torch.tensor([[9000.0, 4.0], [6000.0, 1.0], [np.nan, 4.0]], dtype=torch.float64))
    assert not inside.any()
    assert outside.all()


# -- the command line --------------------------------------------------------------------------------------------


QUICK = ("-o", "hidden=8,", "-o", "max_rounds=3")


def test_train_look_and_infer(tmp_path):
    recipe = Normalisation(100.0)
    stars, survey, model = tmp_path / "stars.zarr", tmp_path / "survey.zarr", tmp_path / "model.safetensors"
    write_cube(training_cube(150, normalisation=recipe), stars)
    raw = training_cube(20, seed=4, snr=60.0)
    del raw.attrs["normalisation"]
    write_cube(raw.drop_vars(["teff", "logg", "feh"]), survey)
    said = ok(
        "train", stars, "--estimator", "slam", "--labels", "teff,feh", "--out", tmp_path / "slam.safetensors"
    )
    assert "150 stars, teff, feh" in said
    said = ok("train", stars, *QUICK, "--out", model, "--folds", 2, "--snr", 20, 100, "--labels", "teff,feh")
    assert "in 2 folds" in said
    said = ok("models", "info", model)
    for word in ("payne", "vacuum", "teff", "sha256", "SNR^", "100.0"):
        assert word in said, word
    ok("infer", survey, "--estimator", model, "-o", "max_velocity=300", "--workers", 1)
    labels = open_labels(survey, "payne")
    assert set(labels.label.values) == {"rv", "teff", "feh"}
    assert specxr.open_estimator(labels.attrs).fingerprint == labels.attrs["fingerprint"]
    assert "learnt nothing yet" in refused("infer", survey, "--estimator", "payne", "--name", "other")
    assert "no such option" in refused(
        "infer", survey, "--estimator", model, "-o", "hidden=8", "--name", "other"
    )
    assert "no such option" in refused("train", stars, "-o", "depth=8", "--out", tmp_path / "new.safetensors")
    assert "lasp is not trained" in refused(
        "train", stars, "--estimator", "lasp", "--out", tmp_path / "new.safetensors"
    )
    assert "start from were given to Payne" in refused(
        "infer", survey, "--estimator", model, "--name", "other", "--start", "payne"
    )
    assert "exists already" in refused("train", stars, "--out", model)
    assert "ends in '.pt'" in refused("train", stars, "--out", tmp_path / "model.pt")
    assert "no attribute 'normalisation'" in refused("train", survey, "--out", tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()
