"""The contract that every estimator keeps, on one zoo of tiny fitted estimators."""

import json
import pickle
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import zoo

import specxr
from specxr.cubes.schema import make_cube
from specxr.estimators.base import Estimator
from specxr.spectra.grid import Grid
from specxr.vocabulary import LABELS, MODEL_SPECTRA, START_INPUTS, VARIABLES, MaskBit, Result

pytestmark = pytest.mark.parametrize("name", zoo.NAMES)

# What was found; what is required; what to do.
BEATS = re.compile(r".+[;,].* (required|needed)\b.*\. [A-Z].+", re.DOTALL)


def same(left, right):
    """The variables on the left are the same to the bit on the right."""
    for key in left:
        np.testing.assert_array_equal(left[key], right[key], err_msg=key)


def cube_of(block):
    attrs = {"normalisation": block.grid.normalisation} if block.grid.normalisation else {}
    return make_cube(block.flux, block.ivar, block.grid, mask=block.mask, attrs=attrs)


def test_it_has_what_an_estimator_has(name):
    one, out = zoo.member(name).estimator, zoo.estimated(name)
    assert isinstance(one, Estimator)
    assert set(one.labels) <= set(LABELS)
    assert one.device == "cpu"
    assert json.loads(json.dumps(dict(one.provenance)))["estimator"] == type(one).__name__
    assert isinstance(hash(one.fingerprint), int)
    n_label, n_pixel = len(one.labels), zoo.member(name).block.flux.shape[1]
    sizes = {"star": zoo.N_STAR, "wavelength": n_pixel, "label": n_label, "label_": n_label}
    declared = {o.name: (o.dims, o.dtype) for o in one.outputs}
    declared |= {key: (VARIABLES[key].dims, VARIABLES[key].dtype) for key in MODEL_SPECTRA}
    assert set(out) == set(declared)
    assert {*one.labels, *(f"{label}_err" for label in one.labels), "covariance", "limit"} <= set(out)
    for key, (dims, dtype) in declared.items():
        assert out[key].shape == tuple(sizes[dim] for dim in dims), key
        assert out[key].dtype == np.dtype(dtype), key


def test_injected_labels_are_found(name):
    one, out = zoo.member(name), zoo.estimated(name)
    assert (out["result"] == Result.CONVERGED).all()
    assert (out["limit"] == 0).all()
    for label in one.estimator.labels:
        pull = (out[label] - one.truth[label]) / out[f"{label}_err"]
        assert abs(np.median(pull)) < 1.5, label
        assert np.abs(pull).max() < 8, label  # formal errors know nothing of the emulator's
    errors = np.sqrt(np.einsum("sll->sl", out["covariance"]))
    np.testing.assert_allclose(errors, np.stack([out[f"{label}_err"] for label in one.estimator.labels], 1))
    np.testing.assert_allclose(out["covariance"], np.swapaxes(out["covariance"], 1, 2), rtol=1e-9, atol=1e-12)


def test_model_spectra_are_in_the_units_of_the_flux(name):
    one, out = zoo.member(name), zoo.estimated(name)
    same(one.estimator.estimate(one.block), out)
    used = out["used"] == 1
    assert (used.sum(axis=1) == out["n_good"]).all()
    assert np.isfinite(out["model"][used]).all()
    residual = np.where(used, one.block.flux / np.where(used, out["model"], 1.0) - 1.0, np.nan)
    assert np.nanstd(residual) < 0.02


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_partition_gives_the_same_bits(name, data):
    one, out = zoo.member(name), zoo.estimated(name)
    order = np.array(data.draw(st.permutations(range(zoo.N_STAR))))[: data.draw(st.integers(1, zoo.N_STAR))]
    cut = data.draw(st.integers(0, len(order)))
    for part in (order[:cut], order[cut:]):
        same(
            one.estimator.estimate(zoo.rows(one.block, part), spectra=True),
            {k: v[part] for k, v in out.items()},
        )


def test_nothing_is_computed_before_it_is_needed(name, forbid_compute):
    one = zoo.member(name)
    lazy = specxr.infer(cube_of(one.block).chunk(star=3), one.estimator, spectra=True)
    assert lazy.chunksizes["star"] == (3, 3, 2)
    assert set(lazy.data_vars) == {*(o.name for o in one.estimator.outputs), *MODEL_SPECTRA}


def test_it_travels_by_reference(name):
    one = zoo.member(name)
    sent = pickle.dumps(one.estimator)
    assert len(sent) < 5000
    again = pickle.loads(sent)
    assert again.fingerprint == one.estimator.fingerprint
    few = slice(0, 2)
    same(again.estimate(zoo.rows(one.block, few)), {k: v[few] for k, v in zoo.estimated(name).items()})


def test_provenance_gives_back_the_same_labels(name):
    one = zoo.member(name)
    labels = specxr.infer(cube_of(one.block), one.estimator)
    again = specxr.open_estimator(labels.attrs)
    assert type(again) is type(one.estimator)
    assert again.fingerprint == one.estimator.fingerprint == labels.attrs["fingerprint"]
    same(again.estimate(one.block), {key: labels[key].values for key in labels.data_vars})
    with pytest.raises(ValueError, match="cannot be rebuilt: .* required. Put"):
        specxr.open_estimator(dict(labels.attrs) | {"fingerprint": "0"})


def spoilt(kind, block):
    flux, ivar, mask = block.flux.copy(), block.ivar.copy(), block.mask.copy()
    if kind == "nan":
        flux[4] = np.nan
    elif kind == "no variance":
        ivar[4] = 0
    elif kind == "infinite variance":
        ivar[4, 100:120] = np.inf
    elif kind == "zero":
        flux[4] = 0
    elif kind == "negative":
        flux[4] *= -1
    elif kind == "infinite":
        flux[4, ::7] = np.inf
    elif kind == "huge":
        flux[4] *= 1e30
    elif kind == "one good pixel":
        mask[4] = int(MaskBit.MISSING)
        mask[4, 150] = 0
    return zoo.replace(block, flux=flux, ivar=ivar, mask=mask)


SPOILT = ("nan", "no variance", "infinite variance", "zero", "negative", "infinite", "huge", "one good pixel")


@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_spectrum_gets_a_code_and_disturbs_nobody(name, kind):
    one, clean = zoo.member(name), zoo.estimated(name)
    out = one.estimator.estimate(spoilt(kind, one.block))
    beside = np.arange(zoo.N_STAR) != 4
    same({key: values[beside] for key, values in out.items()}, {k: v[beside] for k, v in clean.items()})
    assert out["result"][4] in set(map(int, Result))
    if kind in ("nan", "no variance", "one good pixel"):
        assert out["result"][4] == Result.TOO_FEW_PIXELS
    if out["result"][4] in (Result.TOO_FEW_PIXELS, Result.NON_FINITE):
        for label in one.estimator.labels:
            assert np.isnan(out[label][4])
            assert np.isnan(out[f"{label}_err"][4])
        assert (out["limit"][4] == 0).all()


def test_blocks_without_stars_and_with_bad_stars_only(name):
    one = zoo.member(name)
    none = one.estimator.estimate(zoo.rows(one.block, slice(0, 0)), spectra=True)
    assert {key: len(values) for key, values in none.items()} == dict.fromkeys(none, 0)
    for key, values in zoo.estimated(name).items():
        assert none[key].shape[1:] == values.shape[1:]
        assert none[key].dtype == values.dtype
    few = zoo.rows(one.block, slice(0, 2))
    bad = one.estimator.estimate(zoo.replace(few, flux=np.full_like(few.flux, np.nan)), spectra=True)
    assert (bad["result"] == Result.TOO_FEW_PIXELS).all()
    assert np.isnan(bad["model"]).all()
    assert (bad["used"] == 0).all()


def test_grids_that_it_cannot_use_are_refused_in_three_beats(name):
    one = zoo.member(name)
    grid = one.block.grid
    half = 10.0 ** (3.53 + 1e-4 * np.arange(200))  # 3388 to 3548 A
    for wrong in (
        Grid(np.arange(4000.0, 6000.0), "vacuum", "linear", 1.0),
        zoo.replace(grid, wavelength=half),
    ):
        with pytest.raises(ValueError, match=r"required|needed") as error:
            one.estimator.check(wrong)
        assert BEATS.match(str(error.value)), str(error.value)


def test_a_start_is_read_or_refused(name):
    one = zoo.member(name)
    cube = cube_of(zoo.rows(one.block, slice(0, 2)))
    start = specxr.infer(cube, one.estimator)
    if set(START_INPUTS) <= set(one.estimator.inputs):
        again = specxr.infer(cube, one.estimator, start=start)
        np.testing.assert_allclose(again.teff, start.teff, rtol=0.01)
    else:
        with pytest.raises(ValueError, match="start from were given to .* is required, such as LASP. Leave"):
            specxr.infer(cube, one.estimator, start=start)
