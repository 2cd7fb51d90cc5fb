"""Stores in an object store, and what is particular about them."""

import logging
import pickle

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from support.buckets import SECRET

from specxr.cubes.group import open_group
from specxr.cubes.ingestion import ingest
from specxr.cubes.locations import RemoteStore, exists, join, open_store
from specxr.cubes.store import (
    list_runs,
    open_cube,
    open_labels,
    write_cube,
    write_labels,
    write_region,
)


@pytest.fixture
def url(bucket) -> str:
    return f"{bucket}/survey/cube.zarr"


def labels_of(cube: xr.Dataset) -> xr.Dataset:
    n = cube.sizes["star"]
    return xr.Dataset({"teff": ("star", np.linspace(4000, 9000, n))}, coords={"obsid": cube.obsid})


def keys(url: str) -> list[str]:
    return sorted(entry["path"] for page in open_store(url).store.list() for entry in page)


def dies(block, block_info=None):
    if block_info[0]["chunk-location"][0] == 1:
        raise RuntimeError("power cut")
    return block


def test_a_cube_comes_back_from_a_bucket(tiny_cube, url):
    write_cube(tiny_cube.chunk(star=3), url, star_chunk=2, star_shard=4)
    cube = open_cube(url)
    assert cube.chunksizes["star"] == (4, 4, 4)
    xr.testing.assert_equal(cube.compute().drop_attrs(), tiny_cube[list(cube.data_vars)].drop_attrs())
    assert {key.split("/")[0] for key in keys(url)} == {*cube.variables, "zarr.json"}
    assert len([key for key in keys(url) if key.startswith("flux/c")]) == 3


def test_labels_come_back_from_a_bucket(tiny_cube, url):
    write_cube(tiny_cube, url, star_chunk=5)
    write_labels(url, labels_of(tiny_cube).chunk(star=5), "lasp")
    write_labels(url, labels_of(tiny_cube) + 1, "other")
    assert list_runs(url) == ["lasp", "other"]
    labels = open_labels(url, "lasp")
    np.testing.assert_array_equal(labels.teff.values, labels_of(tiny_cube).teff.values)
    np.testing.assert_array_equal(labels.obsid.values, tiny_cube.obsid.values)
    with pytest.raises(FileExistsError, match="labels/lasp exists already"):
        write_labels(url, labels_of(tiny_cube), "lasp")
    write_region(url, labels_of(tiny_cube).isel(star=slice(5, 10)) + 7, slice(5, 10), "labels/lasp")
    expected = labels_of(tiny_cube).teff.values + np.repeat([0, 7, 0], [5, 5, 2])
    np.testing.assert_array_equal(open_labels(url, "lasp").teff.values, expected)


def test_files_are_ingested_into_a_bucket_and_more_are_appended(write_lamost, url, tmp_path):
    for i in range(5):
        write_lamost(tmp_path / f"{i}.fits", flux=np.full(3900, i + 1.0), OBSID=i)
    files = sorted(tmp_path.glob("*.fits"))
    report = ingest("lamost-lrs", files[:3], url, workers=1)
    assert (report.path, report.n_written) == (url, 3)
    ingest("lamost-lrs", files[3:], url, mode="append", workers=1)
    np.testing.assert_array_equal(open_cube(url).flux.values[:, 0], np.arange(1, 6))


@pytest.mark.parametrize("there", [False, True])
def test_a_write_that_dies_leaves_what_was_there(tiny_cube, url, there):
    if there:
        write_cube(tiny_cube, url, star_chunk=5)
    before = keys(url.rpartition("/")[0])
    lazy = tiny_cube.chunk(star=5)
    lazy["flux"] = lazy.flux.copy(data=da.map_blocks(dies, lazy.flux.data + 1, dtype="f4"))
    # Threads that are still writing when another fails would leave a hidden draft behind.
    with dask.config.set(scheduler="synchronous"), pytest.raises(RuntimeError, match="power cut"):
        write_cube(lazy, url, overwrite=True, star_chunk=5)
    assert keys(url.rpartition("/")[0]) == before
    if there:
        np.testing.assert_array_equal(open_cube(url).flux.values, tiny_cube.flux.values)


def test_a_cube_is_not_there_before_it_is_complete(tiny_cube, url, monkeypatch):
    """The metadata of the group are copied last; a writer killed before that leaves no cube."""
    seen = []
    copy = type(open_store(url).store).copy

    class Spy:
        def __init__(self, store):
            self.store = store

        def __getattr__(self, name):
            return getattr(self.store, name)

        def copy(self, old, new):
            seen.append((new.rpartition("cube.zarr/")[2], exists(url) and "zarr.json" in keys(url)))
            return copy(self.store, old, new)

    from specxr.cubes import locations

    of_bucket = locations._of_bucket
    monkeypatch.setattr(locations, "_of_bucket", lambda url: Spy(of_bucket(url)))
    write_cube(tiny_cube, url)
    assert seen[-1] == ("zarr.json", False)
    assert len(seen) > 10
    assert not any(there for _, there in seen)


def test_a_store_that_answers_503_for_a_while_is_asked_again(tiny_cube, url, s3_server):
    s3_server.fail(3)
    write_cube(tiny_cube, url, star_chunk=5)
    assert s3_server.failed == 3
    s3_server.fail(2, "/flux/c/1/0")
    np.testing.assert_array_equal(open_cube(url).flux.values, tiny_cube.flux.values)
    assert s3_server.failed == 2


def test_no_secret_travels_or_is_printed(tiny_cube, url, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    write_cube(tiny_cube, url, star_chunk=5)
    cube = open_cube(url)
    store = open_store(url)
    for thing in (store, open_group(url), open_group(url)["flux"], cube):
        assert SECRET not in f"{thing} {thing!r}"
    for thing in (store, open_group(url), cube):
        assert SECRET.encode() not in pickle.dumps(thing)
    print(cube, cube.flux.data.dask)
    captured = capfd.readouterr()
    assert SECRET not in caplog.text + captured.out + captured.err


def test_a_store_travels_as_its_url(tiny_cube, url):
    write_cube(tiny_cube, url, star_chunk=5)
    store = pickle.loads(pickle.dumps(open_store(url, read_only=True)))
    assert isinstance(store, RemoteStore)
    assert (store.url, store.read_only, str(store)) == (url, True, url)
    assert store.with_read_only(False).read_only is False
    cube = pickle.loads(pickle.dumps(open_cube(url)))
    np.testing.assert_array_equal(cube.flux.values, tiny_cube.flux.values)


@pytest.mark.usefixtures("bucket")
def test_a_url_with_a_secret_is_refused_and_not_repeated():
    with pytest.raises(ValueError, match="Put credentials into the environment") as found:
        open_cube(f"s3://somebody:{SECRET}@bucket/cube.zarr")
    assert SECRET not in str(found.value)
    with pytest.raises(ValueError, match="holds credentials"):
        open_cube(f"s3://bucket/cube.zarr?secret={SECRET}")


def test_what_cannot_be_reached_is_named(tiny_cube, url, bucket):
    with pytest.raises(FileNotFoundError, match=r"cube\.zarr does not exist"):
        open_cube(url)
    with pytest.raises(
        ConnectionError, match=r"(?s)no-such-bucket/c.zarr cannot be reached: .*NoSuchBucket.*Check the URL"
    ):
        open_cube("s3://no-such-bucket/c.zarr")
    with pytest.raises(ValueError, match="nowhere://x/y cannot be opened"):
        open_cube("nowhere://x/y")
    open_store(f"{bucket}/other").store.put("a", b"1")
    with pytest.raises(ValueError, match="not a Zarr v3 store"):
        open_cube(f"{bucket}/other")
    with pytest.raises(FileExistsError, match="not a Zarr group"):
        write_cube(tiny_cube, f"{bucket}/other", overwrite=True)


def test_paths_join():
    assert join("s3://bucket/a.zarr/", "labels", "x") == "s3://bucket/a.zarr/labels/x"
    assert join("a.zarr", "labels") == "a.zarr/labels"
