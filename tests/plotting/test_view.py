"""The page of `specxr view`: its bins, what a brush reads, and the page itself in a browser."""

import asyncio
import builtins
import shutil
import socket
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
from support.browser import CHROMIUM, browse
from support.program import refused

import specxr

pytest.importorskip("bokeh", reason="bokeh is not installed: pip install 'specxr[dashboard]'")

from bokeh.document import Document
from bokeh.events import SelectionGeometry, Tap

from specxr.plotting.view import KielView

SECONDS = 120  # after which a browser or a server that does not answer fails the test


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    survey = specxr.synthesis.simulate_survey(6, seed=3, snr=(60.0, 90.0)).load()
    path = tmp_path_factory.mktemp("view") / "c.zarr"
    specxr.write_cube(survey, path, star_chunk=2)
    specxr.run(path, specxr.LASP(), name="lasp", spectra=True)
    specxr.run(path, specxr.LASP(), name="plain", stars=survey["obsid"].values[1:])
    return path


@pytest.fixture
def many(path):
    """A view of many stars, whose labels are not those of the store."""
    view, rng = KielView(path, "lasp"), np.random.default_rng(5)
    view._columns = {
        "teff": rng.uniform(4000.0, 9000.0, 20_000),
        "logg": rng.uniform(1.0, 5.0, 20_000),
        "feh": rng.normal(-0.5, 0.3, 20_000),
    }
    view._columns["teff"][7] = view._columns["feh"][9] = np.nan
    return view


def event_of(document, name, event, **parameters):
    """What happens when the browser sends an event."""
    model = document.get_model_by_name(name)
    model._trigger_event(event(model, **parameters))


def brush(document, star, reach=1e-3):
    x, y = star
    box = {"type": "rect", "x0": x + 1, "x1": x - 1, "y0": y - reach, "y1": y + reach}
    event_of(document, "kiel", SelectionGeometry, geometry=box, final=True)


def titles(document):
    drawn = [document.get_model_by_name(f"spectrum {number}") for number in range(4)]
    return [figure.title.text for figure in drawn if figure.visible]


def test_bins_hold_all_stars_of_a_box_and_means_are_means(many):
    teff, logg, feh = (many._columns[name] for name in ("teff", "logg", "feh"))
    edges = (float(np.nanmin(teff)), float(np.nanmax(teff)), float(logg.min()), float(logg.max()))
    counts = many.image(edges)
    assert np.nansum(counts) == 19_999
    assert many.inside(edges).size == 19_999
    assert many.inside(edges, "feh").size == 19_998
    box = (5000.0, 6000.0, 2.0, 3.0)
    chosen = (teff >= 5000) & (teff <= 6000) & (logg >= 2) & (logg <= 3)
    ends = np.linspace(np.log(5000), np.log(6000), 281), np.linspace(2.0, 3.0, 231)
    expected = np.histogram2d(logg[chosen], np.log(teff[chosen]), (ends[1], ends[0]))[0]
    np.testing.assert_array_equal(np.nan_to_num(many.image(box)), expected)
    chosen &= np.isfinite(feh)
    np.testing.assert_allclose(
        np.nansum(many.image(box, "feh") * expected), np.nansum(feh[chosen]), rtol=1e-9
    )


def test_few_stars_are_points_and_many_are_bins(many):
    document = Document()
    many.page(document)
    bins, points = (document.get_model_by_name(name).data for name in ("bins", "points"))
    assert len(points["x"]) == 0
    view = document.get_model_by_name("kiel")
    assert bins["image"][0].shape == (230, 280)
    assert bins["x"] == [view.x_range.end]
    document.get_model_by_name("colour").value = "feh"
    assert np.nanmin(document.get_model_by_name("bins").data["image"][0]) < 0
    view.x_range.start, view.x_range.end = 5000.0, 4900.0
    (again,) = document.session_callbacks  # four changes of ranges are one new picture
    again.callback()
    assert document.get_model_by_name("bins").data["image"] == []
    assert 100 < len(document.get_model_by_name("points").data["x"]) < 5000


def test_a_brush_reads_the_blocks_of_its_stars_alone(path, tmp_path):
    damaged = tmp_path / "c.zarr"
    shutil.copytree(path, damaged)
    for name in ("flux", "mask"):
        for file in (damaged / name / "c").rglob("*"):
            if file.is_file() and file.relative_to(damaged / name / "c").parts[0] != "1":
                file.write_bytes(b"not a block")
    view, document = KielView(damaged, "lasp"), Document()
    view.page(document)
    teff, logg = view.column("teff"), view.column("logg")
    obsids = specxr.open_cube(path)["obsid"].values
    for place in (2, 3):
        brush(document, (teff[place], logg[place]))
        assert [text.split(",")[0] for text in titles(document)] == [f"obsid {obsids[place]}"]
    drawn = document.get_model_by_name("pixels 0").data
    expected = specxr.open_labels(path, "lasp")["model"].values[3]
    np.testing.assert_array_equal(drawn["model"], expected)
    assert document.get_model_by_name("told").text == "1 star there."
    brush(document, (teff[0], logg[0]))
    assert "read" in document.get_model_by_name("told").text


def test_a_click_a_box_and_an_empty_box(path):
    view, document = KielView(path, "plain"), Document()
    view.page(document)
    teff, logg = view.column("teff"), view.column("logg")
    assert "5 of 6 stars are in view" in document.get_model_by_name("drawn").text
    event_of(document, "kiel", Tap, x=float(teff[4]), y=float(logg[4]))
    assert len(titles(document)) == 1
    assert np.isnan(document.get_model_by_name("pixels 0").data["model"]).all()
    box = {"type": "rect", "x0": 2000.0, "x1": 40000.0, "y0": -1.0, "y1": 6.0}
    event_of(document, "kiel", SelectionGeometry, geometry=box, final=True)
    assert len(titles(document)) == 4
    assert document.get_model_by_name("told").text.startswith("5 stars there; the spectra of the 4 nearest")
    event_of(document, "kiel", Tap, x=39000.0, y=-1.0)
    assert titles(document) == []


def test_what_cannot_be_shown_is_refused(path, tmp_path, monkeypatch):
    bare = tmp_path / "bare.zarr"
    specxr.write_cube(specxr.open_cube(path).isel(star=[0]).load(), bare)
    assert "has no runs; a run with teff and logg is required. Make one" in refused("view", bare)
    assert "has no labels 'other' (runs: lasp, plain)" in refused("view", path, "--run", "other")
    assert "is required" in refused("view", tmp_path / "absent.zarr")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"the port {port} cannot be opened" in refused("view", path, "--port", port)
    whole = builtins.__import__

    def without_bokeh(name, *rest):
        if name.startswith("bokeh"):
            raise ImportError(name)
        return whole(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_bokeh)
    assert "bokeh is not installed; it is required for the page. Install it" in refused("view", path)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_page_in_a_browser(path, tmp_path):
    """The command serves a page that draws stars, shows spectra of those in a box, and asks nobody else."""
    command = [sys.executable, "-m", "specxr", "view", str(path), "--port", "0"]
    with open(tmp_path / "said.txt", "w") as said:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True)
    try:
        words = server.stdout.readline().split()
        assert words[1:2] == ["shows"], (tmp_path / "said.txt").read_text()
        asyncio.run(asyncio.wait_for(_visit(words[0], tmp_path), SECONDS))
    finally:
        server.terminate()
        server.communicate()


async def _visit(url, folder):
    model = "Bokeh.documents[0].get_model_by_name"
    async with browse(url, folder) as page:
        await page.until("Bokeh.documents[0].is_idle")
        await page.picture(folder / "page.png")
        colours = matplotlib.image.imread(folder / "page.png")[..., :3]
        blue = np.array([0x00, 0x72, 0xB2]) / 255
        assert (np.abs(colours - blue).max(axis=-1) < 0.02).sum() > 20
        await page.drag((70, 130), (640, 590))
        await page.until(f"{model}('told').text.includes('nearest')")
        assert await page.value(f"{model}('spectrum 3').visible")
        assert await page.value(f"{model}('pixels 3').data.flux.length") > 3000
        places = {address.split("/")[2] for address in page.requests if address.startswith("http")}
        assert places == {url.split("/")[2]}
