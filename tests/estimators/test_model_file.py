"""Files of trained models: what was saved comes back, and what is not what it says it is gets refused."""

import dataclasses
import json
import os
import pickle

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from support.trained import GRID, observed, spectra_with_labels

from specxr import SLAM, Payne
from specxr.content import reopen
from specxr.estimators.held_out import calibrate_by_folds
from specxr.estimators.model_file import describe_model
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.spectra.normalisation import Normalisation

TINY = Payne(hidden=(8,), max_rounds=2, validation=0.2)
RECIPE = Normalisation(100.0, excluded=((5000.0, 5010.0),))


@pytest.fixture(scope="module")
def payne():
    training = spectra_with_labels(120, normalisation=RECIPE)
    training = dataclasses.replace(training, provenance={"line_spread": "R 1800"})
    return calibrate_by_folds(TINY, training, folds=2, snr=(20, 100))


@pytest.fixture
def path(payne, tmp_path):
    payne.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_what_was_saved_comes_back(payne, path):
    again = Payne.load(path, max_velocity=200.0)
    assert again.hidden == (8,)
    assert again.max_velocity == 200.0
    assert again.model.fingerprint == payne.model.fingerprint
    block = observed(spectra_with_labels(20, seed=1, normalisation=RECIPE), 50)
    found, wanted = Payne.load(path).estimate(block), payne.estimate(block)
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


def test_it_says_what_it_is(payne, path):
    found = describe_model(path)
    assert found["kind"] == "payne"
    assert found["labels"] == ["teff", "logg", "feh"]
    assert found["bounds"]["teff"][0] == pytest.approx(5000, abs=30)
    assert found["medium"] == "vacuum"
    assert LineSpread.from_json(found["line_spread"]) == LineSpread.constant(1800)
    assert Normalisation.from_json(found["normalisation"]) == RECIPE
    assert found["training"]["stars"] == 120
    assert found["training"]["line_spread"] == "R 1800"
    assert found["options"]["hidden"] == [8]
    assert set(found["versions"]) == {"specxr", "torch", "numpy"}
    assert found["sha256"] == payne.model.fingerprint
    assert found["calibration"]["folds"] == 2


def contents(path):
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["specxr"])  # noqa: SIM118


def write(path, arrays, attributes):
    save_file(arrays, path, metadata={"specxr": json.dumps(attributes)})


def test_a_number_that_was_changed_is_noticed(path):
    arrays, attributes = contents(path)
    arrays["weights.emulator.weight0"] = arrays["weights.emulator.weight0"] * 1.0001
    write(path, arrays, attributes)
    with pytest.raises(ValueError, match="hash .* damaged or changed"):
        Payne.load(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("medium", "air"),
        ("bounds", {"teff": [0, 1e6]}),
        ("normalisation", ""),
        ("step", 2e-4),
        ("labels", ["teff"]),
    ],
)
def test_an_attribute_that_was_changed_is_noticed(path, name, value):
    arrays, attributes = contents(path)
    write(path, arrays, attributes | {name: value})
    with pytest.raises(ValueError, match="hash .* damaged or changed"):
        describe_model(path)


@pytest.mark.parametrize("keep", [0, 7, 500, -10])
def test_a_file_that_is_cut_off_is_refused(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="cannot be read"):
        Payne.load(path)


def test_other_files_are_refused(payne, path, tmp_path):
    with pytest.raises(FileNotFoundError, match="no model file"):
        Payne.load(tmp_path / "absent.safetensors")
    save_file({"a": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="says it is None"):
        Payne.load(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="kind 'payne'; 'slam' is required"):
        SLAM.load(path)


def test_nothing_is_half_saved(payne, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk is full"):
        payne.save(tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_only_on_request(payne, path, tmp_path):
    with pytest.raises(FileExistsError, match="exists already"):
        payne.save(path)
    payne.save(path, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    with pytest.raises(ValueError, match=r"ends in '.pt'"):
        payne.save(tmp_path / "model.pt")


def test_an_opened_model_travels_as_path_and_hash(payne, path):
    opened = Payne.load(path)
    sent = pickle.dumps(opened)
    assert len(sent) < 2000
    again = pickle.loads(sent)
    assert again.fingerprint == opened.fingerprint
    assert pickle.loads(sent).model is again.model  # read once a process
    other = calibrate_by_folds(
        dataclasses.replace(TINY, seed=5), spectra_with_labels(120), folds=2, snr=(20, 100)
    )
    other.save(path, overwrite=True)
    reopen.cache_clear()
    with pytest.raises(ValueError, match="both must be the same"):
        pickle.loads(sent)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"medium": "air"}, "medium air; this Payne was trained on vacuum"),
        ({"sampling": "linear", "step": 1.0}, "sampling linear"),
        ({"wavelength": GRID.wavelength[5:]}, "which is required"),
        ({"wavelength": GRID.wavelength * (1 + 5e-5)}, "depart by"),
        ({"wavelength": GRID.wavelength[0] * 10 ** (np.arange(900) * 2e-4), "step": 2e-4}, "depart by"),
        ({"line_spread": LineSpread.constant(2500.0)}, "resolving power of 2500"),
        ({"normalisation": Normalisation(50.0).to_json()}, "was normalised by .*; this Payne requires"),
    ],
)
def test_a_cube_that_does_not_match_is_refused_with_the_reason(payne, change, message):
    with pytest.raises(ValueError, match=message):
        payne.check(dataclasses.replace(GRID, **change))


def test_a_cube_that_has_more_pixels_is_cut(payne):
    index = np.arange(36800, 37300)
    wide = Grid(10.0 ** (index * 1e-4), "vacuum", "log10", 1e-4)
    payne.check(wide)
    narrow = observed(spectra_with_labels(10, seed=1, normalisation=RECIPE), 50)
    at = slice(100, 100 + GRID.wavelength.size)

    def widened(array, fill):
        out = np.full((10, index.size), fill, array.dtype)
        out[:, at] = array
        return out

    block = dataclasses.replace(
        narrow,
        grid=dataclasses.replace(wide, normalisation=RECIPE.to_json()),
        flux=widened(narrow.flux, 1),
        ivar=widened(narrow.ivar, 1),
        mask=widened(narrow.mask, 0),
    )
    for name, values in payne.estimate(narrow).items():
        np.testing.assert_array_equal(payne.estimate(block)[name], values, err_msg=name)
