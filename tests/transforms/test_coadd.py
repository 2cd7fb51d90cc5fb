import dask
import numpy as np
import pytest
import xarray as xr

import specxr
from specxr.cubes.schema import grid_of, make_cube
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.transforms import coadd
from specxr.vocabulary import MaskBit

LOG = Grid(10.0 ** (np.arange(36200, 37400) * 1e-4), "vacuum", "log10", 1e-4)  # 4169 to 5495 Angstrom


def arm(low, high, step=0.8, power=3000.0, n_stars=3, ivar=1.0, seed=0):
    wavelength = np.arange(low, high, step)
    rng = np.random.default_rng(seed)
    flux = 100 + wavelength / 100 + rng.normal(0, 1, (n_stars, wavelength.size)) / np.sqrt(ivar)
    grid = Grid(wavelength, "vacuum", "linear", step, LineSpread.constant(power))
    return make_cube(
        flux, np.full(flux.shape, ivar), grid, obsid=10 + np.arange(n_stars), stars={"ra": np.zeros(n_stars)}
    )


def test_the_mean_is_weighted_by_inverse_variances():
    one, two = arm(4100, 4900, ivar=4.0), arm(4700, 5600, ivar=1.0)
    one["flux"] += 5.0
    joined = coadd([one, two], LOG)
    wavelength = LOG.wavelength
    np.testing.assert_array_equal(joined["obsid"], [10, 11, 12])
    assert not joined["mask"].any()
    excess = joined["flux"].values - (100 + wavelength / 100)
    for inside, expected in (
        (wavelength < 4690, 5.0),
        ((wavelength > 4710) & (wavelength < 4890), 4.0),
        (wavelength > 4910, 0.0),
    ):
        assert abs(excess[:, inside].mean() - expected) < 0.1
    width = np.diff(LOG.edges)
    both = (wavelength > 4710) & (wavelength < 4890)
    np.testing.assert_allclose(
        joined["ivar"].values[:, both], np.tile(5 * width[both] / 0.8, (3, 1)), rtol=1e-5
    )


def test_sums_have_the_noise_that_the_inverse_variances_say():
    joined = coadd([arm(4100, 5600, n_stars=400)], LOG)
    excess = joined["flux"].values - (100 + LOG.wavelength / 100)
    sums = excess.reshape(400, 12, 100).sum(axis=2)
    expected = np.sqrt((1 / joined["ivar"].values).reshape(400, 12, 100).sum(axis=2))
    assert (sums / expected).std() == pytest.approx(1.0, abs=0.04)


def test_pixels_that_are_bad_in_one_arm_come_from_the_other():
    one, two = arm(4100, 5600), arm(4100, 5600, seed=1)
    one["mask"][:, 500:520] = int(MaskBit.BAD_FLUX)
    one["flux"][:, 500:520] = np.nan
    two["mask"][:, 510:530] = int(MaskBit.BAD_FLUX)
    two["mask"][:, 700] = int(MaskBit.SKY)
    joined = coadd([one, two], LOG)
    at = np.rint(LOG.index(4100 + 0.8 * np.array([505, 515, 525, 700]))).astype(int)
    assert (joined["ivar"].values[0, at] > 0).tolist() == [True, False, True, True]
    assert joined["mask"].values[0, at].tolist() == [
        0,
        int(MaskBit.BAD_FLUX | MaskBit.NO_IVAR),
        0,
        int(MaskBit.SKY),
    ]
    assert np.isfinite(joined["flux"]).all()


def test_what_no_arm_reaches_is_missing():
    joined = coadd([arm(4100, 4500), arm(5000, 5600)], LOG)
    gap = (LOG.wavelength > 4501) & (LOG.wavelength < 4999)
    assert (joined["mask"].values[:, gap] == int(MaskBit.MISSING)).all()
    assert not joined["mask"].values[:, (LOG.wavelength < 4498) | (LOG.wavelength > 5001)].any()
    assert (joined["ivar"].values[:, gap] == 0).all()


def test_the_line_spread_is_that_of_the_arms_and_their_pixels():
    joined = coadd([arm(4100, 4900, power=2000.0), arm(4700, 5600, power=4000.0)], LOG)
    line_spread = grid_of(joined).line_spread
    assert line_spread is not None
    expected = np.hypot(LineSpread.constant(2000.0).sigma(4400.0), 0.8 / 4400 * 299792.458 / np.sqrt(12))
    assert line_spread.sigma(4400.0) == pytest.approx(expected, rel=0.01)
    assert line_spread.sigma(5300.0) < 0.6 * expected
    without = arm(4700, 5600)
    del without["wavelength"].attrs["line_spread"]
    assert grid_of(coadd([arm(4100, 4900), without], LOG)).line_spread is None


def test_lazy_cubes_stay_lazy_and_stars_do_not_depend_on_their_block(forbid_compute):
    arms = [arm(4100, 4900, n_stars=5), arm(4700, 5600, n_stars=5)]
    # As in a stored cube, the spectra are lazy and the variables of the stars are not.
    arms = [one.assign({name: one[name].chunk(star=2) for name in ("flux", "ivar", "mask")}) for one in arms]
    joined = coadd(arms, LOG)
    assert joined.chunksizes["star"] == (2, 2, 1)
    with dask.config.set(scheduler="synchronous"):
        xr.testing.assert_identical(joined.compute(), coadd([one.compute() for one in arms], LOG))
        alone = coadd([one.isel(star=[3]).compute() for one in arms], LOG)
        np.testing.assert_array_equal(alone["flux"], joined["flux"].isel(star=[3]))


def test_wavelengths_in_air_are_brought_to_the_medium_of_the_grid():
    line = 1 - 0.5 * np.exp(-0.5 * ((np.arange(4100, 5600, 0.8) - 5000) / 2) ** 2)
    grid = Grid(np.arange(4100, 5600, 0.8), "air", "linear", 0.8)
    cube = make_cube(line[None], np.ones((1, line.size)), grid)
    joined = coadd([cube], LOG)
    assert LOG.wavelength[joined["flux"].values[0].argmin()] == pytest.approx(5001.4, abs=0.6)


def test_arms_of_other_stars_are_refused():
    with pytest.raises(ValueError, match=r"cube 2 has other stars .*required.*select"):
        coadd([arm(4100, 4900), arm(4700, 5600, n_stars=2)], LOG)
    with pytest.raises(ValueError, match="there are no cubes"):
        coadd([], LOG)


def test_arms_of_desi_give_what_its_reader_gives(tmp_path):
    from support.surveys import write_desi

    from specxr.readers.desi import DESI_GRID

    file = write_desi(tmp_path / "a.fits")
    cubes = {}
    for survey in ("desi", "desi-b", "desi-r", "desi-z"):
        specxr.ingest(survey, file, tmp_path / f"{survey}.zarr", workers=1)
        cubes[survey] = specxr.open_cube(tmp_path / f"{survey}.zarr")
    whole = cubes.pop("desi")
    joined = coadd(list(cubes.values()), DESI_GRID)
    for name in ("flux", "ivar"):
        np.testing.assert_allclose(joined[name], whole[name], rtol=1e-5)
    np.testing.assert_array_equal(joined["mask"], whole["mask"])
    own, given = (grid_of(cube).line_spread.sigma([4500.0, 6500.0, 9000.0]) for cube in (whole, joined))
    np.testing.assert_allclose(own, given, rtol=0.01)
