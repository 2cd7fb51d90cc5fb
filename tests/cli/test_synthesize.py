"""A training set from the command line: the labels lie in their ranges, and wrong ranges are refused."""

import numpy as np
from support.program import ok, refused

import specxr


def test_a_training_set_is_made_as_the_cube_of_a_survey_has_it(tmp_path):
    survey = tmp_path / "survey.zarr"
    spectra = specxr.synthesis.simulate_survey(2, seed=1).load()
    specxr.write_cube(spectra.isel(wavelength=slice(500, 1200)), survey)
    out = tmp_path / "training.zarr"
    words = (
        "synthesize",
        "--stars",
        8,
        "--label",
        "teff=5000:6000",
        "--label",
        "vsini=5:50",
        "--like",
        survey,
    )
    text = ok(*words, "--seed", 3, "--out", out)
    assert "8 stars with teff, logg, feh, vsini, 700 pixels" in text
    cube = specxr.open_cube(out).load()
    np.testing.assert_array_equal(cube["wavelength"], specxr.open_cube(survey)["wavelength"])
    assert cube.attrs["normalisation"]
    assert ((cube["teff"] > 5000) & (cube["teff"] < 6000)).all()
    assert 0.5 < float(cube["flux"].median()) < 1.2
    again = tmp_path / "again.zarr"
    ok(*words, "--seed", 3, "--out", again)
    np.testing.assert_array_equal(specxr.open_cube(again)["flux"], cube["flux"])
    assert "--overwrite" in refused(*words, "--out", out)


def test_wrong_ranges_are_refused(tmp_path):
    for label, word in (
        ("teff", "NAME=LOW:HIGH"), ("teff=6000:5000", "NAME=LOW:HIGH"), ("c_fe=0:1", "NAME=LOW:HIGH"),
        ("teff=5000:99999", "reaches beyond the emulator"),
    ):  # fmt: skip
        assert word in refused("synthesize", "--label", label, "--out", tmp_path / "c.zarr")
    assert not list(tmp_path.iterdir())
