"""Stores that were damaged by chance: each command ends in one line that names the store, or is right."""

import shutil

import numpy as np
import pytest
from support.damage import mutate
from support.fakes import Mean, write_fake_cube
from support.program import refused, run

import specxr
from specxr.cubes.store import open_cube, write_labels
from specxr.runs import ledger
from specxr.runs.run import Run


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """20 stars in 4 blocks, with labels of a run and labels that no run made."""
    path = write_fake_cube(tmp_path_factory.mktemp("sound") / "cube.zarr", 20)
    specxr.run(path, Mean(), name="a")
    write_labels(path, specxr.infer(open_cube(path), Mean()), "b")
    return path


@pytest.fixture
def path(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "cube.zarr")


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_store_ends_in_a_line_that_names_it(path, tmp_path, seed):
    what = mutate(path, np.random.default_rng(seed))
    words = [
        ("info", path, "--check"),
        ("export", path, "--name", "ab"[seed % 2], "--out", tmp_path / "a.csv"),
    ]
    if seed % 15 == 0:
        words.append(("report", path, "--name", "a", "--out", tmp_path / "a.html"))
    for command in words:
        shown = run(*command)
        if shown.exit_code:
            assert isinstance(shown.exception, SystemExit), (what, command, shown.exception)
            assert shown.exit_code == 1, what
            line = shown.stderr.splitlines()[-1]
            assert line.startswith("specxr: "), what
            assert str(path) in line, (what, line)
    assert str(path) in _outcome(path), what


def _outcome(path):
    """How a run that is called again ends: what it says of itself, or the error that a user can understand."""
    try:
        summary = specxr.run(path, Mean(), name="a")
    except (ValueError, OSError) as error:
        return str(error)
    return summary.path if summary.complete or summary.quarantined else "neither complete nor in quarantine"


def test_a_chunk_of_spectra_in_the_place_of_a_record_costs_its_block(path, tmp_path):
    shutil.copy(path / "ivar/c/0/0", path / "labels/a/ledger/blocks/c/2")
    states = [block.state for block in Run.at(path, "a").read_ledger().blocks]
    assert states == [ledger.DONE, ledger.DONE, ledger.WAITING, ledger.DONE]
    assert specxr.run(path, Mean(str(tmp_path / "log")), name="a").n_fitted == 5


@pytest.mark.parametrize("place", ["labels/a/label/c/0", "labels/a/teff/c/1", "obsid/c/0"])
def test_a_chunk_of_something_else_is_named(path, tmp_path, place):
    shutil.copy(path / "ivar/c/0/0", path / place)
    line = refused("export", path, "--name", "a", "--out", tmp_path / "a.csv")
    assert f"is damaged (it is a chunk of something else): file://{path / place}" in line


@pytest.mark.parametrize("content", ['{"zarr_format": 3}', b"\xb5".decode("latin1")])
def test_metadata_of_nothing_name_the_store(path, content):
    (path / "flux/zarr.json").write_text(content, encoding="latin1")
    assert str(path) in refused("info", path)


@pytest.mark.parametrize("place", ["zarr.json", "flux/zarr.json", "labels/a/teff/zarr.json"])
@pytest.mark.parametrize("content", [b"", b'{"shape": [1', b"\xff\xfe", b"[]"])
def test_metadata_that_are_not_json_are_named(path, place, content):
    (path / place).write_bytes(content)
    line = refused("info", path)
    assert f"{path / place} is damaged" in line
    assert ("remove the labels 'a'" in line) == place.startswith("labels")
