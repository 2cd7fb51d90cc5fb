"""Damaged metadata of a store end in a line that names the store."""

import json

import pytest
from support.fakes import write_fake_cube
from support.program import refused


@pytest.mark.parametrize("key", ["codecs", "data_type", "chunk_grid", "shape"])
def test_damaged_metadata_are_one_line(tmp_path, key):
    path = write_fake_cube(tmp_path / "cube.zarr", 5)
    file = path / "flux" / "zarr.json"
    metadata = json.loads(file.read_text())
    del metadata[key]
    file.write_text(json.dumps(metadata))
    assert str(path) in refused("info", path)
