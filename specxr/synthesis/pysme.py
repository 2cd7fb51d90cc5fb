"""Spectra computed line by line with PySME, an optional package, from files of model atmospheres and lines."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_BOLTZMANN = 1.380649e-16  # erg/K
_GRAMS_PER_ATOM = 1.26 * 1.66054e-24  # nine atoms of hydrogen to one of helium
_RYDBERG = 109677.58  # constant of hydrogen [1/cm]
# Opacity sources of ATLAS, as in the head of its atmospheres.
_OPACITIES = (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 1, 0, 0, 0)
_ABUNDANCES = "asplund2009"
_LABEL_TOLERANCE = {"teff": 1.0, "logg": 0.005}


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


def read_lines(paths: Sequence[str | Path], low: float, high: float) -> pd.DataFrame:
    """Read atomic lines from lists in the layout of MOOG (linemake), sorted by wavelength.

    Parameters
    ----------
    paths : sequence of str or Path
        Lists, plain or gzipped.
    low, high : float
        First and last wavelength [Angstrom, air].

    Returns
    -------
    DataFrame
        Lines in the layout of PySME. The damping constants of a Balmer line hold its principal quantum numbers.

    Raises
    ------
    ValueError
        No line lies between the wavelengths.
    """
    rows = []
    for path in paths:
        opened = gzip.open(path, "rt") if str(path).endswith(".gz") else open(path)
        with opened as file:
            for line in file:
                values = [float(word) for word in line.split()[:4]]
                if low <= values[0] <= high and values[1] < 100:  # larger numbers are molecules
                    rows.append(values)
    if not rows:
        raise ValueError(
            f"the line lists have no atomic line between {low:.1f} and {high:.1f} Angstrom; lines are required. Give "
            "the lists of this range."
        )
    wavelength, species, excitation, strength = np.array(sorted(rows)).T
    number = species.astype(int)
    stage = np.rint(10.0 * (species - number)).astype(int) + 1
    hydrogen = number == 1
    upper = np.rint(1.0 / np.sqrt(np.where(hydrogen, 0.25 - 1e8 / wavelength / _RYDBERG, 1.0)))
    from pysme.abund import elements

    return pd.DataFrame(
        {
            "species": [f"{elements[z - 1]} {i}" for z, i in zip(number, stage, strict=True)],
            "wlcent": wavelength,
            "excit": excitation,
            "gflog": strength,
            "gamrad": 0.0,
            "gamqst": np.where(hydrogen, 2.0, 0.0),
            "gamvw": np.where(hydrogen, upper, 0.0),
            "atom_number": number.astype(float),
            "ionization": stage.astype(float),
        }
    )


class PySMESpectra:
    """LTE spectra, normalised, at the temperatures and gravities of given model atmospheres.

    Atmospheres are not interpolated, and [Fe/H] and abundances change the lines but not the structure: this serves
    studies of single stars, and libraries with an atmosphere for each star. A few hundred Angstrom take seconds; store
    the spectra as a cube for `Library`.

    Parameters
    ----------
    atmospheres : sequence of Atmosphere
    lines : sequence of str or Path
        Line lists in the layout of MOOG, see `read_lines`.
    edges : ndarray, shape (pixel + 1,)
        Edges of the pixels [Angstrom, air].
    labels : tuple of str, optional
        Names of the labels: ``teff`` and ``logg``, and any of ``feh``, ``vmic`` and abundances such as ``mg_fe``.

    Raises
    ------
    ImportError
        PySME is not installed.
    """

    medium = "air"
    resolving_power = None

    def __init__(
        self,
        atmospheres: Sequence[Atmosphere],
        lines: Sequence[str | Path],
        edges: NDArray[np.float64],
        labels: tuple[str, ...] = ("teff", "logg", "feh", "vmic"),
    ) -> None:
        _require_pysme()
        self.labels, self.edges, self.name = labels, edges, "PySME"
        self._atmospheres = tuple(atmospheres)
        # The wings of a broad line beyond the ends reach the pixels.
        self._lines = read_lines(lines, edges[0] - 50.0, edges[-1] + 50.0)

    def spectra(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Flux of shape (star, pixel) for labels of shape (star, label)."""
        from pysme.synthesize import synthesize_spectrum

        stars = [dict(zip(self.labels, map(float, values), strict=True)) for values in labels]
        return np.stack([np.asarray(synthesize_spectrum(self._star(star)).synth[0]) for star in stars])

    def _star(self, labels: dict[str, float]) -> Any:
        """Input of PySME for one star."""
        from pysme.abund import Abund
        from pysme.linelist.linelist import LineList
        from pysme.sme import SME_Structure

        model = self._atmosphere(labels["teff"], labels["logg"])
        star = SME_Structure()
        star.teff, star.logg, star.monh = model.teff, model.logg, labels.get("feh", 0.0)
        star.vmic, star.vmac, star.vsini = labels.get("vmic", 2.0), 0.0, 0.0
        star.abund = Abund(star.monh, _ABUNDANCES)
        for name, value in labels.items():
            if name.endswith("_fe"):
                star.abund.xm[name.removesuffix("_fe").capitalize()] = value
        star.linelist = LineList(self._lines.copy(), lineformat="short", medium="air")
        centre = 0.5 * (self.edges[1:] + self.edges[:-1])
        star.wran, star.wave = [[centre[0], centre[-1]]], centre

        particles = model.pressure / (_BOLTZMANN * model.temperature)
        layers = star.atmo
        layers.method, layers.source, layers.geom = "embedded", "file", "PP"
        layers.depth = layers.interp = "RHOX"
        layers.teff, layers.logg, layers.monh, layers.abund = star.teff, star.logg, star.monh, star.abund
        layers.vturb, layers.wlstd, layers.opflag = star.vmic, 5000.0, np.array(_OPACITIES)
        layers.rhox, layers.temp, layers.xne = model.column, model.temperature, model.electrons
        layers.xna = particles - model.electrons
        layers.rho = layers.xna * _GRAMS_PER_ATOM
        return star

    def _atmosphere(self, teff: float, logg: float) -> Atmosphere:
        for model in self._atmospheres:
            near = abs(model.teff - teff) < _LABEL_TOLERANCE["teff"]
            if near and abs(model.logg - logg) < _LABEL_TOLERANCE["logg"]:
                return model
        known = ", ".join(f"{model.teff:.0f} K {model.logg:.2f}" for model in self._atmospheres)
        raise ValueError(
            f"there is no atmosphere of {teff:.0f} K and log g {logg:.2f}, only {known}; an atmosphere for each star "
            "is required. Compute it, or change the design."
        )


def _require_pysme() -> None:
    try:
        import pysme  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "PySME is not installed; it is required to compute spectra from atmospheres and lines. Install it in an "
            'environment of its own, because it needs astropy < 8 and pandas < 3: pip install "specxr[pysme]".'
        ) from error
