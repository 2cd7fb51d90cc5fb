"""Candidates of the blue horizontal branch in the Kiel diagram (hot-star paper, Fig. 12)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from specxr.plotting.style import DATA, POINTS, SEQUENTIAL, VERMILION, as_table, axis_name, tidy
from specxr.published.hot_stars import BHB_LOGG

_STYLES = ("-", "--", ":", "-.")


def plot_horizontal_branch(
    labels: pd.DataFrame, isochrones: pd.DataFrame | None = None, ax: Axes | None = None
) -> Axes:
    """Draw metal-poor candidates in the Kiel diagram, coloured by their rotation, with isochrones.

    Parameters
    ----------
    labels : DataFrame
        ``teff`` [K], ``logg`` [dex] and ``vsini`` [km/s] of candidates, one row for each star.
    isochrones : DataFrame, optional
        ``feh``, ``log_age``, ``teff`` and ``logg``, see `specxr.galaxy.isochrones.read_parsec`; where it has ``stage``,
        only stages 4 to 6 are drawn, in which PARSEC's stars burn helium in their core.
    ax : Axes, optional
        Axes to draw on; those of a new figure by default.

    Returns
    -------
    Axes
    """
    labels = as_table(labels, columns=("teff", "logg", "vsini"))
    ax = ax or Figure(figsize=(5.8, 4.4), layout="constrained").subplots()
    stars = labels[["teff", "logg", "vsini"]].dropna()
    points = ax.scatter(
        stars["teff"], stars["logg"], c=stars["vsini"], cmap=SEQUENTIAL, vmin=0.0, vmax=150.0,
        **POINTS | {"alpha": 1.0, "s": 9},
    )  # fmt: skip
    ax.figure.colorbar(points, ax=ax, extend="max", label=axis_name("vsini"), pad=0.02)
    if isochrones is not None:
        lines = isochrones
        if "stage" in lines:
            lines = lines[lines["stage"].between(4, 6)]
        for number, (feh, one) in enumerate(lines.groupby("feh")):
            for age, line in one.groupby("log_age"):
                name = f"[M/H] {feh:+.1f}" if age == one["log_age"].min() else None
                style = _STYLES[number % len(_STYLES)]
                ax.plot(line["teff"], line["logg"], color=VERMILION, lw=1.0, ls=style, label=name)
    ax.axhline(BHB_LOGG, color=DATA, lw=0.8, ls="--")
    branch = float(np.mean(stars["logg"] < BHB_LOGG)) if len(stars) else np.nan
    ax.set_title(
        f"{len(stars):,} candidates, {branch:.0%} below log g {BHB_LOGG:g}", fontsize="medium", loc="left"
    )
    if len(stars):
        teff, logg = (np.percentile(stars[name], (0.3, 99.7)) for name in ("teff", "logg"))
        ax.set_xlim(teff[1] + 400.0, teff[0] - 400.0)
        ax.set_ylim(logg[1] + 0.3, logg[0] - 0.3)
    ax.set_xlabel(axis_name("teff"))
    ax.set_ylabel(axis_name("logg"))
    if isochrones is not None:
        ax.legend(frameon=False, fontsize="small")
    tidy(ax)
    return ax
