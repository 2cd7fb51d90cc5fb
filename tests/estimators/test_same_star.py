"""The same simulated stars, seen by LAMOST, BOSS and DESI, have the same labels."""

from dataclasses import replace

import numpy as np
import pytest
from support import sky

import specxr
from specxr.readers.lamost_lrs import GRID
from specxr.spectra.line_spread import LineSpread

LABELS = ("rv", "teff", "logg", "feh")
N_STARS = 6
SNR = {"lamost": 50.0, "boss": 60.0, "desi": 30.0}


@pytest.fixture(scope="module")
def stars():
    labels = sky.stars(N_STARS)
    return labels, sky.ideal(labels)


def fitted(stars, folder, rng=None):
    """Labels of each survey, and of DESI's spectra that were resampled; by bulk runs, as a user makes them."""
    _, flux = stars
    for name in ("boss", "desi"):
        (folder / name).mkdir()
    specxr.ingest("boss", sky.boss(folder / "boss", flux, SNR["boss"], rng), folder / "boss.zarr", workers=1)
    specxr.ingest("desi", sky.desi(folder / "desi", flux, SNR["desi"], rng), folder / "desi.zarr", workers=1)
    cubes = {
        "lamost": sky.lamost(flux, SNR["lamost"], rng),
        "boss": specxr.open_cube(folder / "boss.zarr"),
        "desi": specxr.open_cube(folder / "desi.zarr"),
    }
    coarse = replace(GRID[slice(400, 2000)], line_spread=LineSpread.constant(1700.0))
    cubes["desi, resampled"] = specxr.resample(cubes["desi"], coarse)
    lasp = specxr.LASP("default", weighted=True)
    return {name: specxr.infer(cube, lasp).compute() for name, cube in cubes.items()}


def test_biases_are_below_a_tenth_of_the_errors(stars, tmp_path):
    truth, _ = stars
    for survey, labels in fitted(stars, tmp_path).items():
        assert (labels["result"] == 0).all(), survey
        for name in LABELS:
            error = labels[f"{name}_err"].values
            pull = (labels[name].values - truth[name]) / error
            assert abs(pull.mean()) < 0.1, (survey, name, pull)
            assert abs(pull).max() < 0.3, (survey, name, pull)


def test_labels_agree_within_their_errors(stars, tmp_path):
    labels = fitted(stars, tmp_path, np.random.default_rng(1))
    for other in ("boss", "desi"):
        pulls = []
        for name in LABELS:
            error = np.hypot(labels["lamost"][f"{name}_err"], labels[other][f"{name}_err"]).values
            pulls.append((labels[other][name] - labels["lamost"][name]).values / error)
        assert 0.5 < np.std(pulls) < 1.5, (other, pulls)
        assert np.abs(pulls).max() < 4, (other, pulls)
