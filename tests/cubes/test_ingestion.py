import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner
from zarr.storage import LocalStore

from specxr.cli import app
from specxr.cubes import draft
from specxr.cubes import ingestion as module
from specxr.cubes.ingestion import find_files, ingest
from specxr.cubes.layout import Layout
from specxr.cubes.lock import hold
from specxr.cubes.store import open_cube, open_labels, write_cube, write_labels
from specxr.readers.lamost_lrs import GRID, read_spectrum
from specxr.readers.registry import read_files
from specxr.vocabulary import Result


@pytest.fixture
def folder(write_lamost, tmp_path):
    """11 spectra of the three layouts, flux = number of the file, in two levels of folders."""
    files = tmp_path / "spectra"
    (files / "deeper").mkdir(parents=True)
    for i in range(11):
        path = files / ("deeper" if i >= 8 else ".") / f"spec-{i:02d}.fits{'.gz' if i % 2 else ''}"
        layout = ["table", "image", "first release"][i % 3]
        write_lamost(path, layout, flux=np.full(3900, i + 1.0), OBSID=100 + i, RA=float(i), SUBCLASS=f"F{i}")
    return files


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(module, "choose_layout", lambda n_stars, star_bytes: Layout(4))
    monkeypatch.setattr(module, "STARS_PER_TASK", 3)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("workers", [1, 2])
def test_files_become_a_cube_in_their_order(folder, tmp_path, workers):
    seen = []
    report = ingest(
        "lamost-lrs", folder, tmp_path / "c.zarr", workers=workers, progress=lambda *now: seen.append(now)
    )
    assert (report.n_written, report.failures, report.replaced) == (11, [], [])
    assert seen == [(3, 11), (6, 11), (9, 11), (11, 11)]
    cube = open_cube(report.path)
    assert cube.chunksizes == {"star": (4, 4, 3), "wavelength": (3909,)}
    np.testing.assert_array_equal(cube.wavelength.values, GRID.wavelength)
    order = [*range(8, 11), *range(8)]  # sorted by path: "deeper" comes before "spec-00"
    np.testing.assert_array_equal(cube.flux.values[:, 0], np.array(order) + 1)
    assert list(cube.subclass.values) == [f"F{i}" for i in order]
    np.testing.assert_array_equal(cube.ra.values, order)
    for row, name in enumerate(cube.file.values):
        spectrum = read_spectrum(next(folder.rglob(str(name))))
        np.testing.assert_array_equal(cube.flux.values[row], spectrum.flux)
        np.testing.assert_array_equal(cube.ivar.values[row], spectrum.ivar)
        np.testing.assert_array_equal(cube.mask.values[row], spectrum.mask)
        assert cube.obsid.values[row] == spectrum.star["obsid"]
    assert cube.attrs["survey"] == "LAMOST low resolution"
    assert cube.attrs["data_release"] == "LAMOST DR10"
    assert "11 of 11 files" in cube.attrs["history"]
    assert set(cube.coords) == {"wavelength", "obsid", "ra", "dec"}


@pytest.mark.usefixtures("small_blocks")
def test_unreadable_files_are_named_and_do_not_stop_the_others(folder, tmp_path, monkeypatch):
    zipped = folder / "spec-01.fits.gz"
    zipped.write_bytes(zipped.read_bytes()[:500])
    (folder / "spec-02.fits").write_bytes(b"")
    (folder / "notes.fits").write_text("not a spectrum")
    report = ingest("lamost-lrs", folder, tmp_path / "c.zarr")
    assert {file.name: reason.split(":")[0] for file, reason in report.failures} == {
        "spec-01.fits.gz": "truncated or damaged gzip",
        "spec-02.fits": "empty file",
        "notes.fits": "not FITS",
    }
    assert report.n_written == open_cube(report.path).sizes["star"] == 9
    assert "9 of 12 files" in open_cube(report.path).attrs["history"]


def test_damage_that_no_reader_foresaw_stops_one_file_only(folder, monkeypatch):
    def surprising(path, max_bytes):
        if path.name == "spec-00.fits":
            raise ZeroDivisionError("odd header")
        return read_spectrum(path, max_bytes)

    monkeypatch.setattr("specxr.readers.lamost_lrs.read_spectrum", surprising)
    (block,) = read_files("lamost-lrs", find_files(folder))
    assert block.failures == [(folder / "spec-00.fits", "ZeroDivisionError: odd header")]
    assert len(block) == 10


@pytest.fixture
def twice(folder, write_lamost):
    """Later files with the obsid of spec-09, in the first block, and of spec-06, in the last."""
    write_lamost(folder / "x-late-09.fits", flux=np.full(3909, 90.0), OBSID=109, RA=359.0, SUBCLASS="M9")
    write_lamost(folder / "x-late-06.fits", flux=np.full(3909, 60.0), OBSID=106, SUBCLASS="M6")
    return folder


@pytest.mark.usefixtures("small_blocks")
def test_duplicates_are_refused(twice, tmp_path):
    with pytest.raises(ValueError, match=r"2 stars have an obsid .*spec-09.*x-late-09.*--replace-duplicates"):
        ingest("lamost-lrs", twice, tmp_path / "c.zarr")
    assert os.listdir(tmp_path) == ["spectra"]


@pytest.mark.usefixtures("small_blocks")
def test_duplicates_are_replaced_on_request(twice, tmp_path):
    report = ingest("lamost-lrs", twice, tmp_path / "c.zarr", duplicates="keep_last")
    assert [(a.name, b.name) for a, b in report.replaced] == [
        ("spec-06.fits", "x-late-06.fits"),
        ("spec-09.fits.gz", "x-late-09.fits"),
    ]
    assert report.n_written == 11
    cube = open_cube(report.path).compute()
    flux = dict(zip(cube.obsid.values, cube.flux.values[:, 0], strict=True))
    assert flux == {100 + i: i + 1.0 for i in range(11)} | {109: 90.0, 106: 60.0}
    row = list(cube.obsid.values).index(109)
    assert (cube.subclass.values[row], cube.file.values[row], cube.ra.values[row]) == (
        "M9",
        "x-late-09.fits",
        359.0,
    )
    assert not cube.mask.values[row].any()


def test_a_damaged_later_file_replaces_nothing(folder, write_lamost, tmp_path):
    late = write_lamost(folder / "x-late.fits", OBSID=100)
    late.write_bytes(late.read_bytes()[:9000])
    report = ingest("lamost-lrs", folder, tmp_path / "c.zarr", duplicates="keep_last")
    assert report.replaced == []
    assert [file.name for file, _ in report.failures] == ["x-late.fits"]


def test_files_and_folders_mix_and_count_once(folder, write_lamost, tmp_path):
    odd = write_lamost(tmp_path / "odd.name", OBSID=7)
    files = find_files([odd, folder / "spec-04.fits", folder])
    assert files[:2] == [odd, folder / "spec-04.fits"]
    assert len(files) == 12


@pytest.mark.usefixtures("small_blocks")
def test_nothing_is_written_where_there_is_nothing_to_read(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.fits").write_bytes(b"")
    before = sorted(os.listdir(tmp_path))
    out = tmp_path / "c.zarr"
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        ingest("lamost-lrs", [folder, tmp_path / "nowhere"], out)
    with pytest.raises(ValueError, match="no file in .*empty ends in .fits"):
        ingest("lamost-lrs", tmp_path / "empty", out)
    with pytest.raises(ValueError, match=r"none of 1 files can be read \(the first, .*a.fits: empty file\)"):
        ingest("lamost-lrs", tmp_path / "bad", out)
    with pytest.raises(ValueError, match="no reader for the survey 'gaia'"):
        ingest("gaia", folder, out)
    with pytest.raises(FileNotFoundError, match="cannot write"):
        ingest("lamost-lrs", folder, tmp_path / "nowhere" / "c.zarr")
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.usefixtures("small_blocks")
def test_an_ingest_that_dies_half_way_leaves_the_old_cube(folder, tmp_path, monkeypatch):
    out = tmp_path / "c.zarr"
    ingest("lamost-lrs", folder / "deeper", out)
    with pytest.raises(FileExistsError, match="--overwrite"):
        ingest("lamost-lrs", folder, out)

    blocks = []
    write = draft.write_beyond

    def dies(*args):
        blocks.append(args)
        if len(blocks) == 2:
            raise KeyboardInterrupt
        write(*args)

    monkeypatch.setattr(draft, "write_beyond", dies)
    with pytest.raises(KeyboardInterrupt):
        ingest("lamost-lrs", folder, out, mode="overwrite")
    assert open_cube(out).sizes["star"] == 3
    assert sorted(os.listdir(tmp_path)) == ["c.zarr", "spectra"]
    monkeypatch.setattr(draft, "write_beyond", write)
    assert ingest("lamost-lrs", folder, out, mode="overwrite").n_written == 11
    assert open_cube(out).sizes["star"] == 11


def test_a_script_without_guard_is_told_so(folder, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from specxr.cubes import ingestion\n"
        "ingestion.STARS_PER_TASK = 3\n"
        "ingestion.ingest('lamost-lrs', sys.argv[1], sys.argv[2], workers=2)\n"
    )
    command = [sys.executable, str(script), str(folder), str(tmp_path / "c.zarr")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "script.py, line 4, calls ingest without a guard" in done.stderr.splitlines()[-1]
    assert done.stderr.count("Traceback") == 1  # of this script, and of none that reads files
    assert sorted(os.listdir(tmp_path)) == ["script.py", "spectra"]


def test_real_files_of_every_release_are_read(shared, tmp_path):
    names = [
        "lamost_dr10",
        "lamost_dr8_repeats",
        "lamost_dr1",
        "lamost_dr7_plate",
        "lamost_mdwarfs",
        "pylasp",
    ]
    files = [file for name in names for file in find_files(shared / name)[::12]]
    report = ingest("lamost-lrs", files, tmp_path / "c.zarr", workers=1)
    assert [file.name for file, _ in report.failures] == []
    cube = open_cube(report.path).compute()
    assert cube.sizes["star"] == len(files) > 130
    assert set(cube.data_release.values) == {f"LAMOST DR{n}" for n in (6, 7, 8, 10)} | {""}
    assert (cube.flux.median("wavelength") > 0).mean() > 0.95
    assert (cube.mask & 1).mean() < 0.02
    assert np.isfinite(cube.ra).all()


# Nights that are added


@pytest.fixture
def two_nights(folder, write_lamost, tmp_path):
    """A cube of 11 stars, one of them twice; the 6 stars of another night, as a folder."""
    night = tmp_path / "night"
    night.mkdir()
    for i in range(6):
        write_lamost(night / f"n{i}.fits", flux=np.full(3909, 50.0 + i), OBSID=200 + i, SUBCLASS=f"K{i}")
    ingest("lamost-lrs", folder, tmp_path / "c.zarr", workers=1)
    return tmp_path / "c.zarr", night


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def labelled(path):
    """Labels of all stars of a cube, 10,000 plus their number, and how they ended."""
    obsid = open_cube(path).obsid
    teff = ("star", 1e4 + obsid.values)
    labels = xr.Dataset(
        {"teff": teff, "result": ("star", np.zeros(obsid.size, "u1"))}, coords={"obsid": obsid}
    )
    write_labels(path, labels, "lasp")


@pytest.mark.parametrize("layout", [Layout(4), Layout(2, 4), Layout(5), Layout(50)])
def test_a_cube_made_in_two_nights_is_the_cube_made_in_one(
    folder, write_lamost, tmp_path, monkeypatch, layout
):
    monkeypatch.setattr(module, "choose_layout", lambda n_stars, star_bytes: layout)
    files = find_files(folder)
    ingest("lamost-lrs", files, tmp_path / "once.zarr", workers=1)
    ingest("lamost-lrs", files[:3], tmp_path / "c.zarr", workers=1)
    for some in (files[3:4], files[4:9], files[9:]):
        report = ingest("lamost-lrs", some, tmp_path / "c.zarr", mode="append", workers=1)
        assert report.n_written == len(some)
    once, often = open_cube(tmp_path / "once.zarr"), open_cube(tmp_path / "c.zarr")
    assert once.chunksizes == often.chunksizes
    assert "3 of 3 files; specxr ingest lamost-lrs: 1 stars of 1 of 1 files; " in often.attrs["history"]
    often.attrs["history"] = once.attrs["history"]
    xr.testing.assert_identical(often.compute(), once.compute())


@pytest.mark.usefixtures("small_blocks")
def test_labels_stay_with_their_stars_when_stars_are_appended(two_nights):
    path, night = two_nights
    labelled(path)
    before = open_labels(path, "lasp").compute()
    ingest("lamost-lrs", night, path, mode="append")
    after = open_labels(path, "lasp")
    assert after.teff.chunks is not None
    xr.testing.assert_equal(after.isel(star=slice(11)).compute(), before)
    new = after.isel(star=slice(11, None)).compute()
    assert list(new.obsid.values) == list(range(200, 206))
    assert np.isnan(new.teff.values).all()
    assert (new.result.values == Result.NOT_FITTED).all()
    assert (after.result.dtype, after.teff.dtype) == (before.result.dtype, before.teff.dtype)


@pytest.mark.usefixtures("small_blocks")
def test_stars_that_are_there_are_refused_or_skipped(two_nights, folder):
    path, night = two_nights
    before = open_cube(path).compute()
    with pytest.raises(ValueError, match=r"2 stars have an obsid that is in .*spec-00.*--skip-existing"):
        ingest(
            "lamost-lrs", [night, folder / "spec-00.fits", folder / "spec-03.fits.gz"], path, mode="append"
        )
    xr.testing.assert_identical(open_cube(path).compute(), before)
    files = [folder / "spec-00.fits", night]
    report = ingest("lamost-lrs", files, path, mode="append", existing="skip")
    assert ([file.name for file in report.skipped], report.n_written) == (["spec-00.fits"], 6)
    assert open_cube(path).sizes["star"] == 17
    report = ingest("lamost-lrs", files, path, mode="append", existing="skip")
    assert (report.n_written, len(report.skipped), open_cube(path).sizes["star"]) == (0, 7, 17)


@pytest.mark.usefixtures("small_blocks")
def test_an_append_that_dies_anywhere_can_be_repeated(two_nights, tmp_path, monkeypatch):
    """Whichever write to the store is the last: the old cube or the new one is there, or one call finishes it."""
    path, night = two_nights
    labelled(path)
    old = open_cube(path).compute()
    shutil.copytree(path, tmp_path / "new.zarr")
    put = LocalStore.set
    writes, allowed = 0, -1

    async def counted(self, key, value, *args):
        nonlocal writes
        if "locks" not in key:
            if writes == allowed:
                raise OSError("power cut")
            writes += 1
        await put(self, key, value, *args)

    monkeypatch.setattr(LocalStore, "set", counted)
    ingest("lamost-lrs", night, tmp_path / "new.zarr", mode="append", workers=1)
    new = open_cube(tmp_path / "new.zarr").compute()
    seen, total = set(), writes
    for allowed in sorted({*range(0, total, 11), total - 1}):
        writes, attempt = 0, tmp_path / f"{allowed}.zarr"
        shutil.copytree(path, attempt)
        with pytest.raises(OSError, match="power cut"):
            ingest("lamost-lrs", night, attempt, mode="append", workers=1)
        seen.add(_state(attempt, old, new))
        allowed = -1
        ingest("lamost-lrs", night, attempt, mode="append", existing="skip", workers=1)
        found = open_cube(attempt).compute()
        xr.testing.assert_equal(found, new)
        open_labels(attempt, "lasp").load()
        shutil.rmtree(attempt)
    assert seen == {"old", "between", "new"}


def _state(path, old, new):
    try:
        cube = open_cube(path).compute()
    except ValueError as error:
        return "between" if "which finishes what was begun" in str(error) else str(error)
    n = cube.sizes["star"]
    xr.testing.assert_equal(cube, old if n == old.sizes["star"] else new)
    return "old" if n == old.sizes["star"] else "new"


@pytest.mark.usefixtures("small_blocks")
def test_one_process_at_a_time_appends(two_nights):
    path, night = two_nights
    before = content(path)
    with hold(path, "stars"), pytest.raises(BlockingIOError, match="one writer at a time"):
        ingest("lamost-lrs", night, path, mode="append")
    assert {name: data for name, data in content(path).items() if "locks" not in name} == before


@pytest.mark.usefixtures("small_blocks")
def test_only_stars_of_the_same_kind_are_appended(two_nights, tiny_cube, tmp_path):
    path, night = two_nights
    write_cube(tiny_cube, tmp_path / "tiny.zarr")
    with pytest.raises(ValueError, match="holds spectra of none on 80 pixels"):
        ingest("lamost-lrs", night, tmp_path / "tiny.zarr", mode="append")
    write_cube(
        open_cube(path).drop_vars("subclass").assign(teff=("star", np.ones(11))), tmp_path / "less.zarr"
    )
    with pytest.raises(ValueError, match=r"differ \(subclass, teff\)"):
        ingest("lamost-lrs", night, tmp_path / "less.zarr", mode="append")
    assert open_cube(tmp_path / "less.zarr").sizes["star"] == 11
    with pytest.raises(FileNotFoundError, match="does not exist"):
        ingest("lamost-lrs", night, tmp_path / "nowhere.zarr", mode="append")
    with pytest.raises(ValueError, match="mode is 'both'; one of create, overwrite, append"):
        ingest("lamost-lrs", night, path, mode="both")


@pytest.mark.usefixtures("small_blocks")
def test_the_command_appends(two_nights):
    path, night = two_nights
    words = ["ingest", "lamost-lrs", str(night), "--out", str(path), "--append", "--workers", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    assert f"6 stars added to {path}" in done.output.replace("\n", "")
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 1
    assert "--skip-existing" in again.output
    assert "6 stars that were there already" in CliRunner().invoke(app, [*words, "--skip-existing"]).output
