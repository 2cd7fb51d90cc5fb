"""Inference on cubes: lazy, the same for any chunks and scheduler, checked before anything is computed."""

import dataclasses

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.simulated import GRID, spectra

import specxr
from specxr.cubes.schema import make_cube
from specxr.estimators.base import Output


@pytest.fixture(scope="module")
def lasp():
    return specxr.LASP("default")


@pytest.fixture(scope="module")
def cube():
    flux, truth = spectra(40, 12)
    mask = np.zeros(flux.shape, np.uint8)
    mask[3] = 1  # a star that cannot be fitted
    stars = {f"true_{name}": values for name, values in truth.items()}
    return make_cube(flux, np.ones_like(flux), GRID, mask=mask, obsid=100 + np.arange(40), stars=stars)


@pytest.fixture(scope="module")
def eager(cube, lasp):
    return specxr.infer(cube, lasp)


def forbidden(dsk, keys, **kwargs):
    raise AssertionError("computed while building")


def test_building_computes_nothing_and_declares_everything(cube, lasp):
    chunked = cube.chunk(star=7)
    with dask.config.set(scheduler=forbidden):
        labels = specxr.infer(chunked, lasp)
    assert set(labels.data_vars) == {o.name for o in lasp.outputs}
    assert labels.chunksizes["star"] == (7, 7, 7, 7, 7, 5)
    for output in lasp.outputs:
        assert labels[output.name].dtype == np.dtype(output.dtype)
        assert labels[output.name].dims == output.dims
    assert labels.teff.attrs["units"] == "K"
    assert labels.result.attrs["flag_meanings"].startswith("converged max_iter")
    assert labels.attrs["estimator"] == "LASP"
    assert labels.attrs["fingerprint"] == lasp.fingerprint
    assert (labels.obsid == cube.obsid).all()
    assert list(labels.label.values) == list(lasp.labels)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_chunking_gives_labels_identical_to_the_bit(cube, lasp, eager, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, 39), max_size=6)))
    chunks = tuple(np.diff([0, *cuts, 40]).tolist())
    labels = specxr.infer(cube.chunk(star=chunks, wavelength=500), lasp).compute()
    xr.testing.assert_identical(labels, eager)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_schedulers_give_the_same(cube, lasp, eager, scheduler):
    with dask.config.set(scheduler=scheduler):
        xr.testing.assert_identical(specxr.infer(cube.chunk(star=9), lasp).compute(), eager)


@pytest.mark.filterwarnings("default")  # distributed leaves sockets to the garbage collector
def test_distributed_gives_the_same(cube, lasp, eager):
    from distributed import Client

    with Client(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None) as client:
        found = client.compute(specxr.infer(cube.chunk(star=9), lasp)).result()
    xr.testing.assert_identical(found, eager)


@dataclasses.dataclass(frozen=True)
class Counting(specxr.LASP):
    """Writes a byte for each star that it is given: the estimator may reach its blocks as a copy."""

    log: str = ""

    def estimate(self, block, spectra=False):
        with open(self.log, "ab") as log:
            log.write(b"." * len(block.flux))
        return super().estimate(block, spectra)


def test_each_block_is_fitted_once_and_only_where_asked_for(cube, eager, tmp_path):
    log = tmp_path / "log"
    labels = specxr.infer(cube.chunk(star=10), Counting("default", log=str(log)))
    with dask.config.set(scheduler="synchronous"):
        teff = labels.teff.isel(star=slice(0, 5)).compute()
        assert log.stat().st_size == 10
        whole = labels.compute()
    assert log.stat().st_size == 10 + 40
    np.testing.assert_array_equal(teff, eager.teff[:5])
    np.testing.assert_array_equal(whole.covariance, eager.covariance)


def test_a_star_that_cannot_be_fitted_is_nan_with_a_code(eager):
    assert np.isnan(eager.teff[3])
    assert eager.result[3] == 4
    assert (eager.result[[0, 1, 2, 4, 5]] == 0).all()


def test_truth_is_recovered(cube, eager):
    ok = eager.result == 0
    assert abs((eager.teff - cube.true_teff)[ok]).median() < 20


def test_the_cube_is_left_as_it_was(cube, lasp):
    before = cube.copy(deep=True)
    specxr.infer(cube, lasp)
    xr.testing.assert_identical(cube, before)


def test_bad_cubes_and_grids_are_refused_before_anything_is_computed(cube, lasp):
    with pytest.raises(ValueError, match="mask"):
        specxr.infer(cube.drop_vars("mask"), lasp)
    air = cube.copy()
    air.wavelength.attrs["medium"] = "nebula"
    with pytest.raises(ValueError, match="medium"):
        specxr.infer(air, lasp)
    red = cube.isel(wavelength=slice(1390, None))
    with pytest.raises(ValueError, match="pixels of the cube, .* lie in the window"):
        specxr.infer(red, lasp)


def test_an_estimator_that_breaks_its_word_is_told(cube):
    class Liar(specxr.LASP):
        @property
        def outputs(self):
            return (*super().outputs, Output("vsini", ("star",), "float64"))

    with pytest.raises(RuntimeError, match="gave nothing for 'vsini'"):
        specxr.infer(cube.isel(star=slice(0, 2)), Liar("default"))


@dataclasses.dataclass(frozen=True)
class Reader(specxr.LASP):
    """Reads a magnitude of each star and gives it as its radial velocity."""

    inputs = ("mag",)

    def estimate(self, block, spectra=False):
        out = super().estimate(block, spectra)
        return out | {"rv": out["rv"] * 0 + block.inputs["mag"]}


def test_variables_of_the_stars_that_an_estimator_reads_are_carried(cube):
    cube = cube.assign(mag=("star", np.arange(40.0)))
    eager = specxr.infer(cube, Reader("default"))
    lazy = specxr.infer(cube.chunk(star=7), Reader("default")).compute(scheduler="sync")
    np.testing.assert_array_equal(eager.rv, lazy.rv)
    np.testing.assert_array_equal(eager.rv[4:], np.arange(4.0, 40.0))
    with pytest.raises(ValueError, match=r"no mag along 'star'; Reader requires .* Add"):
        specxr.infer(cube.drop_vars("mag"), Reader("default"))


def test_labels_to_start_from_are_refused_by_those_who_cannot_use_them(cube, lasp, eager):
    assert "start_teff" in lasp.inputs
    begun = specxr.infer(cube.chunk(star=11), lasp, start=eager).compute(scheduler="sync")
    ok = eager.result == 0
    assert abs(begun.teff - eager.teff)[ok].max() < 20
    with pytest.raises(ValueError, match=r"given to Reader, which reads mag; .* is required.* Leave"):
        specxr.infer(cube.assign(mag=("star", np.arange(40.0))), Reader("default"), start=eager)


def test_model_spectra_come_on_request(cube, lasp, eager):
    labels = specxr.infer(cube.chunk(star=9), lasp, spectra=True).compute(scheduler="sync")
    assert {"model", "used"}.isdisjoint(eager)
    assert labels.model.dims == ("star", "wavelength")
    assert labels.model.dtype == np.float32
    xr.testing.assert_identical(labels.drop_vars(["model", "used", "wavelength"]), eager)
