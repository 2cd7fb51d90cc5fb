"""Which bits of the mask leave a pixel out: an option of every estimator, in its provenance and fingerprint."""

import dataclasses

import numpy as np
import pytest
from support import zoo

import specxr
from specxr.cli.options import parse_options
from specxr.spectra.pixels import bits_of, names_of_bits
from specxr.vocabulary import LEFT_OUT, UNUSABLE, MaskBit

FEW = slice(0, 2)
HERE = slice(200, 230)


def with_mask_bits(name, bits):
    one = zoo.member(name).estimator
    if isinstance(one, specxr.Hybrid):
        return specxr.Hybrid(*(dataclasses.replace(part, mask_bits=bits) for part in (one.first, one.second)))
    return dataclasses.replace(one, mask_bits=bits)


@pytest.mark.parametrize("name", ["lasp", "lasp weighted", "payne", "slam squared", "hybrid"])
def test_every_estimator_leaves_out_what_is_asked_and_says_so(name):
    few = zoo.rows(zoo.member(name).block, FEW)

    def used(bit, bits):
        mask = few.mask.astype("u2")
        mask[:, HERE] |= int(bit)
        block = dataclasses.replace(few, mask=mask)
        return with_mask_bits(name, bits).estimate(block, spectra=True)["used"][:, HERE]

    without = used(0, 0)
    assert without.any()
    for bit in MaskBit:
        assert not used(bit, int(bit)).any()
        kept = used(bit, 0)
        assert not kept.any() if bit & UNUSABLE else (kept == without).all()
        by_default = used(bit, int(LEFT_OUT))
        assert by_default.any() == (not bit & LEFT_OUT)
    assert {MaskBit.SKY, MaskBit.TELLURIC, MaskBit.INTERSTELLAR} <= set(LEFT_OUT)


@pytest.mark.parametrize("name", ["lasp", "payne", "hybrid"])
def test_provenance_says_it_in_words_and_gives_it_back(name):
    plain, other = zoo.member(name).estimator, with_mask_bits(name, "sky, BAD_ALWAYS")
    assert other.fingerprint != plain.fingerprint
    again = specxr.open_estimator(dict(other.provenance))
    assert again.fingerprint == other.fingerprint
    said = other.provenance if name != "hybrid" else other.provenance["first"]
    assert said["mask_bits"] == "missing,no_ivar,bad_flux,bad_always,sky"


def test_it_is_an_option_of_the_command_line():
    for text, bits in (("sky,telluric", 32 + 64), ("8", 8), ("bad_once", 16), ("0", 0)):
        options = parse_options([f"mask_bits={text}"])
        assert specxr.open_estimator("lasp", **options).mask_bits == bits | int(UNUSABLE)
    with pytest.raises(
        ValueError, match="mask_bits of LASP is 1.5; a value of the type int | str is required"
    ):
        specxr.open_estimator("lasp", mask_bits=1.5)


@pytest.mark.parametrize("wrong", ["sky,cloud", "", 256, -1, True, None])
def test_what_is_no_bit_is_refused(wrong):
    with pytest.raises(ValueError, match=r"mask_bits is .*; names among missing, .* are required. Correct"):
        bits_of(wrong)


def test_names_and_bits_are_the_same():
    for bits in range(0, 256, 5):
        assert bits_of(names_of_bits(bits | 1)) == bits | int(UNUSABLE)
    assert bits_of(MaskBit.SKY | MaskBit.MISSING) == int(MaskBit.SKY | UNUSABLE)
    np.testing.assert_equal(bits_of(np.uint16(32).item()), 39)
