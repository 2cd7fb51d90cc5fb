"""Cleaning, solvers, starts, weights, rotation and trust in LASP."""

import dataclasses

import numpy as np
import pytest
from support.simulated import GRID, block_of, spectra
from support.zoo import rotating

from specxr.estimators.lasp.estimator import LASP
from specxr.spectra.line_spread import LineSpread
from specxr.vocabulary import Flag, Result


def spread(a, b):
    return (a - b).std()


@pytest.fixture(scope="module")
def block():
    flux, _ = spectra(24, 21, snr=60)
    return block_of(flux)


@pytest.fixture(scope="module")
def plain(block):
    return LASP("default").estimate(block)


@pytest.mark.parametrize(("solver", "clean"), [("adam", False), ("curve_fit", False), ("curve_fit", True)])
def test_solvers_agree(block, solver, clean):
    few = dataclasses.replace(block, flux=block.flux[:4], ivar=block.ivar[:4], mask=block.mask[:4])
    wanted = LASP("default", clean=clean).estimate(few)
    found = LASP("default", solver=solver, clean=clean).estimate(few)
    assert set(found) == set(wanted)
    np.testing.assert_array_equal(found["n_good"], wanted["n_good"])
    # The paper's agreement between its solvers: 0.4 km/s, 10 K, 0.01, 0.006 dex.
    for name, limit in {"rv": 0.4, "teff": 10, "logg": 0.01, "feh": 0.006}.items():
        assert spread(found[name], wanted[name]) < limit, name
    np.testing.assert_allclose(found["teff_err"], wanted["teff_err"], rtol=0.02)
    assert (wanted["chi2"] <= found["chi2"] * (1 + 1e-6)).all()


def test_cleaning_removes_what_was_put_in(block, plain):
    rng = np.random.default_rng(0)
    flux = block.flux.copy()
    spikes = rng.integers(150, 1250, (len(flux), 15))
    for star, pixels in enumerate(spikes):
        flux[star, pixels] *= 1.6
    spoiled = block_of(flux)
    dirty = LASP("default").estimate(spoiled)
    lasp = LASP("default", clean=True)
    cleaned = lasp.estimate(spoiled, spectra=True)
    inside = lasp.prepare(GRID).pixels
    hit = [
        [cleaned["used"][s, p] == 0 for p in pixels if inside.start <= p < inside.stop]
        for s, pixels in enumerate(spikes)
    ]
    assert np.mean([x for star in hit for x in star]) > 0.98
    assert spread(cleaned["teff"], plain["teff"]) < 0.3 * spread(dirty["teff"], plain["teff"])
    assert (cleaned["n_good"] < plain["n_good"]).all()


def test_clean_and_no_clean_disagreeing_is_flagged(block):
    flux = block.flux.copy()
    flux[0, 700:760] *= 1.4
    out = LASP("default", clean=True).estimate(block_of(flux))
    assert out["flags"][0] & Flag.CLEAN_DISAGREES
    assert (out["flags"][1:] & Flag.CLEAN_DISAGREES == 0).mean() > 0.9


def test_two_stages_agree_on_a_spectrum_that_the_model_fits(block):
    out = LASP("default", two_stage=True).estimate(block)
    assert (out["flags"] & Flag.STAGES_DISAGREE == 0).mean() > 0.9


def test_several_starts_never_end_higher_than_one(block):
    many = LASP("default").estimate(block)
    for teff in (5000, 7500):
        given = LASP("default", start=(teff, 3, -0.5)).estimate(block)
        assert (given["chi2"] <= many["chi2"] * (1 + 1e-6)).all()
        assert np.abs(given["teff"] - many["teff"]).max() < 100


def test_labels_of_another_run_are_starts(block, plain):
    start = {f"start_{name}": plain[name][:4].copy() for name in ("teff", "logg", "feh")}
    for values in start.values():
        values[3] = np.nan
    few = dataclasses.replace(block, **{k: getattr(block, k)[:4] for k in ("flux", "ivar", "mask")})
    found = LASP("default", solver="curve_fit").estimate(dataclasses.replace(few, inputs=start))
    np.testing.assert_allclose(found["teff"], plain["teff"][:4], atol=5)


def test_inverse_variances_weigh_and_set_the_errors():
    flux, truth = spectra(150, 31, snr=50)
    sigma = np.median(flux, axis=1, keepdims=True) / 50
    noisy = block_of(flux)
    # Half of the pixels much noisier than the other, and their variances told.
    rng = np.random.default_rng(4)
    factor = np.where(np.arange(flux.shape[1]) % 2, 1.0, 5.0)
    extra = rng.normal(0, 1, flux.shape) * sigma * np.sqrt(factor**2 - 1)
    ivar = 1 / (sigma * factor * np.ones_like(flux)) ** 2
    noisy = dataclasses.replace(noisy, flux=(flux + extra).astype("f4"), ivar=ivar.astype("f4"))
    weighted = LASP("default", weighted=True).estimate(noisy)
    blind = LASP("default").estimate(noisy)
    ok = (weighted["result"] == 0) & (blind["result"] == 0)
    off = {name: (out["teff"] - truth["teff"])[ok].std() for name, out in {"w": weighted, "b": blind}.items()}
    assert off["w"] < 0.6 * off["b"]
    pull = ((weighted["teff"] - truth["teff"]) / weighted["teff_err"])[ok]
    assert 1.4826 * np.median(abs(pull)) == pytest.approx(1, abs=0.2)
    freedom = weighted["n_good"] - 51 - 5
    assert np.median((weighted["chi2"] / freedom)[ok]) == pytest.approx(1, abs=0.1)


def test_the_quantile_scales_and_nothing_else(block, plain):
    found = LASP("default", quantile=0.75).estimate(block)
    np.testing.assert_allclose(found["teff"], plain["teff"], atol=1)
    assert (found["chi2"] < plain["chi2"]).all()


def test_other_windows_degrees_and_media(block, plain):
    narrow = LASP("default", window=(4300, 5300), degree=20).estimate(block)
    assert (narrow["n_good"] < plain["n_good"]).all()
    assert np.median(abs(narrow["teff"] - plain["teff"])) < 60


def test_a_cube_in_air_gives_the_labels_of_the_same_spectra_in_vacuum(block, plain):
    from specxr.kernels.refraction import vacuum_to_air

    # The same pixels, their wavelengths told in air: no log grid to the last digit, but one to 1e-3 of a pixel.
    air = vacuum_to_air(GRID.wavelength)
    grid = dataclasses.replace(GRID, wavelength=air, medium="air")
    found = LASP("default").estimate(dataclasses.replace(block, grid=grid))
    assert np.median(abs(found["teff"] - plain["teff"])) < 3
    # As vacuum the lines seem 83 km/s bluer: nothing in a spectrum can tell.
    wrong = LASP("default").estimate(
        dataclasses.replace(block, grid=dataclasses.replace(grid, medium="vacuum"))
    )
    assert np.median(wrong["rv"] - plain["rv"]) == pytest.approx(-83, abs=2)


@pytest.mark.parametrize("vsini", [80.0, 150.0, 300.0])
def test_rotation_is_recovered_within_its_errors(vsini):
    stars = rotating(vsini, n=40)
    out = stars.estimator.estimate(stars.block)
    ok = out["result"] == 0
    assert ok.mean() > 0.9
    pull = ((out["vsini"] - vsini) / out["vsini_err"])[ok]
    assert abs(np.median(pull)) < 0.6
    assert 1.4826 * np.median(abs(pull - np.median(pull))) == pytest.approx(1, abs=0.4)


def test_a_measured_line_spread_function_is_followed():
    measured = LineSpread.tabulated((4100.0, 5800.0), (1500.0, 2300.0))
    stars = rotating(150.0, n=40, lasp=LASP(vsini=True, line_spread=measured))
    out = stars.estimator.estimate(stars.block)
    wrong = LASP(vsini=True, line_spread=LineSpread.constant(1500.0)).estimate(stars.block)
    assert abs(np.median(out["vsini"]) - 150) < 5
    assert np.median(wrong["chi2"]) > np.median(out["chi2"])


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="quantile is 1.5"):
        LASP(quantile=1.5)
    with pytest.raises(ValueError, match="start has teff = 100"):
        LASP(start=(100, 4, 0))
    grid = dataclasses.replace(GRID, line_spread=None)
    with pytest.raises(ValueError, match="a line spread is required"):
        LASP(vsini=True).check(grid)
    with pytest.raises(ValueError, match="Use an emulator of higher resolving power"):
        LASP(vsini=True, line_spread=LineSpread.constant(20000.0)).check(GRID)


@pytest.mark.parametrize("clean", [False, True])
def test_galaxies_and_whatever_else_a_plate_holds_get_a_code(shared, clean):
    from specxr.readers.lamost_lrs import GRID as LAMOST
    from specxr.readers.lamost_lrs import read_spectrum

    files = sorted((shared / "lamost_dr7_plate/fits").glob("*.fits*"))[::3]
    found = [read_spectrum(file) for file in files]
    arrays = [np.stack([getattr(s, name) for s in found]) for name in ("flux", "ivar", "mask")]
    block = dataclasses.replace(block_of(arrays[0], LAMOST), flux=arrays[0], ivar=arrays[1], mask=arrays[2])
    out = LASP("default", clean=clean, two_stage=True).estimate(block)
    assert set(out["result"]) <= set(map(int, Result))
    fitted = np.isin(out["result"], [Result.NON_FINITE, Result.TOO_FEW_PIXELS], invert=True)
    assert np.isfinite(out["teff"][fitted]).all()
    assert np.isnan(out["teff"][~fitted]).all()
