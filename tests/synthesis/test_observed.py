"""Libraries of observed stars as cubes."""

from __future__ import annotations

import numpy as np
import pytest

import specxr
from specxr.cubes.schema import grid_of
from specxr.readers.lamost_lrs import GRID
from specxr.synthesis import open_observed


def library(path, **changes):
    arrays = {
        "name": np.array(["A", "B", "C"]),
        "wave_air": np.linspace(4000.0, 8000.0, 112),
        "flux": np.ones((3, 112)),
        "teff_logg_feh": np.array([[9000.0, 4.0, 0.1], [8000.0, np.nan, 0.0], [7000.0, 3.5, np.nan]]),
    } | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_stars_without_temperature_or_gravity_are_left_out(tmp_path):
    flux = np.ones((3, 112))
    flux[2, 7] = -1.0
    cube = open_observed(library(tmp_path / "stars.npz", flux=flux), fwhm=2.5)
    specxr.validate(cube)
    assert cube["name"].values.tolist() == ["A", "C"]
    assert cube["teff"].values.tolist() == [9000.0, 7000.0]
    assert np.isnan(cube["feh"].values).tolist() == [False, True]
    assert np.flatnonzero(cube["mask"].values[1]).tolist() == [7]
    grid = grid_of(cube)
    assert grid.medium == "air"
    power = grid.line_spread.resolving_power(grid.wavelength)
    np.testing.assert_allclose(grid.wavelength / power, 2.5, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"teff_logg_feh": None}, "one of teff_logg_feh"),
        ({"flux": None}, "are required"),
        ({"flux": np.ones((3, 5))}, "a row of flux"),
        ({"teff_logg_feh": np.ones((2, 3))}, "a row of flux"),
    ],
)
def test_other_files_are_refused(tmp_path, changes, what):
    with pytest.raises(ValueError, match=what):
        open_observed(library(tmp_path / "stars.npz", **changes), fwhm=2.5)


@pytest.mark.parametrize(
    ("path", "fwhm", "stars"), [("miles/miles_v9.1.npz", 2.54, 709), ("stelib/stelib_v3.2_all.npz", 3.4, 114)]
)
def test_real_libraries_become_cubes(shared, path, fwhm, stars):
    cube = open_observed(shared / path, fwhm)
    assert abs(cube.sizes["star"] - stars) < 30
    assert (cube["teff"].values > 8000).sum() > 5
    specxr.validate(cube)


def test_vega_like_stars_keep_their_balmer_lines_on_other_pixels(shared):
    cube = open_observed(shared / "miles/miles_v9.1.npz", 2.54)
    hot = cube.isel(star=(abs(cube["teff"].values - 9000) < 500) & (cube["logg"].values > 3.5))
    there = specxr.resample(hot, GRID[1050:1450])  # 4712-5160 Angstrom, around H-beta
    wavelength = there["wavelength"].values
    core = there["flux"].sel(wavelength=slice(4855, 4870)).min("wavelength")
    side = there["flux"].isel(wavelength=(wavelength > 5000) & (wavelength < 5060)).mean("wavelength")
    assert ((core / side).values < 0.75).all()
