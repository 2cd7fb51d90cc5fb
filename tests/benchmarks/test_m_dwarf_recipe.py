"""The recipe of M dwarfs on the files of a user, which this test makes, from end to end."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.dwarfs import write_templates

import specxr
from specxr.calibration.wide_binaries import feh_offset
from specxr.synthesis import DwarfTemplates, MockDesign, simulate_m_dwarfs

RECIPE = Path(__file__).parents[2] / "recipes/m_dwarfs.py"
DESIGN = MockDesign(
    n_fgk_m=150, n_m_m=40, n_fgk_fgk=150, n_other=30, snr=(15.0, 60.0),
    errors={"teff": 40.0, "logg": 0.05, "feh": 0.05}, seed=3,
)  # fmt: skip


def recipe():
    specification = importlib.util.spec_from_file_location("recipe_of_m_dwarfs", RECIPE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A cube without identifiers, a table with them, and the tables that the recipe takes."""
    folder = tmp_path_factory.mktemp("files")
    mock = simulate_m_dwarfs(DwarfTemplates.read(*write_templates(folder)), feh_offset, DESIGN)
    ids = pd.DataFrame({"obsid": mock.cube["obsid"].values, "source_id": mock.cube["source_id"].values})
    ids.to_csv(folder / "ids.csv", index=False)
    specxr.write_cube(mock.cube.drop_vars("source_id"), folder / "boss.zarr")
    gaia = mock.gaia.copy()
    gaia.loc[0, "ebv"] = np.nan
    gaia.to_csv(folder / "gaia.csv", index=False)
    pairs = mock.binaries.copy()
    pairs.loc[1, "source_id1"] = 0
    pairs.to_parquet(folder / "binaries.parquet")
    rng = np.random.default_rng(0)
    alpha = rng.normal(0.1, 0.05, len(mock.fgk))
    alpha[: DESIGN.n_fgk_m] -= (
        0.3 * mock.truth["feh"][: DESIGN.n_fgk_m]
    )  # companions in the order of the M dwarfs
    mock.fgk.assign(alpha_m=alpha, alpha_m_err=0.03).to_csv(folder / "fgk.csv", index=False)
    mock.reference.to_csv(folder / "reference.csv", index=False)
    mock.truth[::3].rename(columns={"teff": "TEFF", "feh": "FE_H"}).to_csv(folder / "other.csv", index=False)
    return folder, mock


def arguments(folder, out, **changed):
    paths = {
        "spectra": "boss.zarr", "ids": "ids.csv", "gaia": "gaia.csv", "binaries": "binaries.parquet",
        "fgk": "fgk.csv", "reference": "reference.csv", "others": "other.csv", **changed,
    }  # fmt: skip
    given = [text for name, path in paths.items() for text in (f"--{name}", str(folder / path))]
    return [*given, "--loss", "squared", "--threads", "1", "--out", str(out)]


def test_files_become_a_catalogue(files, tmp_path, capsys):
    folder, mock = files
    recipe().main(arguments(folder, tmp_path))
    printed = capsys.readouterr().out
    assert "'incomplete': 1" in printed
    assert "SLAM - other.csv: " in printed
    assert "other stars: within" not in printed  # nobody knows the truth of a user's stars
    figures = {"candidates", "pixels", "test", "errors", "pairs", "diagrams"}
    assert {path.stem for path in tmp_path.glob("*.png")} == figures

    catalogue = pd.read_csv(tmp_path / "catalogue.csv", dtype={"source_id": "int64"})
    assert mock.gaia["source_id"][0] not in set(catalogue["source_id"])  # its extinction is not known
    joined = catalogue[catalogue["recommended"]].merge(mock.truth, on="source_id")
    assert len(joined) > 0.6 * len(catalogue)
    for name, known, least in (("Teff", "teff", 0.8), ("FeHniu", "feh", 0.6), ("alphaM", "feh", 0.6)):
        assert abs(np.corrcoef(joined[name], joined[known])[0, 1]) > least, name
    assert joined["FeH"].isna().all()
    assert (joined["e_alphaM"] > 0).all()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("gaia", lambda table: table.assign(source_id=table["source_id"].astype(float)), "floating-point"),
        ("binaries", lambda table: table.drop(columns="ruwe2"), "no column ruwe2"),
        ("fgk", lambda table: table[:0], "at least 20 are required"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(files, tmp_path, name, change, message):
    folder, _ = files
    changed = change(specxr.cubes.tables.read_table(next(folder.glob(f"{name}.*"))))
    changed.to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(ValueError, match=message):
        recipe().main(arguments(folder, tmp_path / "out", **{name: tmp_path / f"{name}.parquet"}))
