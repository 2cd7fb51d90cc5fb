"""Known biases, scatters, residuals and gradients are found, and drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from specxr.plotting import (
    plot_gradients,
    plot_pixel_residuals,
    plot_recovery_by_snr,
    plot_recovery_on_kiel,
)
from specxr.validation import gradient_spectra, pixel_residuals, recovery_by_snr, recovery_on_kiel


@pytest.fixture(scope="module")
def stars() -> tuple[pd.DataFrame, pd.DataFrame]:
    """8,000 stars whose labels are off by 5000 / (S/N) K and a tenth of that as bias, more so above 13000 K."""
    rng = np.random.default_rng(2)
    n = 8000
    truth = pd.DataFrame(
        {
            "teff": rng.uniform(7000, 17000, n),
            "logg": rng.uniform(3.0, 4.5, n),
            "vsini": rng.uniform(10, 300, n),
            "snr": rng.choice([30.0, 50.0, 100.0, 250.0], n),
        }
    )
    scatter = 5000 / truth["snr"] * np.where(truth["teff"] > 13000, 3.0, 1.0)
    labels = truth.drop(columns="snr")
    labels["teff"] += scatter * (0.1 + rng.normal(size=n))
    labels["logg"] += rng.normal(0, 0.1, n)
    labels["vsini"] += rng.normal(0, 10, n)
    labels["result"] = "converged"
    labels.loc[:9, ["teff", "result"]] = np.nan, "non_finite"
    return labels, truth


def test_scatter_against_the_signal_to_noise_ratio(stars):
    table = recovery_by_snr(*stars)
    assert len(table) == 4 * 4  # three ranges and all of them together, for each S/N
    for snr in (30, 50, 100, 250):
        rows = table[table["snr"] == snr].set_index(["lower", "upper"])
        cool, hot = rows.loc[(7000, 9000)], rows.loc[(13000, 17000)]
        assert cool["teff_scatter"] == pytest.approx(5000 / snr, rel=0.15)
        assert hot["teff_scatter"] == pytest.approx(15000 / snr, rel=0.15)
        assert hot["teff_bias"] == pytest.approx(1500 / snr, abs=3 * 15000 / snr / np.sqrt(hot["n"]))
        assert cool["logg_scatter"] == pytest.approx(0.1, rel=0.15)
    assert table[table["upper"] - table["lower"] == 10000]["n"].sum() == 8000


def test_scatter_across_the_kiel_diagram(stars):
    table = recovery_on_kiel(*stars)
    assert len(table) == 4 * 10 * 3
    assert set(table["teff"] % 1000) == {500.0}
    assert set(table["logg"] % 0.5) == {0.25}
    hot = table[(table["snr"] == 100) & (table["teff"] > 13000)]
    assert np.median(hot["teff_scatter"]) == pytest.approx(150, rel=0.1)
    few = recovery_on_kiel(*(frame.iloc[:1500] for frame in stars))
    assert 0 < len(few) < len(table)
    assert few["n"].min() >= 10
    with pytest.raises(ValueError, match="has 10 stars of one S/N"):
        recovery_on_kiel(*(frame.iloc[:20] for frame in stars))


def test_other_stars_are_refused(stars):
    labels, truth = stars
    for table in (recovery_by_snr, recovery_on_kiel):
        with pytest.raises(ValueError, match="8000 rows of labels and 10 of true ones"):
            table(labels, truth.iloc[:10])


def test_pixel_residuals_of_known_scatter():
    rng = np.random.default_rng(0)
    flux = rng.choice([0.7, 0.99], (400, 500), p=[0.2, 0.8])
    model = flux + np.where(flux < 0.95, 0.004, 0.001) * rng.normal(size=flux.shape)
    model[3] = np.nan
    scatter = pixel_residuals(model, flux)
    assert scatter["core"] == pytest.approx(0.004, rel=0.02)
    assert scatter["all"] == pytest.approx(np.sqrt(0.2 * 0.004**2 + 0.8 * 0.001**2), rel=0.02)


def test_gradients_of_a_linear_star_are_its_slopes():
    slopes = np.random.default_rng(1).normal(size=(3, 20))
    gradients = gradient_spectra(lambda labels: labels @ slopes, {"teff": 12500.0, "logg": 3.5, "c_fe": 0.0})
    for name, slope, offset in zip(("teff", "logg", "c_fe"), slopes, (200.0, 0.2, 0.2), strict=True):
        np.testing.assert_allclose(gradients[name], offset * slope, rtol=1e-6, atol=1e-9)


def test_figures_show_what_they_are_given(stars):
    by_snr = plot_recovery_by_snr(*stars)
    by_snr.canvas.draw()
    visible = [ax for ax in by_snr.axes if ax.get_visible()]
    assert len(visible) == 3
    solid = next(
        line for line in visible[0].lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 4
    )
    np.testing.assert_allclose(solid.get_ydata(), [5000 / snr for snr in (30, 50, 100, 250)], rtol=0.15)

    kiel = plot_recovery_on_kiel(*stars)
    kiel.canvas.draw()
    assert len(kiel.axes[0].collections[0].get_offsets()) == 4 * 10 * 3

    rng = np.random.default_rng(0)
    flux = rng.choice([0.7, 0.99], (50, 60))
    ax = plot_pixel_residuals(flux + 0.002 * rng.normal(size=flux.shape), flux)
    assert isinstance(ax.figure, Figure)
    ax.figure.canvas.draw()
    assert "0.20 %" in ax.get_legend().get_texts()[0].get_text()

    slopes = {"teff": rng.normal(size=60), "vsini": rng.normal(size=60)}
    figure = plot_gradients(np.linspace(4000, 5000, 60), slopes, slopes)
    figure.canvas.draw()
    assert len(figure.axes) == 2
