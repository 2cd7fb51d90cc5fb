"""How spectra of hot stars change with abundances, and a generator that adds them to another one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import gaussian_filter1d

from specxr.content import whole_file
from specxr.kernels.rebin import rebin
from specxr.kernels.refraction import convert_medium
from specxr.spectra.line_spread import FWHM_TO_SIGMA
from specxr.synthesis.generators import Generator

_ARRAYS = ("elements", "teff", "logg", "edges", "slope", "curvature")


@dataclass(frozen=True, eq=False)
class Responses:
    """Change of the logarithm of the flux with abundances, on a grid of temperatures and gravities.

    With x = [X/Fe] of an element, ln flux changes by slope x + curvature x^2.

    Attributes
    ----------
    elements : tuple of str
        Labels such as ``mg_fe``.
    teff, logg : ndarray, shape (temperature,), (gravity,)
        Nodes of the grid [K, dex], rising.
    edges : ndarray, shape (pixel + 1,)
        Edges of the pixels [Angstrom, air], in equal steps of the logarithm.
    slope, curvature : ndarray, shape (temperature, gravity, element, pixel)
        Per dex and dex^2, of spectra that are not broadened.
    """

    elements: tuple[str, ...]
    teff: NDArray[np.float64]
    logg: NDArray[np.float64]
    edges: NDArray[np.float64]
    slope: NDArray[np.float32]
    curvature: NDArray[np.float32]

    def __post_init__(self) -> None:
        shape = (len(self.teff), len(self.logg), len(self.elements), len(self.edges) - 1)
        for name in ("slope", "curvature"):
            array = getattr(self, name)
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(
                    f"{name} has the shape {array.shape} or numbers that are not finite; finite numbers of the shape "
                    f"{shape} are required. Compute the responses again (recipes/hot_star_grid.py)."
                )

    def at(
        self, teff: NDArray[np.float64], logg: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Slope and curvature of stars, shape (star, element, pixel); beyond the grid those of its edge.

        They are linear in ln Teff and in log g between the nodes.
        """
        points = [np.clip(np.log(teff), *np.log(self.teff[[0, -1]])), np.clip(logg, *self.logg[[0, -1]])]
        axes = [np.log(self.teff), self.logg]
        found = []
        for values in (self.slope, self.curvature):
            # An axis of one node has nothing to interpolate.
            kept = [i for i in range(2) if len(axes[i]) > 1]
            grid = values[tuple(slice(None) if i in kept else 0 for i in range(2))].astype("f8")
            if not kept:
                found.append(np.broadcast_to(grid, (len(teff), *grid.shape)))
                continue
            between = RegularGridInterpolator([axes[i] for i in kept], grid)
            found.append(between(np.stack([points[i] for i in kept], axis=1)))
        return found[0], found[1]

    def write(self, path: str | Path) -> None:
        """Write the responses to an .npz file; slopes in half precision, which is enough for 0.1 % of them."""
        with whole_file(path) as draft, draft.open("wb") as file:
            np.savez_compressed(
                file,
                elements=np.array(self.elements),
                teff=self.teff,
                logg=self.logg,
                edges=self.edges,
                slope=self.slope.astype("f2"),
                curvature=self.curvature.astype("f2"),
            )

    @classmethod
    def read(cls, path: str | Path) -> Responses:
        """Read what `write` wrote.

        Raises
        ------
        ValueError
            The file is none of responses.
        """
        try:
            # numpy does not close a damaged file that it opened itself.
            with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = {name: file[name] for name in _ARRAYS}
        except (BadZipFile, KeyError, ValueError, EOFError, AttributeError, TypeError) as error:
            raise ValueError(
                f"{path} is no file of responses ({error}); a file of recipes/hot_star_grid.py is required. Give "
                "such a file."
            ) from error
        elements = tuple(str(name) for name in arrays.pop("elements"))
        single = {name: arrays.pop(name).astype("f4") for name in ("slope", "curvature")}
        return cls(elements, **arrays, **single)


class WithAbundances:
    """Spectra of another generator, changed by abundances.

    Parameters
    ----------
    base : Generator
        Source of the spectra of labels such as ``teff``, ``logg`` and ``feh``; both first ones are required.
    responses : Responses
        Its elements become labels. They act on pixels of `base` that they cover; elsewhere nothing changes.

    Raises
    ------
    ValueError
        The generator has no teff or logg, or one of the elements already.
    """

    def __init__(self, base: Generator, responses: Responses) -> None:
        missing = {"teff", "logg"} - set(base.labels)
        double = set(base.labels) & set(responses.elements)
        if missing or double:
            raise ValueError(
                f"the {base.name} has the labels {', '.join(base.labels)}, the responses are those of "
                f"{', '.join(responses.elements)}; teff and logg in the first, and other labels in the second, are "
                "required. Take another generator."
            )
        self._base, self._responses = base, responses
        self.name = f"{base.name} with {', '.join(responses.elements)}"
        self.labels: tuple[str, ...] = (*base.labels, *responses.elements)
        self.edges, self.medium, self.resolving_power = base.edges, base.medium, base.resolving_power
        self._local = _on_pixels(responses, base.edges, base.medium, base.resolving_power)

    def spectra(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Flux of shape (star, pixel) for labels of shape (star, label)."""
        n = len(self._base.labels)
        flux = self._base.spectra(np.ascontiguousarray(labels[:, :n]))
        teff, logg = (labels[:, self.labels.index(name)] for name in ("teff", "logg"))
        slope, curvature = self._local.at(teff, logg)
        x = labels[:, n:, None]
        change: NDArray[np.float64] = ((slope + curvature * x) * x).sum(axis=1)
        return flux * np.exp(change)

    def __reduce__(self) -> tuple[type[WithAbundances], tuple[Generator, Responses]]:
        return type(self), (self._base, self._responses)


def _on_pixels(
    responses: Responses, edges: NDArray[np.float64], medium: str, resolving_power: float | None
) -> Responses:
    """Responses on other pixels [Angstrom, in `medium`], as broad as spectra of a resolving power."""
    onto = convert_medium(edges, medium, "air")
    own = responses.edges
    sigma = 0.0
    if resolving_power is not None:
        sigma = FWHM_TO_SIGMA / resolving_power / float(np.log(own[1] / own[0]))

    def moved(name: str) -> NDArray[np.float32]:
        values = np.asarray(getattr(responses, name), dtype="f8")
        if sigma > 0:
            values = gaussian_filter1d(values, sigma, axis=-1)
        flat = values.reshape(-1, values.shape[-1])
        inside = (onto[:-1] >= own[0]) & (onto[1:] <= own[-1])
        new = np.zeros((len(flat), len(onto) - 1), dtype="f4")
        if inside.any():
            first, last = np.flatnonzero(inside)[[0, -1]]
            new[:, first : last + 1] = rebin(torch.from_numpy(flat), own, onto[first : last + 2]).numpy()
        return new.reshape(*values.shape[:-1], -1)

    return Responses(
        responses.elements, responses.teff, responses.logg, onto, moved("slope"), moved("curvature")
    )
