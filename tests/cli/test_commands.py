"""The command line, as a user meets it: what works, and one clear line for what cannot."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from support.program import ok, refused, run

from specxr.cubes.store import list_runs, open_cube, open_labels, write_cube
from specxr.cubes.tables import label_table
from specxr.emulators import default, open_emulator, write_safetensors
from specxr.synthesis import simulate_survey


@pytest.fixture(scope="module")
def survey() -> xr.Dataset:
    return simulate_survey(40, seed=2).load()


@pytest.fixture
def cube(survey, tmp_path) -> Path:
    path = tmp_path / "cube.zarr"
    write_cube(survey, path)
    return path


@pytest.fixture(scope="module")
def scheduler(client) -> tuple[str, str]:
    """Options that spare a test the start of workers."""
    return "--scheduler", client.scheduler.address


@pytest.fixture(scope="module")
def fitted(survey, scheduler, tmp_path_factory) -> Path:
    """A cube with the run `lasp`; not to be written to."""
    path = tmp_path_factory.mktemp("fitted") / "cube.zarr"
    write_cube(survey, path)
    ok("infer", path, *scheduler)
    return path


def files_in(folder: Path) -> set[str]:
    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return {
        name for name in names if not name.startswith("locks/")
    }  # each run leaves the lock of another generation


def test_help_does_not_wait_for_torch():
    code = (
        "import sys\nfrom specxr.cli import main\nsys.argv = ['specxr', '--help']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "assert not {'torch', 'xarray', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "infer" in done.stdout


def test_the_program_exits_1_with_one_line(tmp_path):
    program = Path(sys.executable).with_name("specxr")
    done = subprocess.run([program, "info", tmp_path / "absent.zarr"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("specxr: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["infer"], ["unknown"], ["infer", "x.zarr", "--clean"]])
def test_wrong_usage_exits_2(words):
    assert run(*words).exit_code == 2


def test_infer_writes_a_run_and_info_shows_it(cube):
    assert "40 " in ok("infer", cube, "--name", "first", "--workers", 2)
    assert list_runs(cube) == ["first"]
    assert open_labels(cube, "first").attrs["estimator"] == "LASP"
    shown = ok("info", cube)
    for what in ("stars", "40", "vacuum", "first", "converged"):
        assert what in shown


def test_info_of_a_cube_without_labels(cube):
    assert "no labels yet" in ok("info", cube)


def test_a_run_continues_by_itself_and_is_replaced_only_on_request(fitted, scheduler, cube):
    ok("infer", cube, *scheduler)
    before = files_in(cube)
    assert "nothing was left to do" in ok("infer", cube)
    assert "dtype 'float64' (now 'float32')" in refused("infer", cube, "-o", "dtype=float32")
    assert "--overwrite" in refused("infer", cube, "-o", "dtype=float32")
    assert files_in(cube) == before
    ok("infer", cube, *scheduler, "-o", "dtype=float32", "--overwrite")
    assert open_labels(cube, "lasp").attrs["dtype"] == "float32"
    ok("infer", cube, *scheduler, "--overwrite")
    again, expected = (open_labels(path, "lasp").load() for path in (cube, fitted))
    assert again.attrs.pop("date") >= expected.attrs.pop("date")
    xr.testing.assert_identical(again, expected)


def test_progress_names_the_dashboard_and_the_forecast(scheduler, cube):
    shown = run("infer", cube, *scheduler).stderr
    # Without bokeh there is a server and no dashboard.
    assert ("dashboard: http://" in shown) == (find_spec("bokeh") is not None)
    assert "40 stars in 1 blocks of 40" in shown
    assert "from the first block" in shown
    assert "40/40" in shown
    assert "40 converged" in shown


def test_blocks_in_quarantine_give_exit_code_3(survey, scheduler, tmp_path):
    path = tmp_path / "cube.zarr"
    write_cube(survey, path, star_chunk=10)
    chunk = path / "flux" / "c" / "2" / "0"
    sound = chunk.read_bytes()
    chunk.write_bytes(sound[:-5])
    result = run("infer", path, *scheduler)
    assert result.exit_code == 3
    assert "30 converged" in result.stdout
    assert "block 2, stars 20 to 29, failed 3 times: " in result.stderr
    assert "1 blocks are in quarantine, 10 stars have no labels" in result.stderr
    assert "lasp (not complete)" in ok("info", path)
    chunk.write_bytes(sound)
    assert "40 converged" in ok("infer", path, *scheduler)
    assert "not complete" not in ok("info", path)


def test_a_run_that_gives_up_says_so_in_one_line(survey, scheduler, tmp_path):
    path = tmp_path / "cube.zarr"
    write_cube(survey, path, star_chunk=3)
    for chunk in (path / "flux" / "c").iterdir():
        (chunk / "0").write_bytes(b"damage")
    result = run("infer", path, *scheduler)
    assert result.exit_code == 1
    assert "specxr: 30 attempts in a row failed" in result.stderr.splitlines()[-1]


def test_a_cluster_that_does_not_answer(cube, monkeypatch):
    monkeypatch.setattr("specxr.runs.cluster.CONNECT_SECONDS", 0.2)
    assert "no Dask scheduler answers at 'tcp://127.0.0.1:9'" in refused(
        "infer", cube, "--scheduler", "tcp://127.0.0.1:9"
    )
    assert "Leave one of them out" in refused(
        "infer", cube, "--scheduler", "tcp://127.0.0.1:9", "--workers", 2
    )
    assert list_runs(cube) == []


@pytest.mark.parametrize("suffix", ["csv", "parquet", "fits"])
def test_export_then_compare_finds_no_difference(fitted, tmp_path, suffix):
    out = tmp_path / f"labels.{suffix}"
    assert "40 stars" in ok("export", fitted, "--out", out)
    shown = ok("compare", out, f"{fitted}::lasp")
    assert "teff [K]" in shown
    assert "feh [dex]" in shown
    assert "beyond 5 sigma" in shown
    assert files_in(tmp_path) == {out.name}


def test_export_in_the_columns_of_the_survey(fitted, tmp_path):
    out = tmp_path / "slam.csv"
    ok("export", fitted, "--out", out, "--columns", "sdss")
    table, own = pd.read_csv(out), label_table(open_labels(fitted, "lasp"))
    np.testing.assert_allclose(table["Teff"], own["teff"])
    np.testing.assert_allclose(table["e_FeH"], own["feh_err"])
    assert table["alphaM"].isna().all()


def test_compare_draws(fitted, survey, tmp_path):
    truth = pd.DataFrame({name: survey[f"true_{name}"].values for name in ("rv", "teff", "logg", "feh")})
    truth.assign(OBSID=survey["obsid"].values).to_csv(tmp_path / "truth.csv", index=False)
    figure = tmp_path / "figure.png"
    tables = (f"{fitted}::lasp", tmp_path / "truth.csv")
    shown = ok("compare", *tables, "--by", "teff", "--edges", "4000,6000,13000", "--figure", figure)
    assert "4000 to 6000" in shown
    assert "changes along teff" in shown
    assert "--by teff" in refused("compare", *tables, "--edges", "4000,6000")
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_demo(tmp_path):
    out = tmp_path / "demo"
    shown = ok("demo", "--stars", 60, "--out", out)
    assert "10000-12000" in shown
    assert "all" in shown
    share = re.search(
        r"S/N \d+ to \d+, median \d+; recommended: ([\d.]+)% of the stars \(\d+% at S/N below 50", shown
    )
    assert float(share[1]) > 90
    assert {"survey.zarr", "labels.csv", "fit.png", "kiel.png", "recovery.png"} <= files_in(out)
    assert "--overwrite" in refused("demo", "--stars", 60, "--out", out)
    ok("demo", "--stars", 60, "--out", out, "--overwrite")


def test_a_full_disk_is_named_by_demo(tmp_path, monkeypatch):
    async def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("zarr.storage.LocalStore._set", full)
    line = refused("demo", "--stars", 20, "--out", tmp_path / "demo")
    assert f"{tmp_path / 'demo' / 'survey.zarr'} cannot be written: No space left on device (" in line
    assert f"MB free in {tmp_path / 'demo'})" in line


def test_ingest_lists_what_it_cannot_read_and_goes_on(write_lamost, tmp_path):
    write_lamost(tmp_path / "good.fits")
    (tmp_path / "empty.fits").touch()
    result = run("ingest", "lamost-lrs", tmp_path, "--out", tmp_path / "cube.zarr", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert "empty.fits: empty file" in result.stderr
    assert "1 stars" in result.stdout
    assert "1 files without a spectrum" in result.stdout


def test_real_spectra_from_files_to_a_comparison(shared, scheduler, tmp_path):
    cube, table = tmp_path / "cube.zarr", tmp_path / "lasp.csv"
    shown = ok("ingest", "lamost-lrs", shared / "pylasp/fits", "--out", cube, "--workers", 1)
    assert "15 stars" in shown
    emulator = shared / "elodie/elodie32_flux_tgm_4199_5700.fits"
    ok(
        "infer",
        cube,
        "--estimator",
        "lasp",
        "-o",
        f"emulator={emulator}",
        "-o",
        "clean=false",
        "--name",
        "lasp",
        *scheduler,
    )
    ok("export", cube, "--name", "lasp", "--out", table)
    assert len(pd.read_csv(table)) == 15
    assert "converged" in table.read_text()


# Bad input: exit 1, one line that says what to do, nothing written.


@pytest.mark.parametrize(
    "words",
    [
        ["info", "absent.zarr"],
        ["infer", "absent.zarr"],
        ["export", "absent.zarr", "--out", "labels.csv"],
        ["compare", "absent.csv", "absent.csv"],
        ["compare", "absent.zarr::lasp", "absent.csv"],
        ["ingest", "lamost-lrs", "absent", "--out", "cube.zarr"],
        ["ingest", "nosuchsurvey", ".", "--out", "cube.zarr"],
    ],
)
def test_paths_and_surveys_that_are_not_there(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(*words)
    assert files_in(tmp_path) == set()


def test_a_folder_without_spectra(tmp_path):
    (tmp_path / "notes.txt").write_text("no spectra here")
    refused("ingest", "lamost-lrs", tmp_path, "--out", tmp_path / "cube.zarr")
    (tmp_path / "broken.fits").write_bytes(b"not FITS either")
    assert "broken.fits" in refused("ingest", "lamost-lrs", tmp_path, "--out", tmp_path / "cube.zarr")
    assert files_in(tmp_path) == {"notes.txt", "broken.fits"}


def test_spectra_in_air(write_lamost, tmp_path):
    write_lamost(tmp_path / "spec.fits", VACUUM=False)
    assert "air" in refused("ingest", "lamost-lrs", tmp_path, "--out", tmp_path / "cube.zarr", "--workers", 1)
    assert files_in(tmp_path) == {"spec.fits"}


def test_infer_says_which_emulator_it_uses_and_how_good_it_is(survey, scheduler, tmp_path, shared):
    write_cube(survey, tmp_path / "cube.zarr")
    shown = ok("infer", tmp_path / "cube.zarr", *scheduler)
    (line,) = [line for line in shown.splitlines() if line.startswith("emulator ")]
    assert line == f"emulator {default().about}"
    assert re.search(r"default: .* LAMOST DR10.* G [+-]\d+ \+- \d+", line)
    elodie = open_emulator(shared / "elodie/elodie32_flux_tgm_4199_5700.fits")
    assert re.search(r"^elodie32_flux_tgm_4199_5700.fits: .*ULySS.*does not say how well", elodie.about)


def test_an_emulator_that_does_not_cover_the_grid(cube, tmp_path):
    whole, n = default(), 2500
    blue = replace(whole, coefficients=whole.coefficients[..., :n].copy(), edges=whole.edges[: n + 1].copy())
    write_safetensors(blue, tmp_path / "blue.safetensors")
    before = files_in(cube)
    assert "covers" in refused("infer", cube, "-o", f"emulator={tmp_path}/blue.safetensors")
    assert files_in(cube) == before


def test_an_emulator_that_is_none(cube, tmp_path):
    assert "suffix" in refused("infer", cube, "-o", "emulator=nosuchname")
    refused("infer", cube, "-o", f"emulator={tmp_path}/absent.fits")
    (tmp_path / "text.safetensors").write_text("not an emulator")
    refused("infer", cube, "-o", f"emulator={tmp_path}/text.safetensors")
    (tmp_path / "text.fits").write_text("not an emulator")
    refused("infer", cube, "-o", f"emulator={tmp_path}/text.fits")
    assert list_runs(cube) == []


def test_clean_from_another_run_then_calibrated_and_recommended(survey, scheduler, tmp_path):
    path = tmp_path / "cube.zarr"
    write_cube(survey, path)
    ok("infer", path, "--name", "first", *scheduler)
    ok("infer", path, "--name", "careful", "-o", "clean", "-o", "two_stage", "--start", "first", *scheduler)
    careful = open_labels(path, "careful")
    assert careful.attrs["clean"] == "true"
    ok("calibrate", path, "--name", "careful", "--floor", "rv=1.5", "--as", "calibrated")
    calibrated = open_labels(path, "calibrated")
    np.testing.assert_allclose(calibrated.rv_err, np.hypot(careful.rv_err, 1.5))
    ok("export", path, "--name", "calibrated", "--out", tmp_path / "labels.csv")
    table = pd.read_csv(tmp_path / "labels.csv")
    assert table["recommended"].mean() > 0.5
    assert "start from the labels 'nothing'" in refused(
        "infer", path, "--name", "more", "--start", "nothing", *scheduler
    )
    assert "from" in refused("infer", path, "--name", "careful", "-o", "clean", "-o", "two_stage", *scheduler)
    assert "LABEL=VALUE" in refused("calibrate", path, "--name", "first", "--floor", "rv", "--as", "other")


def test_a_cube_in_the_wrong_medium(survey, tmp_path):
    path = tmp_path / "cube.zarr"
    survey.assign_coords(wavelength=survey["wavelength"].assign_attrs(medium="water")).to_zarr(
        path, consolidated=False
    )
    assert "('vacuum', 'air')" in refused("infer", path)


@pytest.mark.parametrize("missing", ["mask", "flux", "obsid"])
def test_a_cube_without_a_variable(survey, tmp_path, missing):
    path = tmp_path / "cube.zarr"
    survey.drop_vars(missing).to_zarr(path, consolidated=False)
    before = files_in(path)
    assert missing in refused("infer", path)
    assert missing in refused("info", path)
    assert files_in(path) == before


def test_outputs_that_cannot_be_written(fitted, tmp_path):
    (tmp_path / "file").write_text("mine")
    refused("export", fitted, "--out", tmp_path / "nofolder" / "labels.csv")
    refused("export", fitted, "--out", tmp_path / "file" / "labels.csv")
    assert ".csv, .parquet, .fits" in refused("export", fitted, "--out", tmp_path / "labels.txt")
    refused("demo", "--stars", 2, "--out", tmp_path / "file")
    refused("demo", "--stars", 2, "--out", tmp_path / "file" / "demo")
    run_and_figure = ("compare", f"{fitted}::lasp", f"{fitted}::lasp", "--figure")
    refused(*run_and_figure, tmp_path / "nofolder" / "figure.png")
    refused(*run_and_figure, tmp_path / "figure.doc")
    assert files_in(tmp_path) == {"file"}
    assert (tmp_path / "file").read_text() == "mine"


def test_ingest_to_where_nothing_can_be_written(write_lamost, tmp_path):
    write_lamost(tmp_path / "spec.fits")
    before = files_in(tmp_path)
    refused("ingest", "lamost-lrs", tmp_path, "--out", tmp_path / "spec.fits" / "cube.zarr", "--workers", 1)
    refused("ingest", "lamost-lrs", tmp_path, "--out", tmp_path / "nofolder" / "cube.zarr", "--workers", 1)
    assert files_in(tmp_path) == before


def test_tables_are_replaced_only_on_request(fitted, tmp_path):
    out = tmp_path / "labels.csv"
    out.write_text("mine")
    assert "--overwrite" in refused("export", fitted, "--out", out)
    assert out.read_text() == "mine"
    ok("export", fitted, "--out", out, "--overwrite")
    assert len(pd.read_csv(out)) == open_cube(fitted).sizes["star"]


def test_a_run_that_is_not_there(fitted, tmp_path):
    assert "lasp" in refused("export", fitted, "--name", "other", "--out", tmp_path / "labels.csv")


def test_tables_without_common_stars(fitted, tmp_path):
    table = tmp_path / "other.csv"
    table.write_text("obsid,teff\n-1,5000\n-2,6000\n")
    assert "common stars" in refused("compare", f"{fitted}::lasp", table)
    assert "no column 'gaia_id'" in refused("compare", f"{fitted}::lasp", table, "--on", "gaia_id")
