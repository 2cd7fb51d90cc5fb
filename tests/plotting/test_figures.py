"""Figures show what they are given, and leave matplotlib's global state alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from specxr.plotting import plot_comparison, plot_fit, plot_kiel, plot_recovery


@pytest.fixture
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(5)
    n = 200
    truth = pd.DataFrame(
        {
            "obsid": np.arange(n),
            "teff": np.exp(rng.uniform(np.log(4400), np.log(11900), n)),
            "logg": rng.normal(4.2, 0.2, n),
            "feh": rng.normal(-0.2, 0.3, n),
        }
    )
    found = truth + {"obsid": 0, "teff": 10.0, "logg": 0.05, "feh": 0.0}
    found["teff"] += rng.normal(0, 40, n)
    found["result"] = "converged"
    return found, truth


def draw(figure: Figure) -> Figure:
    """Render it: much of what can go wrong in a figure only does so then."""
    figure.canvas.draw()
    return figure


def test_fit_shows_data_model_residual_and_what_was_left_out():
    wavelength = np.linspace(4200, 5700, 300)
    flux = np.full(300, 50.0)
    model = np.full(300, 49.0)
    model[:20] = np.nan
    used = np.ones(300, "uint8")
    used[[100, 150, 151]] = 0
    flux[100] = np.nan
    figure = draw(plot_fit(wavelength, flux, model, used, title="a star", medium="vacuum"))

    top, bottom = figure.axes
    data, fitted = top.lines
    np.testing.assert_allclose(np.nanmedian(data.get_ydata()), 1.0)
    np.testing.assert_allclose(fitted.get_ydata(), 49 / 50)
    residual = bottom.lines[1].get_ydata()
    assert np.isnan(residual[[80, 130, 131]]).all()
    assert np.isfinite(residual).sum() == 280 - 3
    assert len(top.patches) == len(bottom.patches) == 2  # two runs of masked pixels
    assert top.get_xlim() == (wavelength[20], wavelength[-1])
    assert bottom.get_xlabel() == "vacuum wavelength [Å]"


def test_fit_of_a_star_without_model_is_refused():
    with pytest.raises(ValueError, match="no finite pixel"):
        plot_fit(np.arange(5.0), np.ones(5), np.full(5, np.nan))


def test_kiel_diagram_has_both_axes_reversed_and_units(tables):
    ax = plot_kiel(tables[0])
    draw(ax.figure)
    assert ax.xaxis_inverted()
    assert ax.yaxis_inverted()
    assert "[K]" in ax.get_xlabel()
    assert "[dex]" in ax.get_ylabel()
    assert len(ax.collections[0].get_offsets()) == len(tables[0])


def test_kiel_diagram_goes_where_it_is_told(tables):
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plot_kiel(tables[0], ax=right) is right
    assert not left.collections
    draw(figure)


def test_comparison_has_a_row_a_label(tables):
    found, truth = tables
    figure = draw(plot_comparison(found, truth, names=("ours", "theirs")))
    assert len(figure.axes) == 3 * 5
    assert figure.axes[0].get_xlabel().startswith("theirs")
    assert "200 in common" in figure.get_suptitle()


def test_comparison_of_equal_tables(tables):
    draw(plot_comparison(tables[0], tables[0]))


def test_comparison_draws_in_a_part_of_a_figure(tables):
    figure = Figure(figsize=(10, 5))
    part = figure.subfigures(1, 2)[1]
    assert plot_comparison(*tables, labels=["teff"], figure=part) is part
    draw(figure)


def test_recovery_has_a_panel_a_label(tables):
    figure = draw(plot_recovery(*tables))
    assert len(figure.axes) == 3
    assert "[K]" in figure.axes[-1].get_xlabel()


def test_a_notebook_shows_figures(tables):
    """As the last line of a cell, a figure is what IPython draws."""
    for drawn in (plot_recovery(*tables), plot_kiel(tables[0]).figure):
        assert drawn._repr_png_().startswith(b"\x89PNG")


def test_pyplot_is_not_imported():
    """Its figures live until they are closed, and it chooses a backend; neither is ours to do."""
    code = "import sys, specxr.plotting; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
