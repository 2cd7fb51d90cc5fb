import numpy as np
import pytest

from specxr import from_specutils, to_specutils
from specxr.cubes.schema import grid_of
from specxr.spectra.grid import Grid
from specxr.vocabulary import MaskBit

specutils = pytest.importorskip(
    "specutils", reason="specutils is not installed: pip install 'specxr[specutils]'"
)
u = pytest.importorskip("astropy.units")
FLUX_UNIT = "1e-17 erg / (s cm2 Angstrom)"
WAVELENGTH = 10.0 ** np.arange(3.70, 3.72, 1e-4)


def spectrum(flux=None, wavelength=WAVELENGTH * u.AA, unit=FLUX_UNIT, **extra):
    flux = np.linspace(1, 2, len(wavelength)) if flux is None else flux
    return specutils.Spectrum(flux=flux * u.Unit(unit), spectral_axis=wavelength, **extra)


def test_a_spectrum_with_its_units_errors_and_mask():
    from astropy.nddata import StdDevUncertainty

    n = WAVELENGTH.size
    mask, flux = np.zeros(n, bool), np.linspace(1, 2, n)
    mask[5], flux[7] = True, np.nan
    one = spectrum(flux, uncertainty=StdDevUncertainty(np.full(n, 0.5)), mask=mask)
    cube = from_specutils(one, medium="vacuum", stars={"ra": [10.0]})
    assert cube["flux"].attrs["units"] == "1e-17 erg / (Angstrom s cm2)"
    np.testing.assert_allclose(cube["ivar"][0, :5], 4.0)
    assert cube["mask"][0, [4, 5, 7]].values.tolist() == [0, int(MaskBit.BAD_ALWAYS), int(MaskBit.BAD_FLUX)]
    assert (grid_of(cube).sampling, grid_of(cube).medium) == ("log10", "vacuum")
    assert cube["ra"].values.tolist() == [10.0]


def test_there_and_back(tiny_cube):
    there = to_specutils(tiny_cube)
    assert there.shape == tiny_cube["flux"].shape
    assert there.mask.dtype == bool
    back = from_specutils(
        there, medium=there.meta["medium"], obsid=there.meta["obsid"], stars={"ra": there.meta["ra"]}
    )
    for name in ("flux", "ivar", "mask", "obsid", "ra", "wavelength"):
        np.testing.assert_allclose(back[name], tiny_cube[name], rtol=1e-6)


@pytest.mark.parametrize("kind", ["list", "collection", "rows", "SpectrumList"])
def test_several_spectra(kind):
    from astropy.nddata import StdDevUncertainty

    flux = np.arange(3.0)[:, None] + np.ones((3, WAVELENGTH.size))
    singles = [spectrum(row, uncertainty=StdDevUncertainty(row), mask=row < 0) for row in flux]
    spectra = {
        "list": lambda: singles,
        "collection": lambda: specutils.SpectrumCollection.from_spectra(singles),
        "rows": lambda: spectrum(flux),
        "SpectrumList": lambda: specutils.SpectrumList(singles),
    }[kind]()
    cube = from_specutils(spectra, medium="air", obsid=[5, 6, 7])
    np.testing.assert_allclose(cube["flux"], flux)
    assert cube["obsid"].values.tolist() == [5, 6, 7]


def test_frequencies_and_other_units_are_brought_to_angstrom_and_the_first_unit():
    reference = spectrum()
    frequency = (WAVELENGTH * u.AA).to(u.Hz, equivalencies=u.spectral())
    other = spectrum(np.linspace(1, 2, WAVELENGTH.size), frequency, "1e-16 erg / (s cm2 Angstrom)")
    cube = from_specutils([reference, other], medium="vacuum")
    np.testing.assert_allclose(cube["flux"][1], 10 * cube["flux"][0], rtol=1e-5)
    nanometres = spectrum(wavelength=WAVELENGTH / 10 * u.nm)
    np.testing.assert_allclose(from_specutils(nanometres, medium="vacuum")["wavelength"], WAVELENGTH)


def test_spectra_on_other_pixels_need_a_grid():
    shifted = spectrum(wavelength=WAVELENGTH * 1.0001 * u.AA)
    with pytest.raises(ValueError, match="spectrum 1 has .* the same pixels are required"):
        from_specutils([spectrum(), shifted], medium="vacuum")
    grid = Grid(10.0 ** (np.arange(37010, 37180) * 1e-4), "vacuum", "log10", 1e-4)
    cube = from_specutils([spectrum(), shifted], medium="vacuum", grid=grid)
    expected = np.interp(grid.wavelength, WAVELENGTH, np.linspace(1, 2, WAVELENGTH.size))
    np.testing.assert_allclose(cube["flux"][0], expected, atol=1e-3)
    assert not cube["mask"].any()


@pytest.mark.parametrize(
    ("spectra", "error", "message"),
    [
        ([], ValueError, "there are no spectra"),
        ([spectrum(), spectrum(unit="K")], Exception, "convert|units"),
        (
            spectrum(wavelength=WAVELENGTH**2 / 5000 * np.linspace(1, 1.1, WAVELENGTH.size) * u.AA),
            ValueError,
            "equal steps",
        ),
    ],
)
def test_what_cannot_be_a_cube_is_refused(spectra, error, message):
    with pytest.raises(error, match=message):
        from_specutils(spectra, medium="vacuum")
