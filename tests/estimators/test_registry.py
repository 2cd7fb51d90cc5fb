"""Estimators by name, from a file, and from the provenance of labels."""

import json

import numpy as np
import pytest
from support.simulated import GRID, spectra

import specxr
from specxr.cli.options import parse_options
from specxr.cubes.schema import make_cube
from specxr.spectra.line_spread import LineSpread


@pytest.fixture(scope="module")
def cube():
    flux, _ = spectra(4, 3)
    return make_cube(flux, np.ones_like(flux), GRID, obsid=np.arange(4))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clean": True, "two_stage": True, "start": (5800, 4.4, 0.0)},
        {"vsini": True, "line_spread": LineSpread.constant(1700.0), "degree": 30},
    ],
)
def test_the_attributes_of_labels_give_back_their_estimator(cube, options):
    lasp = specxr.LASP(**options)
    labels = specxr.infer(cube, lasp)
    again = specxr.open_estimator(labels.attrs)
    assert again == lasp
    assert again.fingerprint == lasp.fingerprint == labels.attrs["fingerprint"]
    stored = json.loads(json.dumps(dict(lasp.provenance)))  # as a ledger holds it
    assert specxr.open_estimator(stored | {"start_run": "first"}) == lasp


def test_options_replace_what_a_provenance_says(cube):
    labels = specxr.infer(cube, specxr.LASP())
    assert specxr.open_estimator(labels.attrs, dtype="float32") == specxr.LASP(dtype="float32")


def test_what_cannot_be_rebuilt_is_refused(cube):
    attrs = dict(specxr.infer(cube, specxr.LASP()).attrs)
    for change, what in (
        ({"emulator_fingerprint": "0"}, "emulator_fingerprint '0' .now"),
        ({"estimator_version": "0"}, "estimator_version '0'"),
        ({"fingerprint": "0"}, "fingerprint '0'"),
        ({"emulator_source": ""}, "not opened from a file; a file is required"),
        ({"estimator": "Magic"}, "'magic' is not known; one of hybrid, languagemodel, lasp"),
    ):
        with pytest.raises(ValueError, match=what):
            specxr.open_estimator(attrs | change)
    with pytest.raises(ValueError, match="names no estimator"):
        specxr.open_estimator({})


def test_by_name_with_options():
    assert specxr.open_estimator("lasp", clean=True, window=[4200, 5500]) == specxr.LASP(
        clean=True, window=(4200.0, 5500.0)
    )
    assert specxr.open_estimator("payne", hidden=16).hidden == (16,)
    assert specxr.open_estimator("slam", c=(1, 10.0)).c == (1, 10.0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "magic",
            {},
            r"one of hybrid, languagemodel, lasp, payne, regressor, slam or a model file .* Name",
        ),
        (
            "lasp",
            {"cleen": True},
            r"cleen: no such option of LASP; its options are emulator, clean, .* Correct",
        ),
        ("lasp", {"degree": "many"}, r"degree of LASP is 'many'; a value of the type int is required"),
        ("lasp", {"clean": "yes"}, r"clean of LASP is 'yes'; a value of the type bool is required"),
        ("lasp", {"window": (4200,)}, r"window of LASP is \(4200,\)"),
        ("lasp", {"degree": True}, "degree of LASP is True"),
        ("payne", {"model": "x"}, "model: no such option"),
        ("slam", {"c": ("a",)}, r"c of SLAM is \('a',\)"),
    ],
)
def test_wrong_names_and_options_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        specxr.open_estimator(name, **options)


def test_options_of_the_command_line():
    items = [
        "clean",
        "two-stage=true",
        "window=4200,5700",
        "degree=50",
        "emulator=a/b,c.fits",
        "hidden=8,",
        "c=[1,2]",
    ]
    assert parse_options([*items, 'priors={"feh": [0, 0.1]}']) == {
        "clean": True, "two_stage": True, "window": (4200, 5700), "degree": 50, "emulator": "a/b,c.fits",
        "hidden": (8,), "c": (1, 2), "priors": {"feh": [0, 0.1]},
    }  # fmt: skip
    assert parse_options(None) == {}
    for items, message in ((["=3"], "no name"), (["a=1", "a=2"], "twice"), (["a b"], "no name")):
        with pytest.raises(ValueError, match=message):
            parse_options(items)
