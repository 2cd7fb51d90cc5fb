"""Velocities where the recipe excludes bands: emulators know what a shifted model reaches, or it is out of reach."""

import dataclasses

import numpy as np
import pytest
import torch
from support.trained import GRID, observed, spectra_with_labels, training_cube

import specxr
from specxr import SLAM, Hybrid, Payne
from specxr.cubes.schema import make_cube
from specxr.emulators import default
from specxr.estimators.held_out import calibrate_by_folds
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.spectra.normalisation import Normalisation, within
from specxr.synthesis import EmulatorSpectra, Instrument, make_training_set
from specxr.synthesis.designs import Uniform, draw
from specxr.training import training_set
from specxr.vocabulary import SPEED_OF_LIGHT, MaskBit

# Two narrow bands, and one that holds the magnesium triplet. The spline is shorter than the broad features of these
# spectra, which a steep continuum would otherwise change.
RECIPE = Normalisation(50.0, rounds=3, excluded=((4990.0, 5010.0), (5080.0, 5088.0), (5165.0, 5190.0)))
BANDS = within(GRID.wavelength, RECIPE.excluded)
# Away from the bounds of what is learnt.
INNER = {"teff": Uniform(5300, 6200), "logg": Uniform(3.9, 4.4), "feh": Uniform(-0.6, 0.0)}
SMALL = Payne(hidden=(32, 32), max_rounds=25, patience=5)
RIDGE = SLAM(loss="squared", c=(10.0, 1e3), gamma=(0.03, 0.1))


@pytest.fixture(scope="module")
def training():
    return spectra_with_labels(500, normalisation=RECIPE)


@pytest.fixture(scope="module")
def fitted(training):
    two = dataclasses.replace(training, labels={n: training.labels[n] for n in ("teff", "feh")})
    payne, slam = SMALL.fit(training), RIDGE.fit(training)
    # Its first stage does not know logg, which shapes the spectra: only held-out stars tell how large its errors are.
    first = calibrate_by_folds(RIDGE, two, snr=(60, 200))
    return {"payne": payne, "slam": slam, "hybrid": Hybrid(first, payne)}


def exposed(n, velocity, seed=5, snr=100.0):
    """Stars that move, as a survey gives them: the generator's spectra on other pixels, and a continuum.

    What lies in the bands is of no star, and stays where it is.
    """
    rest = Grid(
        GRID.wavelength / (1.0 + velocity / SPEED_OF_LIGHT),
        "vacuum",
        "log10",
        GRID.step,
        LineSpread.constant(1800.0),
    )
    labels = draw(INNER, n, seed)
    stars = make_training_set(
        labels, EmulatorSpectra(default()), Instrument(rest), None, snr=snr, seed=seed
    ).load(scheduler="sync")
    continuum = 400.0 * np.linspace(0.7, 1.3, GRID.wavelength.size)
    flux, ivar = (
        stars["flux"].values * np.where(BANDS, 0.4, 1.0) * continuum,
        stars["ivar"].values / continuum**2,
    )
    return make_cube(flux, ivar, GRID, mask=stars["mask"].values, stars=labels)


@pytest.mark.parametrize("velocity", [-150.0, 150.0])
@pytest.mark.parametrize("name", ["payne", "slam", "hybrid"])
def test_injected_velocities_come_back_through_the_whole_recipe(fitted, name, velocity):
    stars = exposed(120, velocity)
    out = specxr.infer(stars, fitted[name])
    fine = out["result"].values == 0
    assert fine.mean() > 0.9
    difference = (out["rv"].values - velocity)[fine]
    error = np.median(out["rv_err"].values[fine])
    assert error < 4.0
    assert abs(np.median(difference)) < 0.5 * error
    assert abs(difference).max() < 6.0 * error
    assert np.median((out["chi2"] / out["n_good"]).values[fine]) == pytest.approx(1.0, abs=0.15)
    away = (out["teff"] - stars["teff"]).values[fine]
    assert abs(np.median(away)) < np.median(out["teff_err"].values[fine])


@pytest.mark.parametrize("name", ["payne", "slam"])
def test_the_bands_are_learnt_where_training_spectra_have_them(fitted, name):
    quiet = spectra_with_labels(100, seed=3, normalisation=RECIPE)
    labels = torch.from_numpy(quiet.label_array)
    flux = fitted[name].emulator.flux(labels)[:, : GRID.wavelength.size].numpy()
    assert (flux - quiet.flux)[:, BANDS].std() < 0.01
    assert quiet.flux[:, BANDS].std() > 0.03
    assert fitted[name].known.all()
    np.testing.assert_array_equal(fitted[name].used, ~BANDS)


@pytest.mark.parametrize("estimator", [dataclasses.replace(SMALL, max_rounds=5), RIDGE])
def test_what_no_training_star_has_is_out_of_reach(training, estimator):
    mask = training.mask.copy()
    mask[:, 150:155] = int(MaskBit.TELLURIC)
    fitted = dataclasses.replace(estimator.fit(dataclasses.replace(training, mask=mask)), max_velocity=200.0)
    weight = fitted.observe(observed(training, 50)).weight[:, : GRID.wavelength.size] > 0
    unknown = ~fitted.known
    assert np.flatnonzero(unknown).tolist() == list(range(150, 155))
    flux = fitted.emulator.flux(torch.from_numpy(training.label_array))
    assert (flux[:, : GRID.wavelength.size][:, unknown] == 1).all()
    # Whatever the emulator says there, no weighted pixel of any velocity is changed.
    fit = fitted._label_fit
    labels = torch.from_numpy(training.label_array[:1])
    for velocity in (-200.0, -131.0, 0.0, 57.0, 200.0):
        at = fit.inward(torch.cat((torch.full((1, 1), velocity, dtype=torch.float64), labels), dim=1))
        clean = fit.model(at)
        spoilt = _Spoilt(fit.emulator, torch.from_numpy(unknown))
        fit.emulator, keep = spoilt, fit.emulator
        changed = (fit.model(at) != clean)[0, : GRID.wavelength.size]
        fit.emulator = keep
        assert changed.any()
        assert not (changed & weight.any(dim=0)).any()


@dataclasses.dataclass
class _Spoilt:
    """An emulator that says nonsense where it knows nothing."""

    emulator: object
    unknown: torch.Tensor

    def flux(self, labels):
        flux = self.emulator.flux(labels).clone()
        flux[:, : len(self.unknown)][:, self.unknown] = 50.0
        return flux


def test_observed_spectra_are_normalised_lazily(forbid_compute):
    lazy = specxr.normalise(raw_cube(6).chunk(star=2), RECIPE)
    assert lazy["mask"].chunks[0] == (2, 2, 2)


def raw_cube(n):
    raw = training_cube(n)
    del raw.attrs["normalisation"]
    return raw


def test_a_band_hides_other_pixels_of_each_star():
    cube = specxr.normalise(raw_cube(30), RECIPE)
    hidden = (cube["mask"].values & int(MaskBit.INTERSTELLAR)) > 0
    np.testing.assert_array_equal(hidden, np.tile(BANDS, (30, 1)))
    assert (cube["ivar"].values > 0).all()
    shift = np.arange(30) - 15  # pixels
    rv = SPEED_OF_LIGHT * np.expm1(shift * GRID.step * np.log(10.0))
    training = training_set(cube.assign(rv=("star", rv)))
    for star in range(30):
        there = np.roll(BANDS, -shift[star])
        inner = slice(20, -20)
        np.testing.assert_array_equal(training.good[star, inner], ~there[inner], err_msg=str(star))
    assert training.used[20:-20].all()  # each band is known from other stars


def test_a_bad_pixel_makes_no_ripples_on_the_way_to_rest():
    cube = training_cube(30)
    rest, rv = training_set(cube), np.linspace(-200, 200, 30)
    bad = cube["mask"].values.copy()
    bad[:, 150:154] = int(MaskBit.BAD_FLUX)
    flux = cube["flux"].values.copy()
    flux[:, 150:154] = np.nan
    spoilt = cube.assign(flux=(cube["flux"].dims, flux), mask=(cube["mask"].dims, bad), rv=("star", rv))
    clean, found = training_set(cube.assign(rv=("star", rv))), training_set(spoilt)
    difference = np.where(found.good, found.flux - clean.flux, 0.0)
    assert abs(difference).max() < 0.1 * rest.flux.std()
