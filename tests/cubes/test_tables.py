"""Labels as tables: what goes in comes out, and nothing is lost on the way to a file."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from specxr.cubes.tables import SUFFIXES, label_table, read_table, write_table
from specxr.vocabulary import Result


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
        "flags",
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
