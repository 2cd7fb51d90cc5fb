"""Random searches over hostile numbers, options and types: one bad star never harms its block."""

import dataclasses

import numpy as np
import pytest
import torch
from support import hostile, zoo

from specxr.estimators.emulated.base import Emulated
from specxr.estimators.lasp.estimator import LASP
from specxr.kernels.broadening import gaussian_kernel, rotating_gaussian_kernel
from specxr.kernels.least_squares import Solution
from specxr.kernels.shift import shift_kernel
from specxr.vocabulary import Result


def with_options(one, rng):
    """The estimator with options that are drawn at random."""
    if not isinstance(one, LASP | Emulated):
        return one
    options = {"dtype": str(rng.choice(["float64", "float32"]))}
    if isinstance(one, LASP):
        options |= {name: bool(rng.random() < 0.5) for name in ("clean", "two_stage", "weighted")}
        options |= {
            "degree": int(rng.choice([0, 5, 50, 80])),
            "quantile": float(rng.choice([0.05, 0.5, 0.95])),
        }
    elif rng.random() < 0.5:
        options |= {"fixed": {"logg": 4.2}, "max_velocity": 100.0}
    else:
        options |= {"priors": {"feh": (0.0, 0.1)}}
    return dataclasses.replace(one, **options)


@pytest.mark.parametrize("name", [name for name in zoo.NAMES if name != "lasp adam"])
@pytest.mark.parametrize("seed", range(4))
def test_no_star_raises_harms_others_or_converges_to_no_number(name, seed):
    rng = np.random.default_rng([seed, sum(map(ord, name))])
    one = with_options(zoo.member(name).estimator, rng)
    block, spoilt, kinds = hostile.hostile(zoo.member(name).block, rng)
    out = one.estimate(block, spectra=True)
    assert np.isin(out["result"], [int(code) for code in Result]).all()
    converged = out["result"] == Result.CONVERGED
    for key in (*one.labels, *(f"{label}_err" for label in one.labels), "chi2", "covariance"):
        assert np.isfinite(out[key][converged]).all(), (key, kinds)
    others = np.setdiff1d(np.arange(len(block.flux)), spoilt)
    alone = one.estimate(zoo.rows(block, others), spectra=True)
    for key, values in alone.items():
        np.testing.assert_array_equal(out[key][others], values, err_msg=f"{key} beside {kinds}")


def test_a_star_leaves_nothing_behind_for_the_next_one():
    """In single precision the star is infinite; the workspace in which the next one begins must not keep that."""
    block = zoo.member("lasp").block
    flux = block.flux.copy()
    flux[3] = 1e-30
    flux[3, ::3] = 3e38
    lasp = LASP(dtype="float32", degree=50)
    out = lasp.estimate(dataclasses.replace(block, flux=flux))
    assert out["result"][3] != Result.CONVERGED
    wanted = lasp.estimate(zoo.rows(block, [4, 5]))
    for key, values in wanted.items():
        np.testing.assert_array_equal(out[key][[4, 5]], values, err_msg=key)


EMPTY = {
    "no star": lambda b: zoo.rows(b, slice(0, 0)),
    "one star": lambda b: zoo.rows(b, slice(0, 1)),
    "all masked": lambda b: dataclasses.replace(b, mask=np.ones_like(b.mask)),
    "all infinite": lambda b: dataclasses.replace(b, flux=np.full_like(b.flux, np.inf)),
    "all zero": lambda b: dataclasses.replace(b, flux=np.zeros_like(b.flux)),
    "not to be used": lambda b: dataclasses.replace(b, ivar=np.zeros_like(b.ivar)),
    "one masked star": lambda b: dataclasses.replace(zoo.rows(b, slice(0, 1)), mask=np.ones_like(b.mask[:1])),
}


@pytest.mark.parametrize("name", zoo.NAMES)
@pytest.mark.parametrize("clean", [False, True])
def test_blocks_in_which_no_star_can_be_fitted(name, clean):
    one = zoo.member(name).estimator
    if clean and not isinstance(one, LASP):
        return
    if clean:
        one = dataclasses.replace(one, clean=True, two_stage=True)
    few = zoo.rows(zoo.member(name).block, slice(0, 3))
    for kind, change in EMPTY.items():
        block = change(few)
        out = one.estimate(block, spectra=True)
        for output in one.outputs:
            assert len(out[output.name]) == len(block.flux)
            assert out[output.name].dtype == np.dtype(output.dtype)
        if kind not in ("no star", "one star"):
            refused = np.isin(out["result"], [Result.TOO_FEW_PIXELS, Result.NON_FINITE, Result.SINGULAR])
            bounded = (
                out["result"] == Result.OUT_OF_BOUNDS
            )  # a spectrum of zeros is one for a trained emulator
            assert (refused | (bounded & (kind == "all zero"))).all(), (kind, out["result"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_kernels_of_a_star_without_numbers_leave_the_others_as_they_are(bad):
    shift = torch.tensor([1.5, bad, -2.25], dtype=torch.float64)
    width, speed = torch.ones(3, dtype=torch.float64), torch.full((3,), 4.0, dtype=torch.float64)
    for kernel in (
        lambda mu, keep: shift_kernel(mu, 30),
        lambda mu, keep: gaussian_kernel(mu, width[keep], 30),
        lambda mu, keep: rotating_gaussian_kernel(mu, speed[keep], 1.0, 30),
    ):
        kept = [0, 2]
        for all_of_them, own in zip(kernel(shift, [0, 1, 2]), kernel(shift[kept], kept), strict=True):
            margin = (all_of_them.shape[-1] - own.shape[-1]) // 2
            inner = all_of_them[kept][..., margin : all_of_them.shape[-1] - margin]
            assert torch.equal(inner, own)


def test_a_matrix_without_inverse_is_that_of_one_star():
    """Its inverse would raise for all."""
    slam = zoo.member("slam squared").estimator
    fit = slam._label_fit
    n = len(fit.names)
    good = torch.eye(n, dtype=torch.float64) * 100
    bad = good.clone()
    bad[1, 2] = bad[2, 1] = 100  # two labels that are one: the last pivot is zero
    hessian = torch.stack((good, bad, good * np.nan, good))
    start = torch.tensor([[0.0, *row] for row in fit._candidates[:4].tolist()], dtype=torch.float64)
    zero = torch.zeros(4, dtype=torch.float64)
    solution = Solution(start, zero, start, hessian, zero[:, None], zero.byte(), zero.short())
    lower, upper = fit.lower.expand(4, -1), fit.upper.expand(4, -1)
    out = fit._outward(solution, lower, upper)
    assert torch.isfinite(out.covariance[[0, 3]]).all()
    assert torch.isnan(out.covariance[[1, 2]]).all()
