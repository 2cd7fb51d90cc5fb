"""The commands of results of science, on a mock survey whose truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from support.program import ok, refused

from specxr.cubes.schema import make_cube
from specxr.cubes.store import write_cube, write_labels
from specxr.synthesis import HotStarMock
from specxr.vocabulary import STAR

PHOTOMETRY = ("distance", "phot_g_mean_mag", "j", "h", "ks", "lasp_teff")


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """A cube with labels, and a catalogue of its stars."""
    folder = tmp_path_factory.mktemp("survey")
    mock = HotStarMock(n_disc=800, n_bhb=20, n_stragglers=10, n_cool=100, visits=1).draw(2)
    n, rng = mock.sizes[STAR], np.random.default_rng(3)
    stars = {name: mock[name].values for name in ("ra", "dec", "snr_r")}
    cube = make_cube(
        np.ones((n, 4), "f4"), np.ones((n, 4), "f4"), 5000.0 + np.arange(4.0), stars=stars, medium="air"
    )
    write_cube(cube, folder / "cube.zarr")
    labels = cube[["obsid", "ra", "dec"]].reset_coords()
    for name, error in (("teff", 100.0), ("logg", 0.1), ("feh", 0.1)):
        labels[name] = (STAR, mock[name].values + error * rng.normal(size=n))
        labels[f"{name}_err"] = (STAR, np.full(n, error))
    labels["result"] = (STAR, np.zeros(n, "u1"))
    write_labels(folder / "cube.zarr", labels.set_coords("obsid"), "payne")
    table = pd.DataFrame({name: mock[name].values for name in ("ra", "dec", *PHOTOMETRY, "distance_err")})
    table.sample(frac=1.0, random_state=0).to_csv(folder / "gaia.csv", index=False)
    return folder, mock


def test_hot_stars_are_chosen_and_written(survey, tmp_path):
    folder, mock = survey
    out = tmp_path / "hot.csv"
    shown = ok(
        "select", folder / "cube.zarr", "--catalogue", folder / "gaia.csv", "--name", "payne", "--out", out
    )
    assert "930 of 930 stars are in" in shown
    assert "7100 K < teff < 19000 K" in shown
    chosen = pd.read_csv(out)
    assert {"obsid", "ra", "dec", "teff", *PHOTOMETRY} <= set(chosen)
    kinds = mock["kind"].values[chosen["obsid"]]
    assert np.mean(kinds == 3) < 0.03
    assert len(chosen) > 500
    one = ok("select", folder / "cube.zarr", "--require", "enough_signal", "--out", tmp_path / "bright.csv")
    assert "snr_r >= 10" in one
    assert "not decided" in ok("select", folder / "cube.zarr", "--out", tmp_path / "part.csv")


def test_a_criterion_that_cannot_be_decided_is_refused_where_it_is_asked_for(survey, tmp_path):
    cube, out = survey[0] / "cube.zarr", tmp_path / "stars.csv"
    assert "2MASS" in refused("select", cube, "--require", "luminous", "--out", out)
    assert "Correct the name" in refused("select", cube, "--require", "bright", "--out", out)
    assert not out.exists()


def test_a_gradient_is_recovered_from_a_run_and_a_catalogue(survey, tmp_path):
    folder, _ = survey
    figure = tmp_path / "gradient.png"
    shown = ok(
        "gradient", f"{folder}/cube.zarr::payne", "--catalogue", folder / "gaia.csv", "--figure", figure,
        "--least", 40,
    )  # fmt: skip
    straight = next(line for line in shown.splitlines() if line.startswith("straight"))
    slope, error = (float(v) for v in straight.split("slope ")[1].split(",")[0].split(" +- "))
    assert abs(slope + 0.07) < 3 * error
    assert 0.001 < error < 0.01
    assert "BIC prefers the straight line" in shown
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_gradients_of_tables_without_what_they_need_are_refused(survey, tmp_path):
    folder, _ = survey
    run = f"{folder}/cube.zarr::payne"
    assert "Bailer-Jones" in refused("gradient", run)
    assert "no mg_fe, mg_fe_err" in refused("gradient", run, "--label", "mg_h")
    table = pd.read_csv(folder / "gaia.csv")
    table["distance"] *= 1000.0
    table.to_csv(tmp_path / "pc.csv", index=False)
    assert "units to 'pc'" in refused("gradient", run, "--catalogue", tmp_path / "pc.csv")


def test_a_limit_is_no_abundance_and_sums_have_both_errors(tmp_path):
    rng = np.random.default_rng(1)
    radius = rng.normal(9.0, 1.5, 300)
    table = pd.DataFrame({
        "obsid": np.arange(300), "r_gc": radius, "z": 0.0, "feh": -0.05 * (radius - 8.0) + rng.normal(0, 0.1, 300),
        "feh_err": 0.05, "mg_fe": 0.02 * (radius - 8.0) + rng.normal(0, 0.1, 300), "mg_fe_err": 0.05,
        "limits": ["mg_fe<"] * 10 + [""] * 290,
    })  # fmt: skip
    table.to_csv(tmp_path / "labels.csv", index=False)
    shown = ok("gradient", tmp_path / "labels.csv", "--label", "mg_h")
    assert "290 of 300" in shown
    slope = float(shown.split("straight: ")[1].split("slope ")[1].split(" +- ")[0])
    assert slope == pytest.approx(-0.03, abs=0.02)
