"""Bulk runs: the same labels as `infer`, nothing fitted twice, and refusals before anything starts."""

import os
import re
import socket

import numpy as np
import pytest
import xarray as xr
import zarr
from support.fakes import RAISE, Mean, fake_cube, write_fake_cube
from support.simulated import GRID, spectra

import specxr
from specxr.cubes import lock
from specxr.cubes.schema import make_cube
from specxr.cubes.store import list_runs, open_cube, open_labels, write_cube
from specxr.runs import driver as runner
from specxr.runs import ledger
from specxr.runs.run import Run
from specxr.runs.summary import RunStopped
from specxr.runs.worker import Task, run_task
from specxr.vocabulary import START_INPUTS, Result


def fitted(log):
    """First stars of the blocks that were fitted, in the order of the stars."""
    return sorted(int(line.split()[0]) for line in log.read_text().splitlines()) if log.exists() else []


def content(path, run):
    """All of a run's labels as they are stored, and of its group's attributes, without the date."""
    stored = {name: array[:] for name, array in zarr.open_group(path, mode="r")[f"labels/{run}"].arrays()}
    labels = open_labels(path, run).load()
    assert labels.attrs.pop("date")
    return stored, labels


def assert_same(path, run, other_path, other_run):
    (stored, labels), (other_stored, other) = content(path, run), content(other_path, other_run)
    xr.testing.assert_identical(labels, other)
    assert stored.keys() == other_stored.keys()
    for name, array in stored.items():
        assert array.tobytes() == other_stored[name].tobytes(), name


class Stop(Exception):
    """A driver that ends in the middle of a run."""


def stop_after(n_blocks, stars_per_block=5):
    def progress(summary):
        if summary.n_fitted >= n_blocks * stars_per_block:
            raise Stop

    return progress


# The same labels


def test_a_run_gives_what_infer_gives_to_the_bit(client, tmp_path):
    flux, _ = spectra(30, 5)
    mask = np.zeros(flux.shape, np.uint8)
    mask[3] = 1  # a star that cannot be fitted
    path = tmp_path / "cube.zarr"
    write_cube(make_cube(flux, np.ones_like(flux), GRID, mask=mask, obsid=np.arange(30)), path, star_chunk=8)
    lasp = specxr.LASP("default")
    summary = specxr.run(path, lasp, name="bulk", spectra=True, client=client)
    specxr.write_labels(path, specxr.infer(open_cube(path), lasp, spectra=True), "lazy")
    assert_same(path, "bulk", path, "lazy")
    assert summary.complete
    assert summary.n_fitted == summary.n_stars == 30
    assert summary.results == {"converged": 29, "too_few_pixels": 1}
    assert open_labels(path, "bulk").chunksizes["star"] == (8, 8, 8, 6)


def test_model_spectra_are_written_beside_the_labels(client, path):
    told = []
    specxr.run(path, Mean(), name="a", spectra=True, client=client, progress=told.append)
    specxr.write_labels(path, specxr.infer(open_cube(path), Mean(), spectra=True), "b")
    assert_same(path, "a", path, "b")
    labels = open_labels(path, "a")
    assert labels.model.dims == labels.used.dims == ("star", "wavelength")
    assert told[0].forecast.disk == 40 * (8 + 32 + 4 + 1 + 20 * (4 + 1))


def test_inputs_of_the_stars_reach_the_estimator(client, tmp_path):
    velocity = np.arange(40.0)
    path = write_fake_cube(tmp_path / "cube.zarr", rv_survey=velocity)
    estimator = Mean(inputs=("rv_survey",))
    specxr.run(path, estimator, name="a", client=client)
    specxr.write_labels(path, specxr.infer(open_cube(path), estimator), "b")
    assert_same(path, "a", path, "b")
    mean = fake_cube().flux.astype("f8").mean("wavelength")
    np.testing.assert_allclose(open_labels(path, "a").teff, mean + velocity)


def test_labels_to_start_from_reach_the_estimator(client, path):
    first = specxr.infer(open_cube(path), Mean()).load()
    start = first[["obsid"]].assign(
        teff=first.teff, logg=("star", np.arange(40.0)), feh=("star", np.full(40, 0.5))
    )
    specxr.write_labels(path, start, "first")
    estimator = Mean(inputs=START_INPUTS)
    specxr.run(path, estimator, name="a", start="first", client=client)
    teff = 2 * first.teff + np.arange(40) + 0.5
    np.testing.assert_allclose(open_labels(path, "a").teff, teff)
    assert Run.at(path, "a").read_header().start == "first"


def test_without_a_client_few_stars_are_fitted_in_this_process(path):
    summary = specxr.run(path, Mean(), name="a")
    assert summary.complete
    assert {block.worker for block in Run.at(path, "a").read_ledger().blocks} == {this_process()}
    specxr.write_labels(path, specxr.infer(open_cube(path), Mean()), "b")
    assert_same(path, "a", path, "b")


def this_process():
    return f"{socket.gethostname()}:{os.getpid()}"


def test_without_a_client_workers_are_started_for_many_stars_and_ended(path, monkeypatch, caplog):
    monkeypatch.setattr(runner, "STARS_HERE", 39)
    monkeypatch.setattr(runner, "cores", lambda: 1)
    with caplog.at_level("INFO", "specxr.runs"):
        summary = specxr.run(path, Mean(), name="a")
    said = [record.getMessage() for record in caplog.records if record.name.startswith("specxr")]
    assert said == ["starting 1 workers ..."]
    assert summary.complete
    assert this_process() not in {block.worker for block in Run.at(path, "a").read_ledger().blocks}
    specxr.run(path, Mean(), name="b")  # nothing of the first cluster is in the way
    monkeypatch.setattr(runner, "STARS_HERE", 40)
    specxr.run(path, Mean(), name="c")
    assert_same(path, "a", path, "c")


@pytest.mark.parametrize("slots", [1, 3])
def test_a_run_in_this_process_is_as_safe_as_on_a_cluster(tmp_path, log, monkeypatch, slots):
    monkeypatch.setattr(runner, "cores", lambda: slots)
    path = write_fake_cube(tmp_path / "cube.zarr", faults={12: RAISE})
    with pytest.raises(KeyboardInterrupt):
        specxr.run(path, Mean(str(log)), name="a", progress=interrupt)
    lock.check_free(path, "run-a")
    done = [block.index for block in Run.at(path, "a").read_ledger().done]
    assert 2 <= len(done) < 7
    summary = specxr.run(path, Mean(str(log)), name="a")
    assert [block.index for block in summary.quarantined] == [2]
    assert fitted(log) == [0, 5, 15, 20, 25, 30, 35]  # each once, also what was under way at the Ctrl-C


def interrupt(summary):
    if summary.n_fitted == 10:
        raise KeyboardInterrupt


def test_a_sharded_cube_is_fitted_shard_by_shard(client, tmp_path):
    path = tmp_path / "cube.zarr"
    sharded = {name: {"chunks": (2, 20), "shards": (6, 20)} for name in ("flux", "ivar", "mask")}
    fake_cube().to_zarr(path, encoding=sharded, consolidated=False)
    specxr.run(path, Mean(), name="a", client=client)
    assert [block.n_stars for block in Run.at(path, "a").read_ledger().blocks] == [6, 6, 6, 6, 6, 6, 4]
    np.testing.assert_array_equal(
        open_labels(path, "a").teff, fake_cube().flux.astype("f8").mean("wavelength")
    )


def test_the_ledger_tells_what_happened(client, path):
    summary = specxr.run(path, Mean(), name="a", client=client)
    found = Run.at(path, "a").read_ledger()
    assert found.header.estimator == "Mean"
    assert found.header.options["window"] == [1.0, 2.0]
    assert [block.star_start for block in found.blocks] == list(range(0, 40, 5))
    total = dict.fromkeys(summary.results, 0)
    for block in found.blocks:
        assert block.state == ledger.DONE
        assert block.attempts == 1
        assert block.bytes_read == 5 * 20 * (4 + 4 + 2)
        assert block.bytes_written == 5 * (8 + 32 + 4 + 1)
        assert block.finished >= block.started > 0
        assert 0 < block.read_seconds + block.fit_seconds + block.write_seconds <= block.seconds + 0.01
        for name, n in block.results.items():
            total[name] += n
    assert total == summary.results
    assert sum(total.values()) == 40


def test_progress_is_told_by_stars_with_tallies(client, path):
    told = []
    specxr.run(path, Mean(), name="a", client=client, progress=told.append)
    assert [summary.n_done for summary in told] == list(range(0, 41, 5))
    assert [sum(summary.results.values()) for summary in told] == list(range(0, 41, 5))
    assert told[0].dashboard.startswith("http")
    assert told[0].forecast.seconds is None
    assert told[1].forecast.seconds > 0
    assert "40 stars in 8 blocks of 5, 2 at a time" in str(told[1].forecast)


# Resume


def test_a_run_that_was_stopped_continues_and_ends_the_same(one_thread, path, log, tmp_path):
    with pytest.raises(Stop):
        specxr.run(path, Mean(str(log)), name="a", client=one_thread, progress=stop_after(3))
    labels = open_labels(path, "a")
    assert labels.attrs["complete"] is False
    done = [block for block in Run.at(path, "a").read_ledger().blocks if block.state == ledger.DONE]
    assert len(done) == 3
    waiting = np.ones(40, bool)
    for block in done:
        waiting[block.star_start : block.star_stop] = False
    assert (labels.result.values[waiting] == Result.NOT_FITTED).all()
    assert np.isnan(labels.teff.values[waiting]).all()
    assert np.isfinite(labels.teff.values[~waiting]).all()

    summary = specxr.run(path, Mean(str(log)), name="a", client=one_thread)
    assert summary.complete
    assert summary.n_fitted == 40 - 5 * len(done)
    assert open_labels(path, "a").attrs["complete"] is True
    assert fitted(log) == list(range(0, 40, 5))  # each block once
    after = Run.at(path, "a").read_ledger().blocks
    assert [after[block.index] for block in done] == done
    undisturbed = write_fake_cube(tmp_path / "undisturbed.zarr")
    specxr.run(undisturbed, Mean(), name="a", client=one_thread)
    assert_same(path, "a", undisturbed, "a")


def test_a_run_that_is_complete_is_left_as_it_is(client, path, log):
    specxr.run(path, Mean(str(log)), name="a", client=client)
    before = content(path, "a")[0]
    summary = specxr.run(path, Mean(str(log)), name="a")  # starts no workers
    assert summary.complete
    assert summary.n_fitted == 0
    assert len(fitted(log)) == 8
    after = content(path, "a")[0]
    assert all(after[name].tobytes() == before[name].tobytes() for name in before)


@pytest.mark.parametrize("instant", ["specxr.runs.run.declare_labels", "zarr.Group.create_array"])
def test_a_run_that_died_while_it_was_declared_begins_again(client, path, monkeypatch, instant):
    def die(*args, **kwargs):
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(instant, die)
        with pytest.raises(Stop):
            specxr.run(path, Mean(), name="a", client=client)
    assert specxr.run(path, Mean(), name="a", client=client).n_fitted == 40
    specxr.write_labels(path, specxr.infer(open_cube(path), Mean()), "b")
    assert_same(path, "a", path, "b")


def append(path, n_stars):
    """Add stars, as another night would."""
    old = open_cube(path).sizes["star"]
    more = fake_cube(n_stars, 1000 + old)
    group = zarr.open_group(path, mode="r+")
    for name in ("flux", "ivar", "mask", "obsid"):
        # As ingest does: Zarr alone removes a chunk that has nothing but fill values.
        group[name].with_config({"write_empty_chunks": True}).append(more[name].values)
    return old + n_stars


@pytest.mark.parametrize("n_stars", [40, 38])
def test_of_new_stars_only_their_blocks_are_fitted(client, tmp_path, log, n_stars):
    path = write_fake_cube(tmp_path / "cube.zarr", n_stars)
    specxr.run(path, Mean(str(log)), name="a", client=client)
    log.unlink()
    append(path, 14)
    summary = specxr.run(path, Mean(str(log)), name="a", client=client)
    assert summary.complete
    assert summary.n_stars == n_stars + 14
    first = n_stars - n_stars % 5  # a last block that was not full is fitted anew, whole
    assert fitted(log) == list(range(first, n_stars + 14, 5))
    specxr.write_labels(path, specxr.infer(open_cube(path), Mean()), "b")
    assert_same(path, "a", path, "b")


def test_a_driver_that_dies_after_making_room_continues(client, path, log, monkeypatch):
    specxr.run(path, Mean(str(log)), name="a", client=client)
    append(path, 3)
    with pytest.raises(Stop):
        specxr.run(path, Mean(str(log)), name="a", client=client, progress=stop_after(0))
    assert open_labels(path, "a").attrs["complete"] is False
    append(path, 9)
    assert specxr.run(path, Mean(str(log)), name="a", client=client).complete
    specxr.write_labels(path, specxr.infer(open_cube(path), Mean()), "b")
    assert_same(path, "a", path, "b")


# Others


def test_a_run_is_replaced_on_request(client, path):
    specxr.run(path, Mean(scale=3.0), name="a", client=client)
    specxr.run(path, Mean(), name="a", client=client, overwrite=True)
    specxr.write_labels(path, specxr.infer(open_cube(path), Mean()), "b")
    assert_same(path, "a", path, "b")
    assert list_runs(path) == ["a", "b"]


def test_a_task_of_a_run_that_was_replaced_writes_nothing(client, path):
    """A worker may outlive the driver that sent it a block."""
    specxr.run(path, Mean(scale=3.0), name="a", client=client)
    old = Run.at(path, "a").read_ledger()
    specxr.run(path, Mean(), name="a", client=client, overwrite=True)
    before, _ = content(path, "a")
    task = Task(Run.at(path, "a"), old.header.token, old.header.grid_fingerprint, old.blocks[2])
    record = run_task(task, Mean(scale=3.0))
    assert record.state == ledger.FAILED
    assert "run 'a' of" in record.error
    assert "was replaced while this block was fitted" in record.error
    after, _ = content(path, "a")
    assert all(after[name].tobytes() == before[name].tobytes() for name in before)


def test_a_task_that_dask_repeats_does_not_fit_again(client, path, log):
    specxr.run(path, Mean(str(log)), name="a", client=client)
    found = Run.at(path, "a").read_ledger()
    log.unlink()
    task = Task(Run.at(path, "a"), found.header.token, found.header.grid_fingerprint, found.blocks[2])
    assert run_task(task, Mean(str(log))) == found.blocks[2]
    assert not log.exists()


def test_a_driver_that_was_taken_for_dead_stops(client, path, monkeypatch):
    """It slept for too long, and another run has begun."""
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.0)

    def take_over(summary):
        if summary.n_fitted == 10:
            held = path / "locks" / "run-a@1" / "zarr.json"
            held.write_text(held.read_text().replace('"token": "', '"token": "theirs'))

    with pytest.raises(BlockingIOError, match="lost its lock on run-a .*Let the other process finish"):
        specxr.run(path, Mean(), name="a", client=client, progress=take_over)


# The scheduler


def test_tasks_have_readable_keys_and_carry_no_arrays(client, path, monkeypatch):
    submitted = []
    submit = client.submit

    def watch(function, *args, **kwargs):
        submitted.append((kwargs["key"], len(runner.pickle.dumps((function, *args)))))
        return submit(function, *args, **kwargs)

    monkeypatch.setattr(client, "submit", watch)
    specxr.run(path, Mean(), name="a", client=client)
    keys, sizes = zip(*submitted, strict=True)
    assert all(re.fullmatch(r"specxr-mean-[0-9a-f]{8}", key[0]) for key in keys)
    assert [key[1] for key in keys] == list(range(8))
    assert max(sizes) < 1500


def test_a_handful_of_futures_is_held_whatever_the_number_of_blocks(client, tmp_path, monkeypatch):
    path = write_fake_cube(tmp_path / "cube.zarr", 120, star_chunk=2)
    held = []
    specxr.run(
        path, Mean(), name="a", client=client, progress=lambda summary: held.append(len(client.futures))
    )
    assert len(held) == 61
    assert max(held) <= 4


def test_a_block_that_fails_is_set_aside_and_the_others_go_on(client, tmp_path, log):
    path = write_fake_cube(tmp_path / "cube.zarr", faults={12: RAISE})
    summary = specxr.run(path, Mean(str(log)), name="a", client=client)
    assert not summary.complete
    assert summary.n_done == 35
    (block,) = summary.quarantined
    assert (block.index, block.attempts, block.state) == (2, 3, ledger.QUARANTINED)
    assert block.error.startswith("Traceback")
    assert block.error.endswith("ArithmeticError: this star cannot be fitted\n")
    assert Run.at(path, "a").read_ledger().blocks[2] == block
    assert fitted(log) == [0, 5, 15, 20, 25, 30, 35]
    labels = open_labels(path, "a")
    assert labels.attrs["complete"] is False
    assert (labels.result[10:15] == Result.NOT_FITTED).all()

    zarr.open_group(path, mode="r+")["flux"][12, 0] = 100.0
    summary = specxr.run(path, Mean(str(log)), name="a", client=client)  # tried again, with a fresh count
    assert summary.complete
    assert summary.n_fitted == 5
    assert summary.quarantined == ()


def test_a_run_in_which_everything_fails_gives_up(client, tmp_path):
    path = write_fake_cube(tmp_path / "cube.zarr", 200, faults={star: RAISE for star in range(0, 200, 5)})
    with pytest.raises(RunStopped, match="30 attempts in a row failed.*cannot be fitted"):
        specxr.run(path, Mean(), name="a", client=client)
    states = [block.state for block in Run.at(path, "a").read_ledger().blocks]
    assert states.count(ledger.FAILED) == 30
    assert states.count(ledger.WAITING) == 10
