"""Damage to labels and ledgers: it is noticed, fitted again where a run is called again, and never in the way."""

import shutil

import numpy as np
import pytest
from support.fakes import Mean
from support.program import refused, run

import specxr
from specxr.cubes.store import open_labels
from specxr.runs import ledger
from specxr.runs.run import Run


class Stop(Exception):
    """Ends a driver between two blocks."""


@pytest.fixture
def complete(path):
    specxr.run(path, Mean(), name="a")
    return path


@pytest.fixture
def stopped(path, monkeypatch):
    """A run of which the first three of eight blocks are done."""

    def stop(summary):
        if summary.n_fitted == 15:
            raise Stop

    monkeypatch.setattr("specxr.runs.driver.cores", lambda: 1)
    with pytest.raises(Stop):
        specxr.run(path, Mean(), name="a", progress=stop)
    return path


def fitted(log):
    return sorted(int(line.split()[0]) for line in log.read_text().splitlines()) if log.exists() else []


def flip(file, place=None, bit=0):
    content = bytearray(file.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 1 << bit
    file.write_bytes(bytes(content))


def files_of(path, name):
    return [
        path / "labels" / "a" / name / "c" / "2",
        *(path / "labels" / "a" / name / "c" / "2").glob("**/*"),
    ]


def damage(path, name, how):
    file = next(file for file in files_of(path, name) if file.is_file())
    file.unlink() if how == "lost" else flip(file)


# Labels


@pytest.mark.parametrize("how", ["lost", "damaged"])
@pytest.mark.parametrize("name", ["teff", "covariance", "n_good", "result"])
def test_lost_and_damaged_labels_are_noticed_and_fitted_again(complete, log, tmp_path, name, how):
    before = open_labels(complete, "a").load()
    damage(complete, name, how)
    said = (
        refused("export", complete, "--name", "a", "--out", tmp_path / "a.csv")
        if name != "covariance"
        else ""
    )
    assert not said or f"'{name}' of the stars 10 to 14 is {how}" in said
    assert run("info", complete, "--check").exit_code == 1
    summary = specxr.run(complete, Mean(str(log)), name="a")
    assert fitted(log) == [10]
    assert summary.complete
    assert open_labels(complete, "a").load().identical(before)
    assert "every chunk is there" in run("info", complete, "--check").stdout


def test_labels_that_a_run_lost_before_its_end_are_noticed(stopped, log):
    damage(stopped, "teff", "lost")
    checked = run("info", stopped, "--check")
    assert checked.exit_code == 1
    assert "labels 'a' of the stars 10 to 14 are lost or damaged" in checked.stderr
    assert specxr.run(stopped, Mean(str(log)), name="a").complete
    assert fitted(log) == list(range(10, 40, 5))


# The ledger


def test_a_damaged_record_costs_its_block_only(complete, log):
    rng = np.random.default_rng(9)
    file = complete / "labels" / "a" / "ledger" / "blocks" / "c" / "2"
    sound = file.read_bytes()
    for _ in range(30):
        file.write_bytes(sound)
        flip(file, int(rng.integers(len(sound))), int(rng.integers(8)))
        found = Run.at(complete, "a").read_ledger().blocks
        assert [block.state for block in found] == [ledger.DONE] * 2 + [ledger.WAITING] + [ledger.DONE] * 5
        assert Run.at(complete, "a").read_record(2) is None
    assert specxr.run(complete, Mean(str(log)), name="a").complete
    assert fitted(log) == [10]


@pytest.mark.parametrize(
    "text", ["{", "[]", "3", '{"nothing": 1}', '{"index": 5, "star_start": 0, "star_stop": 5}']
)
def test_a_record_of_something_else_counts_for_nothing(complete, text):
    Run.at(complete, "a").ledger["blocks"][2] = text
    assert Run.at(complete, "a").read_ledger().blocks[2].state == ledger.WAITING


@pytest.mark.parametrize("what", ["ledger", "ledger/zarr.json", "ledger/blocks", "a bit"])
def test_a_run_whose_ledger_is_lost_does_not_start_from_zero_unasked(stopped, log, what):
    place = stopped / "labels" / "a" / what
    if what == "a bit":
        file = stopped / "labels" / "a" / "ledger" / "zarr.json"
        text = file.read_text()
        file.write_text(text.replace('"n_stars": 40', '"n_stars": 41'))
        assert text != file.read_text()
    else:
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    with pytest.raises(
        FileExistsError, match="its ledger, which says what is done, is lost or damaged.*--overwrite"
    ):
        specxr.run(stopped, Mean(str(log)), name="a")
    assert fitted(log) == []
    assert specxr.run(stopped, Mean(str(log)), name="a", overwrite=True).n_fitted == 40
