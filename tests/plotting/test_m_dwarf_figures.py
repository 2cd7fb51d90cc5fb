"""Figures of the M-dwarf paper show what they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd

from specxr.galaxy import select_m_dwarfs
from specxr.plotting import plot_candidates, plot_colour_magnitude, plot_cross_validation, plot_error_law
from specxr.validation import scatter_by_snr


def test_candidates_and_the_limits():
    rng = np.random.default_rng(0)
    g, n = rng.uniform(8, 14, 300), 300
    catalogue = pd.DataFrame({
        "parallax": 100.0, "phot_g_mean_mag": g, "phot_bp_mean_mag": 13.0,
        "phot_rp_mean_mag": 13.0 - rng.uniform(1, 3, n),
        "ruwe": 1.0, "ebv": 0.0,
    })  # fmt: skip
    selection = select_m_dwarfs(catalogue)
    ax = plot_candidates(selection)
    ax.figure.canvas.draw()
    others, chosen = ax.collections
    assert len(chosen.get_offsets()) == int(selection["m_dwarf"].sum())
    assert len(others.get_offsets()) == n - int(selection["m_dwarf"].sum())
    assert ax.yaxis_inverted()
    assert len(ax.lines) == 3


def test_diagram_coloured_by_a_label_with_isochrones():
    isochrones = pd.DataFrame({"feh": [0.0, 0.0, -0.6, -0.6], "bp_rp": [1, 3, 1, 3], "m_g": [7, 12, 8, 13]})
    values = np.array([-0.5, 0.0, np.nan, 0.3])
    ax = plot_colour_magnitude([2.0, 2.2, 2.4, 2.6], [9, 10, 11, 12], values, "feh", isochrones)
    ax.figure.canvas.draw()
    assert len(ax.collections[0].get_offsets()) == 3
    assert [line.get_label() for line in ax.lines] == ["[M/H] -0.6", "[M/H] +0.0"]
    assert ax.lines[0].get_color() != ax.lines[1].get_color()


def test_errors_of_pixels_and_of_labels():
    wavelength = np.linspace(6000, 7000, 50)
    figure = plot_cross_validation(wavelength, np.full(50, 4e-4), np.full(50, -1e-3))
    figure.canvas.draw()
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), 0.02)
    rng = np.random.default_rng(1)
    snr = rng.uniform(2, 60, 100)
    bins = scatter_by_snr(rng.normal(size=100) / snr, snr)
    ax = plot_error_law(rng.normal(size=100) / snr, snr, bins, lambda s: 1 / s, "feh")
    ax.figure.canvas.draw()
    law = next(line for line in ax.lines if line.get_label().startswith("a + b"))
    np.testing.assert_allclose(law.get_ydata(), 1 / law.get_xdata())
