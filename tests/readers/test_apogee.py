import numpy as np
import pytest
from support.surveys import write_apstar, write_aspcapstar

from specxr.readers.apogee import APOGEE_GRID, APSTAR, APSTAR_VISITS, ASPCAPSTAR
from specxr.readers.columns import AspcapFlag, attrs_of
from specxr.vocabulary import MaskBit


def read(file, reader=APSTAR):
    (block,) = reader.read([file])
    return block


def test_the_grid_is_that_of_the_survey():
    np.testing.assert_allclose(APOGEE_GRID.wavelength[[0, -1]], [15100.8, 16999.8], atol=0.1)


def test_the_combined_spectrum_and_its_masks(tmp_path):
    mask = np.zeros((4, 8575), "i2")
    mask[0, 200] = 1  # BADPIX in a visit
    mask[0:2, 201] = 1 << 6  # BADERR in all visits
    mask[0:2, 202] = 1 << 12  # SIG_SKYLINE
    mask[0:2, 203] = 1 << 13  # SIG_TELLURIC
    mask[0:2, 204] = 1 << 9  # PERSIST_HIGH, which is no fault of the survey's level 1
    block = read(write_apstar(tmp_path / "a.fits", mask=mask))
    np.testing.assert_array_equal(block.flux[0, 100:], np.arange(100.0, 8575) + 1)
    np.testing.assert_array_equal(block.ivar[0, 100:], np.full(8475, 0.25))
    assert (block.mask[0, :100] == int(MaskBit.MISSING | MaskBit.NO_IVAR)).all()
    bits = [MaskBit.BAD_ONCE, MaskBit.BAD_ONCE | MaskBit.BAD_ALWAYS, MaskBit.SKY, MaskBit.TELLURIC, 0]
    assert block.mask[0, 200:205].tolist() == [int(bit) for bit in bits]
    assert not block.mask[0, 205:].any()
    assert block.stars["obsid"].tolist() == [-173342531654573]
    assert block.stars["apogee_id"].tolist() == ["2M17334253-1654573"]
    assert block.stars["rv_survey"].tolist() == block.stars["rv_removed"].tolist() == [-72.95]


def test_visits_are_stars_of_their_own(tmp_path):
    block = read(write_apstar(tmp_path / "a.fits"), APSTAR_VISITS)
    np.testing.assert_array_equal(block.flux[:, 100], [2101, 3101])
    assert block.stars["obsid"].tolist() == [6896563760242, 6896563770242]
    assert block.stars["rv_survey"].tolist() == [-73.0, -74.0]
    assert block.stars["starflag"].tolist() == [512, 512]


@pytest.mark.parametrize("reader", [APSTAR, APSTAR_VISITS])
def test_one_visit_has_one_row(tmp_path, reader):
    block = read(write_apstar(tmp_path / "a.fits", n_visits=1), reader)
    np.testing.assert_array_equal(block.flux[0, 100:], np.arange(100.0, 8575) + 1)


def test_names_that_hold_no_position_are_made_integers(tmp_path):
    names = ["VESTA", "AP17334253-1654573", "2M17334253+1654573"]
    files = [write_apstar(tmp_path / f"{i}.fits", name=name) for i, name in enumerate(names)]
    (block,) = APSTAR.read(files)
    vesta, other, north = block.stars["obsid"].tolist()
    assert north == 173342531654573
    assert len({vesta, other, north}) == 3
    assert 4.5e15 <= min(vesta, other) < max(vesta, other) < 2**53


def test_labels_of_aspcap_are_those_of_the_survey(tmp_path):
    block = read(write_aspcapstar(tmp_path / "a.fits"), ASPCAPSTAR)
    stars = {name: values[0] for name, values in block.stars.items()}
    assert (stars["teff_survey"], stars["teff_survey_raw"], stars["teff_survey_err"]) == (4050, 4000, 50)
    assert stars["m_h_survey"] == pytest.approx(-0.25)
    assert stars["m_h_survey_err"] == pytest.approx(0.02)
    assert np.isnan(stars["n_m_survey"])  # -9999
    assert stars["n_m_survey_raw"] == pytest.approx(0.2)
    assert stars["alpha_m_survey"] == pytest.approx(0.05)
    assert stars["vmic_survey"] == pytest.approx(10**0.3)
    assert stars["vsini_survey_raw"] == pytest.approx(10**0.5)
    assert np.isnan(stars["vsini_survey_err"])  # it was not fitted
    assert stars["aspcapflag"] == int(AspcapFlag.NO_ASPCAP_RESULT | AspcapFlag.M_H_WARN)
    assert "no_aspcap_result" in attrs_of("aspcapflag")["flag_meanings"]
    assert (block.mask[0, :100] & int(MaskBit.MISSING)).all()
    np.testing.assert_allclose(block.ivar[0, 100:], 1e4, rtol=1e-5)


@pytest.mark.parametrize(
    ("reader", "write", "options", "reason"),
    [
        (APSTAR, write_aspcapstar, {}, "an aspcapStar file"),
        (ASPCAPSTAR, write_apstar, {}, "not an aspcapStar file"),
        (APSTAR, write_apstar, {"NVISITS": 3}, "for 3 visits"),
        (ASPCAPSTAR, write_aspcapstar, {"table_name": "2M00000000+0000000"}, "the labels are those of"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, reader, write, options, reason):
    block = read(write(tmp_path / "a.fits", **options), reader)
    assert len(block) == 0
    assert reason in block.failures[0][1]


def test_a_file_on_other_wavelengths_is_refused(tmp_path):
    from astropy.io import fits

    path = write_apstar(tmp_path / "a.fits")
    fits.setval(path, "CRVAL1", value=4.17900006, ext=1)
    assert "CRVAL1" in read(path).failures[0][1]


def test_real_files(shared):
    files = sorted((shared / "apogee").glob("*.fits"))
    (combined,), (labelled,) = APSTAR.read(files), ASPCAPSTAR.read(files)
    assert (len(combined), len(combined.failures)) == (2, 7)
    assert (len(labelled), len(labelled.failures)) == (6, 3)
    assert np.isfinite(labelled.stars["teff_survey_raw"]).all()
    assert (np.abs(labelled.flux[labelled.ivar > 0]) < 5).all()
