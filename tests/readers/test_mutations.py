"""Files that are damaged in any way: each is read, or refused by the reader's own error, in bounded time and memory.

``SPECXR_MUTANTS=5000 pytest tests/readers/test_mutations.py`` searches longer than the tests do.
"""

import os
import time
import tracemalloc

import numpy as np
import pytest
from support.mutations import CARD, header_cards, mutant

from specxr.readers.base import ReadError
from specxr.readers.lamost_lrs import read_spectrum

N_MUTANTS = int(os.environ.get("SPECXR_MUTANTS", 150))


@pytest.fixture(params=["table", "image", "first release"])
def sound(request, write_lamost, tmp_path):
    flux = np.float32(np.random.default_rng(1).normal(100, 5, 3909))
    path = write_lamost(tmp_path / "sound.fits", request.param, flux=flux, RA=12.5, MJD=59521, SUBCLASS="F2")
    return path.read_bytes()


def outcome(path, content):
    path.write_bytes(content)
    try:
        spectrum = read_spectrum(path)
    except ReadError as error:
        return f"refused in {str(error).count(chr(10)) + 1} line"
    assert np.isfinite(spectrum.flux).all()
    assert type(spectrum.star["obsid"]) is type(spectrum.star["spid"]) is int
    np.array([spectrum.star[name] for name in ("obsid", "mjd", "spid", "fiberid")], dtype="int64")
    return "read"


def test_no_damage_is_a_surprise(sound, tmp_path):
    rng = np.random.default_rng(20261121)
    outcomes, slowest = [], (0.0, -1)
    for i in range(N_MUTANTS):
        changed, begin = mutant(sound, rng), time.perf_counter()
        outcomes.append(outcome(tmp_path / "mutant.fits", changed))
        slowest = max(slowest, (time.perf_counter() - begin, i))
    print(f"{outcomes.count('read')} of {N_MUTANTS} are read, the slowest in {slowest[0]:.2f} s")
    assert set(outcomes) == {"read", "refused in 1 line"}


SIZES = ("NAXIS", "NAXIS1", "NAXIS2", "TFIELDS", "PCOUNT", "GCOUNT", "BITPIX", "TFORM1", "TDIM1", "THEAP")


@pytest.mark.parametrize("name", SIZES)
def test_a_claim_of_size_takes_no_memory(sound, tmp_path, name):
    tracemalloc.start()
    try:
        for value in ("100000000", "999999999", "9" * 23, "-5", "'999999999E'", "'(99999,99999)'"):
            content = bytearray(sound)
            found = [i for i in header_cards(content) if content[i : i + 8].strip() == name.encode()]
            for card in found or [header_cards(content)[-2]]:
                content[card : card + CARD] = f"{name:8}= {value:>20}".encode().ljust(CARD)
            outcome(tmp_path / "large.fits", bytes(content))
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
