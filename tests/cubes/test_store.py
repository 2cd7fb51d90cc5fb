import os
import shutil
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specxr.cubes.store import (
    STAR_VARIABLE_CHUNK,
    list_runs,
    open_cube,
    open_labels,
    write_cube,
    write_labels,
    write_region,
)


@pytest.fixture
def stored(tiny_cube, tmp_path) -> Path:
    """The tiny cube on disk, 5 stars in a chunk."""
    write_cube(tiny_cube, tmp_path / "cube.zarr", star_chunk=5)
    return tmp_path / "cube.zarr"


def labels_of(cube: xr.Dataset) -> xr.Dataset:
    """Labels of 12 stars whose errors share a computation with the labels."""
    n = cube.sizes["star"]
    return xr.Dataset(
        {
            "teff": ("star", np.linspace(4000, 9000, n), {"units": "K"}),
            "teff_err": ("star", np.full(n, 50.0)),
            "result": ("star", np.zeros(n, "u1")),
            "covariance": (("star", "label", "label_"), np.ones((n, 2, 2))),
        },
        coords={"obsid": cube.obsid, "label": ["teff", "logg"], "label_": ["teff", "logg"]},
        attrs={"estimator": "none", "options": '{"clean": false}'},
    )


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def dies(block, block_info=None):
    if block_info[0]["chunk-location"][0] == 1:
        raise RuntimeError("power cut")
    return block


# Cubes


def test_a_cube_comes_back_as_it_was(tiny_cube, stored):
    found = open_cube(stored).compute()
    for name in ("flux", "ivar", "mask", "wavelength", "obsid", "ra", "dec", "snr_g"):
        np.testing.assert_array_equal(found[name].values, tiny_cube[name].values)
        assert found[name].dtype == tiny_cube[name].dtype
    assert list(found.subclass.values) == list(tiny_cube.subclass.values)
    assert set(found.coords) == set(tiny_cube.coords)
    assert found.attrs == tiny_cube.attrs | {"storage": "chunks of 5 stars (0.004 MB)"}
    assert found.wavelength.attrs == tiny_cube.wavelength.attrs
    assert list(found.data_vars) == ["flux", "ivar", "mask", "snr_g", "subclass"]


def test_open_cube_is_lazy_and_chunked_as_stored(stored, forbid_compute):
    cube = open_cube(stored)
    assert cube.chunksizes == {"star": (5, 5, 2), "wavelength": (80,)}
    assert zarr.open_group(stored)["flux"].chunks == (5, 80)
    assert zarr.open_group(stored)["obsid"].chunks == (STAR_VARIABLE_CHUNK,)


def test_blocks_of_an_opened_cube_are_its_shards(tiny_cube, tmp_path):
    path = tmp_path / "sharded.zarr"
    sharded = {name: {"chunks": (2, 80), "shards": (6, 80)} for name in ("flux", "ivar", "mask")}
    tiny_cube.drop_vars("subclass").to_zarr(path, encoding=sharded, consolidated=False)
    cube = open_cube(path)
    assert cube.chunksizes["star"] == (6, 6)
    np.testing.assert_array_equal(cube.flux.values, tiny_cube.flux.values)
    with pytest.raises(ValueError, match="Write 0:6"):
        write_region(path, tiny_cube[["flux"]].isel(star=slice(0, 2)), slice(0, 2))


def test_a_selection_of_a_stored_cube_can_be_written_over_it(tiny_cube, stored):
    write_labels(stored, labels_of(tiny_cube), "lasp")
    chosen = [1, 2, 5, 7, 8, 11]
    write_cube(open_cube(stored).isel(star=chosen), stored, overwrite=True, star_chunk=4)
    found = open_cube(stored)
    assert found.chunksizes["star"] == (4, 2)
    np.testing.assert_array_equal(found.flux.values, tiny_cube.flux.values[chosen])
    assert list(found.subclass.values) == list(tiny_cube.subclass.values[chosen])
    assert list_runs(stored) == []
    assert os.listdir(stored.parent) == ["cube.zarr"]


def test_nothing_is_overwritten_unasked(tiny_cube, stored):
    before = content(stored)
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_cube(tiny_cube * 2, stored)
    assert content(stored) == before


def test_only_a_store_is_ever_replaced(tiny_cube, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="not a Zarr group"):
        write_cube(tiny_cube, tmp_path / "thesis", overwrite=True)
    assert content(tmp_path) == {"thesis/chapter1.tex": b"precious"}


@pytest.mark.parametrize("exists", [False, True])
def test_a_write_that_dies_half_way_leaves_what_was_there(tiny_cube, tmp_path, exists):
    path = tmp_path / "cube.zarr"
    if exists:
        write_cube(tiny_cube, path, star_chunk=5)
    before = content(tmp_path)
    lazy = tiny_cube.chunk(star=5)
    lazy["flux"] = lazy.flux.copy(data=da.map_blocks(dies, lazy.flux.data, dtype="f4"))
    with pytest.raises(RuntimeError, match="power cut"):
        write_cube(lazy, path, overwrite=True, star_chunk=5)
    assert content(tmp_path) == before


def test_a_rename_that_fails_brings_the_old_cube_back(tiny_cube, stored, monkeypatch):
    before = content(stored)
    rename = Path.rename

    def refuse_drafts(self, target):
        if self.suffix == ".partial":
            raise OSError("disk gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_drafts)
    with pytest.raises(OSError, match="disk gone"):
        write_cube(tiny_cube * 2, stored, overwrite=True)
    assert content(stored) == before
    assert os.listdir(stored.parent) == ["cube.zarr"]


def test_an_output_that_cannot_be_written_is_named(tiny_cube, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cannot write .*nowhere.*Make the folder"):
        write_cube(tiny_cube, tmp_path / "nowhere" / "cube.zarr")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="cannot write"):
        write_cube(tiny_cube, tmp_path / "file" / "cube.zarr")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(tiny_cube, tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="cannot write"):
            write_cube(tiny_cube, tmp_path / "cube.zarr")
    finally:
        tmp_path.chmod(0o700)


def test_what_is_not_a_cube_is_refused(tiny_cube, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.zarr does not exist.*specxr ingest"):
        open_cube(tmp_path / "missing.zarr")
    with pytest.raises(ValueError, match="not a Zarr v3 store"):
        open_cube(tmp_path)
    tiny_cube[["snr_g"]].to_zarr(tmp_path / "other.zarr", consolidated=False)
    with pytest.raises(ValueError, match=r"other\.zarr is not a cube.*no variable 'flux'"):
        open_cube(tmp_path / "other.zarr")
    with pytest.raises(ValueError, match="no variable 'mask'"):
        write_cube(tiny_cube.drop_vars("mask"), tmp_path / "cube.zarr")
    with pytest.raises(ValueError, match="no stars"):
        write_cube(tiny_cube.isel(star=[]), tmp_path / "cube.zarr")
    assert os.listdir(tmp_path) == ["other.zarr"]


def test_what_a_killed_writer_leaves_does_no_harm(tiny_cube, stored, monkeypatch):
    """A process that is killed cannot tidy up: its hidden draft stays, beside the store."""
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
    labels = labels_of(tiny_cube).chunk(star=5)
    labels["teff"] = labels.teff.copy(data=da.map_blocks(dies, labels.teff.data, dtype="f8"))
    with pytest.raises(RuntimeError, match="power cut"):
        write_labels(stored, labels, "lasp")
    monkeypatch.undo()
    assert len(os.listdir(stored.parent)) == 2
    np.testing.assert_array_equal(open_cube(stored).flux.values, tiny_cube.flux.values)
    assert list_runs(stored) == []
    write_labels(stored, labels_of(tiny_cube), "lasp")
    assert list_runs(stored) == ["lasp"]
    open_labels(stored, "lasp").load()


# Labels


def test_labels_come_back_beside_the_stars(tiny_cube, stored):
    labels = labels_of(tiny_cube)
    write_labels(stored, labels, "lasp-1.0_b")
    found = open_labels(stored, "lasp-1.0_b")
    assert found.teff.chunks == ((5, 5, 2),)
    assert list(found.data_vars) == ["teff", "teff_err", "covariance", "result"]
    assert found.attrs == labels.attrs | {"complete": True, "date": found.attrs["date"]}
    assert abs(pd.Timestamp(found.attrs["date"]) - pd.Timestamp.now("UTC")) < pd.Timedelta("1 h")
    assert found.teff.attrs["units"] == "K"
    assert list(found.label.values) == ["teff", "logg"]
    for name in ("obsid", "ra", "dec"):
        np.testing.assert_array_equal(found[name].values, tiny_cube[name].values)
    for name in labels.data_vars:
        np.testing.assert_array_equal(found[name].values, labels[name].values)
    assert list_runs(stored) == ["lasp-1.0_b"]
    assert list_runs(stored.parent / "cube.zarr") == ["lasp-1.0_b"]


@pytest.fixture
def labelled(tiny_cube, stored) -> Path:
    """The stored cube with labels of a run `lasp`."""
    write_labels(stored, labels_of(tiny_cube), "lasp")
    return stored


def test_open_labels_computes_nothing(labelled, forbid_compute):
    open_labels(labelled, "lasp")


@pytest.mark.parametrize("blocks", [3, 5, 12])
def test_lazy_labels_are_fitted_once(stored, blocks):
    cube = open_cube(stored).chunk(star=blocks)
    fitted = []

    def fit(flux):
        fitted.append(len(flux))
        return np.stack([flux.mean(1), flux.std(1)], axis=1)

    both = da.map_blocks(
        fit, cube.flux.data, chunks=(cube.chunksizes["star"], (2,)), dtype="f4", meta=np.empty((0, 0), "f4")
    )
    labels = xr.Dataset(
        {"teff": ("star", both[:, 0]), "teff_err": ("star", both[:, 1])}, coords={"obsid": cube.obsid}
    )
    write_labels(stored, labels, "lasp")
    assert sorted(fitted) == sorted(cube.chunksizes["star"])
    np.testing.assert_array_equal(open_labels(stored, "lasp").teff.values, cube.flux.values.mean(1))


def test_runs_live_side_by_side(tiny_cube, stored):
    labels = labels_of(tiny_cube)
    write_labels(stored, labels, "second")
    write_labels(stored, labels, "first")
    with pytest.raises(FileExistsError, match="first exists already"):
        write_labels(stored, labels, "first")
    write_labels(stored, labels.assign(teff=labels.teff + 1), "first", overwrite=True)
    assert list_runs(stored) == ["first", "second"]
    np.testing.assert_array_equal(open_labels(stored, "first").teff.values, labels.teff.values + 1)
    np.testing.assert_array_equal(open_labels(stored, "second").teff.values, labels.teff.values)
    with pytest.raises(FileNotFoundError, match=r"no labels 'third' \(runs: first, second\)"):
        open_labels(stored, "third")


def test_labels_that_die_half_way_leave_the_cube_as_it_was(tiny_cube, stored):
    before = content(stored)
    labels = labels_of(tiny_cube).chunk(star=5)
    labels["teff"] = labels.teff.copy(data=da.map_blocks(dies, labels.teff.data, dtype="f8"))
    with pytest.raises(RuntimeError, match="power cut"):
        write_labels(stored, labels, "lasp")
    assert content(stored) == before
    assert list_runs(stored) == []


@pytest.mark.parametrize("run", ["", ".", "..", "../x", "a/b", "-x", "a b", ".hidden"])
def test_a_run_has_a_plain_name(tiny_cube, stored, run):
    before = content(stored)
    with pytest.raises(ValueError, match="cannot name a run"):
        write_labels(stored, labels_of(tiny_cube), run)
    assert content(stored) == before


def test_labels_of_other_stars_are_refused(tiny_cube, stored):
    labels = labels_of(tiny_cube)
    with pytest.raises(ValueError, match="7 stars, the cube 12"):
        write_labels(stored, labels.isel(star=slice(7)), "lasp")
    with pytest.raises(ValueError, match=r"obsid of 2 stars differ .*star 4: 1005 and 1004"):
        write_labels(stored, labels.isel(star=[0, 1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 11]), "lasp")
    with pytest.raises(ValueError, match=r"obsid\(star\) is required"):
        write_labels(stored, labels.drop_vars("obsid"), "lasp")
    assert list_runs(stored) == []


# Regions


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bounds=st.tuples(st.integers(0, 12), st.integers(0, 12)).filter(lambda b: b[0] < b[1]), lazy=st.booleans()
)
def test_a_region_covers_whole_chunks_or_is_refused(tiny_cube, stored, bounds, lazy):
    start, stop = bounds
    before = open_cube(stored).flux.values
    part = tiny_cube[["flux", "mask"]].isel(star=slice(start, stop)) + np.uint8(1)
    part = part.chunk(star=3) if lazy else part
    whole = start % 5 == 0 and (stop % 5 == 0 or stop == 12)
    if whole:
        write_region(stored, part, slice(start, stop))
        before[start:stop] = part.flux.values
    else:
        with pytest.raises(ValueError, match="whole chunks are required"):
            write_region(stored, part, slice(start, stop))
    np.testing.assert_array_equal(open_cube(stored).flux.values, before)


def test_a_region_of_a_run_can_be_filled(tiny_cube, stored):
    labels = labels_of(tiny_cube)
    write_labels(stored, labels, "lasp")
    part = (labels[["teff"]] + 1).isel(star=slice(5, 10))
    write_region(stored, part, slice(5, 10), group="labels/lasp")
    expected = labels.teff.values + np.repeat([0, 1, 0], [5, 5, 2])
    np.testing.assert_array_equal(open_labels(stored, "lasp").teff.values, expected)


def test_a_region_fits_its_data(tiny_cube, stored):
    with pytest.raises(ValueError, match="'flux' has 4 stars for the region 0:5"):
        write_region(stored, tiny_cube[["flux"]].isel(star=slice(4)), slice(0, 5))
    with pytest.raises(ValueError, match="no variable 'velocity'"):
        write_region(stored, tiny_cube[["flux"]].rename(flux="velocity"), slice(0, 12))
