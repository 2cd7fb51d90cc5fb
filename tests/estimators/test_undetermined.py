"""Fits that the pixels do not determine: refused before they begin, or singular at their end; never without errors."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support import zoo

import specxr
from specxr.cubes.schema import make_cube
from specxr.estimators.outputs import Inferred, assemble, blanked
from specxr.estimators.quality import Quality
from specxr.vocabulary import Result


def test_a_window_with_too_few_pixels_for_the_shape_is_refused():
    block = zoo.member("lasp").block
    cube = make_cube(block.flux, block.ivar, block.grid).sel(wavelength=slice(5100, 5200))
    assert cube.sizes["wavelength"] > 56
    with pytest.raises(ValueError, match=r"85 pixels .* more than 112 are required, two for each .* Widen"):
        specxr.infer(cube, specxr.LASP())
    assert (specxr.infer(cube, specxr.LASP(degree=10)).n_good == cube.sizes["wavelength"]).all()


@pytest.mark.parametrize("n_good", [60, 112, 113, 200])
def test_a_star_with_few_pixels_side_by_side_is_never_converged_without_errors(n_good):
    few = zoo.rows(zoo.member("lasp").block, slice(0, 4))
    mask = np.ones(few.mask.shape, few.mask.dtype)
    mask[:, 700 : 700 + n_good] = 0
    out = specxr.LASP().estimate(dataclasses.replace(few, mask=mask))
    assert (out["n_good"] == n_good).all()
    if n_good <= 112:
        assert (out["result"] == Result.TOO_FEW_PIXELS).all()
    converged = out["result"] == Result.CONVERGED
    for label in specxr.LASP().labels:
        assert np.isfinite(out[label][converged]).all()
        assert np.isfinite(out[f"{label}_err"][converged]).all()


COVARIANCES = {
    "good": [[4.0, 1.0], [1.0, 4.0]],
    "held": [[4.0, 0.0], [0.0, 0.0]],
    "negative": [[4.0, 0.0], [0.0, -1e-9]],
    "infinite": [[4.0, 0.0], [0.0, np.inf]],
    "infinite beside": [[4.0, np.inf], [np.inf, 4.0]],
    "no number": [[4.0, np.nan], [np.nan, 4.0]],
}


def test_what_is_not_finite_is_not_converged():
    names = [*COVARIANCES, "label"]
    n = len(names)
    covariance = torch.tensor([*COVARIANCES.values(), COVARIANCES["good"]])
    values = torch.ones((n, 2), dtype=torch.float64)
    values[-1, 1] = torch.inf
    result = torch.zeros(n, dtype=torch.uint8)
    values, covariance = blanked(values, covariance.double(), result, torch.zeros(n, dtype=torch.bool))
    false, zero = torch.zeros((n, 2), dtype=torch.bool), torch.zeros(n, dtype=torch.int64)
    quality = Quality(zero.double(), zero.double(), zero)
    ends = (false, false, zero.double(), zero + 100, zero, result, zero)
    inferred = Inferred(values, covariance, *ends, quality, n_window=100, n_whole=100.0)
    observed = SimpleNamespace(star=np.arange(n), result=np.zeros(n, "u1"), n_good=np.full(n, 100, "i4"))
    out = assemble(("teff", "logg"), observed, inferred)
    found = dict(zip(names, out["result"], strict=True))
    assert found == {
        **dict.fromkeys(names, Result.SINGULAR),
        "good": Result.CONVERGED,
        "held": Result.CONVERGED,
        "label": Result.NON_FINITE,
    }
    assert (np.isfinite(out["logg_err"]) == (out["result"] == Result.CONVERGED)).all()
    assert np.isnan(out["logg"][-1])
