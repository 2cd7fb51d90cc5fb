"""Model atmospheres: files of ATLAS, and atmospheres between and beyond them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import cumulative_trapezoid

BOLTZMANN = 1.380649e-16  # erg/K

# Optical depths of the layers of an atmosphere that is scaled, log10.
_LOG_TAU = np.linspace(-5.0, 2.0, 72)
_ROUNDS, _CONVERGED = 60, 1e-3

#: Gives the opacity at the reference wavelength [cm2/g] and the electrons [1/cm3] of each layer of an atmosphere.
Opacity = Callable[["Atmosphere"], tuple[NDArray[np.float64], NDArray[np.float64]]]


@dataclass(frozen=True, eq=False)
class Atmosphere:
    """A model atmosphere.

    Attributes
    ----------
    teff, logg : float
        Effective temperature [K] and surface gravity [dex].
    column, temperature, pressure, electrons : ndarray, shape (depth,)
        Mass column [g/cm2], temperature [K], gas pressure [dyn/cm2], electron number density [1/cm3].
    """

    teff: float
    logg: float
    column: NDArray[np.float64]
    temperature: NDArray[np.float64]
    pressure: NDArray[np.float64]
    electrons: NDArray[np.float64]


def read_atmosphere(path: str | Path) -> Atmosphere:
    """Read a model atmosphere in the layout of ATLAS9 and ATLAS12.

    Raises
    ------
    ValueError
        The file has another layout, or its mass column does not rise with depth.
    """
    text = Path(path).read_text()
    head = re.search(r"TEFF\s+(\S+)\s+GRAVITY\s+(\S+)", text)
    deck = re.search(r"READ DECK6\s+(\d+).*\n", text)
    if head is None or deck is None:
        raise ValueError(
            f"{path} has no line 'TEFF ... GRAVITY ...' or no 'READ DECK6'; a model atmosphere as ATLAS9 and ATLAS12 "
            "write it is required. Give such a file."
        )
    rows = text[deck.end() :].splitlines()[: int(deck[1])]
    # Fortran lets columns touch: -1.000E+00-2.000E+00.
    numbers = [re.findall(r"[-+]?\d*\.\d+(?:E[-+]\d+)?", row)[:4] for row in rows]
    columns = np.array(numbers, dtype="f8").T
    if not np.all(np.diff(columns[0]) > 0):
        raise ValueError(
            f"the mass column of {path} does not rise with depth; each layer must lie below the one before. The "
            "atmosphere did not converge: compute it again."
        )
    return Atmosphere(float(head[1]), float(head[2]), *columns)


def scale_atmosphere(models: Sequence[Atmosphere], teff: float, logg: float, opacity: Opacity) -> Atmosphere:
    """Give an atmosphere of a temperature and gravity from models of other ones.

    T / Teff at equal optical depth is that of the two models whose temperatures enclose `teff`, linear in log Teff
    between them; beyond all models it is that of the last one. The gas pressure carries the weight of the layers
    above (hydrostatic equilibrium, without radiation pressure), with the opacity of the new temperatures and
    pressures.

    Parameters
    ----------
    models : sequence of Atmosphere
    teff, logg : float
        Labels of the new atmosphere [K, dex].
    opacity : callable
        Continuous opacity at the wavelength of the optical depth, and electrons, of an atmosphere.

    Returns
    -------
    Atmosphere

    Raises
    ------
    ValueError
        There is no model, or the pressures do not converge.
    """
    if not models:
        raise ValueError(
            "there is no model atmosphere; at least one is required. Read one with `read_atmosphere`."
        )
    # Of models with the same temperature, the one with the nearest gravity counts.
    known = {model.teff: model for model in sorted(models, key=lambda model: -abs(model.logg - logg))}
    order = np.array(sorted(known))
    above = int(np.clip(np.searchsorted(order, teff), 1, max(len(order) - 1, 1)))
    pair = [known[t] for t in order[max(above - 1, 0) : above + 1]]
    shapes, columns = zip(*(_on_optical_depth(model, opacity) for model in pair), strict=True)
    share = 0.0
    if len(pair) == 2:
        share = float(np.clip(np.log(teff / pair[0].teff) / np.log(pair[1].teff / pair[0].teff), 0.0, 1.0))
    temperature = teff * ((1.0 - share) * shapes[0] + share * shapes[-1])
    column = columns[0] * 10.0 ** (0.6 * (pair[0].logg - logg))  # a first guess
    tau, gravity = 10.0**_LOG_TAU, 10.0**logg
    fraction = np.full(tau.size, 0.4)  # of the particles that are electrons
    for _ in range(_ROUNDS):
        particles = gravity * column / (BOLTZMANN * temperature)
        found = Atmosphere(teff, logg, column, temperature, gravity * column, fraction * particles)
        kappa, electrons = opacity(found)
        fraction = np.minimum(electrons / particles, 0.5)
        new = _integral(tau, 1.0 / kappa)
        change = float(np.abs(np.log(new / column)).max())
        if change < _CONVERGED:
            return found
        # More pressure makes more opacity, and that less pressure: half a step does not swing.
        column = np.sqrt(column * new)
    raise ValueError(
        f"the pressures of an atmosphere of {teff:.0f} K and log g {logg:.2f} still change by {change:.1e}; a "
        f"change below {_CONVERGED:g} is required. Give models that lie nearer."
    )


def _on_optical_depth(model: Atmosphere, opacity: Opacity) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """T / Teff and mass column of a model at the optical depths of a scaled atmosphere."""
    log_tau = np.log10(_integral(model.column, opacity(model)[0]))
    relative = np.interp(_LOG_TAU, log_tau, model.temperature / model.teff)
    # Beyond the deepest layer the temperature goes on as in the last layers.
    slope = np.polyfit(log_tau[-5:], np.log(model.temperature[-5:]), 1)[0]
    relative *= np.exp(slope * np.maximum(_LOG_TAU - log_tau[-1], 0.0))
    return relative, 10.0 ** np.interp(_LOG_TAU, log_tau, np.log10(model.column))


def _integral(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integral of y from 0 to each x, with y constant above the first one."""
    steps: NDArray[np.float64] = cumulative_trapezoid(y * x, np.log(x), initial=0.0)
    return np.asarray(y[0] * x[0] + steps)
