"""Ingestion of files that are none, on disks that are full, over cubes in use, with processes that die."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from support.program import refused, run
from support.readers import Fatal
from zarr.storage import LocalStore

from specxr.cubes import ingestion as module
from specxr.cubes.ingestion import ingest
from specxr.cubes.lock import hold
from specxr.cubes.store import open_cube


@pytest.fixture
def folder(write_lamost, tmp_path):
    """Three good spectra."""
    files = tmp_path / "spectra"
    files.mkdir()
    for i in range(3):
        write_lamost(files / f"{i}.fits", OBSID=100 + i, SPID=5, FIBERID=6)
    return files


@pytest.fixture
def stored(folder, tmp_path):
    ingest("lamost-lrs", folder, tmp_path / "c.zarr", workers=1)
    return tmp_path / "c.zarr"


def beside(path):
    return sorted(os.listdir(path.parent))


def test_each_odd_file_is_one_line(folder, write_lamost, tmp_path):
    os.mkfifo(folder / "pipe.fits")
    (folder / "zero.fits").symlink_to("/dev/zero")
    (folder / "folder.fits").mkdir()
    (folder / "circle.fits").symlink_to("circle.fits")
    (folder / "nowhere.fits").symlink_to("missing")
    (folder / "large.fits").write_bytes(b"SIMPLE  =")
    os.truncate(folder / "large.fits", 10**9)
    write_lamost(folder / "name.fits", OBSID=7)
    os.rename(os.fsencode(folder / "name.fits"), os.fsencode(folder) + b"/na\xefme.fits")
    write_lamost(folder / "obsid.fits", OBSID=1e19)
    write_lamost(folder / "obsid63.fits", OBSID=2**63)
    shown = run("ingest", "lamost-lrs", folder, "--out", tmp_path / "c.zarr", "--workers", 1)
    assert shown.exit_code == 0, shown.output
    reasons = {}
    for line in shown.stderr.splitlines():
        name, _, reason = line.partition(".fits: ")
        if reason:
            reasons[Path(name).name] = reason
    assert len(reasons) == 9
    assert all("not a regular file" in reasons[name] for name in ("pipe", "zero", "folder"))
    assert "larger than 16 MB" in reasons["large"]
    assert "cannot be read" in reasons["nowhere"]
    assert all("an integer of 64 bits is required" in reasons[name] for name in ("obsid", "obsid63"))
    assert sum("not UTF-8" in reason for reason in reasons.values()) == 1
    assert open_cube(tmp_path / "c.zarr").sizes["star"] == 3


def test_the_largest_file_is_a_setting(folder, tmp_path):
    words = ("ingest", "lamost-lrs", folder, "--out", tmp_path / "c.zarr", "--workers", 1, "--max-file-size")
    assert "larger than 0.05 MB" in refused(*words, 0.05)
    assert run(*words, 1).exit_code == 0


@pytest.mark.parametrize("value", [1e300, 99999999999999999999999, "five", 5.5])
def test_an_odd_header_changes_no_column(folder, write_lamost, tmp_path, value):
    write_lamost(folder / "odd.fits", OBSID=7, SPID=value, FIBERID=value, MJD=value, RA=5.0)
    report = ingest("lamost-lrs", folder, tmp_path / "c.zarr", workers=1)
    cube = open_cube(report.path).load()
    assert report.failures == []
    for name in ("spid", "fiberid", "mjd"):
        assert cube[name].dtype == "int64"
        assert cube[name].values[3] == -1
    assert list(cube.spid.values[:3]) == [5, 5, 5]


def test_files_without_vacuum_are_told_of(folder, write_lamost, tmp_path):
    for i in range(2):
        write_lamost(folder / f"bare{i}.fits", OBSID=i, VACUUM=None)
    shown = run("ingest", "lamost-lrs", folder, "--out", tmp_path / "c.zarr", "--workers", 1)
    assert shown.exit_code == 0
    (line,) = (line for line in shown.stderr.splitlines() if "VACUUM" in line)
    assert line.startswith(f"2 files, such as {folder / 'bare0.fits'}: the header does not say")


def test_a_cube_in_use_is_not_replaced(folder, stored, monkeypatch):
    before = open_cube(stored).load()
    with hold(stored, "run-lasp"):
        assert "is being written (run-lasp)" in refused(
            "ingest", "lamost-lrs", folder, "--out", stored, "--overwrite", "--workers", 1
        )
    # A run that begins while the files are read is seen as well.
    begun = []

    def reads(*args):
        begun.append(hold(stored, "run-late"))
        begun[0].__enter__()
        yield from read_tasks(*args)

    read_tasks = module.read_tasks
    monkeypatch.setattr(module, "read_tasks", reads)
    with pytest.raises(BlockingIOError, match="run-late"):
        ingest("lamost-lrs", folder, stored, mode="overwrite", workers=1)
    begun[0].__exit__(None, None, None)
    monkeypatch.undo()
    np.testing.assert_array_equal(open_cube(stored).flux.values, before.flux.values)
    assert beside(stored) == ["c.zarr", "spectra"]
    ingest("lamost-lrs", folder, stored, mode="overwrite", workers=1)


def test_a_cube_that_cannot_be_removed_is_not_replaced(folder, stored, monkeypatch):
    history = open_cube(stored).attrs["history"]
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "flux" not in str(path) and access(path, mode))
    line = refused("ingest", "lamost-lrs", folder, folder, "--out", stored, "--overwrite", "--workers", 1)
    assert "cannot be replaced" in line
    assert "flux is read-only" in line
    assert beside(stored) == ["c.zarr", "spectra"]
    assert open_cube(stored).attrs["history"] == history


@pytest.mark.parametrize("mode", ["create", "append"])
def test_a_full_disk_is_named(folder, stored, tmp_path, write_lamost, monkeypatch, mode):
    async def full(self, key, value, *args):
        if "locks" not in key:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        await put(self, key, value, *args)

    put = LocalStore.set
    monkeypatch.setattr(LocalStore, "set", full)
    out = stored if mode == "append" else tmp_path / "new.zarr"
    night = write_lamost(tmp_path / "late.fits", OBSID=5)
    with pytest.raises(OSError, match=rf"{out} cannot be written: No space left .* free in .*Make room"):
        ingest("lamost-lrs", night, out, mode=mode, workers=1)
    assert beside(stored) == ["c.zarr", "late.fits", "spectra"]


def test_a_reader_that_dies_ends_the_ingest(folder, write_lamost, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STARS_PER_TASK", 1)
    write_lamost(folder / "end.fits", OBSID=7)
    (tmp_path / "pids").mkdir()
    with pytest.raises(RuntimeError, match="a process that reads files ended early"):
        ingest(Fatal(folder=str(tmp_path / "pids")), folder, tmp_path / "c.zarr", workers=2)
    assert not (tmp_path / "c.zarr").exists()
    assert not any(psutil.pid_exists(int(pid)) for pid in os.listdir(tmp_path / "pids"))


def test_readers_do_not_outlive_an_ingest_that_is_killed(folder, write_lamost, tmp_path):
    write_lamost(folder / "end.fits", OBSID=7)
    (tmp_path / "pids").mkdir()
    script = (
        "import sys\nfrom support.readers import Fatal\nfrom specxr.cubes import ingestion\n"
        "ingestion.STARS_PER_TASK = 1\n"
        "if __name__ == '__main__':\n"
        "    ingestion.ingest(Fatal(folder=sys.argv[2], whom='parent'), sys.argv[1], sys.argv[3], workers=2)\n"
    )
    (tmp_path / "script.py").write_text(script)
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    words = [sys.executable, tmp_path / "script.py", folder, tmp_path / "pids", tmp_path / "c.zarr"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": path}, timeout=60, **quiet)
    assert done.returncode == -9
    readers = [int(pid) for pid in os.listdir(tmp_path / "pids")]
    assert readers
    left = [psutil.Process(pid) for pid in readers if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(left, timeout=20)
    for process in alive:
        process.kill()
    assert not alive
