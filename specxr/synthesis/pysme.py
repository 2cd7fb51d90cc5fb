"""Spectra computed line by line with PySME, an optional package, from files of model atmospheres and lines."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specxr.synthesis.atmospheres import BOLTZMANN, Atmosphere, scale_atmosphere
from specxr.vocabulary import SPEED_OF_LIGHT

_GRAMS_PER_ATOM = 1.26 * 1.66054e-24  # nine atoms of hydrogen to one of helium
_RYDBERG = 109677.58  # constant of hydrogen [1/cm]
# Opacity sources of ATLAS, as in the head of its atmospheres.
_OPACITIES = (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 1, 0, 0, 0)
_ABUNDANCES = "asplund2009"
_LABEL_TOLERANCE = {"teff": 1.0, "logg": 0.005}
_REFERENCE = 5000.0  # Angstrom; wavelength of the optical depth

# Rays from the centre of the disk to its limb; each stands for the same area.
_MU = np.sqrt((np.arange(3) + 0.5) / 3)[::-1].copy()
# Largest distance of the wavelengths at which the transfer is solved [km/s]; a line of iron is 4 km/s wide.
_SAMPLING = 3.0
# Lines change the spectrum so far from their centres [Angstrom]; those whose opacity in the centre is this many times
# that of the continuum have wings. The lines of hydrogen are always computed.
_REACH, _REACH_OF_WINGS, _WINGS = 0.8, 4.0, 30.0
# A line of which the opacity in its centre is smaller than this, in units of the continuum's, is at R = 1800 less deep
# than 1e-4: a line 4.4 km/s wide of half this depth, spread over 167 km/s.
_WEAKEST = 1e-2


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
    # Neighbouring lists overlap.
    wavelength, species, excitation, strength = np.unique(np.array(rows), axis=0).T
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
    """LTE spectra, normalised, from model atmospheres and lines.

    A star whose temperature and gravity are those of a given atmosphere has this one; others have atmospheres that are
    scaled from those given (`scale_atmosphere`). [Fe/H] and abundances change the lines and the opacity, not the
    structure. Lines that cannot be seen at R = 1800 are left out.

    Parameters
    ----------
    atmospheres : sequence of Atmosphere
    lines : sequence of str or Path
        Line lists in the layout of MOOG, see `read_lines`.
    edges : ndarray, shape (pixel + 1,)
        Edges of the pixels [Angstrom, air].
    labels : tuple of str, optional
        Names of the labels: ``teff`` and ``logg``, and any of ``feh``, ``vmic`` and abundances such as ``mg_fe``.
    weakest : float, optional
        Opacity of the weakest line in its centre, in units of that of the continuum.

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
        weakest: float = _WEAKEST,
    ) -> None:
        _require_pysme()
        self.labels, self.edges, self.name = labels, edges, "PySME"
        self._atmospheres, self._weakest = tuple(atmospheres), weakest
        # The wings of a broad line beyond the ends reach the pixels.
        self._lines = read_lines(lines, edges[0] - 50.0, edges[-1] + 50.0)

    def spectra(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Flux of shape (star, pixel) for labels of shape (star, label)."""
        found = []
        for values in labels:
            star = dict(zip(self.labels, map(float, values), strict=True))
            model = self._atmosphere(star)
            every = wavelengths_within(self.edges)
            found.append(self._means(self._solve(star, model, self._seen(star, model), every), every))
        return np.stack(found)

    def responses(self, star: dict[str, float], elements: Sequence[str], step: float) -> NDArray[np.float64]:
        """Logarithm of how the spectrum changes with abundances, shape (element, sign, pixel).

        Only wavelengths near lines of an element are computed; elsewhere it is 0.

        Parameters
        ----------
        star : dict of str to float
            Labels of the star.
        elements : sequence of str
            Abundances such as ``mg_fe`` that are changed, one at a time.
        step : float
            The change [dex]; the second axis has the spectra with `step` less and more.
        """
        model = self._atmosphere(star)
        lines, every = self._seen(star, model), wavelengths_within(self.edges)
        centres, strength = lines["wlcent"].to_numpy(), lines["strength"].to_numpy()
        hydrogen = lines["atom_number"].to_numpy() == 1.0
        found = np.zeros((len(elements), 2, len(self.edges) - 1))
        for row, name in enumerate(elements):
            own = lines["species"].str.split().str[0] == name.removesuffix("_fe").capitalize()
            winged = own & (strength > _WINGS)
            here = every[_near(every, centres[own], _REACH) | _near(every, centres[winged], _REACH_OF_WINGS)]
            if not here.size:
                continue
            around = lines[_near(centres, here, _REACH) | hydrogen].reset_index(drop=True)
            known = star.get(name, 0.0)
            less, same, more = (
                self._means(self._solve({**star, name: known + change}, model, around, here), here)
                for change in (-step, 0.0, step)
            )
            covered = same > 0
            found[row, :, covered] = np.log(np.stack([less, more])[:, covered] / same[covered]).T
        return found

    def _means(self, flux: NDArray[np.float64], wavelengths: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean of the flux at the wavelengths within each pixel; 0 where there is none."""
        at, n = np.searchsorted(self.edges, wavelengths) - 1, len(self.edges) - 1
        return np.bincount(at, flux, n)[:n] / np.maximum(np.bincount(at, minlength=n)[:n], 1)

    def _seen(self, star: dict[str, float], model: Atmosphere) -> pd.DataFrame:
        """Lines that are strong enough to be seen in a star."""
        library = _library(model, star, self._lines, self._lines["wlcent"].iloc[[0, -1]].to_numpy())
        strength, _ = library.ALMAXRange(self._weakest)
        seen = (strength > self._weakest) | (self._lines["atom_number"].to_numpy() == 1.0)
        return self._lines.assign(strength=strength)[seen].reset_index(drop=True)

    def _solve(
        self, star: dict[str, float], model: Atmosphere, lines: pd.DataFrame, wavelengths: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Flux over the continuum at wavelengths, shape (wavelength,)."""
        library = _library(model, star, lines, wavelengths[[0, -1]] + np.array([-2.0, 2.0]))
        _, _, intensity, continuum = library.Transf(_MU, wave=wavelengths, accrt=1e-4)
        return np.asarray(intensity.sum(axis=0) / continuum.sum(axis=0))

    def _atmosphere(self, star: dict[str, float]) -> Atmosphere:
        for model in self._atmospheres:
            near = abs(model.teff - star["teff"]) < _LABEL_TOLERANCE["teff"]
            if near and abs(model.logg - star["logg"]) < _LABEL_TOLERANCE["logg"]:
                return model
        return scale_atmosphere(self._atmospheres, star["teff"], star["logg"], partial(self._opacity, star))

    def _opacity(
        self, star: dict[str, float], model: Atmosphere
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Continuous opacity at the reference wavelength [cm2/g], and electrons [1/cm3], of each layer."""
        # The library solves the equilibrium of ions for the elements of lines only.
        library = _library(model, star, self._lines.iloc[:1], np.array([_REFERENCE, _REFERENCE + 1.0]))
        return np.array(library.GetOpacity("COPBLU")), np.array(library.GetNelec())


def wavelengths_within(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Wavelengths at which the transfer is solved [Angstrom], in equal steps of ln: one at least in each pixel."""
    steps = np.diff(np.log(edges))
    n = int(np.ceil(steps.sum() / min(_SAMPLING / SPEED_OF_LIGHT, steps.min())))
    return np.asarray(edges[0] * np.exp((np.arange(n) + 0.5) * steps.sum() / n))


def _near(wavelengths: NDArray[np.float64], lines: NDArray[np.float64], reach: float) -> NDArray[np.bool_]:
    """Whether each wavelength lies near one of the lines."""
    edges = np.concatenate([[-np.inf], np.sort(lines), [np.inf]])
    at = np.searchsorted(edges, wavelengths)
    return np.asarray(np.minimum(edges[at] - wavelengths, wavelengths - edges[at - 1]) < reach)


def _library(
    model: Atmosphere, star: dict[str, float], lines: pd.DataFrame, ends: NDArray[np.float64]
) -> Any:
    """PySME's compiled library, which is one for the process, with an atmosphere, abundances and lines in it."""
    from pysme.abund import Abund
    from pysme.linelist.linelist import LineList
    from pysme.sme_synth import SME_DLL

    abundances = Abund(star.get("feh", 0.0), _ABUNDANCES)
    for name, value in star.items():
        if name.endswith("_fe"):
            abundances.xm[name.removesuffix("_fe").capitalize()] = value
    atoms = model.pressure / (BOLTZMANN * model.temperature) - model.electrons
    layers = {
        "depth": "RHOX", "RHOX": model.column, "geom": "PP", "wlstd": _REFERENCE, "opflag": np.array(_OPACITIES),
        "temp": model.temperature, "xne": model.electrons, "xna": atoms, "rho": atoms * _GRAMS_PER_ATOM,
    }  # fmt: skip
    library = SME_DLL()
    library.InputLineList(
        LineList(lines.drop(columns="strength", errors="ignore"), lineformat="short", medium="air")
    )
    library.InputAbund(abundances)
    library.InputModel(model.teff, model.logg, star.get("vmic", 2.0), layers)
    library.Ionization(0)
    library.SetVWscale(1.0)
    library.SetH2broad(False)
    library.SetContinuumOpacityGrid("adaptive")
    library.InputWaveRange(*ends)
    library.Opacity()
    return library


def _require_pysme() -> None:
    try:
        import pysme  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "PySME is not installed; it is required to compute spectra from atmospheres and lines. Install it in an "
            'environment of its own, because it needs astropy < 8 and pandas < 3: pip install "specxr[pysme]".'
        ) from error
