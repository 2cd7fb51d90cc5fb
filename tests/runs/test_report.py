import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import zarr
from support.fakes import Mean, write_fake_cube
from support.simulated import GRID, spectra
from typer.testing import CliRunner

import specxr
from specxr.cli import app
from specxr.cubes.schema import make_cube
from specxr.cubes.store import write_cube, write_labels
from specxr.runs import cluster, ledger
from specxr.runs.report import report
from specxr.runs.run import Run

FIGURES = [
    "throughput over time",
    "Kiel diagram",
    "result codes",
    "label distributions",
    "residual by wavelength",
]
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)


def images(page: str) -> list[str]:
    return re.findall('<img alt="([^"]*)"', page)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> tuple[Path, specxr.LASP]:
    """60 stars, fitted by a bulk run in three blocks."""
    path = tmp_path_factory.mktemp("report") / "cube <b>.zarr"
    flux, _ = spectra(60, seed=5)
    ones = np.ones(flux.shape, "f4")
    cube = make_cube(flux, ones, GRID, obsid=np.arange(60))
    write_cube(cube, path, star_chunk=20)
    lasp = specxr.LASP("default", dtype="float32")
    with cluster.local(1) as client:
        specxr.run(path, lasp, name="lasp", client=client)
    return path, lasp


def in_chromium(page: Path, script: str) -> tuple[str, str]:
    """The page after a script ran in it, and what the browser logged."""
    probe = page.with_name("probe.html")
    probe.write_text(page.read_text() + f"<script>{script}</script>")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=5000",
        "--enable-logging=stderr", "--dump-dom", probe.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout, done.stderr


def test_a_report_holds_all_figures_and_needs_nothing_else(fitted, tmp_path):
    path, lasp = fitted
    report(path, "lasp", tmp_path / "report.html", estimator=lasp)
    page = (tmp_path / "report.html").read_text()
    assert images(page) == FIGURES
    assert "<script" not in page
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,)', page) == []
    assert "60 of 60" in page
    assert "complete" in page
    assert "lasp of cube &lt;b&gt;.zarr" in page
    assert "<b>.zarr" not in page
    for name in ("specxr", "torch", "zarr", "degree", lasp.fingerprint):
        assert f"<td>{name}</td>" in page
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)")
def test_a_report_opens_in_a_browser_without_errors(fitted, tmp_path):
    path, lasp = fitted
    report(path, "lasp", tmp_path / "report.html", estimator=lasp)
    script = (
        "addEventListener('load', () => { document.title = [...document.images]"
        ".map(i => i.alt + ':' + (i.complete && i.naturalWidth > 300 && i.width > 200)).join(';') })"
    )
    page, log = in_chromium(tmp_path / "report.html", script)
    assert re.search("<title>(.*)</title>", page)[1] == ";".join(f"{name}:true" for name in FIGURES)
    assert "CONSOLE" not in log
    # The test can see errors where there are some.
    _, log = in_chromium(tmp_path / "report.html", "nobody.defined.this()")
    assert "CONSOLE" in log
    assert "nobody is not defined" in log


def test_residuals_are_those_of_the_estimator_of_the_run(fitted, tmp_path):
    path, _ = fitted
    report(path, "lasp", tmp_path / "report.html", estimator=specxr.LASP("default"))
    page = (tmp_path / "report.html").read_text()
    assert images(page) == FIGURES[:-1]
    assert "the same estimator is required" in page


def fit_and_report(path, estimator, folder, **options):
    """A report of a run that was made here, for which only the run is known."""
    specxr.run(path, estimator, name="other", overwrite=True, **options)
    out = folder / "other.html"
    report(path, "other", out)
    return out.read_text()


@pytest.fixture(scope="module")
def copy(fitted, tmp_path_factory):
    """A cube that may be written to, without runs."""
    path = tmp_path_factory.mktemp("copy") / "cube.zarr"
    shutil.copytree(fitted[0], path)
    return path


def test_a_careful_run_of_lasp_has_residuals(client, copy, tmp_path):
    careful = specxr.LASP("default", clean=True, two_stage=True)
    page = fit_and_report(copy, careful, tmp_path, start="lasp", client=client)
    assert images(page) == FIGURES
    assert "The stars were fitted again" in page


def test_a_run_with_model_spectra_has_those_in_its_report(client, copy, tmp_path, monkeypatch):
    monkeypatch.setattr("specxr.runs.residuals.infer", None)
    page = fit_and_report(copy, specxr.LASP("default"), tmp_path, spectra=True, client=client)
    assert images(page) == FIGURES
    assert "The models are those that the run has written" in page


def test_a_run_of_the_payne_has_residuals_wherever_its_model_file_is(client, tmp_path):
    from support.trained import spectra_with_labels, training_cube

    file, cube = tmp_path / "payne.safetensors", training_cube(24, seed=3, snr=100.0)
    learnt = specxr.Payne(hidden=(8,), max_rounds=2).fit(spectra_with_labels(64))
    learnt.save(file)
    path = tmp_path / "cube.zarr"
    write_cube(cube, path)
    page = fit_and_report(path, specxr.Payne.load(file), tmp_path, client=client)
    assert images(page)[-1] == FIGURES[-1]

    file.rename(tmp_path / "moved.safetensors")
    out = tmp_path / "moved.html"
    report(path, "other", out)
    said = " ".join(out.read_text().split())
    assert FIGURES[-1] not in images(said)
    assert "No residuals are drawn. The estimator of the run cannot be used here" in said
    assert "--model of `specxr report` says where" in said
    words = ["report", str(path), "--name", "other", "--model", str(tmp_path / "moved.safetensors")]
    shown = CliRunner().invoke(app, [*words, "--out", str(out), "--overwrite"])
    assert shown.exit_code == 0, shown.output
    assert images(out.read_text())[-1] == FIGURES[-1]


def test_an_estimator_that_nobody_knows_is_named(client, tmp_path):
    page = fit_and_report(write_fake_cube(tmp_path / "cube.zarr"), Mean(), tmp_path, client=client)
    assert "&#39;mean&#39; is not known" in page


def forget_labels(path, stars):
    """As if these stars had not been fitted yet."""
    labels = zarr.open_group(path, mode="r+")["labels/lasp"]
    labels.attrs["stars_written"] = 0
    labels["result"][stars] = 255


def test_failed_and_missing_blocks_are_shown(fitted, tmp_path):
    path = tmp_path / "cube.zarr"
    shutil.copytree(fitted[0], path)
    book = Run.at(path, "lasp").read_ledger()
    run = Run.at(path, "lasp")
    broken = {
        "state": ledger.QUARANTINED,
        "attempts": 3,
        "error": "Traceback ...\n<script>alert(1)</script> broke",
    }
    run.write_record(ledger.BlockRecord(1, 20, 40, **broken))
    forget_labels(path, slice(20, 40))
    report(path, "lasp", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "not complete: 2 done, 1 quarantined of 3 blocks" in " ".join(page.split())
    assert "block 1: stars 20-39, quarantined after 3 attempts" in " ".join(page.split())
    assert "&lt;script&gt;alert(1)&lt;/script&gt; broke" in page
    assert "<script" not in page
    assert f"{sum(b.n_stars for b in book.blocks) - 20} of 60" in page


def test_a_run_with_nothing_in_it_has_a_report(fitted, tmp_path):
    path = tmp_path / "cube.zarr"
    shutil.copytree(fitted[0], path)
    blocks = Run.at(path, "lasp").ledger["blocks"]
    for index in range(3):
        blocks[index] = ""
    forget_labels(path, slice(None))
    report(path, "lasp", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "0 of 60" in page
    assert "No star converged" in page


def test_other_estimators_have_a_report(client, tmp_path):
    path = write_fake_cube(tmp_path / "cube.zarr", 40, star_chunk=10)
    specxr.run(path, Mean(), name="mean", client=client)
    report(path, "mean", tmp_path / "report.html", estimator=Mean())
    page = (tmp_path / "report.html").read_text()
    assert "40 of 40" in page
    assert FIGURES[-1] in images(page)


def test_a_report_needs_a_bulk_run_and_a_folder(fitted, tmp_path, tiny_cube):
    write_cube(tiny_cube, tmp_path / "cube.zarr")
    labels = tiny_cube[["obsid"]].assign(teff=("star", np.ones(12)))
    write_labels(tmp_path / "cube.zarr", labels, "lasp")
    with pytest.raises(FileNotFoundError, match="no ledger of a run 'lasp'"):
        report(tmp_path / "cube.zarr", "lasp", tmp_path / "report.html")
    with pytest.raises(FileNotFoundError, match="folder .* does not exist"):
        report(fitted[0], "lasp", tmp_path / "nowhere" / "report.html")


def test_the_command_writes_a_report_with_residuals(fitted, tmp_path):
    out = tmp_path / "r.html"
    words = ["report", str(fitted[0]), "--name", "lasp", "--out", str(out)]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert images(out.read_text()) == FIGURES
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 1
    assert "--overwrite" in again.output
    assert CliRunner().invoke(app, [*words, "--overwrite"]).exit_code == 0
