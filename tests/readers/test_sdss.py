import numpy as np
import pytest
from astropy.io import fits
from support.surveys import exposure_hdu, write_spec

from specxr.readers.registry import read_files
from specxr.readers.sdss import BOSS, BOSS_EXPOSURES, KM_PER_STEP, SDSS_GRID
from specxr.vocabulary import MaskBit


def read(file, reader=BOSS):
    (block,) = reader.read([file])
    return block


def test_pixels_are_placed_by_index_and_bits_say_what_is_wrong(tmp_path):
    flux, ivar = np.arange(4500.0), np.ones(4500)
    flux[10], ivar[20] = np.nan, 0.0
    always, once = np.zeros((2, 4500), "i4")
    always[30], always[31], always[32], always[33] = (
        1 << 23,
        1 << 18,
        1 << 24,
        1 << 19,
    )  # BRIGHTSKY, FULLREJECT, ...
    once[40], once[41], once[42], once[43] = 1 << 20, 1 << 24, 1 << 19, 1 << 17
    always |= 1 << 2  # BADFLAT: of the fibre
    block = read(write_spec(tmp_path / "a.fits", flux=flux, ivar=ivar, and_mask=always, or_mask=once))
    start = 35600 - 35450
    assert SDSS_GRID.wavelength[start] == pytest.approx(10**3.56)
    assert (block.mask[0, :start] == int(MaskBit.MISSING)).all()
    assert (block.mask[0, start + 4500 :] == int(MaskBit.MISSING)).all()
    on_file = slice(start, start + 4500)
    expected = np.zeros(4500, "u2")
    expected[[10, 20, 30, 31, 40]] = (
        MaskBit.BAD_FLUX,
        MaskBit.NO_IVAR,
        MaskBit.SKY,
        MaskBit.BAD_ALWAYS,
        MaskBit.BAD_ONCE,
    )
    np.testing.assert_array_equal(block.mask[0, on_file], expected)
    np.testing.assert_array_equal(block.flux[0, on_file], np.nan_to_num(flux))
    assert block.stars["fibermask"].tolist() == [1 << 2]
    assert block.stars["obsid"].tolist() == [3586551810500]
    np.testing.assert_allclose(block.width[0, on_file][1000], KM_PER_STEP, rtol=1e-6)
    assert np.isnan(block.width[0, 0])
    assert np.isnan(block.width[0, start + 20])  # it was not observed
    np.testing.assert_allclose(block.stars["resolving_power"], 1844.4, atol=0.5)


def test_stars_of_sdss_v_have_identifiers_of_their_own(tmp_path):
    numbers = []
    for catalogid in (27021597842550943, 27021597842550944):
        ids = {
            "CATALOGID": np.int64(catalogid),
            "FIELD": 15000,
            "SDSS_ID": np.int64(5),
            "PLATE": None,
            "FIBERID": None,
        }
        block = read(write_spec(tmp_path / f"{catalogid}.fits", GAIA_ID=np.int64(2**62 + 1), **ids))
        numbers.append(int(block.stars["obsid"][0]))
        assert block.stars["catalogid"].tolist() == [catalogid]
        assert block.stars["source_id"].tolist() == [2**62 + 1]
        assert block.stars["plate"].tolist() == [15000]
    assert numbers[0] != numbers[1]
    assert all(0 < number < 2**53 for number in numbers)


def test_a_galaxy_is_read_and_says_so(tmp_path):
    block = read(write_spec(tmp_path / "a.fits", CLASS="GALAXY", SUBCLASS="STARFORMING", Z=0.1))
    assert block.stars["object_class"].tolist() == ["GALAXY"]
    assert block.stars["z"][0] == pytest.approx(0.1)


def test_a_spectrum_without_a_good_pixel_is_read(tmp_path):
    block = read(write_spec(tmp_path / "a.fits", ivar=np.zeros(4500)))
    assert len(block) == 1
    assert (block.mask[0] != 0).all()
    assert np.isnan(block.stars["resolving_power"][0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"MJD": 55182, "header": {"MJD": 55181}}, "MJD is 55182"),
        ({"PLATE": -1, "FIBERID": -1}, "no plate"),
        ({"first": 100}, "no pixel lies between"),
        ({"header": {"VACUUM": False}}, "in air"),
        ({"loglam": ("shift", 3e-5)}, "not on the grid"),
        ({"loglam": ("drop", 2000)}, "not on the grid"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, change, reason):
    header, loglam = change.pop("header", {}), change.pop("loglam", None)
    path = write_spec(tmp_path / "a.fits", **change)
    with fits.open(path, mode="update") as hdus:
        hdus[0].header.update(header)
        if loglam is not None:
            kind, value = loglam
            column = hdus["COADD"].data["loglam"]
            if kind == "shift":
                column += value
            else:
                column[value:] += 1e-4
    block = read(path)
    assert len(block) == 0
    assert reason in block.failures[0][1]
    assert "\n" not in block.failures[0][1]


def test_exposures_are_joined_from_their_cameras(tmp_path):
    def flux(wavelength):
        return 100 + 10 * np.sin(wavelength / 50)

    hdus = [exposure_hdu(n, c, flux, seed=n) for n in (104927, 104928) for c in ("B2", "R2")]
    block = read(write_spec(tmp_path / "a.fits", hdus=hdus), BOSS_EXPOSURES)
    assert block.stars["obsid"].tolist() == [1049270500, 1049280500]
    assert block.stars["exposure"].tolist() == [104927, 104928]
    assert block.stars["exposure_time"].tolist() == [900.0, 900.0]
    for star in range(2):
        good = block.ivar[star] > 0
        assert good.mean() > 0.9
        pull = (block.flux[star] - flux(SDSS_GRID.wavelength))[good] * np.sqrt(block.ivar[star][good])
        assert abs(pull.mean()) < 0.05
        assert 0.5 < pull.std() < 1.1  # neighbours share pixels of the detector
    # Sums have the noise that the inverse variances say.
    pull = (block.flux - flux(SDSS_GRID.wavelength)) * (block.ivar > 0)
    sums = pull[:, :4500].reshape(2, 90, 50).sum(axis=2)
    variance = np.divide(1.0, block.ivar, out=np.zeros(block.ivar.shape), where=block.ivar > 0)[:, :4500]
    expected = np.sqrt(variance.reshape(2, 90, 50).sum(axis=2))
    whole = (block.ivar[:, :4500].reshape(2, 90, 50) > 0).all(axis=2)
    assert 0.85 < (sums[whole] / expected[whole]).std() < 1.15


def test_a_lite_file_has_no_exposures(tmp_path):
    (block,) = read_files("boss-exposures", [write_spec(tmp_path / "a.fits")])
    assert "no single exposures" in block.failures[0][1]


def test_real_files(shared):
    files = sorted([*(shared / "boss").glob("*.fits"), *(shared / "mdwarfs" / "sdss").glob("*.fits")])
    block = next(iter(BOSS.read(files)))
    assert len(block) == 11
    assert not block.failures
    assert set(block.stars["object_class"]) == {"STAR"}
    assert (block.stars["snr"] > 0).all()
    assert ((block.stars["resolving_power"] > 1600) & (block.stars["resolving_power"] < 2400)).all()


def test_exposures_of_a_real_file_add_up_to_its_coadd(shared):
    file = shared / "boss" / "spec-3586-55181-0500.fits"
    coadd, exposures = read(file), read(file, BOSS_EXPOSURES)
    assert len(exposures) == 7
    weight = exposures.ivar.sum(axis=0)
    mean = np.divide(
        (exposures.ivar * exposures.flux).sum(axis=0), weight, out=np.zeros(len(weight)), where=weight > 0
    )
    both = (weight > 0) & (coadd.ivar[0] > 0) & (coadd.mask[0] == 0)
    error = 1 / np.sqrt(coadd.ivar[0][both])
    assert abs(np.median(((mean - coadd.flux[0])[both]) / error)) < 0.3
    # A shift by half a pixel would double the scatter in lines of this star.
    assert np.std(np.clip((mean - coadd.flux[0])[both] / error, -5, 5)) < 1.2
