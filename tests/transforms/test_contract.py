"""What every transform keeps: cube in, cube out, lazy, whatever the blocks, and its input as it was."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import specxr
from specxr.cubes.schema import grid_of, make_cube, validate
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.spectra.normalisation import Normalisation
from specxr.transforms import degrade, normalise, resample, select, to_rest
from specxr.vocabulary import SPECTRA, MaskBit

N_STAR, N_PIXEL = 9, 120
GRID = Grid(
    5000.0 * 10.0 ** (1e-4 * np.arange(N_PIXEL)), "vacuum", "log10", 1e-4, LineSpread.constant(3000.0)
)
COARSE = Grid(5010.0 + 1.5 * np.arange(60), "air", "linear", 1.5, LineSpread.constant(1800.0))

TRANSFORMS = {
    "normalise": lambda cube: normalise(cube, Normalisation(30.0)),
    "to_rest": to_rest,
    "resample": lambda cube: resample(cube, COARSE),
    "degrade": lambda cube: degrade(cube, 12.0, seed=3),
    "select": lambda cube: select(cube, cube["snr_g"] > 20, wavelength=(5010, 5100)),
}


@pytest.fixture(scope="module")
def cube():
    rng = np.random.default_rng(7)
    flux = 100.0 * rng.normal(1.0, 0.05, (N_STAR, N_PIXEL))
    mask = rng.choice([0, int(MaskBit.BAD_ONCE), int(MaskBit.NO_IVAR)], p=[0.94, 0.03, 0.03], size=flux.shape)
    flux[2, 40] = np.nan
    return make_cube(
        flux,
        np.where(mask & MaskBit.NO_IVAR, 0.0, 0.04),
        GRID,
        mask=mask.astype("u2"),
        obsid=1000 - 300 * np.arange(N_STAR),
        stars={"rv": rng.uniform(-200, 200, N_STAR), "snr_g": np.linspace(10, 60, N_STAR)},
        attrs={"history": "made"},
    )


def lazy(cube, stars, pixels=-1):
    """The cube as it is opened from a store: variables of single stars are in memory."""
    return cube.assign({name: cube[name].chunk(star=stars, wavelength=pixels) for name in SPECTRA})


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_cube_comes_out_and_the_input_stays(cube, name):
    before = cube.copy(deep=True)
    out = TRANSFORMS[name](cube)
    validate(out)
    xr.testing.assert_identical(cube, before)
    assert out.attrs["history"].startswith("made; specxr.")
    assert name in out.attrs["history"]
    assert str(out["mask"].attrs) == str(cube["mask"].attrs)
    assert out["flux"].dtype == "float32"
    assert not out["flux"].chunks


@pytest.mark.usefixtures("forbid_compute")
@pytest.mark.parametrize("name", TRANSFORMS)
def test_nothing_is_computed_while_it_is_built(cube, name):
    out = TRANSFORMS[name](lazy(cube, 4))
    assert out["flux"].chunks
    assert out["mask"].chunks
    assert TRANSFORMS["select"](out)["flux"].chunks


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("name", TRANSFORMS)
def test_any_partition_gives_the_same_bits(cube, name, data):
    whole = TRANSFORMS[name](cube)
    sizes = []
    while sum(sizes) < N_STAR:
        sizes.append(data.draw(st.integers(1, N_STAR - sum(sizes))))
    pixels = data.draw(st.sampled_from([N_PIXEL, 50]))
    parted = TRANSFORMS[name](lazy(cube, tuple(sizes), pixels)).compute()
    xr.testing.assert_identical(parted, whole)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_what_is_no_cube_is_refused(cube, name):
    with pytest.raises(ValueError, match="no variable 'mask'"):
        TRANSFORMS[name](cube.drop_vars("mask"))


def test_some_lazy_variables_are_enough(cube):
    mixed = cube.assign(flux=cube["flux"].chunk(star=4))
    xr.testing.assert_identical(to_rest(mixed).compute(), to_rest(cube))


def test_the_doors_are_public():
    assert (specxr.normalise, specxr.to_rest, specxr.resample) == (normalise, to_rest, resample)
    assert specxr.transforms.degrade is degrade


# normalise


def test_a_normalised_cube_has_its_recipe_and_no_units(cube):
    out = normalise(cube, Normalisation(30.0))
    assert Normalisation.from_json(out.attrs["normalisation"]) == Normalisation(30.0)
    assert out["flux"].attrs["units"] == "1"
    assert float(out["flux"].median()) == pytest.approx(1.0, abs=0.01)
    with pytest.raises(ValueError, match="normalised already"):
        normalise(out, Normalisation(30.0))


# to_rest


def test_lines_come_to_rest_and_the_velocity_is_kept():
    rv = np.array([-250.0, 0.0, 80.0, 300.0])
    line = 5070.0
    centre = line * (1 + rv[:, None] / 299792.458)
    flux = 1e4 * (1 - 0.5 * np.exp(-0.5 * ((GRID.wavelength - centre) / 2.0) ** 2))
    cube = make_cube(flux, np.ones_like(flux), GRID, stars={"rv": rv, "velocity": rv})
    out = to_rest(cube)
    expected = 1e4 * (1 - 0.5 * np.exp(-0.5 * ((GRID.wavelength - line) / 2.0) ** 2))
    inner = slice(12, -12)
    np.testing.assert_allclose(out["flux"][:, inner], np.tile(expected, (4, 1))[:, inner], atol=15)
    np.testing.assert_array_equal(out["flux"][1], cube["flux"][1])
    assert "rv" not in out
    np.testing.assert_array_equal(out["rv_removed"], rv)
    for given_as in ("velocity", rv):
        np.testing.assert_array_equal(to_rest(cube, given_as)["flux"], out["flux"])
    with pytest.raises(ValueError, match="at rest already"):
        to_rest(out, rv)


def test_a_bad_pixel_spoils_its_neighbours_and_nothing_else():
    flux = np.full((2, N_PIXEL), 1e-17)
    flux[0, 50] = np.nan
    flux[1, 50] = 1e-11  # a cosmic ray
    mask = np.zeros(flux.shape, "u2")
    mask[1, 50] = MaskBit.BAD_ALWAYS | MaskBit.NO_IVAR
    mask[1, 80] = MaskBit.BAD_ONCE
    ivar = np.where(mask & MaskBit.NO_IVAR, 0, 1e36)
    rv = np.full(
        2, -299792.458 * np.expm1(10.5 * GRID.ln_step)
    )  # to longer wavelengths, by ten and a half pixels
    cube = make_cube(flux, ivar, GRID, mask=mask, stars={"rv": rv})
    out = to_rest(cube)
    spoilt = {60: 50, 61: 50}
    for star, bits in enumerate((MaskBit.BAD_FLUX, MaskBit.BAD_ALWAYS | MaskBit.NO_IVAR)):
        expected = np.zeros(N_PIXEL, int)
        expected[:11] = MaskBit.MISSING
        expected[list(spoilt)] = int(bits)
        if star:
            expected[[90, 91]] = int(MaskBit.BAD_ONCE)
        np.testing.assert_array_equal(out["mask"][star], expected)
        np.testing.assert_array_equal(out["ivar"][star] == 0, (expected & ~int(MaskBit.BAD_ONCE)) > 0)
    np.testing.assert_allclose(out["flux"][:, 11:], 1e-17, rtol=1e-6)
    assert not out["flux"][:, :11].any()


def test_velocities_that_are_missing_are_refused(cube):
    with pytest.raises(ValueError, match="no variable 'speed'"):
        to_rest(cube, "speed")
    with pytest.raises(ValueError, match=r"rv is not finite for 1 of 9"):
        to_rest(cube.assign(rv=("star", np.where(np.arange(9) == 2, np.nan, 1.0))))
    with pytest.raises(ValueError, match=r"shape \(3,\); \(9,\) is required"):
        to_rest(cube, np.zeros(3))
    with pytest.raises(ValueError, match="steps of linear"):
        to_rest(resample(cube, COARSE))


# degrade


def test_noise_is_added_down_to_the_ratio():
    rng = np.random.default_rng(0)
    n_pixel = 4000
    grid = Grid(5000.0 + np.arange(n_pixel), "air", "linear", 1.0)
    sigma = np.linspace(0.5, 2.0, n_pixel)
    flux = 100 + sigma * rng.normal(size=(3, n_pixel))
    cube = make_cube(
        flux, np.tile(sigma**-2, (3, 1)), grid, obsid=[-5, 7, 8], stars={"snr": np.full(3, 80.0)}
    )
    out = degrade(cube, [10.0, 20.0, 1e6], seed=1)
    for star, snr in enumerate((10, 20)):
        ratio = out["flux"][star] * np.sqrt(out["ivar"][star])
        assert float(np.median(ratio)) == pytest.approx(snr, rel=0.03)
        pull = (out["flux"][star] - 100) * np.sqrt(out["ivar"][star])
        assert float(pull.std()) == pytest.approx(1.0, abs=0.04)
    np.testing.assert_array_equal(out["flux"][2], cube["flux"][2])
    assert out["snr"].values.tolist() == [10, 20, 80]
    added = (out["flux"] - cube["flux"]) / np.sqrt(1 / out["ivar"] - 1 / cube["ivar"])
    assert abs(np.corrcoef(added[0], added[1])[0, 1]) < 0.06


def test_a_star_has_its_own_noise_wherever_it_is(cube):
    whole = degrade(cube, 12.0, seed=3)
    other_order = degrade(cube.isel(star=[5, 2]), 12.0, seed=3)
    np.testing.assert_array_equal(other_order["flux"], whole["flux"][[5, 2]])
    assert not np.array_equal(degrade(cube, 12.0, seed=4)["flux"], whole["flux"])
    with pytest.raises(ValueError, match="one positive ratio"):
        degrade(cube, [1.0, 2.0])
    with pytest.raises(ValueError, match="one positive ratio"):
        degrade(cube, 0.0)


# select


def test_stars_are_selected_by_obsid_in_the_order_given(cube):
    assert select(cube, [400, 1000, -1400]).obsid.values.tolist() == [400, 1000, -1400]
    assert select(cube, cube["snr_g"] > 40).sizes["star"] == int((cube["snr_g"] > 40).sum())
    with pytest.raises(ValueError, match=r"1 obsids are not in the cube and 0 .*\(the first: 3\)"):
        select(cube, [400, 3])
    with pytest.raises(ValueError, match="1 are there more than once"):
        select(cube.assign_coords(obsid=("star", [1, 1, *range(2, 9)])), [1, 5])
    with pytest.raises(ValueError, match=r"shape \(3,\); \(9,\) is required"):
        select(cube, [True, False, True])
    with pytest.raises(ValueError, match="dtype float64"):
        select(cube, [1.5])


def test_wavelengths_are_selected_with_both_ends(cube):
    part = select(cube, wavelength=(GRID.wavelength[10], GRID.wavelength[20]))
    np.testing.assert_array_equal(part.wavelength, GRID.wavelength[10:21])
    assert grid_of(part).line_spread == GRID.line_spread
    with pytest.raises(ValueError, match="0 pixels lie between 100 and 200"):
        select(cube, wavelength=(100, 200))
