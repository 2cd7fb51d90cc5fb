"""How well known labels are found again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from specxr.validation.comparison import robust_scatter
from specxr.vocabulary import LABELS, Result

TEFF_EDGES = (4300.0, 5000.0, 6000.0, 7000.0, 8000.0, 10000.0, 12000.0)

# The hot-star paper's, Figs. 1 and 2.
HOT_TEFF_EDGES = (7000.0, 9000.0, 13000.0, 17000.0)
KIEL_BIN = {"teff": 1000.0, "logg": 0.5}  # K, dex
LEAST_IN_BIN = 10

# A pixel with less normalised flux lies in the core of a line (Fig. A.1).
CORE_FLUX = 0.95

# Changes of the labels that make the gradient spectra (appendix A; 0.2 dex for every abundance).
OFFSETS = {"teff": 200.0, "logg": 0.2, "vmic": 4.0, "vsini": 50.0}
ABUNDANCE_OFFSET = 0.2


def recovery_table(
    labels: pd.DataFrame,
    truth: pd.DataFrame,
    by: str = "teff",
    edges: Sequence[float] = TEFF_EDGES,
) -> pd.DataFrame:
    """Bias and scatter of inferred labels, in bins of a true one.

    Parameters
    ----------
    labels : DataFrame
        One row a star, with ``result``; see `specxr.cubes.tables.label_table`.
    truth : DataFrame
        True labels of the same stars in the same order.
    by : str, optional
        The true label that bins the stars.
    edges : sequence of float, optional
        Edges of the bins [units of ``by``], increasing; a bin holds its lower edge.

    Returns
    -------
    DataFrame
        A row for each bin with stars and one for all: ``lower``, ``upper``, ``n``, ``converged`` (a fraction), and
        over the converged stars ``<label>_bias`` (median of inferred minus true) and ``<label>_scatter`` (1.48
        times the median absolute deviation).
    """
    _check_same_stars(labels, truth)
    names = [name for name in LABELS if name in labels and name in truth]
    binned = truth[by].to_numpy()
    converged = (labels["result"] == Result.CONVERGED.name.lower()).to_numpy()
    difference = {name: labels[name].to_numpy() - truth[name].to_numpy() for name in names}

    rows = []
    for lower, upper in [*zip(edges[:-1], edges[1:], strict=True), (edges[0], edges[-1])]:
        inside = (binned >= lower) & (binned < upper)
        if not inside.any():
            continue
        row = {"lower": lower, "upper": upper, "n": int(inside.sum()), "converged": converged[inside].mean()}
        for name in names:
            values = difference[name][inside & converged]
            row[f"{name}_bias"] = float(np.median(values)) if values.size else np.nan
            row[f"{name}_scatter"] = robust_scatter(values)
        rows.append(row)
    return pd.DataFrame(rows)


def recovery_by_snr(
    labels: pd.DataFrame, truth: pd.DataFrame, edges: Sequence[float] = HOT_TEFF_EDGES
) -> pd.DataFrame:
    """Bias and scatter against the signal-to-noise ratio, in ranges of the true temperature (Fig. 2).

    Parameters
    ----------
    labels, truth : DataFrame
        As for `recovery_table`; ``truth`` has a column ``snr`` of few values.
    edges : sequence of float, optional
        Of the ranges of temperature [K].

    Returns
    -------
    DataFrame
        The rows of `recovery_table` for each ``snr``.
    """
    _check_same_stars(labels, truth)
    parts = []
    for snr, rows in truth.groupby("snr").indices.items():
        table = recovery_table(labels.iloc[rows], truth.iloc[rows], edges=edges)
        parts.append(table.assign(snr=snr))
    return pd.concat(parts, ignore_index=True)


def recovery_on_kiel(labels: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Scatter of the labels across the true Kiel diagram (Fig. 1).

    Parameters
    ----------
    labels, truth : DataFrame
        As for `recovery_by_snr`.

    Returns
    -------
    DataFrame
        A row for each ``snr`` and each bin of 1000 K and 0.5 dex that holds ten converged stars: ``teff`` and ``logg``
        of its middle, ``n``, ``<label>_bias`` and ``<label>_scatter`` as in `recovery_table`.
    """
    _check_same_stars(labels, truth)
    names = [name for name in LABELS if name in labels and name in truth]
    stars = pd.DataFrame({name: labels[name].to_numpy() - truth[name].to_numpy() for name in names})
    for axis, width in KIEL_BIN.items():
        stars[f"{axis}_bin"] = (np.floor(truth[axis].to_numpy() / width) + 0.5) * width
    stars["snr"] = truth["snr"].to_numpy()
    stars = stars[(labels["result"] == Result.CONVERGED.name.lower()).to_numpy()]
    rows = []
    for (snr, teff, logg), some in stars.groupby(["snr", "teff_bin", "logg_bin"]):
        if len(some) < LEAST_IN_BIN:
            continue
        row = {"snr": snr, "teff": teff, "logg": logg, "n": len(some)}
        for name in names:
            row |= {f"{name}_bias": some[name].median(), f"{name}_scatter": robust_scatter(some[name])}
        rows.append(row)
    if not rows:
        raise ValueError(
            f"none of the bins that {len(stars)} converged stars fall in holds {LEAST_IN_BIN} of one S/N; at least one "
            "must. Simulate more stars, at fewer values of the S/N."
        )
    return pd.DataFrame(rows)


def pixel_residuals(model: ArrayLike, flux: ArrayLike) -> dict[str, float]:
    """Standard deviation of model minus normalised flux, of all pixels and of the cores of lines (Fig. A.1).

    Parameters
    ----------
    model, flux : array_like, shape (star, wavelength)
        What an emulator gives, and the spectra that it has not seen; pixels that are not finite are left out.

    Returns
    -------
    dict
        ``all`` and ``core``.
    """
    model, flux = np.asarray(model, dtype="f8"), np.asarray(flux, dtype="f8")
    residual = model - flux
    used = np.isfinite(residual)
    core = used & (flux < CORE_FLUX)
    return {"all": float(residual[used].std()), "core": float(residual[core].std())}


def gradient_spectra(
    spectra: Callable[[NDArray[np.float64]], ArrayLike], reference: Mapping[str, float]
) -> dict[str, NDArray[np.float64]]:
    """How spectra change with each label (Fig. A.2).

    Parameters
    ----------
    spectra : callable
        Labels of shape (star, label) to normalised flux of shape (star, wavelength): an emulator, or the generator
        with all that made the training set.
    reference : mapping of str to float
        Labels of the star, in the order that `spectra` takes.

    Returns
    -------
    dict of str to ndarray, shape (wavelength,)
        Flux at the label plus its offset, less flux at the reference: 200 K, 0.2 dex, 4 km/s of vmic, 50 km/s of vsini.
    """
    star = np.array([list(reference.values())], dtype="f8")
    offsets = np.diag([OFFSETS.get(name, ABUNDANCE_OFFSET) for name in reference])
    flux = np.asarray(spectra(np.concatenate([star, star + offsets])), dtype="f8")
    return dict(zip(reference, flux[1:] - flux[0], strict=True))


def _check_same_stars(labels: pd.DataFrame, truth: pd.DataFrame) -> None:
    if len(labels) != len(truth):
        raise ValueError(
            f"there are {len(labels)} rows of labels and {len(truth)} of true ones; the same stars in the same order "
            "are required. Select them first."
        )
