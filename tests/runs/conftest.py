"""What the tests of bulk runs share: a cube of eight blocks, and a log of what was fitted."""

import pytest
from support.fakes import write_fake_cube


@pytest.fixture
def path(tmp_path):
    """40 stars in 8 blocks."""
    return write_fake_cube(tmp_path / "cube.zarr")


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"
