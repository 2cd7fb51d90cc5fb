"""Designs of labels: which stars a training set holds."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Labels = dict[str, NDArray[np.float64]]

# Standard deviation of the perturbation of an isochrone's teff and logg [K, dex].
ISOCHRONE_SCATTER = (250.0, 0.25)


@dataclass(frozen=True)
class Uniform:
    """A distribution in which all values between `low` and `high` are equally likely."""

    low: float
    high: float

    def quantile(self, fraction: ArrayLike) -> NDArray[np.float64]:
        """Value below which this fraction of the stars lies."""
        return self.low + (self.high - self.low) * np.asarray(fraction, dtype="f8")


@dataclass(frozen=True)
class LogNormal:
    """A log-normal distribution that peaks at `mode` and is cut at `low` and `high`; `width` is in ln.

    The distribution of ln x peaks at ln(mode) + width^2.
    """

    mode: float
    width: float
    low: float
    high: float

    def quantile(self, fraction: ArrayLike) -> NDArray[np.float64]:
        """Value below which this fraction of the stars lies."""
        whole = stats.lognorm(self.width, scale=self.mode * np.exp(self.width**2))
        below, upto = whole.cdf((self.low, self.high))
        return cast("NDArray[np.float64]", whole.ppf(below + (upto - below) * np.asarray(fraction)))


@dataclass(frozen=True)
class Design:
    """Temperatures and gravities along isochrones, and a distribution for each other label.

    Parameters
    ----------
    teff, logg : (float, float)
        Ranges of the labels [K, dex].
    others : mapping of str to Uniform or LogNormal
        Distributions of the other labels, by their names in the vocabulary.
    scatter : (float, float), optional
        Standard deviation of the perturbation of teff and logg [K, dex].
    """

    teff: tuple[float, float]
    logg: tuple[float, float]
    others: Mapping[str, Uniform | LogNormal]
    scatter: tuple[float, float] = ISOCHRONE_SCATTER

    def draw(self, isochrones: pd.DataFrame, n_stars: int, seed: int) -> Labels:
        """Draw the labels of stars.

        Parameters
        ----------
        isochrones : DataFrame
            Points of isochrones, see `read_isochrones`.
        n_stars, seed : int

        Returns
        -------
        dict of str to ndarray, shape (star,)
            Labels in the units of the vocabulary.
        """
        along = draw_isochrones(isochrones, n_stars, seed, self.teff, self.logg, self.scatter)
        return along | draw(self.others, n_stars, seed)


def draw(
    distributions: Mapping[str, Uniform | LogNormal], n_stars: int, seed: int, sobol: bool = True
) -> Labels:
    """Draw labels, each from its own distribution.

    Parameters
    ----------
    distributions : mapping of str to Uniform or LogNormal
        Distributions by the names of the vocabulary.
    n_stars, seed : int
    sobol : bool, optional
        Whether the stars fill the box evenly, as a scrambled Sobol sequence does; otherwise they are independent.

    Returns
    -------
    dict of str to ndarray, shape (star,)
        Labels in the units of the vocabulary.
    """
    if sobol:
        sequence = stats.qmc.Sobol(len(distributions), rng=seed)
        # Sobol sequences are balanced in powers of two, and SciPy warns about other lengths.
        fraction = sequence.random_base2(int(np.ceil(np.log2(max(n_stars, 1)))))[:n_stars]
    else:
        fraction = np.random.default_rng(seed).random((n_stars, len(distributions)))
    return {
        name: d.quantile(column) for (name, d), column in zip(distributions.items(), fraction.T, strict=True)
    }


def read_isochrones(path: str | Path) -> pd.DataFrame:
    """Read isochrones in the layout of FSPS (PARSEC), plain or gzipped.

    Returns
    -------
    DataFrame
        A row for each point of an isochrone: ``teff`` [K], ``logg`` [dex], ``log_age`` (log10 of the age in years),
        ``mass`` [solar masses].

    Raises
    ------
    ValueError
        The file lacks a column.
    """
    path = Path(path)
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else path.open()
    with opened as file:
        header = file.readline()
        names = header.lstrip("# ").split()
        missing = {"log(age)", "Mini", "logt", "logg"} - set(names)
        if missing:
            raise ValueError(
                f"{path} begins with {header.strip()[:80]!r}; the columns log(age), Mini, logt and logg of FSPS' "
                "isochrones are required. Give such a file, or make a table with the columns teff and logg."
            )
        table = pd.read_csv(file, sep=r"\s+", comment="#", header=None, names=names)
    return pd.DataFrame(
        {
            "teff": 10.0 ** table["logt"],
            "logg": table["logg"],
            "log_age": table["log(age)"],
            "mass": table["Mini"],
        }
    )


def draw_isochrones(
    isochrones: pd.DataFrame,
    n_stars: int,
    seed: int,
    teff: tuple[float, float],
    logg: tuple[float, float],
    scatter: tuple[float, float] = ISOCHRONE_SCATTER,
) -> Labels:
    """Draw temperatures and gravities along isochrones, perturbed, so that stars fill the space between them.

    Parameters
    ----------
    isochrones : DataFrame
        ``teff`` [K] and ``logg`` [dex]; all points are equally likely, and isochrones space them in evolutionary
        phase.
    n_stars, seed : int
    teff, logg : (float, float)
        Ranges of the perturbed labels [K, dex].
    scatter : (float, float), optional
        Standard deviation of the perturbation of teff and logg [K, dex].

    Returns
    -------
    dict of str to ndarray, shape (star,)
        ``teff`` [K] and ``logg`` [dex].

    Raises
    ------
    ValueError
        No point of the isochrones lies in the ranges.
    """
    # A point more than four standard deviations outside the ranges never comes in.
    reach_teff, reach_logg = 4.0 * scatter[0], 4.0 * scatter[1]
    near = isochrones["teff"].between(teff[0] - reach_teff, teff[1] + reach_teff)
    near &= isochrones["logg"].between(logg[0] - reach_logg, logg[1] + reach_logg)
    points = isochrones.loc[near, ["teff", "logg"]].to_numpy(dtype="float64")
    within = (points >= (teff[0], logg[0])) & (points <= (teff[1], logg[1]))
    if not within.all(axis=1).any():
        raise ValueError(
            f"the isochrones have no point with teff in {teff} and logg in {logg}; at least one is required. "
            "Give younger or older isochrones, or other ranges."
        )
    rng = np.random.default_rng(seed)
    drawn = np.empty((0, 2))
    while len(drawn) < n_stars:
        trial = points[rng.integers(len(points), size=2 * n_stars)]
        trial = trial + rng.normal(0.0, scatter, trial.shape)
        kept = (trial >= (teff[0], logg[0])) & (trial <= (teff[1], logg[1]))
        drawn = np.concatenate([drawn, trial[kept.all(axis=1)]])
    return {"teff": drawn[:n_stars, 0], "logg": drawn[:n_stars, 1]}
