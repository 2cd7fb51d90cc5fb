"""Labels as tables: what goes in comes out, and nothing is lost on the way to a file."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from support.fakes import RAISE, Mean, write_fake_cube
from support.program import ok, refused, run

import specxr
from specxr.cubes.tables import SUFFIXES, label_table, read_table, write_table
from specxr.vocabulary import Flag, Result


@pytest.fixture
def labels() -> xr.Dataset:
    rng = np.random.default_rng(1)
    n = 6
    stars = {
        "obsid": np.arange(10**15, 10**15 + n),
        "ra": rng.uniform(0, 360, n),
        "dec": rng.uniform(-90, 90, n),
        "teff": rng.uniform(4000, 8000, n),
        "teff_err": rng.uniform(1, 50, n),
        "logg": rng.uniform(0, 5, n),
        "chi2": rng.uniform(0, 1, n),
        "n_good": rng.integers(0, 1327, n).astype("int32"),
        "n_iter": np.full(n, 7, dtype="int16"),
        "result": np.array([0, 1, 2, 3, 4, 0], dtype="uint8"),
        "flags": np.array([0, 1, 3, 64, 0, 0], dtype="uint16"),
    }
    stars["teff"][3] = np.nan
    labels = xr.Dataset({name: ("star", values) for name, values in stars.items()})
    labels["covariance"] = (("star", "label", "label_"), np.zeros((n, 3, 3)))
    return labels.set_coords(["obsid", "ra", "dec"])


def test_one_row_a_star_with_names_of_results(labels):
    table = label_table(labels)
    assert list(table) == [
        "obsid",
        "ra",
        "dec",
        "teff",
        "teff_err",
        "logg",
        "chi2",
        "n_good",
        "n_iter",
        "result",
        "quality_flags",
        "recommended",
    ]
    assert list(table["result"]) == [Result(code).name.lower() for code in labels["result"].values]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_keep_every_bit(labels, tmp_path, suffix):
    table = label_table(labels)
    path = tmp_path / f"labels{suffix}"
    write_table(table, path)
    again = read_table(path)
    assert list(again) == list(table)
    for name in table:
        np.testing.assert_array_equal(again[name].to_numpy(), table[name].to_numpy())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_fits_carries_units(labels, tmp_path):
    from astropy.table import Table

    write_table(label_table(labels), tmp_path / "labels.fits")
    table = Table.read(tmp_path / "labels.fits")
    assert str(table["teff"].unit) == str(table["teff_err"].unit) == "K"


def test_nothing_is_overwritten_unasked(labels, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_table(label_table(labels), path)
    assert path.read_text() == "mine"
    write_table(label_table(labels), path, overwrite=True)
    assert len(read_table(path)) == labels.sizes["star"]


def test_a_write_that_fails_leaves_what_was_there(labels, tmp_path, monkeypatch):
    path = tmp_path / "labels.csv"
    path.write_text("mine")

    def fail_half_way(table, file, **_):
        file.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail_half_way)
    with pytest.raises(OSError, match="disk full"):
        write_table(label_table(labels), path, overwrite=True)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "message"),
    [("labels.txt", "ends in '.txt'"), ("absent/labels.csv", "the folder .* does not exist")],
)
def test_impossible_outputs_are_refused(labels, tmp_path, name, message):
    with pytest.raises((ValueError, OSError), match=message):
        write_table(label_table(labels), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_table(tmp_path / "absent.csv")


@pytest.mark.parametrize("suffix", [".fits", ".parquet", ".ecsv"])
def test_astropy_reads_units_descriptions_meanings_and_provenance(labels, tmp_path, suffix):
    from astropy import units as u
    from astropy.table import QTable

    labels = labels.assign_attrs(
        estimator="LASP",
        emulator_fingerprint="a" * 64,
        complete=True,
        date="2026-11-21T22:10:05Z",
        clean="true",
    )
    beside = xr.Dataset(
        {"snr_g": ("star", np.arange(6.0)), "mine": ("star", np.arange(6), {"units": "mag", "long_name": "my own"}),
         "subclass": ("star", ["A0", "B1", "M1", "F5", "G2", "K0V"])},
        coords={"obsid": labels["obsid"]},
    )  # fmt: skip
    table = label_table(labels, beside)
    assert list(table)[:6] == ["obsid", "ra", "dec", "snr_g", "mine", "subclass"]
    path = tmp_path / f"labels{suffix}"
    write_table(table, path)
    found = QTable.read(path)
    assert (found["ra"].unit, found["teff"].unit, found["logg"].unit) == (u.deg, u.K, u.Unit("dex"))
    assert found["mine"].unit == u.mag
    assert found["teff_err"].info.description == "standard error of effective temperature"
    assert found["mine"].info.description == "my own"
    np.testing.assert_array_equal(found["teff"].to_value("K"), table["teff"])
    flags = found["quality_flags"].info.meta
    meanings = dict(zip(flags["flag_meanings"].split(), flags["flag_masks"], strict=True))
    assert meanings["low_snr"] == int(Flag.LOW_SNR)
    assert found["result"].info.meta["meanings"]["max_iter"] == Result.MAX_ITER.advice
    expected = {name.upper(): value for name, value in labels.attrs.items()}
    assert {name: found.meta.get(name) for name in expected} == expected
    if suffix != ".fits":  # whose header has more to say
        assert dict(found.meta) == expected
    assert [str(name) for name in np.asarray(found["subclass"]).astype(str)] == list(
        beside["subclass"].values
    )


def test_variables_of_other_stars_are_no_columns(labels):
    beside = xr.Dataset({"snr_g": ("star", np.arange(6.0))}, coords={"obsid": labels["obsid"] + 1})
    for wrong in (beside, beside.isel(star=slice(3))):
        with pytest.raises(ValueError, match="variables beside the labels are of other stars"):
            label_table(labels, wrong)
    cube = xr.Dataset({"flux": (("star", "wavelength"), np.ones((6, 2)))}, coords={"obsid": labels["obsid"]})
    with pytest.raises(ValueError, match="flux cannot be a column"):
        label_table(labels, cube)


def test_the_command_exports_what_was_asked_for(tmp_path):
    path = write_fake_cube(tmp_path / "c.zarr", 10, star_chunk=5, snr_g=np.arange(10.0), faults={7: RAISE})
    specxr.run(path, Mean(), name="lasp", stars=np.arange(10) != 0)
    out = tmp_path / "t.ecsv"
    result = run("export", path, "--out", out, "--with", "snr_g", "--where", "snr_g > 2 and teff > 0")
    assert result.exit_code == 0, result.output
    assert "2 stars in" in result.stdout
    assert "of 10" in result.stdout
    assert "not complete: 6 stars have no labels yet" in " ".join(result.stderr.split())
    assert read_table(out)["snr_g"].tolist() == [3.0, 4.0]
    assert read_table(out).attrs["complete"] is False
    ok("export", path, "--out", out, "--converged", "--overwrite")
    assert set(read_table(out)["result"]) == {"converged"}
    assert "variables of the stars of the cube are required: " in refused(
        "export", path, "--out", out, "--with", "snrg", "--overwrite"
    )
