"""Some hundred damaged files of each survey; `tests/benchmarks/mutations.py` reads thousands."""

import numpy as np
import pytest
from support.mutations import CARD, header_cards, try_files
from support.surveys import exposure_hdu, write_apstar, write_aspcapstar, write_desi, write_spec

from specxr.readers.registry import read_files


def _spec(path):
    return write_spec(path, flux=100 + np.arange(4500.0))


def _full_spec(path):
    hdus = [exposure_hdu(5, camera, lambda wavelength: wavelength) for camera in ("B1", "R1")]
    return write_spec(path, hdus=hdus)


def _desi(path):
    return write_desi(path, [5, 7], lambda star, wavelength: 1000 * star + wavelength, arms="B")


@pytest.mark.parametrize(
    ("survey", "write", "n"),
    [
        ("boss", _spec, 100),
        ("boss-exposures", _full_spec, 30),
        ("desi", _desi, 60),
        ("apogee", write_apstar, 100),
        ("apogee-visits", write_apstar, 30),
        ("aspcap", write_aspcapstar, 80),
    ],
)
def test_damage_never_moves_a_spectrum(tmp_path, survey, write, n):
    (tmp_path / "damaged").mkdir()
    n_read, n_refused, complaints, _ = try_files(
        survey, write(tmp_path / "a.fits"), tmp_path / "damaged", n, seed=3
    )
    assert complaints == []
    assert n_read + n_refused == n
    assert n_read > 0
    assert n_refused > 0


@pytest.mark.parametrize("card", ["NAXIS2", "PCOUNT", "GCOUNT"])
def test_a_length_below_zero_does_not_lead_back(tmp_path, card):
    """astropy would read the same HDU again and again, until the memory is full."""
    file = _spec(tmp_path / "a.fits")
    content = bytearray(file.read_bytes())
    places = [i for i in header_cards(content) if content[i : i + 8].strip() == card.encode()]
    content[places[-1] : places[-1] + CARD] = f"{card:8}= {-99999:>20}".encode().ljust(CARD)
    file.write_bytes(content)
    (block,) = read_files("boss", [file])
    assert [reason for _, reason in block.failures] == [f"damaged or not FITS: {card:8}= {-99999:>20}"]
