"""Flags of quality: what is no star, or no good spectrum of one, is not recommended."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.nonsense import degraded, noise, spoilt
from support.simulated import GRID, block_of, spectra
from support.zoo import member, rows

from specxr import LASP
from specxr.estimators.quality import large_errors
from specxr.vocabulary import Flag, recommended

BOTH = {"clean": True, "two_stage": True}
SNR = 80


@pytest.fixture(scope="module")
def stars():
    flux, _ = spectra(8, 3, snr=SNR)
    block = block_of(flux)
    return replace(block, ivar=((SNR / flux) ** 2).astype("f4"))


@pytest.fixture(scope="module")
def fitted(stars):
    return LASP(**BOTH).estimate(stars)


def good(out):
    return recommended(out["result"], out["flags"])


def joined(blocks):
    arrays = {
        name: np.concatenate([getattr(block, name) for block in blocks]) for name in ("flux", "ivar", "mask")
    }
    return replace(blocks[0], **arrays)


def has(out, flag):
    return (out["flags"] & int(flag)) > 0


def test_simulated_stars_are_recommended(fitted):
    assert good(fitted).all()
    np.testing.assert_allclose(fitted["snr_fit"], SNR, rtol=0.15)
    np.testing.assert_allclose(fitted["reduced_chi2"], 1.0, atol=0.2)


def test_noise_that_changes_along_the_spectrum_is_no_poor_fit(stars):
    """Thirty times more noise in the blue than in the red, as in a normalised M dwarf."""
    share = np.geomspace(0.15, 0.005, stars.flux.shape[1]) * np.median(stars.flux, axis=1, keepdims=True)
    noisy = stars.flux + share * np.random.default_rng(4).normal(size=stars.flux.shape)
    out = LASP(weighted=True).estimate(replace(stars, flux=noisy.astype("f4"), ivar=(share**-2).astype("f4")))
    assert good(out).all()
    # The same noise with an inverse variance that does not say so.
    one = np.broadcast_to(np.median(share, axis=1, keepdims=True) ** -2, share.shape)
    out = LASP(weighted=True).estimate(replace(stars, flux=noisy.astype("f4"), ivar=one.astype("f4")))
    assert has(out, Flag.POOR_FIT).all()


def test_unknown_variances_are_replaced_by_the_scatter_between_pixels(stars):
    out = LASP(**BOTH).estimate(replace(stars, ivar=np.full_like(stars.ivar, np.nan)))
    assert good(out).all()
    assert np.mean(out["reduced_chi2"]) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("make", [lambda stars: noise(GRID, 2, seed=1), lambda stars: spoilt(stars, seed=2)])
def test_noise_curves_and_spoilt_stars_are_not_recommended(stars, make):
    sets = make(rows(stars, slice(3)))
    # Of two simulated stars one may come out, see docs/measured/lasp.md.
    names = [name for name in sets if not name.startswith(("two stars", "half of each"))]
    out = LASP(**BOTH).estimate(joined([sets[name] for name in names]))
    of_set = np.repeat(names, [len(sets[name].flux) for name in names])
    assert of_set[good(out)].tolist() == []


def test_flags_say_what_is_wrong(stars):
    rng = np.random.default_rng(0)
    lasp = LASP()
    flat = lasp.estimate(noise(GRID, 8)["flat, S/N 2"])
    assert has(flat, Flag.NO_LINES).all()
    weak = lasp.estimate(degraded(stars, 2, rng))
    assert has(weak, Flag.LOW_SNR).all()
    assert has(weak, Flag.LARGE_ERRORS).mean() > 0.8
    waves = stars.flux * (1 + 0.05 * np.sin(np.arange(stars.flux.shape[1]) / 4))
    assert has(lasp.estimate(replace(stars, flux=waves.astype("f4"))), Flag.POOR_FIT).all()
    # Far more noise than the inverse variance says, with the same scatter between neighbours.
    assert has(lasp.estimate(replace(degraded(stars, 10, rng), ivar=stars.ivar)), Flag.POOR_FIT).all()


def test_lines_in_emission_are_seen_although_clean_leaves_them_out(stars, fitted):
    line = 4862.68 * (1 + fitted["rv"][:, None] / 299792.458)
    bump = np.exp(-0.5 * (np.log(GRID.wavelength / line) / GRID.ln_step / 1.5) ** 2)
    level = np.median(stars.flux, axis=1, keepdims=True)
    out = LASP(clean=True).estimate(replace(stars, flux=(stars.flux + 0.6 * level * bump).astype("f4")))
    assert has(out, Flag.EMISSION).mean() > 0.9
    assert not has(fitted, Flag.EMISSION).any()


def test_broad_lines_and_velocities_at_the_bound_are_flagged(stars):
    kernel = np.exp(-0.5 * (np.arange(-15, 16) / 4.0) ** 2)  # 276 km/s
    broad = np.apply_along_axis(np.convolve, 1, stars.flux, kernel / kernel.sum(), mode="same")
    assert has(LASP().estimate(replace(stars, flux=broad.astype("f4"))), Flag.AT_VELOCITY_BOUND).mean() > 0.9
    assert not has(LASP().estimate(stars), Flag.AT_VELOCITY_BOUND).any()


def test_a_small_part_of_the_window_is_not_enough(stars):
    def part(first, last):
        inside = np.flatnonzero((GRID.wavelength >= first) & (GRID.wavelength <= last))
        return slice(inside[0], inside[-1] + 1)

    with pytest.raises(ValueError, match="85 pixels"):
        LASP().check(GRID[part(5100, 5200)])
    third = part(5000, 5400)
    arrays = {name: getattr(stars, name)[:, third] for name in ("flux", "ivar", "mask")}
    out = LASP(**BOTH).estimate(replace(stars, grid=GRID[third], **arrays))
    assert has(out, Flag.LOW_COVERAGE).all()
    assert not good(out).any()


def test_large_errors_are_relative_for_hot_stars():
    import torch

    values = torch.tensor([[5000.0, 0.0], [20000.0, 0.0], [5000.0, 0.0], [5000.0, 0.0]])
    errors = torch.tensor([[250.0, 0.1], [500.0, 0.1], [100.0, 0.3], [torch.nan, 0.1]])
    assert large_errors(("teff", "feh"), values, errors).tolist() == [True, False, True, True]


def test_what_all_errors_have_in_common_says_nothing_about_a_star():
    import torch

    values, shared = torch.zeros(3, 1), torch.tensor([0.19])
    errors = torch.tensor([[0.19], [0.25], [0.35]])
    assert large_errors(("feh",), values, errors).tolist() == [False, True, True]
    assert large_errors(("feh",), values, errors, shared).tolist() == [False, False, True]


def test_flux_in_other_units_is_a_poor_fit_of_a_model_without_normalisation():
    one = member("slam squared")
    wrong = replace(one.block, flux=one.block.flux * 1e6, ivar=one.block.ivar / 1e12)
    out = one.estimator.estimate(wrong)
    assert has(out, Flag.POOR_FIT).all()
    assert good(one.estimator.estimate(one.block)).mean() > 0.7
