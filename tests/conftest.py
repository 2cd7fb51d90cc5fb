"""What several test files need: shared data, a small cube, small LAMOST files, no computing."""

import gzip
import os
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import dask
import hypothesis
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

from specxr.cubes.schema import make_cube
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("specxr", deadline=None)
hypothesis.settings.load_profile("specxr")

BESIDE = Path(__file__).parents[1] / ".." / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data that is no part of the project."""
    folder = Path(os.environ.get("SPECXR_SHARED", BESIDE)) / "data"
    if not folder.is_dir():
        pytest.skip(f"no shared data in {folder} (set SPECXR_SHARED)")
    return folder


@pytest.fixture
def tiny_cube() -> xr.Dataset:
    """12 stars, 80 pixels from 5000 A in vacuum, in memory."""
    rng = np.random.default_rng(20261120)
    n_stars, n_pixels = 12, 80
    grid = Grid(
        10.0 ** ((36990 + np.arange(n_pixels)) * 1e-4), "vacuum", "log10", 1e-4, LineSpread.constant(1800.0)
    )
    mask = np.zeros((n_stars, n_pixels), dtype="u2")
    mask[::3, :5] = 1
    return make_cube(
        flux=rng.normal(100, 1, (n_stars, n_pixels)),
        ivar=np.where(mask, 0, 1.0),
        wavelength=grid,
        mask=mask,
        obsid=1000 + np.arange(n_stars),
        stars={
            "ra": rng.uniform(0, 360, n_stars),
            "dec": rng.uniform(-90, 90, n_stars),
            "snr_g": rng.uniform(10, 100, n_stars),
            "subclass": [f"F{i % 10}" for i in range(n_stars)],
        },
        attrs={"survey": "none", "data_release": "simulated"},
    )


@pytest.fixture
def forbid_compute():
    """Inside the test, anything that computes a Dask array raises."""

    def refuse(*args, **kwargs):
        raise AssertionError("a Dask array was computed")

    with dask.config.set(scheduler=refuse):
        yield


@pytest.fixture(scope="session")
def client():
    """A Dask cluster of two threads of this process, reached by TCP as any other."""
    with _threads(2) as client:
        yield client


@pytest.fixture(scope="session")
def one_thread():
    """One thread: where its driver ends between two blocks, no block is under way."""
    with _threads(1) as client:
        yield client


@contextmanager
def _threads(n):
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=n, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
    )
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client


@pytest.fixture(scope="session")
def write_lamost() -> Callable[..., Path]:
    """A function that writes a small LAMOST file in one of the three layouts."""
    return _write_lamost


def _write_lamost(
    path: Path,
    layout: str = "table",
    start: int = 35682,
    flux=None,
    ivar=None,
    andmask=None,
    ormask=None,
    wavelength=None,
    n_pixels: int = 3909,
    **cards,
) -> Path:
    n_pixels = n_pixels if flux is None else len(flux)
    flux = np.ones(n_pixels) if flux is None else flux
    columns = {
        "FLUX": flux,
        "IVAR": np.ones(n_pixels) if ivar is None else ivar,
        "WAVELENGTH": 10 ** ((start + np.arange(n_pixels)) * 1e-4) if wavelength is None else wavelength,
        "ANDMASK": np.zeros(n_pixels) if andmask is None else andmask,
        "ORMASK": np.zeros(n_pixels) if ormask is None else ormask,
    }
    if layout == "table":
        shaped = [
            fits.Column(name, f"{n_pixels}E", array=np.float32(values)[None])
            for name, values in columns.items()
        ]
        hdus = fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(shaped, name="COADD")])
    else:
        if layout == "first release":
            columns["WAVELENGTH"] = flux - np.mean(flux)
            names = "Flux Inverse Subcontinuum Andmask Ormask"
        else:
            names = "Flux, Inverse, Wavelength, Andmask, Ormask"
        hdus = fits.HDUList([fits.PrimaryHDU(np.float32(list(columns.values())))])
        hdus[0].header["EXTEN0"] = names
    defaults = {"TELESCOP": "LAMOST", "VACUUM": True, "COEFF0": start * 1e-4, "COEFF1": 1e-4}
    if layout == "first release":
        defaults |= {"LMJD": 55862, "PLANID": "B6212", "SPID": 6, "FIBERID": 3, "SN_G": 71.41}
    else:
        defaults |= {"OBSID": 605006, "DATA_V": "LAMOST DR10", "SNRG": 71.41}
    for name, value in (defaults | cards).items():
        if value is not None:
            hdus[0].header[name] = value
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    hdus.writeto(plain)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
        plain.unlink()
    return path


@pytest.fixture(scope="session")
def s3_server():
    """A local object store."""
    pytest.importorskip("moto", reason="no local object store: pip install 'specxr[test]'")
    from support.buckets import Server

    server = Server()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3_server, monkeypatch) -> str:
    """URL of a bucket of its own, which the environment allows to write in."""
    from obstore.store import HTTPStore
    from support.buckets import ENVIRONMENT

    name = f"bucket-{uuid4().hex[:12]}"
    for variable, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": s3_server.url}.items():
        monkeypatch.setenv(variable, value)
    HTTPStore(s3_server.url, client_options={"allow_http": True}).put(name, b"", use_multipart=False)
    s3_server.fail(0)
    return f"s3://{name}"
