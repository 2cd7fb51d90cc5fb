"""What all figures share: colours that the colour-blind can tell apart, and axis names with units."""

from __future__ import annotations

from matplotlib.axes import Axes

from specxr.vocabulary import LABELS

# Okabe & Ito (2008).
BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
DATA, FAINT = "0.25", "0.75"
SEQUENTIAL = "viridis"

# Many stars: points that overlap must still show where they are dense.
POINTS = {"s": 6, "linewidths": 0, "alpha": 0.6, "rasterized": True}

_SYMBOLS = {
    "rv": "RV",
    "teff": r"$T_\mathrm{eff}$",
    "logg": r"$\log g$",
    "feh": "[Fe/H]",
    "sigma": "line broadening",
    "vsini": r"$v\,\sin i$",
    "vmic": r"$v_\mathrm{mic}$",
}


def axis_name(label: str, prefix: str = "") -> str:
    """Symbol and units of a label of the vocabulary, to stand at an axis."""
    known = LABELS[label]
    return f"{prefix}{_SYMBOLS.get(label, known.long_name)} [{known.units}]"


def tidy(ax: Axes) -> None:
    """Ticks on all sides, as astronomers read them."""
    ax.tick_params(which="both", direction="in", top=True, right=True)
    ax.minorticks_on()
