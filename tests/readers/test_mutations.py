"""Files that are damaged in any way: each is read, or refused by the reader's own error, in bounded time and memory.

``SPECXR_MUTANTS=5000 pytest tests/readers/test_mutations.py`` searches longer than the tests do.
"""

import os
import time
import tracemalloc

import numpy as np
import pytest

from specxr.readers.base import ReadError
from specxr.readers.lamost_lrs import read_spectrum

N_MUTANTS = int(os.environ.get("SPECXR_MUTANTS", 150))
CARD, BLOCK = 80, 2880
HOSTILE = (
    *("0", "-1", "1", "7", "255", "1E300", "1E400", "-1E19", "9223372036854775808", "9" * 23, "1000000000"),
    *("100000000", "T", "F", "NaN", "1.5", "'text'", "''", "'1000000000E'", "'3909E'", "'P'", "'\u00e9'", "(1, 2)"),
    *("1.0D5", "'&'", "", "-9999", "2147483648"),
)  # fmt: skip


@pytest.fixture(params=["table", "image", "first release"])
def sound(request, write_lamost, tmp_path):
    flux = np.float32(np.random.default_rng(1).normal(100, 5, 3909))
    path = write_lamost(tmp_path / "sound.fits", request.param, flux=flux, RA=12.5, MJD=59521, SUBCLASS="F2")
    return path.read_bytes()


def header_cards(content):
    """Places of the cards of all headers."""
    text = [content[i : i + CARD] for i in range(0, len(content), CARD)]
    places, inside = [], False
    for i, card in enumerate(text):
        inside = inside or card.startswith((b"SIMPLE  =", b"XTENSION="))
        if inside and card.strip():
            places.append(i * CARD)
        inside = inside and card.strip() != b"END"
    return places


def mutant(content, rng):
    """One to three random changes of a file."""
    for _ in range(rng.integers(1, 4)):
        places = header_cards(content) or [0]
        content = CHANGES[rng.integers(len(CHANGES))](bytearray(content), int(rng.choice(places)), rng)
    return bytes(content)


def flip_in_header(content, card, rng):
    content[min(card + rng.integers(CARD), len(content) - 1)] ^= 1 << int(rng.integers(8))
    return content


def flip_anywhere(content, card, rng):
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    return content


def other_value(content, card, rng):
    value = HOSTILE[rng.integers(len(HOSTILE))].encode("latin-1")
    content[card + 8 : card + CARD] = b"= " + value.rjust(20).ljust(CARD - 10)
    return content


def other_name(content, card, rng):
    names = (
        b"NAXIS1",
        b"OBSID",
        b"EXTEN0",
        b"COEFF0",
        b"TFORM1",
        b"END",
        b"CONTINUE",
        b"CHECKSUM",
        b"BSCALE",
        b"HIERARCH",
    )
    content[card : card + 8] = names[rng.integers(len(names))].ljust(8)
    return content


def lost_card(content, card, rng):
    del content[card : card + CARD]
    return content


def repeated_card(content, card, rng):
    content[card:card] = content[card : card + CARD]
    return content


def random_card(content, card, rng):
    content[card : card + CARD] = rng.integers(0, 256, CARD, dtype="u1").tobytes()
    return content


def cut(content, card, rng):
    return content[: rng.integers(1, len(content))]


def lost_block(content, card, rng):
    start = int(rng.integers(len(content) // BLOCK + 1)) * BLOCK
    del content[start : start + BLOCK]
    return content or bytearray(b" ")


def zeros(content, card, rng):
    start = int(rng.integers(len(content)))
    content[start : start + int(rng.integers(1, 20_000))] = bytes(100)
    return content


CHANGES = (
    flip_in_header,
    flip_anywhere,
    other_value,
    other_value,
    other_name,
    lost_card,
    repeated_card,
    random_card,
    cut,
    lost_block,
    zeros,
)


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
