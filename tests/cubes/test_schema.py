import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from support import simulated

import specxr
from specxr.cubes.growth import write_beyond
from specxr.cubes.ingestion import ingest
from specxr.cubes.schema import grid_of, make_cube, validate, with_ivar, with_line_spread
from specxr.cubes.store import open_cube, write_cube
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import Arm, LineSpread
from specxr.vocabulary import CUBE_SCHEMA_VERSION, VARIABLES, MaskBit


def with_attr(name, value):
    return lambda cube: cube.assign_coords(wavelength=cube.wavelength.assign_attrs({name: value}))


def with_wavelength(values):
    return lambda cube: cube.assign_coords(wavelength=("wavelength", values, cube.wavelength.attrs))


BROKEN = {
    "no flux": (lambda c: c.drop_vars("flux"), "no variable 'flux'"),
    "no mask": (lambda c: c.drop_vars("mask"), "no variable 'mask'.*unsigned|no variable 'mask'.*uint16"),
    "no obsid": (lambda c: c.drop_vars("obsid"), "no 'obsid'.*Number the stars"),
    "no wavelength": (lambda c: c.drop_vars("wavelength"), "no coordinate 'wavelength'"),
    "one star": (lambda c: c.isel(star=0), r"isel\(star=\[i\]\)"),
    "transposed": (lambda c: c.transpose("wavelength", "star"), "transpose"),
    "other name": (lambda c: c.rename(star="row"), r"\('row', 'wavelength'\)"),
    "signed mask": (lambda c: c.assign(mask=c.mask.astype("int32")), "int32.*unsigned"),
    "integer flux": (lambda c: c.assign(flux=c.flux.astype("int32")), "int32.*floating"),
    "float obsid": (
        lambda c: c.assign_coords(obsid=c.obsid + 0.5),
        "obsid is floating point.*integers are required",
    ),
    "no medium": (with_attr("medium", None), "medium.*None.*'vacuum', 'air'"),
    "unknown medium": (with_attr("medium", "water"), "'water'"),
    "unknown sampling": (with_attr("sampling", "ln"), "'ln'.*'log10', 'linear'"),
    "no step": (with_attr("step", None), "step.*None"),
    "negative step": (with_attr("step", -1e-4), "-0.0001"),
    "wrong step": (with_attr("step", 2e-4), "pixels from a log10 grid"),
    "wrong sampling": (with_attr("sampling", "linear"), "pixels from a linear grid"),
    "decreasing": (lambda c: c.isel(wavelength=slice(None, None, -1)), "does not increase.*sortby"),
    "gap": (lambda c: c.isel(wavelength=[0, 1, 2, 4, 5]), "departs by 1 pixels"),
    "nan": (with_wavelength(np.r_[np.nan, np.arange(79)]), "finite and positive"),
    "newer": (lambda c: c.assign_attrs(schema_version=99), "version 99.*newer"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_validate_says_what_is_wrong(tiny_cube, change, message):
    with pytest.raises(ValueError, match=message):
        validate(change(tiny_cube))


def test_selections_of_a_cube_are_cubes(tiny_cube):
    validate(tiny_cube.isel(star=[3]))
    validate(tiny_cube.isel(star=[5, 2, 1]))
    validate(tiny_cube.isel(wavelength=slice(10, 50)))


@pytest.mark.usefixtures("forbid_compute")
def test_validate_and_grid_of_compute_nothing(tiny_cube):
    lazy = tiny_cube.chunk(star=5).reset_coords("obsid").chunk(star=5)
    validate(lazy)
    assert grid_of(lazy).wavelength.shape == (80,)


def test_make_cube_keeps_what_it_is_given(tiny_cube):
    assert tiny_cube.flux.dtype == tiny_cube.ivar.dtype == "float32"
    assert tiny_cube.mask.dtype == "uint16"
    assert tiny_cube.obsid.dtype == "int64"
    assert set(tiny_cube.coords) == {"wavelength", "obsid", "ra", "dec"}
    assert tiny_cube.ra.attrs["units"] == "degree"
    assert tiny_cube.subclass.dtype == object
    assert tiny_cube.attrs["survey"] == "none"
    assert tiny_cube.attrs["schema_version"] == CUBE_SCHEMA_VERSION
    meanings = dict(zip(tiny_cube.mask.flag_meanings.split(), tiny_cube.mask.flag_masks, strict=True))
    assert meanings == {bit.name.lower(): int(bit) for bit in MaskBit}


def test_make_cube_leaves_lazy_arrays_lazy(tiny_cube, forbid_compute):
    lazy = tiny_cube.chunk(star=5)
    again = make_cube(
        lazy.flux.data, lazy.ivar.data, grid_of(tiny_cube), mask=lazy.mask.data, obsid=tiny_cube.obsid
    )
    assert again.flux.chunks == lazy.flux.chunks


def test_make_cube_refuses_shapes_that_disagree(tiny_cube):
    flux, ivar, mask = (tiny_cube[name].values for name in ("flux", "ivar", "mask"))
    with pytest.raises(ValueError, match=r"ivar has shape \(80, 12\); \(12, 80\) is required"):
        make_cube(flux, ivar.T, grid_of(tiny_cube), mask=mask, obsid=tiny_cube.obsid)


@given(
    sampling=st.sampled_from(["log10", "linear"]),
    medium=st.sampled_from(["vacuum", "air"]),
    first=st.floats(3000, 16000),
    step=st.floats(2e-5, 5e-4),
    n=st.integers(2, 4000),
    power=st.none() | st.floats(500, 1e5),
)
def test_grid_of_gives_back_the_grid(sampling, medium, first, step, n, power):
    pixels = np.arange(n)
    if sampling == "log10":
        wavelength = first * 10.0 ** (pixels * step)
    else:
        step *= 1e4
        wavelength = first + step * pixels
    zeros = xr.zeros_like(xr.DataArray(np.empty((1, n), "f4"))).values
    spread = None if power is None else LineSpread.constant(power)
    grid = Grid(wavelength, medium, sampling, step, spread)
    found = grid_of(make_cube(zeros, zeros, grid, mask=zeros.astype("u1"), obsid=[1]))
    np.testing.assert_array_equal(found.wavelength, grid.wavelength)
    assert (found.medium, found.sampling, found.step) == (medium, sampling, step)
    assert found.line_spread == spread
    assert found.fingerprint == grid.fingerprint


def test_wavelengths_rounded_to_float32_are_on_the_grid():
    wavelength = 10.0 ** (np.arange(35682, 39591) * 1e-4)
    zeros = np.zeros((1, wavelength.size), "f4")
    grid = Grid(wavelength.astype("f4").astype("f8"), "vacuum", "log10", 1e-4)
    make_cube(zeros, zeros, grid, mask=zeros.astype("u1"), obsid=[1])


def test_wavelengths_alone_are_enough():
    flux = np.full((3, 50), 2.0)
    for sampling, step, wavelength in (
        ("log10", 2e-4, 4000.0 * 10.0 ** (2e-4 * np.arange(50))),
        ("linear", 1.25, 4000.0 + 1.25 * np.arange(50)),
    ):
        cube = make_cube(flux, flux, wavelength.astype("f4"), medium="air")
        grid = grid_of(cube)
        assert (grid.medium, grid.sampling) == ("air", sampling)
        assert grid.step == pytest.approx(step, rel=1e-3)
        assert cube.obsid.values.tolist() == [0, 1, 2]
        assert not cube["mask"].values.any()


def test_wavelengths_that_are_not_regular_are_refused():
    flux, wavelength = np.ones((1, 50)), 4000.0 + 1.25 * np.arange(50)
    with pytest.raises(ValueError, match="medium of the wavelengths is None.*Say which"):
        make_cube(flux, flux, wavelength)
    with pytest.raises(ValueError, match=r"depart by .* Rebin the spectra to regular pixels"):
        make_cube(flux, flux, np.sort(np.random.default_rng(1).uniform(4000, 5000, 50)), medium="air")
    with pytest.raises(ValueError, match="do not increase"):
        make_cube(flux, flux, wavelength[::-1], medium="air")
    with pytest.raises(ValueError, match="one axis of at least two"):
        make_cube(flux, flux, wavelength[None], medium="air")


@pytest.mark.parametrize("lazy", [False, True])
def test_a_mask_that_is_not_given_says_what_the_arrays_say(lazy):
    flux, ivar = np.ones((2, 3), "f4"), np.ones((2, 3), "f4")
    flux[0, 1], ivar[1, 2], ivar[1, 0] = np.nan, 0.0, np.inf
    grid = Grid(4000.0 + np.arange(3), "air", "linear", 1.0)
    arrays = (da.from_array(flux, (1, 3)), da.from_array(ivar, (1, 3))) if lazy else (flux, ivar)
    cube = make_cube(*arrays, grid)
    assert bool(cube["mask"].chunks) == lazy
    assert cube["mask"].dtype == "uint16"
    np.testing.assert_array_equal(
        cube["mask"], [[0, MaskBit.BAD_FLUX, 0], [MaskBit.NO_IVAR, 0, MaskBit.NO_IVAR]]
    )
    unknown = make_cube(flux, None, grid)
    np.testing.assert_array_equal(unknown["mask"], [[0, MaskBit.BAD_FLUX, 0], [0, 0, 0]])
    assert "ivar" not in unknown
    assert with_ivar(unknown)["ivar"].isnull().all()
    partly = make_cube(flux, np.where(ivar == 1, np.nan, ivar), grid)
    np.testing.assert_array_equal(partly["mask"], cube["mask"])
    with pytest.raises(ValueError, match="mask has dtype int64"):
        make_cube(flux, ivar, grid, mask=np.zeros((2, 3), int))


@pytest.mark.parametrize("lazy", [False, True])
def test_flux_beyond_single_precision_is_masked_whatever_mask_is_given(lazy):
    flux = np.array([[1e300, 1.0, -1e39], [1.0, 1e38, 1.0]])
    grid = Grid(4000.0 + np.arange(3), "air", "linear", 1.0)
    given = np.full((2, 3), int(MaskBit.SKY), "u1")
    cube = make_cube(da.from_array(flux, (1, 3)) if lazy else flux, None, grid, mask=given)
    bad, sky = int(MaskBit.BAD_FLUX | MaskBit.SKY), int(MaskBit.SKY)
    np.testing.assert_array_equal(cube["mask"], [[bad, sky, bad], [sky, sky, sky]])


def test_variables_of_the_vocabulary_get_its_types_and_attributes(tiny_cube):
    cube = make_cube(
        tiny_cube.flux,
        tiny_cube.ivar,
        grid_of(tiny_cube),
        stars={
            "ra": np.arange(12, dtype="f4"),
            "mjd": np.arange(12, dtype="i4"),
            "mine": np.arange(12, dtype="f4"),
        },
    )
    assert (cube.ra.dtype, cube.mjd.dtype, cube.mine.dtype) == ("float64", "int64", "float32")
    for name in ("flux", "ivar", "obsid", "ra", "mjd"):
        assert cube[name].attrs == VARIABLES[name].attrs
    assert cube.mjd.attrs["units"] == "d"


def schema_1(cube):
    """The cube as the first version wrote it: masks of eight bits, and a resolving power."""
    attrs = {k: v for k, v in cube.wavelength.attrs.items() if k != "line_spread"} | {
        "resolving_power": 1800.0
    }
    mask = cube["mask"].astype("u1").assign_attrs(cube["mask"].attrs)
    mask.attrs["flag_masks"] = np.asarray(mask.attrs["flag_masks"], dtype="u1")
    old = cube.assign(mask=mask).assign_coords(wavelength=cube.wavelength.drop_attrs().assign_attrs(attrs))
    return old.assign_attrs(schema_version=1)


def test_a_cube_of_schema_1_opens(tiny_cube, tmp_path):
    write_cube(schema_1(tiny_cube), tmp_path / "old.zarr")
    cube = open_cube(tmp_path / "old.zarr")
    validate(cube)
    assert cube.attrs["schema_version"] == 1
    assert cube["mask"].dtype == "uint8"
    assert grid_of(cube).line_spread == LineSpread.constant(1800.0)
    np.testing.assert_array_equal(cube["mask"], tiny_cube["mask"])


def test_a_cube_of_schema_1_is_fitted_as_one_of_schema_2(tmp_path):
    flux, _ = simulated.spectra(3, 1)
    cube = make_cube(flux, np.ones_like(flux), simulated.GRID)
    write_cube(schema_1(cube), tmp_path / "old.zarr")
    lasp = specxr.LASP()
    new, old = specxr.infer(cube, lasp), specxr.infer(open_cube(tmp_path / "old.zarr"), lasp).compute()
    assert (old.result == 0).all()
    np.testing.assert_array_equal(new.teff, old.teff)


def test_a_cube_of_schema_1_can_be_appended_to(write_lamost, tmp_path):
    for i in range(3):
        write_lamost(tmp_path / f"{i}.fits", flux=np.full(3900, i + 1.0), OBSID=i)
    out = tmp_path / "c.zarr"
    ingest("lamost-lrs", tmp_path / "0.fits", tmp_path / "new.zarr", workers=1)
    write_cube(schema_1(open_cube(tmp_path / "new.zarr")), out)
    report = ingest("lamost-lrs", [tmp_path / "1.fits", tmp_path / "2.fits"], out, mode="append", workers=1)
    cube = open_cube(report.path).compute()
    assert cube["mask"].dtype == "uint8"
    np.testing.assert_array_equal(cube.flux[:, 0], [1.0, 2.0, 3.0])
    assert (cube["mask"].values[:, -9:] == MaskBit.MISSING).all()
    star = cube.isel(star=[0]).assign(mask=cube["mask"].isel(star=[0]).astype("u2") + np.uint16(256))
    with pytest.raises(ValueError, match="bits up to .*stores it as uint8"):
        write_beyond(out, star[["mask"]].reset_coords(drop=True), 3)


def test_a_measured_line_spread_is_put_on_a_cube(tiny_cube, forbid_compute):
    measured = LineSpread((Arm(3000.0, 10000.0, (70.0, 5.0)),))
    lazy = tiny_cube.chunk(star=1)
    after = with_line_spread(lazy, measured)
    assert grid_of(after).line_spread == measured
    assert grid_of(lazy).line_spread != measured
    old = tiny_cube.copy()
    old["wavelength"].attrs.pop("line_spread", None)
    old["wavelength"].attrs["resolving_power"] = 1800.0
    assert grid_of(with_line_spread(old, measured)).line_spread == measured
    assert "resolving_power" not in with_line_spread(old, measured)["wavelength"].attrs
