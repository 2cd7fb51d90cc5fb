from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from specxr.kernels.rebin import rebin


def overlap_matrix(edges_in: np.ndarray, edges_out: np.ndarray) -> np.ndarray:
    """The share of each input pixel in the mean over each output pixel, by brute force."""
    low = np.maximum(edges_in[:-1], edges_out[:-1, None])
    high = np.minimum(edges_in[1:], edges_out[1:, None])
    return np.clip(high - low, 0.0, None) / np.diff(edges_out)[:, None]


@st.composite
def grids(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    def widths(most: int) -> np.ndarray:
        return np.array(draw(st.lists(st.floats(0.05, 3.0), min_size=1, max_size=most)))

    edges_in = 4000.0 + np.append(0.0, np.cumsum(widths(30)))
    inner = np.append(0.0, np.cumsum(widths(40)))
    first, last = sorted(draw(st.tuples(st.floats(0.0, 0.4), st.floats(0.6, 1.0))))
    span = edges_in[-1] - edges_in[0]
    edges_out = edges_in[0] + span * (first + (last - first) * inner / inner[-1])
    return edges_in, np.clip(edges_out, edges_in[0], edges_in[-1])


@given(grids(), st.integers(0, 2**32 - 1))
def test_is_the_mean_over_overlaps(edges: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    edges_in, edges_out = edges
    flux = np.random.default_rng(seed).uniform(0.0, 2.0, (2, 3, len(edges_in) - 1))
    got = rebin(torch.from_numpy(flux), edges_in, edges_out).numpy()
    assert got.shape == (2, 3, len(edges_out) - 1)
    np.testing.assert_allclose(got, flux @ overlap_matrix(edges_in, edges_out).T, atol=1e-9)
    # The total over the common range, pixel by pixel of the output.
    total = (got * np.diff(edges_out)).sum(-1)
    share = overlap_matrix(edges_in, edges_out[[0, -1]])[0] * (edges_out[-1] - edges_out[0])
    np.testing.assert_allclose(total, flux @ share, atol=1e-9)


@given(grids())
def test_constants_stay_constant(edges: tuple[np.ndarray, np.ndarray]) -> None:
    edges_in, edges_out = edges
    flux = torch.full((len(edges_in) - 1,), 1.7, dtype=torch.float64)
    np.testing.assert_allclose(rebin(flux, edges_in, edges_out), 1.7, rtol=1e-9)


def test_a_line_stays_a_line_on_merged_pixels() -> None:
    edges = np.linspace(4000.0, 4100.0, 301)
    centres = 0.5 * (edges[1:] + edges[:-1])
    got = rebin(torch.from_numpy(3.0 * centres - 1.0), edges, edges[::3])
    np.testing.assert_allclose(got, 3.0 * 0.5 * (edges[::3][1:] + edges[::3][:-1]) - 1.0, rtol=1e-12)


def test_float32_is_summed_in_float64() -> None:
    edges = np.linspace(4000.0, 5000.0, 10001)
    flux = torch.ones(10000, dtype=torch.float32)
    got = rebin(flux, edges, edges[5:-5:10])
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, 1.0, rtol=2e-7)


def test_refuses_what_it_does_not_cover() -> None:
    edges = np.arange(4000.0, 4011.0)
    with pytest.raises(ValueError, match=r"4000\.50-4011\.00 .* only 4000\.00-4010\.00; .* inside"):
        rebin(torch.ones(10), edges, np.array([4000.5, 4011.0]))
    with pytest.raises(ValueError, match="n pixels have n \\+ 1 edges"):
        rebin(torch.ones(11), edges, edges)


@pytest.mark.parametrize("prefix", ["nc_", "cl_"])
def test_reference_stage(shared: Path, prefix: str) -> None:
    stages = np.load(shared / "pylasp/reference_stages.npz")
    start, step, n_pixel = stages["ln_grid_start_step_npix"]
    native = stages["wave_model_native"]
    edges_in = np.append(native - 0.1, native[-1] + 0.1)
    # The reference's last pixel reaches beyond the emulator; it is left out of every fit.
    edges_out = np.exp(start + step * (np.arange(int(n_pixel)) - 0.5))
    got = rebin(torch.from_numpy(stages[prefix + "emulator"]), edges_in, edges_out).numpy()
    # The reference divides by lambda d(ln lambda), not by the pixel's width: step^2 / 24, or 2.2e-9, more.
    width = np.diff(edges_out) / (np.exp(start + step * np.arange(int(n_pixel) - 1)) * step)
    np.testing.assert_allclose(got * width, stages[prefix + "rebinned"][:, :-1], rtol=1e-9)
    np.testing.assert_allclose(got, stages[prefix + "rebinned"][:, :-1], rtol=3e-9)
