"""A language model on the command line: trained to a folder, and labels from this folder beside those of any other."""

import numpy as np
from support.language import tiny_base
from support.program import ok, refused
from support.trained import training_cube

import specxr

OPTIONS = (
    "-o", f"base={tiny_base()}", "-o", "tokens=numbers", "-o", "window=4900,5250", "-o", "step=25",
    "-o", "epochs=2", "-o", "minibatch=16", "-o", "accumulation=1", "-o", "validation=0", "-o", "draws=2",
)  # fmt: skip


def test_it_is_trained_to_a_folder_and_infers_from_it(tmp_path):
    cube, folder = tmp_path / "cube.zarr", tmp_path / "stage1"
    specxr.write_cube(training_cube(16), cube)
    train = ("train", cube, "--estimator", "languagemodel", "--out", folder)
    assert "16 stars, teff, logg, feh" in ok(*train, *OPTIONS)
    assert "languagemodel" in ok("models", "info", folder)
    assert "exists already" in refused(*train, *OPTIONS)
    ok("infer", cube, "--estimator", folder, "--name", "language")
    labels = specxr.open_labels(cube, "language").load()
    assert labels.sizes["star"] == 16
    assert np.isfinite(labels.teff).all()
    assert labels.attrs["estimator"] == "LanguageModel"
    assert specxr.open_estimator(labels.attrs).fingerprint == labels.attrs["fingerprint"]


def test_a_folder_without_weights_is_refused(tmp_path):
    specxr.write_cube(training_cube(16), tmp_path / "cube.zarr")
    (tmp_path / "empty").mkdir()
    given = ("-o", f"base={tmp_path / 'empty'}", "-o", "tokens=numbers")
    line = refused(
        "train", tmp_path / "cube.zarr", "--estimator", "languagemodel", "--out", tmp_path / "m", *given
    )
    assert "has no config.json and no weights" in line
    assert "required" in line
    line = refused("infer", tmp_path / "cube.zarr", "--estimator", tmp_path / "empty")
    assert "required" in line
