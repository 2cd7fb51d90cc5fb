"""The ledger of a run."""

import dataclasses
import os

import numpy as np
import pytest
import xarray as xr
import zarr
from support.fakes import write_fake_cube

import specxr
from specxr.cubes import lock
from specxr.runs import ledger
from specxr.runs.ledger import BlockRecord, Header
from specxr.runs.run import Run


@pytest.fixture
def path(tmp_path):
    """A cube of 12 stars with a run of three blocks that are waiting."""
    path = str(write_fake_cube(tmp_path / "cube.zarr", 12))
    Run(path, "lasp").begin(header(), NO_LABELS)
    return path


NO_LABELS = xr.Dataset({"teff": ("star", np.zeros(0))})


def header(**changes):
    known = Header("token", "Mean", "abc", {"scale": 1.0, "window": [1.0, 2.0]}, "def", 12, 5, "0.1.0")
    return dataclasses.replace(known, **changes)


# Records


def test_a_record_comes_back_as_it_was(path):
    record = BlockRecord(
        1, 5, 10, ledger.DONE, 2, "fingerprint", 1e9, 1e9 + 2.5, 0.5, 1.5, 0.25, 10, 20, 30, "host:1",
        {"converged": 4, "singular": 1}, "Traceback …\n  'é\"",
    )  # fmt: skip
    run = Run(path, "lasp")
    run.write_record(record)
    found = Run.at(path, "lasp").read_ledger()
    assert found.header == header()
    assert found.blocks == [BlockRecord(0, 0, 5), record, BlockRecord(2, 10, 12)]
    assert found.blocks[1].seconds == 2.5
    assert [block.n_stars for block in found.blocks] == [5, 5, 2]
    assert run.read_record(1) == record
    assert run.read_record(2) is None


def test_each_record_is_a_file_of_its_own(path):
    """So that it appears whole or not at all, and workers need not wait for each other."""
    for block in (2, 0):
        Run(path, "lasp").write_record(BlockRecord(block, 0, 5, ledger.DONE))
    assert sorted(os.listdir(f"{path}/labels/lasp/ledger/blocks/c")) == ["0", "2"]


def test_a_write_that_is_cut_short_leaves_the_record_before(path, monkeypatch):
    run = Run(path, "lasp")
    run.write_record(BlockRecord(0, 0, 5, ledger.DONE))

    async def cut(self, key, value, **kwargs):
        self.root.joinpath(key).with_suffix(".partial").write_bytes(value.to_bytes()[:20])
        raise OSError("power cut")

    monkeypatch.setattr("zarr.storage.LocalStore._set", cut)
    with pytest.raises(OSError, match="power cut"):
        run.write_record(BlockRecord(0, 0, 5, ledger.QUARANTINED))
    assert Run.at(path, "lasp").read_ledger().blocks[0].state == ledger.DONE


def test_zarr_and_xarray_see_nothing_strange(path):
    assert list(zarr.open_group(path, mode="r")["labels/lasp"].group_keys()) == ["ledger"]
    assert list(zarr.open_group(path, mode="r")["labels/lasp/ledger"].array_keys()) == ["blocks"]
    with lock.hold(path, "run-lasp"):
        specxr.open_cube(path)


def test_a_ledger_grows(path):
    run = Run(path, "lasp")
    run.write_record(BlockRecord(0, 0, 5, ledger.DONE))
    run.grow(header(n_stars=21))
    found = Run.at(path, "lasp").read_ledger()
    assert found.header.n_stars == 21
    assert [block.state for block in found.blocks] == ["done", *["waiting"] * 4]
    assert found.blocks[-1].star_stop == 21


def test_a_newer_ledger_is_refused(path):
    Run.at(path, "lasp").ledger.attrs["ledger_version"] = 99
    with pytest.raises(
        ValueError, match="version 99; version 1 or an older one is required .* Install a newer specxr"
    ):
        Run.at(path, "lasp").read_ledger()


def test_labels_without_a_ledger_are_named(path):
    with pytest.raises(FileNotFoundError, match="no ledger of a run 'slam'"):
        Run.at(path, "slam").read_ledger()


def test_the_fingerprint_is_of_estimator_grid_and_stars():
    obsid = np.arange(5)
    known = ledger.block_fingerprint("a", "b", obsid)
    assert known == ledger.block_fingerprint("a", "b", obsid.astype("i4"))
    others = [("c", "b", obsid), ("a", "c", obsid), ("a", "b", obsid[::-1]), ("a", "b", obsid[:4])]
    assert len({known, *(ledger.block_fingerprint(*other) for other in others)}) == 5


def test_blocks_cover_the_stars():
    assert ledger.blocks_of(12, 5) == [(0, 5), (5, 10), (10, 12)]
    assert ledger.blocks_of(10, 5) == [(0, 5), (5, 10)]
