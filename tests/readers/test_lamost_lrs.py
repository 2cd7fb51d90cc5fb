import gzip

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specxr.readers.base import ReadError
from specxr.readers.lamost_lrs import GRID, READER, read_spectrum
from specxr.readers.registry import open_reader
from specxr.spectra.line_spread import LineSpread
from specxr.vocabulary import MaskBit

LAYOUTS = ["table", "image", "first release"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
def test_every_layout_gives_the_same_spectrum(write_lamost, tmp_path, layout, suffix):
    flux = np.float32(np.random.default_rng(1).normal(100, 5, 3904))
    path = write_lamost(tmp_path / f"spectrum{suffix}", layout, flux=flux, ivar=flux / 7)
    spectrum = read_spectrum(path)
    assert spectrum.flux.shape == spectrum.ivar.shape == spectrum.mask.shape == (3909,)
    assert (spectrum.flux.dtype, spectrum.ivar.dtype, spectrum.mask.dtype) == ("f4", "f4", "u2")
    np.testing.assert_array_equal(spectrum.flux, np.r_[flux, np.zeros(5)])
    np.testing.assert_array_equal(spectrum.ivar, np.r_[np.float32(flux / 7), np.zeros(5)])
    np.testing.assert_array_equal(spectrum.mask, np.repeat([0, int(MaskBit.MISSING)], [3904, 5]))
    assert spectrum.star["snr_g"] == 71.41
    assert spectrum.star["file"] == f"spectrum{suffix}"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.integers(35000, 39590),
    length=st.integers(1, 5000),
    layout=st.sampled_from(LAYOUTS),
    data=st.data(),
)
def test_pixels_are_placed_by_index(write_lamost, tmp_path_factory, start, length, layout, data):
    shift = data.draw(st.floats(-0.018, 0.018))  # the largest seen in real files
    index = start + np.arange(length)
    path = tmp_path_factory.mktemp("lamost") / "spectrum.fits"
    write_lamost(path, layout, start, flux=index, wavelength=10 ** ((index + shift) * 1e-4))
    if start + length <= 35682:
        with pytest.raises(ReadError, match="no pixel"):
            read_spectrum(path)
        return
    spectrum = read_spectrum(path)
    expected = np.arange(35682, 39591)
    covered = (expected >= start) & (expected < start + length)
    np.testing.assert_array_equal(spectrum.flux, np.where(covered, expected, 0))
    np.testing.assert_array_equal(spectrum.ivar, covered)
    np.testing.assert_array_equal(spectrum.mask, np.where(covered, 0, MaskBit.MISSING))


def test_the_grid_is_that_of_the_survey():
    np.testing.assert_allclose(GRID.wavelength[[0, -1]], [3699.985, 9099.133], rtol=0, atol=1e-3)
    assert (GRID.medium, GRID.sampling, GRID.step) == ("vacuum", "log10", 1e-4)
    assert GRID.line_spread == LineSpread.constant(1800)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_masks_say_what_is_wrong_with_a_pixel(write_lamost, tmp_path, layout):
    ones = np.ones(3909)
    flux, ivar, andmask, ormask = ones.copy(), ones.copy(), 0 * ones, 0 * ones
    flux[[10, 11]] = np.nan, np.inf
    ivar[[20, 21, 22, 23]] = 0, -1, np.nan, np.inf
    andmask[[30, 31]] = 1, 16
    ormask[[31, 32]] = 4, 2**20
    path = write_lamost(tmp_path / "a.fits", "table", flux=flux, ivar=ivar, andmask=andmask, ormask=ormask)
    spectrum = read_spectrum(path)
    expected = np.zeros(3909, dtype="u1")
    expected[[10, 11]] = MaskBit.BAD_FLUX
    expected[20:24] = MaskBit.NO_IVAR
    expected[30] = MaskBit.BAD_ALWAYS
    expected[31] = MaskBit.BAD_ALWAYS | MaskBit.BAD_ONCE
    expected[32] = MaskBit.BAD_ONCE
    np.testing.assert_array_equal(spectrum.mask, expected)
    np.testing.assert_array_equal(spectrum.flux, np.where(expected & MaskBit.BAD_FLUX, 0, 1))
    np.testing.assert_array_equal(spectrum.ivar, np.where(expected & MaskBit.NO_IVAR, 0, 1))


@pytest.mark.parametrize("flux", [0.0, np.nan])
def test_a_spectrum_without_signal_is_read(write_lamost, tmp_path, flux):
    spectrum = read_spectrum(write_lamost(tmp_path / "a.fits", flux=np.full(3909, flux)))
    assert not spectrum.flux.any()
    assert spectrum.star["obsid"] == 605006


def test_what_the_header_says_of_the_star_is_kept(write_lamost, tmp_path):
    cards = {
        "RA": 12.5,
        "DEC": -3,
        "SNRU": -9999.0,
        "Z": 0,
        "HELIO_RV": 24.5561,
        "CLASS": "STAR    ",
        "SUBCLASS": "F2",
        "MJD": 59521,
        "PLANID": "EG22",
        "SPID": 5,
        "FIBERID": 6,
    }
    star = read_spectrum(write_lamost(tmp_path / "a.fits", **cards)).star
    expected = {"obsid": 605006, "ra": 12.5, "dec": -3.0, "snr_g": 71.41, "z": 0.0, "helio_rv": 24.5561}
    expected |= {"object_class": "STAR", "subclass": "F2", "data_release": "LAMOST DR10"}
    expected |= {"mjd": 59521, "planid": "EG22", "spid": 5, "fiberid": 6}
    assert {name: star[name] for name in expected} == expected
    assert np.isnan(star["snr_u"])
    assert np.isnan(star["snr_z"])
    bare = read_spectrum(write_lamost(tmp_path / "b.fits")).star
    assert {name: type(value) for name, value in bare.items()} == {
        name: type(value) for name, value in star.items()
    }
    assert (bare["mjd"], bare["subclass"]) == (-1, "")


def test_without_obsid_a_negative_one_is_made_of_plate_and_fiber(write_lamost, tmp_path):
    def obsid(name, **cards):
        return read_spectrum(write_lamost(tmp_path / name, "first release", **cards)).star["obsid"]

    first = obsid("a.fits")
    assert first == obsid("again.fits")
    assert -(2**53) < first < 0
    assert -first % 100_000 == 6003
    others = [obsid("b.fits", FIBERID=4), obsid("c.fits", PLANID="B6213"), obsid("d.fits", LMJD=55863)]
    assert len({first, *others}) == 4
    with pytest.raises(ReadError, match="no OBSID, and no LMJD"):
        obsid("e.fits", PLANID=None)


BROKEN = {
    "of another telescope": ({"TELESCOP": "SDSS 2.5-M"}, "not a LAMOST spectrum: TELESCOP is 'SDSS 2.5-M'"),
    "of no telescope": ({"TELESCOP": None}, "not a LAMOST spectrum"),
    "in air": ({"VACUUM": False}, "in air"),
    "on a linear grid": ({"wavelength": np.linspace(3700, 9099, 3909)}, "not on the LAMOST"),
    "between the pixels": ({"start": 35682.3}, "not on the LAMOST"),
    "with a gap": ({"wavelength": 10 ** (np.r_[35682:35700, 35701:39592] * 1e-4)}, "not on the LAMOST"),
    "without wavelengths": ({"wavelength": np.zeros(3909)}, "not on the LAMOST"),
    "far off": ({"start": 42000}, "no pixel lies on"),
}


@pytest.mark.parametrize(("cards", "reason"), BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("layout", ["table", "image"])
def test_a_spectrum_of_another_kind_is_refused(write_lamost, tmp_path, layout, cards, reason):
    path = write_lamost(tmp_path / "a.fits", layout, **cards)
    with pytest.raises(ReadError, match=reason):
        read_spectrum(path)


@pytest.mark.parametrize("layout", ["table", "image"])
def test_wavelengths_that_the_header_contradicts_are_refused(write_lamost, tmp_path, layout):
    shifted = 10 ** ((35683 + np.arange(3909)) * 1e-4)
    with pytest.raises(
        ReadError, match=r"first wavelength is 10\^3.5683 Angstrom, the header says COEFF0 = 3.5682"
    ):
        read_spectrum(write_lamost(tmp_path / "a.fits", layout, wavelength=shifted))
    with pytest.raises(ReadError, match="the header says CRVAL1 = 3.5682"):
        read_spectrum(
            write_lamost(tmp_path / "b.fits", layout, wavelength=shifted, COEFF0=None, CRVAL1=3.5682)
        )
    assert (
        read_spectrum(write_lamost(tmp_path / "c.fits", layout, wavelength=shifted, COEFF0=None)).mask[0] == 1
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_checksum_is_checked(write_lamost, tmp_path, layout):
    path = write_lamost(tmp_path / "a.fits", layout, flux=np.arange(3909.0))
    with fits.open(path) as hdus:
        hdus.writeto(tmp_path / "b.fits", checksum=True)
    content = bytearray((tmp_path / "b.fits").read_bytes())
    assert read_spectrum(tmp_path / "b.fits").flux[7] == 7.0
    content[-2880 * 3] ^= 1
    (tmp_path / "c.fits").write_bytes(content)
    with pytest.raises(ReadError, match="(Checksum|Datasum) verification failed"):
        read_spectrum(tmp_path / "c.fits")


@pytest.mark.parametrize("value", [1e19, 2**63, -(2**63), 5.5, "none", 10**22])
def test_an_obsid_is_an_integer_of_64_bits(write_lamost, tmp_path, value):
    with pytest.raises(ReadError, match="OBSID is .*; an integer of 64 bits is required"):
        read_spectrum(write_lamost(tmp_path / "a.fits", OBSID=value))


def test_damaged_files_are_refused(write_lamost, tmp_path):
    good = write_lamost(tmp_path / "good.fits").read_bytes()
    zipped = gzip.compress(good)
    contents = {
        "empty file": b"",
        "not FITS": b"<html>404</html>",
        "truncated or damaged gzip": zipped[: len(zipped) // 2],
        "truncated or damaged gzip: .*CRC": zipped[:-8] + b"damaged!",
        "not FITS$": gzip.compress(b"hello"),
        "damaged or not FITS": good[: len(good) // 2],
        "damaged or not FITS:": good[:1000],
    }
    for reason, content in contents.items():
        path = tmp_path / "bad.fits.gz"
        path.write_bytes(content)
        with pytest.raises(ReadError, match=reason) as caught:
            read_spectrum(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ReadError, match="cannot be read: No such file"):
        read_spectrum(tmp_path / "missing.fits")


def test_files_without_flux_are_refused(tmp_path):
    primary = fits.PrimaryHDU()
    primary.header["TELESCOP"] = "LAMOST"
    wave = fits.Column("WAVELENGTH", "3E", array=np.ones((1, 3)))
    image = fits.PrimaryHDU(np.ones((3, 100), "f4"), primary.header)
    files = {
        "no flux": [primary],
        "no column FLUX, IVAR, ANDMASK, ORMASK": [
            primary,
            fits.BinTableHDU.from_columns([wave], name="COADD"),
        ],
        "medium-resolution": [primary, fits.BinTableHDU.from_columns([wave], name="COADD_B")],
        "medium-resolution spectrum": [primary, fits.BinTableHDU.from_columns([wave], name="R-84420148")],
        "no flux, inverse variance and masks in the 3 rows": [image],
    }
    for i, (reason, hdus) in enumerate(files.items()):
        fits.HDUList(hdus).writeto(tmp_path / f"{i}.fits")
        with pytest.raises(ReadError, match=reason):
            read_spectrum(tmp_path / f"{i}.fits")


def test_a_survey_has_its_name():
    assert open_reader("lamost-lrs") is READER
    with pytest.raises(ValueError, match="no reader for the survey 'gaia'; one of apogee, .*lamost-lrs"):
        open_reader("gaia")


# Real files


def test_headers_agree_with_the_table_of_the_survey(shared):
    table = pd.read_csv(shared / "lamost_dr10" / "labels.csv").iloc[::60]
    for row in table.itertuples():
        star = read_spectrum(shared / "lamost_dr10" / "fits" / row.file).star
        assert star["obsid"] == row.obsid
        np.testing.assert_allclose([star["ra"], star["dec"]], [row.ra, row.dec], rtol=0, atol=1e-6)
        assert star["subclass"] == row.subclass
        assert star["z"] == pytest.approx(row.z, abs=1e-4)


def test_made_up_obsid_ends_like_the_real_one(shared):
    folder = shared / "lamost_dr1"
    # By plan and fiber: the column `filename` of 189 rows belongs to other stars.
    table = pd.read_csv(folder / "my_data3.csv").set_index(["planid", "spid", "fiberid"])["obsid"]
    files = sorted((folder / "fits").glob("*.fits.gz"))
    stars = [read_spectrum(file).star for file in files]
    assert len({star["obsid"] for star in stars}) == len(files) == 176
    plates = set()
    for star in stars:
        real = table.get((star["planid"], star["spid"], star["fiberid"]))
        if real is not None:
            assert -star["obsid"] % 100_000 == real % 100_000
            plates.add((-star["obsid"] // 100_000, real // 100_000))
    assert plates
    assert len(plates) == len(dict(plates)) == len({real: made for made, real in plates})


def test_repeat_visits_of_a_star_have_lines_at_the_same_pixels(shared):
    """Spectra of one star, of different length, correlate best without a shift."""
    groups = pd.read_csv(shared / "lamost_dr8_repeats" / "groups.csv")
    bright = groups[groups.combined_snrg > 100].groupby("GroupID").filter(lambda g: len(g) > 1)
    pairs = [g.combined_file.values[:2] for _, g in bright.groupby("GroupID")][:8]
    assert pairs
    window = slice(1000, 2000)
    for pair in pairs:
        lines = []
        for name in pair:
            flux = (
                read_spectrum(shared / "lamost_dr8_repeats" / "fits" / name.split("/")[-1])
                .flux[window]
                .astype("f8")
            )
            lines.append(flux / np.convolve(flux, np.ones(101) / 101, mode="same") - 1)
        shifts = range(-5, 6)
        match = [np.corrcoef(lines[0][60:-60], np.roll(lines[1], s)[60:-60])[0, 1] for s in shifts]
        assert abs(shifts[int(np.argmax(match))]) <= 1
