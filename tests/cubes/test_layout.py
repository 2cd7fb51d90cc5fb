import os
from types import SimpleNamespace

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from specxr.cli import app
from specxr.cubes import layout as module
from specxr.cubes.layout import Layout, choose_layout, layout_of
from specxr.cubes.store import open_cube, write_cube, write_region


@pytest.fixture
def memory(monkeypatch):
    """Set the memory of the machine [bytes a core]."""

    def set_memory(size):
        total = size * (os.cpu_count() or 1)
        monkeypatch.setattr(module.psutil, "virtual_memory", lambda: SimpleNamespace(total=total))

    return set_memory


@given(
    n_stars=st.integers(1, 20_000_000), star_bytes=st.integers(9, 100_000), gigabytes=st.floats(0.1, 200.0)
)
def test_a_block_is_a_small_part_of_a_cores_memory(n_stars, star_bytes, gigabytes):
    with pytest.MonkeyPatch.context() as patch:
        total = gigabytes * 1e9 * (os.cpu_count() or 1)
        patch.setattr(module.psutil, "virtual_memory", lambda: SimpleNamespace(total=total))
        layout = choose_layout(n_stars, star_bytes)
    block = 8 * layout.chunk * star_bytes
    wanted = np.clip(gigabytes * 1e9 / 32, 16e6, 128e6)
    assert abs(block - wanted) <= 4 * star_bytes
    assert layout.shard == (8 * layout.chunk if n_stars > 16 * 8 * layout.chunk else None)


def test_ten_million_lamost_stars_are_cut_into_some_thousand_shards(memory):
    memory(12e9)
    layout = choose_layout(10_000_000, 3909 * 9)
    assert layout == Layout(455, 3640)
    memory(1e9)
    assert choose_layout(10_000_000, 3909 * 9) == Layout(111, 888)


@pytest.mark.parametrize(("chunk", "shard"), [(0, None), (-1, None), (4, 6), (4, 2)])
def test_shards_are_whole_chunks(chunk, shard):
    with pytest.raises(ValueError, match="whole chunks are required"):
        Layout(chunk, shard)


def test_a_large_cube_is_sharded_and_says_so(tiny_cube, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_BYTES", (2 * 8 * 80 * 10,) * 2)  # 16 stars in a block
    monkeypatch.setattr(module, "_LARGE", 0.5)
    path = tmp_path / "cube.zarr"
    write_cube(tiny_cube.chunk(star=5), path)
    cube = open_cube(path)
    assert cube.chunksizes["star"] == (12,)
    for name in ("flux", "ivar", "mask"):
        stored = zarr.open_group(path, mode="r")[name]
        assert (stored.chunks, stored.shards) == ((2, 80), (16, 80))
        np.testing.assert_array_equal(cube[name].values, tiny_cube[name].values)
    assert cube.attrs["storage"] == "shards of 16 stars (0.0128 MB) in chunks of 2"
    assert (
        cube.attrs["storage"] in CliRunner().invoke(app, ["info", str(path)], env={"COLUMNS": "200"}).output
    )


def test_regions_are_whole_shards(tiny_cube, tmp_path):
    path = tmp_path / "cube.zarr"
    write_cube(tiny_cube, path, star_chunk=2, star_shard=4)
    assert layout_of(zarr.open_group(path, mode="r")) == Layout(2, 4)
    part = tiny_cube[["flux"]] + 1
    write_region(path, part.isel(star=slice(4, 12)).chunk(star=3), slice(4, 12))
    expected = tiny_cube.flux.values + np.repeat([0, 1], [4, 8])[:, None]
    np.testing.assert_array_equal(open_cube(path).flux.values, expected.astype("f4"))
    with pytest.raises(ValueError, match="Write 0:4"):
        write_region(path, part.isel(star=slice(0, 2)), slice(0, 2))
