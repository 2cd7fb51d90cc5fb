"""A run on jobs of SLURM, of which one is cancelled: on a cluster of one node that the test starts on this machine."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from support import slurm
from support.fakes import Mean, write_fake_cube

import specxr

pytest.importorskip("dask_jobqueue", reason="no dask-jobqueue: pip install 'specxr[slurm]'")
pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing())]


@pytest.fixture
def node(monkeypatch, request):
    if "slurm" not in request.config.option.markexpr:
        pytest.skip("starts SLURM, which takes half a minute: pytest -m slurm")
    node = slurm.Slurm()
    # The jobs import what the test imports.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*map(str, Path(__file__).parents[1:3]), *sys.path]))
    for name, value in node.environment.items():
        monkeypatch.setenv(name, value)
    yield node
    node.stop()


def test_a_run_survives_a_job_that_is_cancelled(node, tmp_path):
    path = write_fake_cube(tmp_path / "c.zarr", 60, star_chunk=2)
    cancelled = []

    def cancel(summary):
        if summary.n_fitted and not cancelled:
            cancelled.append(node.call("squeue", "-h", "-t", "running", "-o", "%i").split()[0])
            node.call("scancel", cancelled[0])

    options = {"local_directory": str(tmp_path), "log_directory": str(tmp_path), "interface": "lo"}
    with specxr.cluster.slurm(2, cores=1, memory="3 GB", walltime="00:05:00", **options) as client:
        client.wait_for_workers(2, timeout=60)
        assert len(node.call("squeue", "-h", "-t", "running").splitlines()) == 2
        first = specxr.run(path, Mean(), name="a", client=client, progress=cancel)
        assert cancelled
        assert first.complete
    assert specxr.run(path, Mean(), name="a").n_fitted == 0
    expected = specxr.infer(specxr.open_cube(path), Mean())
    np.testing.assert_array_equal(specxr.open_labels(path, "a")["teff"], expected["teff"])
