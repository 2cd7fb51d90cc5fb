"""The handle of a run: what it opens, how often, and how it travels."""

import pickle

import pytest
import zarr
from support.fakes import Mean

import specxr
from specxr.runs import ledger
from specxr.runs.run import Run
from specxr.runs.worker import Task, peak_memory, run_task


def test_a_run_travels_as_its_path_and_its_name(path):
    run = Run.at(path, "a")
    opened = run.cube
    travelled = pickle.loads(pickle.dumps(run))
    assert travelled == run
    assert travelled.cube is not opened
    assert len(pickle.dumps(run)) < 200 + len(str(path))
    assert run.lock == "run-a"


def test_a_relative_path_becomes_absolute(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    assert Run.at(path.name, "a") == Run.at(path, "a")
    assert Run.at("s3://bucket/cube.zarr", "a").path == "s3://bucket/cube.zarr"
    with pytest.raises(ValueError, match="cannot name a run"):
        Run.at(path, "no name")


def test_the_store_of_a_block_is_opened_once(client, path, monkeypatch):
    specxr.run(path, Mean(), name="a", client=client)
    found = Run.at(path, "a").read_ledger()
    Run.at(path, "a").write_record(found.header.blocks[2])  # as if it had not been fitted
    opened = []
    open_group = zarr.open_group
    monkeypatch.setattr(
        zarr, "open_group", lambda *args, **kwargs: opened.append(1) or open_group(*args, **kwargs)
    )
    task = Task(Run.at(path, "a"), found.header.token, found.header.grid_fingerprint, found.header.blocks[2])
    assert run_task(task, Mean()).state == ledger.DONE
    opened.clear()  # the first block of a process also reads the grid
    task = pickle.loads(pickle.dumps(task))
    Run.at(path, "a").write_record(found.header.blocks[2])
    opened.clear()
    assert run_task(task, Mean()).state == ledger.DONE
    assert len(opened) == 1


def test_a_run_sees_what_other_processes_write(client, path):
    run = Run.at(path, "a")
    assert run.names() == []
    assert run.read_header() is None
    specxr.run(path, Mean(), name="a", client=client)
    assert run.names() == ["a"]
    assert run.exists
    assert run.labels.attrs["complete"] is True
    assert len(run.read_ledger().done) == 8
    assert run.beside("b").cube is run.cube
    assert not run.beside("b").exists


def test_peak_memory_is_of_this_process():
    assert 20e6 < peak_memory() < 20e9
