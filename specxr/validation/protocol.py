"""One protocol for every method that learns: the same rows, split by star, and the tables of the language paper.

The paper (Lu et al. 2026) splits by spectrum. A survey observes stars again, and a method that has learnt one spectrum
of a star knows the labels of the others. Here a star is either learnt or held out, with all its spectra.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from specxr.cubes.schema import grid_of
from specxr.estimators.base import Block, Estimator
from specxr.estimators.regressors.regressor import Regressor
from specxr.estimators.trained import Trained
from specxr.training import train
from specxr.validation.comparison import robust_scatter
from specxr.vocabulary import LABELS, STAR, recommended

_ARCSEC = np.pi / 180.0 / 3600.0


@dataclass(frozen=True)
class Evaluation:
    """What methods say of the same held-out spectra.

    Attributes
    ----------
    truth : DataFrame
        Known labels, a row for each held-out spectrum, with the columns ``class`` and ``snr``.
    predicted : dict of str to DataFrame
        Labels, errors and intervals of each method, and ``recommended``, in the same rows.
    times : DataFrame
        A row for each method: processor seconds of the training, and held-out spectra in a processor second.
    """

    truth: pd.DataFrame
    predicted: dict[str, pd.DataFrame]
    times: pd.DataFrame


def same_star(ra: ArrayLike, dec: ArrayLike, radius: float = 3.0) -> NDArray[np.int64]:
    """Number the stars of spectra by their positions.

    Parameters
    ----------
    ra, dec : array_like, shape (spectrum,)
        [degree].
    radius : float, optional
        Spectra that are this near to one another [arcsec] are of one star.

    Returns
    -------
    ndarray of int, shape (spectrum,)
    """
    along, up = np.radians(np.asarray(ra, "f8")), np.radians(np.asarray(dec, "f8"))
    points = np.stack([np.cos(up) * np.cos(along), np.cos(up) * np.sin(along), np.sin(up)], axis=1)
    pairs = KDTree(points).query_pairs(2.0 * np.sin(0.5 * radius * _ARCSEC), output_type="ndarray")
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(points), len(points)))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


def hold_out_stars(star: ArrayLike, fraction: float = 0.3, seed: int = 0) -> NDArray[np.bool_]:
    """Draw stars that are held out, with all their spectra.

    Parameters
    ----------
    star : array_like, shape (spectrum,)
        Which star each spectrum is of: numbers or names.
    fraction : float, optional
        Of the stars.
    seed : int, optional

    Returns
    -------
    ndarray of bool, shape (spectrum,)
    """
    _, number = np.unique(np.asarray(star), return_inverse=True)
    n_star = int(number.max()) + 1 if len(number) else 0
    order = np.random.default_rng(seed).permutation(n_star)
    held = np.zeros(n_star, dtype=bool)
    held[order[: round(fraction * n_star)]] = True
    return np.asarray(held[number])


def balanced(classes: ArrayLike, number: int, seed: int = 0) -> NDArray[np.int64]:
    """Draw as many spectra of each class (section II.1), all of a class that has fewer.

    Parameters
    ----------
    classes : array_like of str, shape (spectrum,)
        Spectra whose class is empty are left out.
    number : int
        Of each class.
    seed : int, optional

    Returns
    -------
    ndarray of int
        Places of the spectra, rising.
    """
    classes, rng = np.asarray(classes), np.random.default_rng(seed)
    names = [name for name in np.unique(classes) if name]
    drawn = [rng.permutation(np.flatnonzero(classes == name))[:number] for name in names]
    return np.sort(np.concatenate(drawn)) if drawn else np.empty(0, np.int64)


def evaluate(
    cube: xr.Dataset,
    methods: Mapping[str, Trained | Callable[[xr.Dataset], Estimator]],
    held: ArrayLike,
    labels: Sequence[str],
    *,
    classes: ArrayLike,
    snr: ArrayLike,
) -> Evaluation:
    """Train methods on the same spectra, and infer labels of the same held-out ones.

    Ridge and kernel ridge regression are always among the methods: what calls itself deep has to beat them.

    Parameters
    ----------
    cube : Dataset
        Spectra with labels along ``star``.
    methods : mapping of str to Trained or callable
        Untrained estimators by their names; or functions that train in their own way on the cube of the spectra that
        are learnt and return an estimator.
    held : array_like of bool, shape (star,)
        Spectra that are held out.
    labels : sequence of str
    classes, snr : array_like, shape (star,)
        Class and S/N of each spectrum, for the tables.

    Returns
    -------
    Evaluation
    """
    held = np.asarray(held, dtype=bool)
    baselines = {name: Regressor(network=name) for name in ("ridge", "kernel_ridge")}
    learnt, others = cube.isel({STAR: ~held}), cube.isel({STAR: held}).load()
    block = Block(grid_of(others), others["flux"].values, others["ivar"].values, others["mask"].values)
    predicted, times = {}, []
    for name, method in {**baselines, **methods}.items():
        start = time.process_time()
        fitted = train(learnt, method, labels) if isinstance(method, Trained) else method(learnt)
        middle = time.process_time()
        out = fitted.estimate(
            replace(block, inputs={n: others[n].values for n in fitted.inputs if n in others})
        )
        end = time.process_time()
        columns = {key: out[key] for key in out if out[key].ndim == 1}
        predicted[name] = pd.DataFrame({**columns, "recommended": recommended(out["result"], out["flags"])})
        rate = len(block.flux) / max(end - middle, 1e-9)
        times.append(
            {"method": name, "training": middle - start, "spectra": int((~held).sum()), "rate": rate}
        )
    truth = pd.DataFrame({name: others[name].values for name in labels})
    truth = truth.assign(**{"class": np.asarray(classes)[held], "snr": np.asarray(snr)[held]})
    return Evaluation(truth, predicted, pd.DataFrame(times))


def pooled(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Several splits as one: their rows one after another, their times as means."""
    methods = list(evaluations[0].predicted)
    return Evaluation(
        pd.concat([one.truth for one in evaluations], ignore_index=True),
        {m: pd.concat([one.predicted[m] for one in evaluations], ignore_index=True) for m in methods},
        pd.concat([one.times for one in evaluations]).groupby("method", sort=False, as_index=False).mean(),
    )


def residual_statistics(
    evaluation: Evaluation, labels: Sequence[str], *, snr: tuple[float, float] = (0.0, np.inf)
) -> pd.DataFrame:
    """Statistics of predicted minus known labels by method, class and label: Tables 2 to 6 of the paper in one.

    Parameters
    ----------
    evaluation : Evaluation
    labels : sequence of str
    snr : (float, float), optional
        Only spectra with an S/N in this range, the upper end not included.

    Returns
    -------
    DataFrame
        Columns ``method``, ``class`` ("all" as well), ``label``, ``n``, ``mean``, ``sigma`` (standard deviation),
        ``scatter`` (1.48 MAD), ``rmse``, and ``within_68`` and ``within_95``: the shares within the error and within
        the interval, NaN for methods that have none.
    """
    inside = evaluation.truth["snr"].between(*snr, inclusive="left").to_numpy()
    of = evaluation.truth["class"].to_numpy().astype(str)
    rows = []
    for method, table in evaluation.predicted.items():
        for label in labels:
            known = evaluation.truth[label].to_numpy("f8")
            away = table[label].to_numpy("f8") - known
            half = (
                table[f"{label}_err"].to_numpy("f8")
                if f"{label}_err" in table
                else np.full(len(away), np.nan)
            )
            ends = [
                table[f"{label}_{end}"].to_numpy("f8")
                for end in ("lo95", "hi95")
                if f"{label}_{end}" in table
            ]
            for name in (*sorted(set(of)), "all"):
                chosen = inside & np.isfinite(away) & ((of == name) | (name == "all"))
                if not chosen.any():
                    continue
                values = away[chosen]
                row = {
                    "method": method, "class": name, "label": label, "n": len(values), "mean": values.mean(),
                    "sigma": values.std(), "scatter": robust_scatter(values), "rmse": np.sqrt((values**2).mean()),
                    "within_68": _share(np.abs(values) <= half[chosen], np.isfinite(half[chosen])),
                    "within_95": np.nan,
                }  # fmt: skip
                if ends:
                    low, high = (end[chosen] for end in ends)
                    row["within_95"] = _share(
                        (known[chosen] >= low) & (known[chosen] <= high), np.isfinite(low)
                    )
                rows.append(row)
    return pd.DataFrame(rows)


def _share(inside: NDArray[np.bool_], known: NDArray[np.bool_]) -> float:
    return float(inside[known].mean()) if known.any() else np.nan


def table_of(
    statistics: pd.DataFrame,
    value: str = "sigma",
    published: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]] | None = None,
) -> pd.DataFrame:
    """Lay statistics out as the paper does: classes down, labels and methods across.

    Parameters
    ----------
    statistics : DataFrame
        See `residual_statistics`.
    value : {"sigma", "scatter", "rmse"}, optional
        "sigma" and "scatter" stand behind the mean (Tables 2 to 5, 7 and 8), and "rmse" stands alone (Table 6).
    published : mapping, optional
        Mean and scatter of other models by model, class and label, such as ``RESIDUALS_100K`` of
        `specxr.published.language`. Their data are others: the columns say "(paper)".

    Returns
    -------
    DataFrame
        Texts, empty where there is nothing.
    """
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in statistics.to_dict("records"):
        number = _short(row[value])
        text = number if value == "rmse" else f"{_short(row['mean'])} ± {number}"
        cells.setdefault((row["label"], row["method"]), {})[row["class"]] = text
    labels = list(dict.fromkeys(label for label, _ in cells))
    for model, classes in (published or {}).items():
        for name, residuals in classes.items():
            for label in labels:
                if label in residuals:
                    bias, scatter = residuals[label][:2]
                    column = cells.setdefault((label, f"{model} (paper)"), {})
                    column[name] = f"{_short(bias)} ± {_short(scatter)}"
    ordered = {key: cells[key] for label in labels for key in cells if key[0] == label}
    table = pd.DataFrame(ordered)
    names = sorted(table.index, key=lambda name: (name == "all", "OBAFGKM".find(name[:1])))
    return table.loc[names].fillna("")


def with_catalogue(
    evaluation: Evaluation,
    obsid: ArrayLike,
    catalogue: pd.DataFrame,
    *,
    cuts: Mapping[str, tuple[float, float]] | None = None,
) -> Evaluation:
    """Put the labels of another catalogue in the place of the known ones (Tables 7 and 8).

    Parameters
    ----------
    evaluation : Evaluation
    obsid : array_like of int, shape (spectrum,)
        Identifiers of its rows.
    catalogue : DataFrame
        Column ``obsid``, and labels by the names of the vocabulary.
    cuts : mapping of str to (float, float), optional
        Columns of the catalogue, and the lowest and highest value of rows that are used.

    Raises
    ------
    ValueError
        The catalogue lacks a column.
    """
    cuts = cuts or {}
    missing = [name for name in ("obsid", *cuts) if name not in catalogue]
    if missing:
        raise ValueError(
            f"the catalogue has no column {', '.join(missing)} (it has {', '.join(map(str, catalogue))}); obsid and "
            "the columns of the cuts are required. Rename its columns, or leave the cuts out."
        )
    for name, (low, high) in cuts.items():
        catalogue = catalogue[catalogue[name].between(low, high)]
    rows = (
        catalogue.drop_duplicates("obsid")
        .set_index("obsid")
        .reindex(np.asarray(obsid))
        .reset_index(drop=True)
    )
    labels = [name for name in LABELS if name in rows]
    truth = evaluation.truth.drop(columns=[name for name in LABELS if name in evaluation.truth])
    return replace(evaluation, truth=truth.assign(**{name: rows[name].to_numpy("f8") for name in labels}))


def scaling(evaluations: Mapping[int, Evaluation], labels: Sequence[str]) -> pd.DataFrame:
    """Statistics against the number of spectra that were learnt, with the times (section V.1).

    Parameters
    ----------
    evaluations : mapping of int to Evaluation
        By the number of spectra.
    labels : sequence of str
    """
    tables = []
    for number, evaluation in evaluations.items():
        statistics = residual_statistics(evaluation, labels).merge(
            evaluation.times.drop(columns="spectra"), on="method"
        )
        tables.append(statistics.assign(spectra=number))
    return pd.concat(tables, ignore_index=True)


def _short(number: float) -> str:
    """Whole numbers of kelvins, and two decimals of dex."""
    return f"{number:.0f}" if abs(number) >= 5 or number == 0 else f"{number:.2f}"
