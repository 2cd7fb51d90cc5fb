"""Cubes and labels in s3rver, an S3 server that is independent of moto: npm install --global s3rver."""

import shutil
import subprocess

import numpy as np
import pytest
import xarray as xr
from support.buckets import ENVIRONMENT

from specxr.cubes.store import list_runs, open_cube, open_labels, write_cube, write_labels

PROGRAM = shutil.which("s3rver")
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="s3rver is not on PATH: npm install --global s3rver (docs/how-to/clouds.md)"
)


@pytest.fixture
def url(tmp_path, monkeypatch):
    command = [PROGRAM, "-d", tmp_path, "-a", "127.0.0.1", "-p", "0", "--no-vhost-buckets", "--silent"]
    server = subprocess.Popen(
        [*command, "--configure-bucket", "survey"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        # It prints its address when it listens.
        said = next((line for line in server.stdout if "listening on" in line), None)
        assert said, "s3rver ended before it listened"
        # It knows one user.
        access = {"AWS_ACCESS_KEY_ID": "S3RVER", "AWS_SECRET_ACCESS_KEY": "S3RVER"}
        endpoint = {"AWS_ENDPOINT_URL": f"http://{said.split()[-1]}"}
        for name, value in (ENVIRONMENT | access | endpoint).items():
            monkeypatch.setenv(name, value)
        yield "s3://survey/folder/cube.zarr"
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def test_a_cube_and_its_labels_come_back_from_s3rver(tiny_cube, url):
    write_cube(tiny_cube.chunk(star=3), url, star_chunk=2, star_shard=4)
    cube = open_cube(url)
    xr.testing.assert_equal(cube.compute().drop_attrs(), tiny_cube[list(cube.data_vars)].drop_attrs())
    teff = np.linspace(4000, 9000, cube.sizes["star"])
    labels = xr.Dataset({"teff": ("star", teff)}, coords={"obsid": cube.obsid})
    write_labels(url, labels, "a")
    write_labels(url, labels + 1, "b")
    write_labels(url, labels + 2, "a", overwrite=True)
    assert list_runs(url) == ["a", "b"]
    assert np.array_equal(open_labels(url, "a")["teff"], teff + 2)
    assert np.array_equal(open_labels(url, "b")["teff"], teff + 1)
