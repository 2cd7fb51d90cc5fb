import numpy as np
import pytest
from astropy.io import fits
from support.surveys import desi_width, write_desi

import specxr
from specxr.readers.desi import DESI, DESI_B, DESI_GRID, DESI_Z
from specxr.readers.registry import read_files
from specxr.spectra.line_spread import LineSpread
from specxr.vocabulary import MaskBit


def read(file, reader=DESI):
    (block,) = reader.read([file])
    return block


def test_arms_are_joined_on_one_grid(tmp_path):
    block = read(write_desi(tmp_path / "a.fits"))
    assert block.flux.shape == (2, DESI_GRID.wavelength.size)
    for star in range(2):
        np.testing.assert_allclose(block.flux[star], 10 * (star + 1) + DESI_GRID.wavelength / 1000, rtol=2e-5)
    assert not block.mask.any()
    # What the pixels know is kept, and where two arms reach it is added: here each pixel of 0.8 Angstrom knows 1.
    width = np.diff(DESI_GRID.edges)
    twice = (DESI_GRID.wavelength > 5765) & (DESI_GRID.wavelength < 5795)
    once = (DESI_GRID.wavelength > 4000) & (DESI_GRID.wavelength < 5700)
    np.testing.assert_allclose(block.ivar[0, once], width[once] / 0.8, rtol=1e-5)
    np.testing.assert_allclose(block.ivar[0, twice], 2 * width[twice] / 0.8, rtol=1e-5)
    np.testing.assert_allclose(block.width[0, once], desi_width(0.7, DESI_GRID.wavelength[once]), rtol=0.02)


def test_targets_keep_their_rows_and_columns(tmp_path):
    targets = [39627866878511337, -17, 616088619186127404]
    block = read(write_desi(tmp_path / "a.fits", targets))
    assert block.stars["obsid"].tolist() == targets
    assert block.stars["source_id"].tolist() == [2**62, 2**62 + 1, 2**62 + 2]
    assert block.stars["desi_target"].tolist() == [5, 5, 5]
    assert np.isnan(block.stars["parallax"]).all()  # 0 is what the survey writes where Gaia has none
    assert block.stars["data_release"].tolist() == ["sv3 dark"] * 3
    np.testing.assert_allclose(block.flux[:, 5000] - block.flux[0, 5000], [0, 10, 20], rtol=1e-5)


def test_an_arm_is_given_as_it_is(tmp_path):
    flux = np.arange(2751.0)
    file = write_desi(tmp_path / "a.fits", [5], lambda star, wavelength: (wavelength - 3600) / 0.8)
    block = read(file, DESI_B)
    np.testing.assert_allclose(block.flux[0], flux, atol=1e-2)
    np.testing.assert_array_equal(block.ivar, np.ones((1, 2751)))
    assert DESI_B.grid.wavelength[-1] == pytest.approx(5800)
    assert DESI_Z.grid.wavelength[0] == pytest.approx(7520)
    # The line spread of a grid is that before its pixels integrate, which the matrices have in them.
    before = np.sqrt(0.7**2 - 0.8**2 / 12)
    np.testing.assert_allclose(block.width[0], desi_width(before, DESI_B.grid.wavelength), rtol=0.02)


@pytest.mark.parametrize("arms", ["BR", "Z"])
def test_without_an_arm_its_pixels_are_missing(tmp_path, arms):
    block = read(write_desi(tmp_path / "a.fits", arms=arms))
    missing = (block.mask[0] & int(MaskBit.MISSING)) != 0
    wavelength = DESI_GRID.wavelength
    end = 7620.4 if arms == "BR" else 7519.6
    clear = abs(wavelength - end) > 1
    np.testing.assert_array_equal(missing[clear], ((wavelength > end) == (arms == "BR"))[clear])
    assert (block.ivar[0, missing] == 0).all()


@pytest.mark.parametrize("n_diagonals", [3, 7, 15])
def test_resolution_matrices_may_have_any_number_of_diagonals(tmp_path, n_diagonals):
    matrix = np.zeros((2, n_diagonals, 2751))
    middle = n_diagonals // 2
    matrix[:, middle - 1 : middle + 2] = np.array([0.25, 0.5, 0.25])[:, None]
    block = read(write_desi(tmp_path / "a.fits", arms="B", resolution=matrix))
    inside = slice(1000, 2000)
    width = desi_width(0.8 / 0.375 / (2 * np.sqrt(np.pi)), DESI_GRID.wavelength[inside])
    np.testing.assert_allclose(block.width[0, inside], width, rtol=0.02)


def _without(name):
    def change(hdus):
        del hdus[name]

    return change


def _shifted(hdus):
    hdus["R_WAVELENGTH"].data += 0.3


def _elsewhere(hdus):
    hdus["R_WAVELENGTH"].data += 8000


def _other_order(hdus):
    column = fits.Column("TARGETID", "K", array=hdus["FIBERMAP"].data["TARGETID"][::-1])
    hdus.append(fits.BinTableHDU.from_columns([column], name="SCORES"))


def _float_targets(hdus):
    column = fits.Column("TARGETID", "D", array=hdus["FIBERMAP"].data["TARGETID"].astype("f8"))
    hdus["FIBERMAP"] = fits.BinTableHDU.from_columns([column], name="FIBERMAP")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_without("FIBERMAP"), "no extension FIBERMAP"),
        (_without("R_IVAR"), "no IVAR of the arm R"),
        (_shifted, "not on the grid of the survey"),
        (_elsewhere, "not on the grid of the survey"),
        (_other_order, "the targets of the extensions FIBERMAP and SCORES differ"),
        (_float_targets, "TARGETID is no integer"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, change, reason):
    path = write_desi(tmp_path / "a.fits", checksum=False)
    with fits.open(path) as hdus:
        changed = fits.HDUList([hdu.copy() for hdu in hdus])
    change(changed)
    changed.writeto(tmp_path / "b.fits")
    block = read(tmp_path / "b.fits")
    assert len(block) == 0
    assert reason in block.failures[0][1]


def test_matrices_of_another_length_are_a_failure(tmp_path):
    file = write_desi(tmp_path / "a.fits", arms="B", resolution=np.ones((2, 11, 2750)))
    assert "resolution matrices" in read(file).failures[0][1]


def test_a_changed_byte_is_seen_by_the_checksum(tmp_path):
    path = write_desi(tmp_path / "a.fits")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "hecksum" in read(path).failures[0][1]


def test_targets_of_several_tiles_are_refused_or_replaced(tmp_path):
    files = [write_desi(tmp_path / f"{i}.fits", [7, 8 + i], arms="B") for i in range(2)]
    with pytest.raises(
        ValueError, match=r"1 stars have an obsid that another star has .*0\.fits and .*1\.fits"
    ):
        specxr.ingest("desi-b", files, tmp_path / "cube.zarr", workers=1)
    report = specxr.ingest("desi-b", files, tmp_path / "cube.zarr", workers=1, duplicates="keep_last")
    assert report.n_written == 3
    assert specxr.open_cube(tmp_path / "cube.zarr")["obsid"].values.tolist() == [7, 8, 9]


def test_the_cube_has_the_mean_line_spread_of_its_stars(tmp_path):
    files = [write_desi(tmp_path / f"{i}.fits", [i], sigma=0.6 + 0.2 * i) for i in range(2)]
    specxr.ingest("desi", files, tmp_path / "cube.zarr", workers=1)
    cube = specxr.open_cube(tmp_path / "cube.zarr")
    line_spread = LineSpread.from_json(cube["wavelength"].attrs["line_spread"])
    np.testing.assert_allclose(
        line_spread.sigma([4500.0, 8000.0]), desi_width(0.7, np.array([4500, 8000])), rtol=0.02
    )
    assert cube["source_id"].attrs["long_name"] == "identifier of the star in Gaia"


def test_a_real_file(shared):
    (block,) = read_files("desi", [shared / "desi" / "coadd-sv3-dark-26065.fits"])
    assert len(block) == 5
    assert block.stars["object_class"].tolist() == ["", "", "TGT", "SKY", "TGT"]
    observed = (block.ivar > 0).any(axis=1)
    assert observed.tolist() == [False, False, True, False, True]
    assert (
        (block.stars["resolving_power"][observed] > 3500) & (block.stars["resolving_power"][observed] < 4500)
    ).all()
