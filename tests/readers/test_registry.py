"""A survey of somebody else: a reader that an entry point names, with many stars in each file."""

import importlib.metadata
from importlib.metadata import EntryPoint, EntryPoints

import numpy as np
import pytest

import specxr
from specxr.cubes import ingestion
from specxr.cubes.layout import Layout
from specxr.readers.base import ReadError, SurveyBlock
from specxr.readers.registry import open_reader, survey_names
from specxr.spectra.grid import Grid

N_PIXEL = 30


class Plates:
    """Files of text: one line a star, its number and its flux; 'broken' and 'surprise' are what they say."""

    survey = "plates"
    grid = Grid(5000.0 + 2.0 * np.arange(N_PIXEL), "air", "linear", 2.0)
    flux_units = "erg/s"
    stars_per_file = 50

    def read(self, files):
        for file in files:
            text = file.read_text()
            if text == "surprise":
                raise ZeroDivisionError("what nobody\nforesaw")
            if text == "broken":
                none = np.zeros((0, N_PIXEL), "f4")
                yield SurveyBlock(none, none, none.astype("u2"), {}, [], [(file, "broken")])
                continue
            numbers, names = zip(*(line.split() for line in text.splitlines()), strict=True)
            obsid = np.array(numbers, dtype="int64")
            for part in (slice(0, 2), slice(2, None)):  # more than one block in a file
                flux = np.repeat(obsid[part, None], N_PIXEL, axis=1).astype("f4")
                stars = {"obsid": obsid[part], "subclass": np.array(names[part])}
                mask = np.full(flux.shape, 512, "u2")
                yield SurveyBlock(flux, flux + 1, mask, stars, [file] * len(flux))


class Wrong(Plates):
    """It breaks the contract."""

    def read(self, files):
        for block in super().read(files):
            yield SurveyBlock(block.flux, block.ivar, block.mask[:, 1:], block.stars, block.sources)


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """Entry points of a package that is installed beside specxr."""
    plates = EntryPoint("plates", f"{__name__}:Plates", "specxr.readers")
    wrong = EntryPoint("wrong", f"{__name__}:Wrong", "specxr.readers")
    monkeypatch.setattr(EntryPoint, "load", lambda self: {"plates": Plates(), "wrong": Wrong()}[self.name])
    found = EntryPoints([plates, wrong])
    monkeypatch.setattr("specxr.readers.registry.entry_points", lambda group: found.select(group=group))


@pytest.fixture
def plates(tmp_path):
    folder = tmp_path / "plates"
    folder.mkdir()
    for plate in range(3):
        lines = [f"{100 * plate + star} type{'x' * star}" for star in range(5)]
        (folder / f"{plate}.fits").write_text("\n".join(lines))
    (folder / "0-broken.fits").write_text("broken")
    (folder / "1-surprise.fits").write_text("surprise")
    return folder


def test_a_survey_is_added_by_its_entry_point():
    assert survey_names() == ["plates", "wrong"]
    assert open_reader("plates").survey == "plates"
    with pytest.raises(
        ValueError, match=r"no reader for the survey 'sdss'; one of plates, wrong .*entry point"
    ):
        open_reader("sdss")
    names = importlib.metadata.entry_points(group="specxr.readers").names
    assert {"lamost-lrs", "boss", "sdss", "desi", "apogee", "aspcap"} <= names


@pytest.mark.parametrize("stars_per_task", [1, 1000])
@pytest.mark.parametrize("layout", [Layout(2), Layout(2, 4), Layout(100)])
def test_files_of_many_stars_become_a_cube(plates, tmp_path, monkeypatch, layout, stars_per_task):
    monkeypatch.setattr(ingestion, "choose_layout", lambda n_stars, star_bytes: layout)
    monkeypatch.setattr(ingestion, "STARS_PER_TASK", stars_per_task)
    report = specxr.ingest("plates", plates, tmp_path / "c.zarr", workers=1)
    assert [(file.name, reason) for file, reason in report.failures] == [
        ("0-broken.fits", "broken"),
        ("1-surprise.fits", "ZeroDivisionError: what nobody foresaw"),
    ]
    cube = specxr.open_cube(report.path)
    assert cube.sizes["star"] == report.n_written == 15
    assert cube.obsid.values.tolist() == [100 * plate + star for plate in range(3) for star in range(5)]
    np.testing.assert_array_equal(cube.flux.values[:, 3], cube.obsid.values)
    assert list(cube.subclass.values) == [f"type{'x' * star}" for _ in range(3) for star in range(5)]
    assert cube["mask"].dtype == "uint16"
    assert (cube["mask"].values == 512).all()
    assert (cube.flux.attrs["units"], cube.ivar.attrs["units"]) == ("erg/s", "(erg/s)-2")
    assert "15 stars of 3 of 5 files" in cube.attrs["history"]


def test_a_star_of_a_later_file_replaces_one(plates, tmp_path, monkeypatch):
    monkeypatch.setattr(ingestion, "choose_layout", lambda n_stars, star_bytes: Layout(4))
    (plates / "z.fits").write_text("104 a-longer-type-than-all-others\n900 new\n900 newer\n101 second")
    with pytest.raises(ValueError, match="3 stars have an obsid that another star has"):
        specxr.ingest("plates", plates, tmp_path / "c.zarr", workers=1)
    report = specxr.ingest("plates", plates, tmp_path / "c.zarr", duplicates="keep_last", workers=1)
    assert [(a.name, b.name) for a, b in report.replaced] == [
        ("1.fits", "z.fits"),
        ("z.fits", "z.fits"),
        ("1.fits", "z.fits"),
    ]
    cube = specxr.open_cube(report.path).set_index(star="obsid")
    assert cube.sizes["star"] == 16
    assert cube.subclass.sel(star=[104, 900, 101]).values.tolist() == [
        "a-longer-type-than-all-others",
        "newer",
        "second",
    ]


def test_a_reader_that_breaks_its_contract_is_named(plates, tmp_path):
    with pytest.raises(TypeError, match=r"the reader of plates gave arrays of shapes .* Correct the reader"):
        specxr.ingest("wrong", plates / "0.fits", tmp_path / "c.zarr", workers=1)
    assert not (tmp_path / "c.zarr").exists()


def test_a_reader_that_raises_costs_one_file(plates, tmp_path, monkeypatch):
    def refuses(self, files):
        if any(file.name == "2.fits" for file in files):
            raise ReadError("of another survey")
        yield from Plates().read(files)

    monkeypatch.setattr(Wrong, "read", refuses)
    report = specxr.ingest("wrong", [plates / f"{i}.fits" for i in range(3)], tmp_path / "c.zarr", workers=1)
    assert [(file.name, reason) for file, reason in report.failures] == [("2.fits", "of another survey")]
    assert report.n_written == 10
