"""Floors of errors from repeat visits, and what applying them does."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from specxr.calibration import calibrate, measure_floor
from specxr.calibration.floors import pairs
from specxr.cubes.tables import label_table
from specxr.validation.repeats import repeat_table
from specxr.vocabulary import Flag


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_pairs_are_all_pairs_of_a_group_once(group):
    first, second = pairs(group)
    found = {tuple(sorted(p)) for p in zip(first.tolist(), second.tolist(), strict=True)}
    wanted = {(i, j) for i in range(len(group)) for j in range(i + 1, len(group)) if group[i] == group[j]}
    assert found == wanted
    assert len(first) == len(wanted)


@pytest.mark.parametrize("floor", [0.0, 1.5, 4.0])
def test_an_injected_floor_is_measured(floor):
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(4000), 2)
    error = rng.uniform(0.5, 2, group.size)
    value = rng.normal(0, 50, 4000)[group] + rng.normal(0, 1, group.size) * np.hypot(error, floor)
    value[::100] += 300  # binaries
    assert measure_floor(value, error, group) == pytest.approx(floor, abs=0.25)


def test_no_repeats_is_told():
    with pytest.raises(ValueError, match="no pair of one star"):
        measure_floor([1.0, 2.0], [0.1, 0.1], [1, 2])


@pytest.fixture
def labels():
    covariance = np.broadcast_to(np.array([[4.0, 0.3], [0.3, 900.0]]), (3, 2, 2)).copy()
    return xr.Dataset(
        {
            "rv": ("star", [1.0, 2.0, 3.0], {"units": "km/s"}),
            "rv_err": ("star", [2.0, 2.0, np.nan], {"units": "km/s"}),
            "teff": ("star", [5000.0, 6000.0, 7000.0]),
            "teff_err": ("star", [30.0, 30.0, 30.0]),
            "covariance": (("star", "label", "label_"), covariance),
            "result": ("star", np.array([0, 0, 2], "u1")),
            "flags": ("star", np.array([0, int(Flag.STAGES_DISAGREE), int(Flag.EDGE_OF_GRID)], "u2")),
        },
        coords={"label": ["rv", "teff"], "label_": ["rv", "teff"], "obsid": ("star", [1, 2, 3])},
        attrs={"estimator": "LASP", "clean": "true", "two_stage": "true"},
    )


def test_floors_are_added_in_quadrature_to_errors_and_covariance(labels):
    out = calibrate(labels, {"rv": 1.5})
    np.testing.assert_allclose(out.rv_err, [2.5, 2.5, np.nan])
    np.testing.assert_allclose(out.covariance[0], [[6.25, 0.3], [0.3, 900.0]])
    np.testing.assert_array_equal(out.teff_err, labels.teff_err)
    assert out.attrs["error_floors"] == '{"rv": 1.5}'
    assert out.rv_err.attrs["units"] == "km/s"
    assert labels.rv_err[0] == 2.0


def test_floors_that_make_no_sense_are_refused(labels):
    with pytest.raises(ValueError, match="labels among"):
        calibrate(labels, {"vsini": 1.0})
    with pytest.raises(ValueError, match="0 or more"):
        calibrate(labels, {"rv": -1.0})
    with pytest.raises(ValueError, match="already"):
        calibrate(calibrate(labels, {"rv": 1.0}), {"rv": 1.0})


def test_recommended_needs_both_checks_and_nothing_against(labels):
    assert label_table(labels)["recommended"].tolist() == [True, False, False]
    assert "recommended" not in label_table(labels.assign_attrs(two_stage="false"))


def test_repeat_table_finds_scatter_and_floor_by_snr():
    rng = np.random.default_rng(2)
    n = 8000
    group = np.repeat(np.arange(n), 2)
    snr = np.repeat(rng.uniform(10, 60, n), 2)
    error = 30 / snr
    value = rng.normal(0, 30, n)[group] + rng.normal(size=2 * n) * np.hypot(error, 1.0)
    table = repeat_table(pd.DataFrame({"rv": value, "rv_err": error}), group, snr, edges=(10, 20, 60))
    assert table.n.tolist()[-1] == n
    np.testing.assert_allclose(table.rv_floor, 1.0, atol=0.15)
    assert table.rv_formal[0] > table.rv_formal[1]
    np.testing.assert_allclose(table.rv_repeat, np.hypot(table.rv_formal, 1.0), rtol=0.1)
