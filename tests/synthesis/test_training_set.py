"""A training set is a cube whose spectra are those of its labels, whatever the chunks."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch
import xarray as xr

from specxr.cubes.schema import grid_of, make_cube, validate
from specxr.emulators import default
from specxr.published.hot_stars import VSINI, hot_star_normalisation
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.spectra.normalisation import Normalisation
from specxr.synthesis import (
    EmulatorSpectra,
    Instrument,
    Library,
    make_training_set,
    open_folder,
)
from specxr.synthesis.designs import Uniform, draw
from specxr.transforms import normalise

GRID = Grid(10.0 ** (np.arange(36200, 37000) * 1e-4), "vacuum", "log10", 1e-4, LineSpread.constant(1800.0))
INSTRUMENT = Instrument(GRID)
RECIPE = hot_star_normalisation("vacuum")
DESIGN = {"teff": Uniform(7000, 17000), "logg": Uniform(3.2, 4.8), "feh": Uniform(-0.8, 0.4), "vsini": VSINI}


@pytest.fixture(scope="module")
def generator():
    return EmulatorSpectra(default())


@pytest.fixture(scope="module")
def labels():
    return draw(DESIGN, 30, seed=3)


@pytest.fixture(scope="module")
def cube(generator, labels):
    return make_training_set(labels, generator, INSTRUMENT, RECIPE, snr=100.0, seed=5, chunk=30).load()


def test_it_is_a_valid_cube_with_labels_and_how_it_was_made(cube, labels):
    validate(cube)
    assert cube.sizes == {"star": 30, "wavelength": 800}
    for name in labels:
        np.testing.assert_array_equal(cube[name], labels[name])
        assert cube[name].attrs["units"] in ("K", "dex", "km/s")
    assert Normalisation.from_json(cube.attrs["normalisation"]) == RECIPE
    assert grid_of(cube) == GRID
    assert LineSpread.from_json(cube["wavelength"].attrs["line_spread"]) == LineSpread.constant(1800.0)


def test_nothing_is_computed_while_it_is_built(generator, labels, forbid_compute):
    lazy = make_training_set(labels, generator, INSTRUMENT, RECIPE, chunk=10)
    assert lazy["flux"].chunks[0] == (10, 10, 10)
    assert normalise(make_training_set(labels, generator, INSTRUMENT, None), RECIPE).chunks


@pytest.mark.parametrize("chunk", [1, 7, 16])
def test_a_star_does_not_depend_on_the_chunks(generator, labels, cube, chunk):
    other = make_training_set(labels, generator, INSTRUMENT, RECIPE, snr=100.0, seed=5, chunk=chunk).load()
    for name in ("flux", "ivar", "mask"):
        np.testing.assert_array_equal(other[name], cube[name])


def test_another_seed_is_other_noise(generator, labels, cube):
    other = make_training_set(labels, generator, INSTRUMENT, RECIPE, snr=100.0, seed=6).load()
    assert not np.allclose(other["flux"], cube["flux"], atol=1e-3)


def test_noise_is_what_snr_says(generator, labels):
    snr = np.linspace(20, 200, 30)
    quiet, noisy = (make_training_set(labels, generator, INSTRUMENT, None, snr=s).load() for s in (1e9, snr))
    noise = (noisy["flux"] - quiet["flux"]).values
    assert np.std(noise * np.sqrt(noisy["ivar"].values)) == pytest.approx(1.0, abs=0.02)
    np.testing.assert_allclose(np.median(quiet["flux"], axis=1) / noise.std(axis=1), snr, rtol=0.12)


def test_spectra_are_the_generators_rotated_and_spread(generator, labels):
    """One by one, on a finer grid, by plain convolution with the profiles."""
    cube = make_training_set(labels, generator, INSTRUMENT, None, snr=1e9).load()
    ln_step = 2.5 / 299792.458  # ln(wavelength) of a pixel of 2.5 km/s
    ln_edges = np.arange(np.log(4140.0), np.log(5060.0), ln_step)
    own, wanted = (299792.458 / power / 2.3548 for power in (default().resolving_power, 1800))
    offset = np.arange(-500, 501) * 2.5
    spread = np.exp(-0.5 * offset**2 / (wanted**2 - own**2))
    for star in (0, 7, 21):
        values = np.array([[labels[name][star] for name in generator.labels]])
        fine = default().on(np.exp(ln_edges), "vacuum").flux(torch.from_numpy(values))[0].numpy()
        x = np.clip(offset / labels["vsini"][star], -1, 1)
        rotation = 0.8 * np.sqrt(1 - x**2) + 0.3 * np.pi * (1 - x**2)
        for kernel in (rotation, spread):
            fine = np.convolve(fine, kernel / kernel.sum(), mode="same")
        integral = np.append(0, np.cumsum(fine * np.diff(np.exp(ln_edges))))
        expected = np.diff(np.interp(GRID.edges, np.exp(ln_edges), integral)) / np.diff(GRID.edges)
        np.testing.assert_allclose(cube["flux"][star], expected, atol=1.5e-3)


def test_normalising_afterwards_is_the_same(generator, labels, cube):
    later = normalise(
        make_training_set(labels, generator, INSTRUMENT, None, snr=100.0, seed=5, chunk=8), RECIPE
    ).load()
    used = cube["ivar"].values > 0
    np.testing.assert_allclose(later["flux"].values[used], cube["flux"].values[used], rtol=1e-4)
    assert later.attrs["normalisation"] == cube.attrs["normalisation"]
    with pytest.raises(ValueError, match="normalised already"):
        normalise(later, RECIPE)


def test_bad_designs_are_refused_before_anything_is_computed(generator, labels):
    def make(changed, instrument=INSTRUMENT):
        return make_training_set(changed, generator, instrument, RECIPE)

    with pytest.raises(ValueError, match="requires teff, logg, feh"):
        make({"teff": labels["teff"]})
    with pytest.raises(ValueError, match="labels were given for"):
        make(labels | {"c_fe": labels["feh"]})
    with pytest.raises(ValueError, match="not finite for 1 stars"):
        make(labels | {"feh": np.where(np.arange(30) == 3, np.nan, 0.0)})
    with pytest.raises(ValueError, match="one value of each label for every star"):
        make(labels | {"feh": np.zeros(3)})
    with pytest.raises(ValueError, match="0 to 450 is required"):
        make(labels | {"vsini": np.full(30, 600.0)})
    for changed, snr in ((labels, 0.0), ({name: np.empty(0) for name in labels}, 100.0)):
        with pytest.raises(ValueError, match="positive ratios are required"):
            make_training_set(changed, generator, INSTRUMENT, RECIPE, snr=snr)
    far = Grid(10.0 ** (np.arange(39000, 39800) * 1e-4), "vacuum", "log10", 1e-4, LineSpread.constant(1800.0))
    with pytest.raises(ValueError, match="rotation and line spread reach"):
        make(labels, Instrument(far))
    with pytest.raises(ValueError, match="narrower spectra are required"):
        make(labels, Instrument(dataclasses.replace(GRID, line_spread=LineSpread.constant(5000.0))))
    with pytest.raises(ValueError, match="sampled in steps of linear"):
        Instrument(Grid(np.arange(5000.0, 5100.0), "air", "linear", 1.0, LineSpread.constant(1800.0)))


def test_an_emulator_travels_to_workers_and_gives_the_same(generator, labels):
    values = np.stack([labels[name] for name in generator.labels], axis=1)
    sent = pickle.dumps(generator)
    assert len(sent) < 1_000_000
    np.testing.assert_array_equal(pickle.loads(sent).spectra(values), generator.spectra(values))


@pytest.fixture
def folder(tmp_path):
    """Six spectra of text with two labels, on a linear grid in air."""
    wavelength = np.arange(4000.0, 5200.0, 0.5)
    rows = ["file,teff,c_fe"]
    for star in range(6):
        teff, c_fe = 8000.0 + 500 * star, -0.5 + 0.2 * star
        flux = 1.0 - 0.1 * (star + 1) * np.exp(-0.5 * ((wavelength - 4600) / 5.0) ** 2)
        np.savetxt(tmp_path / f"s{star}.txt", np.column_stack([wavelength, flux]))
        rows.append(f"s{star}.txt,{teff},{c_fe}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    return tmp_path


def test_a_folder_of_spectra_becomes_a_training_set(folder, tmp_path):
    opened = open_folder(folder, "air")
    assert opened["flux"].chunks
    library = Library(opened, ("teff", "c_fe"))
    cube = make_training_set(library.design, library, INSTRUMENT, None, snr=1e9).load()
    np.testing.assert_allclose(cube["teff"], 8000 + 500 * np.arange(6))
    # Broadening keeps the equivalent width, which was set.
    lost = ((1 - cube["flux"].values) * np.diff(GRID.edges)).sum(1)
    np.testing.assert_allclose(lost, 0.1 * np.arange(1, 7) * 5 * np.sqrt(2 * np.pi), rtol=2e-3)
    centre = (1 - cube["flux"][5]).values @ GRID.wavelength / (1 - cube["flux"][5]).values.sum()
    assert centre == pytest.approx(4601.29, abs=0.02)  # 4600 in air

    opened.to_zarr(tmp_path / "library.zarr", consolidated=False)
    again = Library(xr.open_zarr(tmp_path / "library.zarr", consolidated=False), ("teff", "c_fe"))
    some = {name: values[[4, 1]] for name, values in library.design.items()}
    two = make_training_set(some | {"vsini": np.array([0.0, 0.0])}, again, INSTRUMENT, None, snr=1e9).load()
    np.testing.assert_allclose(two["flux"], cube["flux"][[4, 1]], atol=1e-6)


def test_bad_libraries_are_refused(folder):
    library = Library(open_folder(folder, "air"), ("teff", "c_fe"))
    with pytest.raises(ValueError, match="no spectrum of the library has teff 8100, c_fe -0.5"):
        library.spectra(np.array([[8100.0, -0.5]]))
    with pytest.raises(ValueError, match="the library has no variable logg"):
        Library(open_folder(folder, "air"), ("teff", "logg"))
    np.savetxt(folder / "s2.txt", np.column_stack([np.arange(4000.0, 4100.0), np.ones(100)]))
    with pytest.raises(ValueError, match="s2.txt has 100 wavelengths"):
        open_folder(folder, "air")["flux"].compute()
    (folder / "labels.csv").write_text("name,teff\n")
    with pytest.raises(ValueError, match="a column 'file'"):
        open_folder(folder, "air")


def test_a_library_with_bad_flux_is_masked_there():
    n = 6000
    grid = Grid(4000.0 + 0.2 * np.arange(n), "vacuum", "linear", 0.2)
    flux = np.ones((2, n))
    flux[1, 3000:3010] = np.nan
    cube = make_cube(flux, None, grid, obsid=[1, 2], stars={"teff": [1e4, 2e4]})
    library = Library(cube, ("teff",))
    made = make_training_set(library.design, library, INSTRUMENT, RECIPE).load()
    assert (made["mask"].values[0] == 0).all()
    assert np.isfinite(made["flux"]).all()
    assert (made["ivar"].values[made["mask"].values > 0] == 0).all()
    assert 0 < (made["mask"].values[1] > 0).sum()
