import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from specxr.cubes.schema import grid_of, make_cube, validate
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.vocabulary import CUBE_SCHEMA_VERSION, MaskBit


def with_attr(name, value):
    return lambda cube: cube.assign_coords(wavelength=cube.wavelength.assign_attrs({name: value}))


def with_wavelength(values):
    return lambda cube: cube.assign_coords(wavelength=("wavelength", values, cube.wavelength.attrs))


BROKEN = {
    "no flux": (lambda c: c.drop_vars("flux"), "no variable 'flux'"),
    "no ivar": (lambda c: c.drop_vars("ivar"), r"no variable 'ivar'.*xr\.zeros_like"),
    "no mask": (lambda c: c.drop_vars("mask"), "no variable 'mask'.*unsigned|no variable 'mask'.*uint16"),
    "no obsid": (lambda c: c.drop_vars("obsid"), "no 'obsid'.*Number the stars"),
    "no wavelength": (lambda c: c.drop_vars("wavelength"), "no coordinate 'wavelength'"),
    "one star": (lambda c: c.isel(star=0), r"isel\(star=\[i\]\)"),
    "transposed": (lambda c: c.transpose("wavelength", "star"), "transpose"),
    "other name": (lambda c: c.rename(star="row"), r"\('row', 'wavelength'\)"),
    "signed mask": (lambda c: c.assign(mask=c.mask.astype("int32")), "int32.*unsigned"),
    "integer flux": (lambda c: c.assign(flux=c.flux.astype("int32")), "int32.*floating"),
    "float obsid": (lambda c: c.assign_coords(obsid=c.obsid.astype("f8")), "float64.*astype"),
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
