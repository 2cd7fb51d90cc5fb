"""What PySME is given; PySME itself lives in an environment of its own (docs/methods/training.md)."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from specxr.synthesis.atmospheres import read_atmosphere
from specxr.synthesis.pysme import PySMESpectra, wavelengths_within


@pytest.mark.parametrize("width", [0.02, 0.05, 0.5, 3.0])
def test_each_pixel_has_a_wavelength_and_none_is_far_from_the_next(width):
    edges = np.arange(5160.0, 5190.0, width)
    found = wavelengths_within(edges)
    assert np.histogram(found, edges)[0].min() >= 1
    assert np.diff(np.log(found)).max() * 299792.458 <= 3.0
    assert (found[0] > edges[0]) & (found[-1] < edges[-1])


@pytest.mark.skipif(find_spec("pysme") is not None, reason="PySME is installed")
def test_where_pysme_is_missing_the_way_to_get_it_is_told():
    with pytest.raises(ImportError, match="environment of its own"):
        PySMESpectra([], [], np.arange(5000.0, 5100.0))


@pytest.mark.skipif(
    find_spec("pysme") is None, reason="PySME is not installed: it wants an environment of its own"
)
def test_magnesium_deepens_its_lines_and_only_these(shared):
    folder = shared / "synthesis"
    generator = PySMESpectra(
        [read_atmosphere(folder / "at12_aaaaa_t08250g4.00.atm")],
        [folder / "moogatom05000.gz"],
        np.arange(5160.0, 5190.0, 0.05),
        ("teff", "logg", "mg_fe"),
    )
    plain, rich = generator.spectra(np.array([[8250.0, 4.0, 0.0], [8250.0, 4.0, 0.5]]))
    assert plain.min() > 0.05
    deeper = plain - rich
    centre = 0.5 * (generator.edges[1:] + generator.edges[:-1])
    at_triplet = np.min(np.abs(centre[:, None] - [5167.32, 5172.68, 5183.60]), axis=1) < 1.0
    assert deeper[at_triplet].max() > 0.03
    assert np.abs(deeper[~at_triplet]).max() < 0.02


@pytest.mark.skipif(
    find_spec("pysme") is None, reason="PySME is not installed: it wants an environment of its own"
)
def test_responses_are_those_of_the_whole_spectra_near_the_lines_of_an_element(shared):
    folder = shared / "synthesis"
    edges = np.arange(5165.0, 5176.0, 0.25)
    generator = PySMESpectra(
        [read_atmosphere(folder / "at12_aaaaa_t08250g4.00.atm")],
        [folder / "moogatom05000.gz"],
        edges,
        ("teff", "logg", "mg_fe"),
    )
    star = {"teff": 8600.0, "logg": 3.8}
    (less, more), silent = generator.responses(star, ("mg_fe", "o_fe"), 0.3)
    low, same, high = generator.spectra(np.array([[8600.0, 3.8, x] for x in (-0.3, 0.0, 0.3)]))
    np.testing.assert_allclose(more, np.log(high / same), atol=0.004)
    np.testing.assert_allclose(less, np.log(low / same), atol=0.004)
    assert more.min() < -0.05
    assert np.abs(silent).max() < 1e-3
