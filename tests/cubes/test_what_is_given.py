"""What somebody might give in place of a cube, an estimator or a table: it works, or one line says what is required."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from astropy import units as u
from support.fakes import Mean

import specxr
from specxr.cubes.integers import with_integers
from specxr.cubes.schema import as_cube, grid_of, make_cube, validate
from specxr.cubes.store import open_cube, write_cube, write_labels
from specxr.cubes.tables import label_table
from specxr.plotting import plot_comparison, plot_kiel, plot_recovery
from specxr.spectra.grid import Grid
from specxr.vocabulary import VARIABLES, MaskBit, Result

CENTRES = np.arange(5000.0, 5100.0)
FLUX = np.ones((3, 100))


class Spectrum:
    """As specutils has it."""

    flux, spectral_axis = FLUX[0], CENTRES


def one_line(error, *words):
    text = str(error.value)
    assert "\n" not in text
    assert all(word in text for word in words), text


# Other things than a cube, an estimator or a table


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("dr10.zarr", "specxr.open_cube('dr10.zarr')"),
        (Spectrum(), "specxr.from_specutils(spectrum"),
        (FLUX, "specxr.make_cube"),
        (xr.DataArray(FLUX), "specxr.make_cube"),
    ],
)
def test_what_is_no_cube_is_named(given, advice, tmp_path):
    for door in (
        validate,
        lambda cube: specxr.infer(cube, Mean()),
        specxr.transforms.select,
        specxr.to_rest,
        lambda cube: write_cube(cube, tmp_path / "c.zarr"),
    ):
        with pytest.raises(TypeError) as error:
            door(given)
        one_line(
            error, type(given).__name__, "an xarray.Dataset over star and wavelength is required", advice
        )


def test_a_class_or_a_name_is_no_estimator(tiny_cube, tmp_path):
    for given, found in (
        (specxr.LASP, "the class LASP was given"),
        ("lasp", "'lasp' was given"),
        (5, "a int was given"),
    ):
        with pytest.raises(TypeError) as error:
            specxr.infer(tiny_cube, given)
        one_line(error, found, "an estimator is required. Make one: ")
    write_cube(tiny_cube, tmp_path / "c.zarr")
    with pytest.raises(TypeError, match="the class LASP was given"):
        specxr.run(tmp_path / "c.zarr", specxr.LASP, name="a")


def test_figures_take_labels_as_they_come_and_refuse_the_rest(tiny_cube):
    labels = specxr.infer(tiny_cube, Mean(scale=60.0)).assign(
        logg=("star", np.ones(12)), feh=("star", np.zeros(12))
    )
    table = label_table(labels)
    for draw in (plot_kiel, lambda x: plot_comparison(table, x), lambda x: plot_recovery(x, table)):
        draw(labels)
        for wrong, found in ((tiny_cube["flux"], "a DataArray"), (FLUX, "a ndarray"), (None, "a NoneType")):
            with pytest.raises(TypeError) as error:
                draw(wrong)
            one_line(error, f"{found} was given", "pandas.DataFrame", "specxr.label_table(labels)")
    with pytest.raises(ValueError, match=r"labels has no feh \(it has .*a column for each is required"):
        plot_kiel(table.drop(columns="feh"))


def test_names_are_no_obsids():
    with pytest.raises(ValueError, match="obsid") as error:
        make_cube(FLUX, FLUX, CENTRES, medium="air", obsid=["HD 1", "HD 2", "HD 3"])
    one_line(error, "'HD 1'", "integers are required", "stars={'name': names}")


def test_an_obsid_names_one_star(tiny_cube, tmp_path):
    cube = tiny_cube.assign_coords(obsid=("star", [5, *range(9), 7, 7]))
    with pytest.raises(ValueError, match="obsid") as error:
        validate(cube)
    one_line(error, "3 stars have an obsid that another star has (the first: 5, 2 times)", "np.arange(12)")
    assert as_cube(cube) is cube  # it can be fitted and transformed, each star for itself
    with pytest.raises(ValueError, match="each once is required"):
        make_cube(FLUX, FLUX, CENTRES, medium="air", obsid=[1, 1, 2])
    write_cube(cube, tmp_path / "c.zarr")
    with pytest.raises(ValueError, match="each once is required"):
        validate(open_cube(tmp_path / "c.zarr"))


# Selections as xarray makes them


@pytest.mark.parametrize("lazy", [False, True])
def test_stars_chosen_by_where_are_a_cube(tiny_cube, tmp_path, lazy):
    tiny_cube = tiny_cube.assign(mjd=("star", np.arange(12)))
    # As `open_cube` has it: the spectra are lazy, the variables of the stars are not.
    cube = tiny_cube.assign(tiny_cube[["flux", "ivar", "mask"]].chunk(star=5)) if lazy else tiny_cube
    chosen = cube.where(cube.snr_g > 40, drop=True)
    assert chosen["mask"].dtype.kind == "f"
    expected = tiny_cube.isel(star=np.flatnonzero(tiny_cube.snr_g > 40))
    validate(chosen)
    write_cube(chosen, tmp_path / "c.zarr")
    for found in (as_cube(chosen), open_cube(tmp_path / "c.zarr")):
        for name in ("flux", "ivar", "mask", "obsid", "mjd", "subclass"):
            assert name == "subclass" or found[name].dtype == expected[name].dtype
            np.testing.assert_array_equal(found[name].values, expected[name].values)
        assert found["mask"].attrs["flag_meanings"] == expected["mask"].attrs["flag_meanings"]
    labels = specxr.infer(chosen, Mean())
    xr.testing.assert_equal(labels.compute(), specxr.infer(expected, Mean()))
    for transform in (
        specxr.transforms.select,
        lambda c: specxr.to_rest(c, np.zeros(c.sizes["star"])),
        lambda c: specxr.transforms.degrade(c, 5.0, seed=1),
    ):
        xr.testing.assert_equal(transform(chosen).compute(), transform(expected).compute())


def test_pixels_left_out_by_where_are_missing(tiny_cube):
    cube = as_cube(tiny_cube.where(tiny_cube.flux > 100))
    left_out = tiny_cube.flux.values <= 100
    assert cube["mask"].dtype == "uint16"
    assert (cube["mask"].values[left_out] == MaskBit.MISSING).all()
    np.testing.assert_array_equal(cube["mask"].values[~left_out], tiny_cube["mask"].values[~left_out])


def test_labels_chosen_by_where_are_labels(tiny_cube, tmp_path):
    labels = specxr.infer(tiny_cube, Mean())
    labels["result"][3] = Result.MAX_ITER
    labels["flags"] = ("star", np.arange(12, dtype="u2"))
    chosen = labels.where(labels.result == 0, drop=True)
    expected = label_table(labels.isel(star=np.flatnonzero(labels.result == 0)))
    table = label_table(chosen)
    assert (table.dtypes == expected.dtypes).all()
    assert table.equals(expected)
    write_cube(tiny_cube, tmp_path / "c.zarr")
    write_labels(tmp_path / "c.zarr", labels.where(labels.result == 0), "good")
    found = specxr.open_labels(tmp_path / "c.zarr", "good").load()
    assert (found.result.dtype, found.result.values[3]) == ("uint8", Result.NOT_FITTED)


def test_obsids_that_lost_digits_are_refused(tiny_cube):
    lost = tiny_cube.assign_coords(obsid=("star", 1e18 + np.arange(12.0)))
    with pytest.raises(ValueError, match="no integers that this type can tell apart"):
        validate(lost)
    exact = with_integers(tiny_cube.assign_coords(obsid=("star", 1e9 + np.arange(12.0))))
    assert exact.obsid.dtype == VARIABLES["obsid"].dtype


# Units


@pytest.mark.parametrize(
    "wavelength",
    [
        CENTRES / 10 * u.nm,
        CENTRES * 1e-4 * u.micron,
        CENTRES * 1e-10 * u.m,
        xr.DataArray(CENTRES / 10, dims="x", attrs={"units": "nm"}),
        xr.DataArray(CENTRES / 1e4, dims="x", attrs={"units": "\u00b5m"}),
        xr.DataArray(CENTRES, dims="x", attrs={"units": "Angstrom"}),
        xr.DataArray(CENTRES, dims="x"),
    ],
)
def test_lengths_become_angstrom(wavelength):
    cube = make_cube(FLUX, FLUX, wavelength, medium="air")
    np.testing.assert_allclose(cube.wavelength.values, CENTRES, rtol=1e-12)
    assert cube.wavelength.attrs["units"] == "Angstrom"


@pytest.mark.parametrize(
    "wavelength",
    [CENTRES * u.GHz, CENTRES * u.km / u.s, xr.DataArray(CENTRES, dims="x", attrs={"units": "keV"})],
)
def test_what_is_no_length_is_refused(wavelength):
    with pytest.raises(ValueError, match="wavelength") as error:
        make_cube(FLUX, FLUX, wavelength, medium="air")
    one_line(error, "wavelength", "required")


def test_quantities_of_spectra_and_stars_are_converted(tiny_cube):
    flux = FLUX * u.erg / u.s / u.cm**2 / u.AA
    star = {"ra": [12, 13, 14] * u.hourangle, "rv_survey": [1000.0, 0, 0] * u.m / u.s}
    cube = make_cube(flux, 4 * FLUX / (1e-3 * flux.unit) ** 2, CENTRES * u.AA, medium="air", stars=star)
    np.testing.assert_allclose(cube.ivar.values, 4e6)
    assert u.Unit(cube.flux.attrs["units"]) == flux.unit
    np.testing.assert_allclose(cube.ra.values, [180, 195, 210])
    np.testing.assert_allclose(cube.rv_survey.values, [1, 0, 0])
    with pytest.raises(ValueError, match="ivar is given in"):
        make_cube(flux, 4 * FLUX * u.K, CENTRES, medium="air")
    metres = specxr.to_rest(tiny_cube, np.full(12, 5000.0) * u.m / u.s)
    np.testing.assert_array_equal(metres.rv_removed, 5.0)


def test_a_cube_is_in_angstrom(tiny_cube):
    other = tiny_cube.assign_coords(
        wavelength=tiny_cube.wavelength.assign_attrs(units="nm", medium="vacuum") / 10
    )
    other["wavelength"].attrs = {**tiny_cube.wavelength.attrs, "units": "nm"}
    with pytest.raises(
        ValueError, match=r"'units'\] is 'nm'; Angstrom is required in a cube.*multiply .* by 10"
    ):
        validate(other)


@pytest.mark.parametrize(
    ("factor", "looks"), [(0.1, "looks like nm"), (1e-4, "looks like microns"), (1.0, "")]
)
def test_a_window_without_pixels_says_what_the_cube_spans(factor, looks):
    centres = 10.0 ** np.arange(3.9, 3.95, 1e-4) * factor
    cube = make_cube(np.ones((2, centres.size)), None, centres, medium="air")
    with pytest.raises(ValueError, match="0 pixels") as error:
        specxr.infer(cube, specxr.LASP())
    one_line(
        error, "0 pixels of the cube", f"covers {centres[0]:.6g}-{centres[-1]:.6g} Angstrom in air", looks
    )
    assert ("looks like" in str(error.value)) == bool(looks)
    assert isinstance(grid_of(cube), Grid)


# Spectra of somebody's own


def test_one_star_needs_no_axis_of_stars():
    cube = specxr.make_cube(
        FLUX[0], FLUX[0], CENTRES, medium="air", obsid=7, stars={"ra": 10.5, "subclass": "A0", "mine": 3}
    )
    assert dict(cube.sizes) == {"star": 1, "wavelength": 100}
    assert cube["obsid"].values.tolist() == [7]
    assert (cube["ra"].item(), cube["subclass"].item(), cube["mine"].item()) == (10.5, "A0", 3)
    masked = specxr.make_cube(FLUX[0], None, CENTRES, medium="air", mask=CENTRES < 5002)
    assert masked["mask"].values.tolist() == [[int(MaskBit.BAD_ALWAYS)] * 2 + [0] * 98]
    with pytest.raises(ValueError, match=r"ivar has shape \(3, 100\); \(1, 100\) is required"):
        specxr.make_cube(FLUX[0], FLUX, CENTRES, medium="air")


@pytest.mark.parametrize("lazy", [False, True])
def test_a_boolean_mask_is_true_where_a_pixel_is_bad(lazy):
    ivar = FLUX.copy()
    ivar[0, 0] = 0.0
    bad = np.zeros(FLUX.shape, bool)
    bad[1, 1] = True
    given = [da.from_array(x, (1, 100)) for x in (FLUX, ivar, bad)] if lazy else [FLUX, ivar, bad]
    cube = specxr.make_cube(*given[:2], CENTRES, medium="air", mask=given[2])
    expected = np.zeros(FLUX.shape, "u2")
    expected[0, 0], expected[1, 1] = MaskBit.NO_IVAR, MaskBit.BAD_ALWAYS
    assert bool(cube["mask"].chunks) == lazy
    np.testing.assert_array_equal(cube["mask"], expected)
    np.testing.assert_array_equal(
        specxr.make_cube(FLUX, ivar, CENTRES, medium="air", mask=bad.tolist())["mask"], expected
    )


@pytest.mark.parametrize(
    ("obsid", "words"),
    [
        ([1.5, 2.0, 3.0], ("float64", "integers are required")),
        ([4, 4, 5], ("the first: 4, 2 times", "each once is required", "obsid=np.arange(3)")),
    ],
)
def test_obsids_that_cannot_join_labels_are_explained(obsid, words):
    with pytest.raises(ValueError, match="obsid") as error:
        specxr.make_cube(FLUX, FLUX, CENTRES, medium="air", obsid=obsid)
    one_line(error, *words)


def test_own_spectra_are_resampled_at_the_top():
    cube = specxr.make_cube(FLUX * u.Jy, FLUX / u.mJy**2, CENTRES * 0.1 * u.nm, medium="air")
    assert cube["flux"].attrs["units"] == "Jy"
    np.testing.assert_allclose(cube["ivar"], 1e6)
    grid = specxr.Grid.regular(np.arange(5020.0, 5070.0, 2.0), "air")
    again = specxr.resample(cube, grid)
    np.testing.assert_allclose(again["flux"], 1.0, rtol=1e-6)
    assert (again["mask"] == 0).all()
