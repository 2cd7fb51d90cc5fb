"""What a bulk run refuses before anything starts, with nothing in the store changed."""

import dataclasses
import os

import numpy as np
import pytest
import zarr
from support.fakes import Mean, fake_cube
from support.simulated import GRID, spectra

import specxr
from specxr.cubes import lock
from specxr.cubes.schema import make_cube
from specxr.cubes.store import list_runs, open_cube, write_cube
from specxr.emulators import default
from specxr.runs import forecast
from specxr.runs.run import Run
from specxr.spectra.line_spread import LineSpread
from specxr.vocabulary import START_INPUTS


def refused(path, error, match, estimator=None, name="a", **options):
    """Nothing in the store changes by a run that is refused."""
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file() and "locks" not in p.parts}
    with pytest.raises(error, match=match):
        specxr.run(path, estimator or Mean(), name=name, **options)
    after = {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file() and "locks" not in p.parts}
    assert after == before


def test_other_options_are_refused_and_named(client, path):
    specxr.run(path, Mean(), name="a", client=client)
    match = r"begun with scale 1.0 \(now 2.0\); the same estimator is required. .* overwrite=True"
    refused(path, ValueError, match, Mean(scale=2.0))


def test_other_weights_are_refused(client, tmp_path):
    flux, _ = spectra(4, 5)
    path = tmp_path / "cube.zarr"
    write_cube(make_cube(flux, np.ones_like(flux), GRID, obsid=np.arange(4)), path)
    specxr.run(path, specxr.LASP(), name="a", client=client)
    other = dataclasses.replace(default(), coefficients=default().coefficients * 1.001)
    refused(path, ValueError, r"begun with emulator_fingerprint", specxr.LASP(other))


def test_other_stars_are_refused(client, path):
    specxr.run(path, Mean(), name="a", client=client)
    zarr.open_group(path, mode="r+")["obsid"][7] = 77
    refused(path, ValueError, r"begun with other stars 5 to 10: their obsid, or the choice of stars")


def test_a_cube_that_shrank_is_refused(client, path):
    specxr.run(path, Mean(), name="a", client=client)
    group = zarr.open_group(path, mode="r+")
    for name in ("flux", "ivar", "mask", "obsid"):
        group[name].resize((30, *group[name].shape[1:]))
    for _, array in group["labels/a"].arrays():
        if array.metadata.dimension_names[0] == "star":
            array.resize((30, *array.shape[1:]))
    refused(path, ValueError, "begun with 40 stars, the cube has 30; a cube may only grow")


def test_other_wavelengths_are_refused(client, path):
    specxr.run(path, Mean(), name="a", client=client)
    zarr.open_group(path, mode="r+")["wavelength"].attrs["line_spread"] = LineSpread.constant(900.0).to_json()
    specxr.run(path, Mean(), name="a", client=client)  # no part of the grid's identity
    group = zarr.open_group(path, mode="r+")
    group["wavelength"][:] = group["wavelength"][:] * 10**1e-4
    refused(path, ValueError, "begun with other wavelengths; the same cube is required")


def test_labels_that_no_run_made_are_not_touched(path):
    specxr.write_labels(path, specxr.infer(open_cube(path), Mean()), "a")
    refused(path, FileExistsError, r"has labels 'a' that no run made; .*--overwrite")


def test_a_newer_ledger_is_refused(client, path):
    specxr.run(path, Mean(), name="a", client=client)
    Run.at(path, "a").ledger.attrs["ledger_version"] = 2
    refused(path, ValueError, "version 2; version 1 or an older one is required")


@pytest.mark.parametrize("name", ["", ".", "../x", "a b", "a/b", "-a", "ä"])
def test_odd_names_are_refused(path, name):
    refused(path, ValueError, "cannot name a run", name=name)


@pytest.mark.parametrize(("name", "what"), [("run-a", "run-a"), ("stars", "stars")])
def test_a_cube_that_is_being_written_is_refused(path, name, what):
    with lock.hold(path, name):
        refused(path, BlockingIOError, rf"is being written \({what}\) by process {os.getpid()}")


@pytest.mark.filterwarnings("ignore:The specified chunks separate")
def test_misaligned_chunks_are_refused(client, tmp_path):
    path = tmp_path / "cube.zarr"
    chunks = {"flux": {"chunks": (5, 20)}, "ivar": {"chunks": (8, 20)}, "mask": {"chunks": (5, 20)}}
    fake_cube().to_zarr(path, encoding=chunks, consolidated=False)
    refused(
        path, ValueError, "'ivar' in / is stored 8 stars to a chunk, the run has blocks of 5", client=client
    )


def test_what_the_estimator_cannot_fit_is_refused(path):
    zarr.open_group(path, mode="r+")["wavelength"].attrs["medium"] = "air"
    refused(path, ValueError, "the cube is in air")


def test_weights_that_would_travel_with_every_task_are_refused(path):
    made = dataclasses.replace(default(), source=None)
    flux, _ = spectra(4, 5)
    write_cube(
        make_cube(flux, np.ones_like(flux), GRID, obsid=np.arange(4)),
        path,
        overwrite=True,
    )
    refused(path, ValueError, r"1.7 MB when it travels.* Save its weights to a file", specxr.LASP(made))


def test_a_block_that_no_worker_can_hold_is_refused_with_what_would_fit(client, path, monkeypatch):
    monkeypatch.setattr(forecast, "_BASE_MEMORY", 0.0)
    monkeypatch.setattr(forecast, "_MEMORY_FACTOR", 1.0)
    limit = client.scheduler_info(n_workers=-1)["workers"].popitem()[1]["memory_limit"]
    bytes_per_star = 20 * (4 + 4 + 2)
    monkeypatch.setattr(forecast, "_MEMORY_FACTOR", limit / bytes_per_star / 3.5)  # 3.5 stars fit
    match = r"a block of 5 stars needs about .*iB, .* chunks \(shards\) of at most 3 stars"
    refused(path, ValueError, match, client=client)
    assert list_runs(path) == []


def test_labels_that_the_disk_cannot_hold_are_refused(client, path, monkeypatch):
    monkeypatch.setattr(forecast.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 40 * 45 - 1}))
    refused(
        path, ValueError, "labels of 40 stars take up to .* room for all of them is required", client=client
    )
    monkeypatch.setattr(forecast.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 40 * 45}))
    assert specxr.run(path, Mean(), name="a", client=client).complete


def test_a_start_that_is_not_there_is_refused(client, path):
    estimator = Mean(inputs=START_INPUTS)
    refused(
        path,
        ValueError,
        "start from the labels 'b', which are not there; .*there is none",
        estimator,
        start="b",
    )
    specxr.run(path, Mean(), name="b", client=client)  # without [Fe/H]
    refused(
        path, ValueError, "the labels 'b' of .* have no logg, feh; .* of all 40 stars", estimator, start="b"
    )


def test_a_start_that_the_estimator_cannot_use_is_refused(client, path):
    specxr.run(path, Mean(), name="b", client=client)
    refused(path, ValueError, "start_teff, start_logg, start_feh is required", start="b")


def test_an_input_that_the_cube_lacks_is_refused(path):
    match = "the cube has no rv_survey .*Mean requires .* Add "
    refused(path, ValueError, match, Mean(inputs=("rv_survey",)))


def test_model_spectra_are_part_of_the_run(client, path):
    specxr.run(path, Mean(), name="a", client=client)
    refused(path, ValueError, r"begun with spectra False \(now True\)", spectra=True)
