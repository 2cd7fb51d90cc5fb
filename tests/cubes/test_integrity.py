"""Chunks that are lost or changed behind the back of the cube are noticed, whoever reads them."""

import shutil

import numpy as np
import pytest
import xarray as xr
import zarr
from support.program import ok, run

from specxr.cubes.group import open_group
from specxr.cubes.ingestion import ingest
from specxr.cubes.integrity import DamagedChunkError, damaged_chunks
from specxr.cubes.labels import declare_labels, fill_labels
from specxr.cubes.layout import Layout
from specxr.cubes.store import open_cube, open_labels, write_cube, write_labels

RESULT = {"teff": ("star", np.full(12, 5000.0)), "result": ("star", np.zeros(12, "u1"))}


@pytest.fixture(params=[None, 4], ids=["chunks", "shards"])
def stored(request, tiny_cube, tmp_path):
    """The tiny cube with labels: three chunks of 4 stars, or three shards of two chunks."""
    path = tmp_path / "cube.zarr"
    write_cube(tiny_cube, path, star_chunk=2 if request.param else 4, star_shard=request.param)
    labels = xr.Dataset(RESULT, coords={"obsid": tiny_cube.obsid})
    write_labels(path, labels, "lasp")
    return path


def chunks_of(path):
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name != "zarr.json")


def read_all(path):
    cube, labels = open_cube(path), open_labels(path, "lasp")
    cube.isel(star=[5]).load()  # a part of a chunk or shard
    return cube.load(), labels.load()


def test_a_lost_chunk_is_named(stored):
    for file in chunks_of(stored)[::3]:
        content = file.read_bytes()
        file.unlink()
        name = str(file.relative_to(stored))
        with pytest.raises(DamagedChunkError, match=f"is lost: .*{name}; every chunk .* is required"):
            read_all(stored)
        assert [name in str(damage) for damage in _damage(stored)] == [True]
        file.write_bytes(content)
    assert list(_damage(stored)) == []
    read_all(stored)


def test_a_flipped_bit_is_noticed(stored):
    rng = np.random.default_rng(20261121)
    group = open_group(stored)
    for file in chunks_of(stored):
        content, array = file.read_bytes(), group[str(file.relative_to(stored)).split("/c/")[0]]
        changes = [content[: len(content) // 2], b""]
        for _ in range(8):
            changed = bytearray(content)
            changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
            changes.append(bytes(changed))
        for change in changes:
            file.write_bytes(change)
            with pytest.raises(DamagedChunkError, match="is damaged"):
                array[...]
        assert len(list(_damage(stored))) == 1
        file.write_bytes(content)


def _damage(path):
    group = open_group(path)
    yield from damaged_chunks(group)
    yield from damaged_chunks(group["labels/lasp"])


def test_what_is_declared_and_not_yet_filled_is_not_lost(tiny_cube, tmp_path):
    path = tmp_path / "cube.zarr"
    write_cube(tiny_cube, path, star_chunk=4)
    group = open_group(path, "r+")
    labels = xr.Dataset(RESULT).isel(star=slice(0, 0))
    declare_labels(group, "bulk", labels, n_stars=12, star_chunk=4)
    fill_labels(group["labels/bulk"], 4, {"teff": np.full(4, np.nan), "result": np.full(4, 255, "u1")})
    assert np.isnan(open_labels(path, "bulk").teff.values).all()
    # A block of fill values has its chunk, so that one without is lost.
    assert [file.name for file in chunks_of(path / "labels")] == ["1", "1"]
    assert not list(damaged_chunks(group["labels/bulk"]))
    file = chunks_of(path / "labels")[0]
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert len(list(damaged_chunks(group["labels/bulk"]))) == 1


def test_nothing_is_claimed_of_stores_of_earlier_versions(tiny_cube, tmp_path):
    """They did not store chunks of fill values, and had other checksums."""
    path = tmp_path / "old.zarr"
    dark = tiny_cube.assign(ivar=xr.zeros_like(tiny_cube.ivar)).drop_vars("subclass")
    dark.to_zarr(path, consolidated=False, encoding={"ivar": {"chunks": (4, 80), "fill_value": 0.0}})
    assert not (path / "ivar" / "c").exists()
    np.testing.assert_array_equal(open_cube(path).ivar.values, 0)
    assert list(damaged_chunks(open_group(path))) == []


@pytest.mark.parametrize("layout", [Layout(2), Layout(2, 4)])
def test_an_ingested_cube_knows_its_chunks(write_lamost, tmp_path, monkeypatch, layout):
    monkeypatch.setattr("specxr.cubes.ingestion.choose_layout", lambda *_: layout)
    files = [write_lamost(tmp_path / f"{i}.fits", flux=np.zeros(3909), OBSID=i) for i in range(7)]
    path = tmp_path / "c.zarr"
    ingest("lamost-lrs", files[:3], path, workers=1)
    ingest("lamost-lrs", files[3:], path, mode="append", workers=1)
    assert zarr.open_group(path).attrs["stars_written"] == 7
    assert "stars_written" not in open_cube(path).attrs
    assert list(damaged_chunks(open_group(path))) == []
    shutil.rmtree(path / "flux" / "c" / "1")
    with pytest.raises(DamagedChunkError, match="'flux' of the stars (2 to 3|4 to 6) is lost"):
        open_cube(path).flux.load()


def test_names_in_a_cube_are_no_markup(tiny_cube, tmp_path):
    path = tmp_path / "cube.zarr"
    write_cube(tiny_cube.assign_attrs(survey="[bold]s[/wrong]"), path)
    labels = xr.Dataset(RESULT, coords={"obsid": tiny_cube.obsid}, attrs={"estimator": "[red]e[/nope]"})
    write_labels(path, labels, "lasp")
    shown = ok("info", path)
    assert "[bold]s[/wrong]" in shown
    assert "[red]e[/nope]" in shown


def test_the_command_says_what_is_damaged(stored):
    assert "every chunk is there" in ok("info", stored, "--check")
    (stored / "obsid" / "c" / "0").unlink()
    teff = chunks_of(stored / "labels" / "lasp" / "teff")[0]
    content = teff.read_bytes()
    teff.write_bytes(b"nonsense")
    shown = run("info", stored, "--check")
    assert shown.exit_code == 1
    assert "'obsid' of the stars 0 to 11 is lost" in shown.stderr
    assert "'teff' of the stars 0 to 3 is damaged" in shown.stderr
    assert "specxr: 2 chunks of" in shown.stderr
    teff.write_bytes(content)
    exported = run("export", stored, "--out", stored.parent / "t.csv")
    assert exported.exit_code == 1
    assert "'obsid' of the stars 0 to 11 is lost" in exported.stderr
    assert not (stored.parent / "t.csv").exists()
