"""Some hundred damaged files of each survey; `tests/benchmarks/mutations.py` reads thousands."""

import numpy as np
import pytest
from support.mutations import try_files
from support.surveys import exposure_hdu, write_apstar, write_aspcapstar, write_desi, write_spec


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
