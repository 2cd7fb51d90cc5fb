"""The bulk runner on a cube of each survey, as ingest made it."""

import numpy as np
import pytest
from support.fakes import Mean
from support.surveys import exposure_hdu, write_apstar, write_aspcapstar, write_desi, write_spec

import specxr
from specxr.cubes.schema import grid_of
from specxr.emulators.polynomial import PolynomialEmulator
from specxr.kernels.resampling import Resampling
from specxr.readers.apogee import APOGEE_GRID


def _full_spec(path):
    hdus = [exposure_hdu(5, camera, lambda wavelength: wavelength) for camera in ("B1", "R1")]
    return write_spec(path, hdus=hdus)


@pytest.mark.parametrize(
    ("survey", "write"),
    [
        ("boss", write_spec),
        ("boss-exposures", _full_spec),
        ("desi", write_desi),
        ("desi-z", write_desi),
        ("apogee", write_apstar),
        ("apogee-visits", write_apstar),
        ("aspcap", write_aspcapstar),
    ],
)
def test_a_run_on_the_cube_of_a_survey(client, tmp_path, survey, write):
    cube = tmp_path / "cube.zarr"
    specxr.ingest(survey, write(tmp_path / "a.fits"), cube, workers=1)
    specxr.run(cube, Mean(), name="mean", client=client)
    labels, spectra = specxr.open_labels(cube, "mean"), specxr.open_cube(cube)
    for name in ("obsid", "ra", "dec"):
        np.testing.assert_array_equal(labels[name], spectra[name])
    np.testing.assert_allclose(labels["teff"], spectra["flux"].mean("wavelength", dtype="f8"), rtol=1e-6)


def h_band():
    """An emulator of some lines in the H band, each of which depends on the labels in its own way."""
    rng = np.random.default_rng(4)
    edges = np.arange(15050.0, 17050.0, 0.1)
    centres = 0.5 * (edges[1:] + edges[:-1])
    coefficients = np.zeros((1, 4, centres.size))
    coefficients[0, 0] = 1.0
    for line in rng.uniform(15100, 17000, 150):
        profile = np.exp(-0.5 * ((centres - line) / 0.25) ** 2)
        coefficients[0] -= profile * np.array([0.3, *rng.uniform(-0.1, 0.1, 3)])[:, None]
    return PolynomialEmulator(
        coefficients=coefficients,
        edges=edges,
        medium="vacuum",
        powers=np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        fiducial=np.array([[4500.0, 2.5, -0.5]]),
        scale=np.array([[800.0, 1.5, 0.8]]),
        knots=np.empty((0, 2)),
        bounds={"teff": (3500.0, 5500.0), "logg": (0.5, 4.5), "feh": (-1.5, 0.5)},
        log_teff=False,
        name="lines of the H band",
    )


def test_lasp_fits_apogee_with_an_emulator_of_the_h_band(tmp_path):
    emulator = h_band()
    labels = np.array([[4200.0, 1.8, -0.3], [4900.0, 3.1, -0.8]])
    scaled = (labels - emulator.fiducial) / emulator.scale
    flux = emulator.coefficients[0, 0] + scaled @ emulator.coefficients[0, 1:]
    # Lines of R = 22,500, on the pixels of the survey.
    sigma = APOGEE_GRID.wavelength / 22500 / 2.3548
    seen = Resampling(emulator.edges, APOGEE_GRID.edges, sigma).flux(_tensor(flux)).numpy()
    files = [
        write_apstar(tmp_path / f"{i}.fits", n_visits=1, flux=1000 * row[None], name=f"2M0000000{i}+0000000")
        for i, row in enumerate(seen)
    ]
    specxr.ingest("apogee", files, tmp_path / "cube.zarr", workers=1)
    cube = specxr.open_cube(tmp_path / "cube.zarr")
    lasp = specxr.LASP(emulator, window=(15200.0, 16900.0), weighted=True, degree=10)
    fitted = specxr.infer(cube, lasp).compute()
    for name, expected in zip(("teff", "logg", "feh"), labels.T, strict=True):
        np.testing.assert_allclose(fitted[name], expected, atol=0.01 * np.ptp(expected) + 0.002)
    np.testing.assert_allclose(fitted["rv"], 0, atol=0.05)
    with pytest.raises(ValueError, match="0 pixels of the cube, .* lie in the window"):
        specxr.LASP().check(grid_of(cube))


def _tensor(values):
    import torch

    return torch.from_numpy(values)
