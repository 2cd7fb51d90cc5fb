"""Where blocks are fitted: local workers, connections that fail, extras that are missing, GPUs."""

import os
import platform
import sys

import dask
import pytest
import torch
from support.fakes import Mean, write_fake_cube

import specxr
from specxr.cubes.lock import Lock
from specxr.cubes.store import list_runs
from specxr.runs import cluster, ledger
from specxr.runs import driver as runner
from specxr.runs.run import Run


def threads_of_torch():
    from specxr.inference import _one_torch_thread

    with _one_torch_thread():
        return os.getpid(), torch.get_num_threads()


@pytest.fixture(scope="module")
def workers():
    """Two workers as `specxr.cluster.local` starts them."""
    with cluster.local(2) as client:
        yield client


def test_local_workers_are_processes_of_one_thread(workers):
    assert list(workers.nthreads().values()) == [1, 1]
    found = workers.run(threads_of_torch)
    assert {threads for _, threads in found.values()} == {1}
    assert len({pid for pid, _ in found.values()} | {os.getpid()}) == 3


def faults_of_arrays():
    """Page faults of a worker that makes the same arrays of 12 MB twenty times."""
    import resource

    import numpy as np

    np.ones((2, 1_500_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(1_500_000) + np.ones(1_500_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are those of glibc")
def test_local_workers_keep_the_memory_of_their_arrays(workers):
    pages = 20 * 2 * 12_000_000 / 4096
    assert max(workers.run(faults_of_arrays).values()) < 0.2 * pages


def test_the_estimator_is_loaded_once_a_process(workers, tmp_path):
    from support.simulated import GRID, spectra

    from specxr.cubes.schema import make_cube
    from specxr.cubes.store import write_cube

    flux, _ = spectra(24, 5)
    path = tmp_path / "cube.zarr"
    write_cube(make_cube(flux, flux * 0 + 1, GRID, obsid=range(24)), path, star_chunk=4)
    specxr.run(path, specxr.LASP(), name="lasp", client=workers)

    def loaded():
        from specxr.content import reopen

        return reopen.cache_info().misses

    assert set(workers.run(loaded).values()) <= {0, 1}
    blocks = Run.at(path, "lasp").read_ledger().blocks
    assert all(0 < block.peak_memory < 2e9 for block in blocks)


def test_a_gpu_that_no_worker_offers_is_missed_before_anything_starts(client, tmp_path):
    path = write_fake_cube(tmp_path / "cube.zarr", 10)
    with pytest.raises(
        ValueError, match=r"none of the 2 workers .* offers the resource GPU=1.*--resources GPU=1"
    ):
        specxr.run(path, Mean(device="cuda"), name="a", client=client)
    assert list_runs(path) == []


class Stop(Exception):
    """Ends a driver that would wait for ever."""


def test_dask_does_not_drop_the_demand_for_a_gpu(client, tmp_path, monkeypatch):
    """It does where a collection is annotated; a block that nobody may fit must wait, not run on a CPU."""
    path, log = write_fake_cube(tmp_path / "cube.zarr", 10), tmp_path / "log"
    scheduler = client.cluster.scheduler
    seen = []

    def look(lock):
        seen.extend(scheduler.unrunnable)
        if seen:
            raise Stop

    monkeypatch.setattr(runner, "wait_for_workers", lambda *args: None)
    monkeypatch.setattr(Lock, "beat", look)
    with pytest.raises(Stop):
        specxr.run(path, Mean(str(log), device="cuda"), name="a", client=client)
    assert seen[0].resource_restrictions == {"GPU": 1}
    assert not log.exists()
    assert {block.state for block in Run.at(path, "a").read_ledger().blocks} == {ledger.WAITING}


def test_a_cluster_with_gpus_is_given_gpu_blocks(tmp_path):
    from distributed import Client, LocalCluster

    path = write_fake_cube(tmp_path / "cube.zarr", 20)
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0", resources={"GPU": 1}
        ) as gpus,
        Client(gpus, set_as_default=False) as client,
    ):
        assert specxr.run(path, Mean(device="cuda"), name="a", client=client).complete


def test_a_cluster_without_workers_is_named(tmp_path):
    from distributed import Client, LocalCluster

    path = write_fake_cube(tmp_path / "cube.zarr", 10)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as empty,
        Client(empty, set_as_default=False) as client,
        dask.config.set({"specxr.wait": "100 ms"}),
    ):
        with pytest.raises(
            TimeoutError, match="has no workers after 0.1 s; at least one worker is required. Start"
        ):
            specxr.run(path, Mean(), name="a", client=client)
    assert list_runs(path) == []


def test_workers_that_leave_are_waited_for_only_so_long(tmp_path):
    from distributed import Client, LocalCluster

    path = write_fake_cube(tmp_path / "cube.zarr", 40)
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
        dask.config.set({"specxr.wait": 0.1}),
    ):

        def leave(summary):
            if summary.n_fitted == 10:
                cluster.scale(0)
                client.sync(cluster._correct_state)

        with pytest.raises(TimeoutError, match="all workers of .* left.*blocks that are done are kept"):
            specxr.run(path, Mean(), name="a", client=client, progress=leave)


def test_an_address_where_nothing_answers_is_named_within_ten_seconds(monkeypatch):
    assert cluster.CONNECT_SECONDS == 10.0
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.3)
    with pytest.raises(ConnectionError, match="no Dask scheduler answers at 'tcp://127.0.0.1:9' within"):
        cluster.connect("tcp://127.0.0.1:9")
    assert dask.config.get("scheduler", None) is None  # or nothing could be computed from here on


@pytest.mark.parametrize("address", ["", "nonsense://a", "no such host"])
def test_an_address_that_is_none_is_named(monkeypatch, address):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.3)
    with pytest.raises(ConnectionError, match="the address of a running one"):
        cluster.connect(address)


def test_a_scheduler_is_found_by_address_and_by_file(client, tmp_path):
    with cluster.connect(client.scheduler.address) as found:
        assert len(found.nthreads()) == 2
    client.write_scheduler_file(tmp_path / "scheduler.json")
    with cluster.connect(str(tmp_path / "scheduler.json")) as found:
        assert len(found.nthreads()) == 2


@pytest.mark.parametrize(
    ("module", "start", "advice"),
    [
        ("dask_cuda", cluster.cuda, r"specxr\[cuda\]"),
        (
            "dask_jobqueue",
            lambda: cluster.slurm(2, cores=4, memory="8 GB", walltime="1:00"),
            r"specxr\[slurm\]",
        ),
    ],
)
def test_a_missing_extra_is_named(monkeypatch, module, start, advice):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"cannot be imported.*{advice}"):
        start()


def test_extras_are_given_what_they_need(monkeypatch):
    """Stand-ins for classes that need GPUs and SLURM to be made."""
    made = []

    class Stand:
        def __init__(self, **options):
            made.append(options)

        def scale(self, **options):
            made.append(options)

    stand_in = type(sys)("stand_in")
    stand_in.LocalCUDACluster = stand_in.SLURMCluster = Stand
    monkeypatch.setitem(sys.modules, "dask_cuda", stand_in)
    monkeypatch.setitem(sys.modules, "dask_jobqueue", stand_in)
    monkeypatch.setattr(cluster, "Client", lambda started, set_as_default: started)
    assert isinstance(cluster.cuda(CUDA_VISIBLE_DEVICES="0"), Stand)
    assert made.pop() == {"threads_per_worker": 1, "resources": {"GPU": 1}, "CUDA_VISIBLE_DEVICES": "0"}
    assert isinstance(cluster.slurm(3, cores=8, memory="16 GB", walltime="01:00:00", queue="q"), Stand)
    assert made == [
        {"cores": 8, "processes": 8, "memory": "16 GB", "walltime": "01:00:00", "queue": "q"},
        {"jobs": 3},
    ]


def test_workers_that_die_again_and_again_are_not_given_up(client):
    # Dask would close a nanny whose worker is away when it looks, some seconds after an earlier death.
    from dask.utils import parse_timedelta

    assert parse_timedelta(dask.config.get("distributed.deploy.lost-worker-timeout")) > 24 * 3600


def test_a_cluster_that_asks_for_certificates_is_reached_with_them(tmp_path):
    from distributed import LocalCluster, Security

    pytest.importorskip("cryptography", reason="it makes certificates for this test")
    security = Security.temporary()
    with LocalCluster(
        n_workers=0, processes=False, protocol="tls", security=security, dashboard_address=":0"
    ) as guarded:
        with cluster.connect(guarded.scheduler_address, security=security) as client:
            assert client.nthreads() == {}
        with pytest.raises(ConnectionError, match="no Dask scheduler answers"):
            cluster.connect(guarded.scheduler_address)
