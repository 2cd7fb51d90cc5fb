"""Is it a spectrum like those that were learnt: principal components of the training spectra.

A direct network answers inside its box whatever it is given. The spectrum itself says whether the answer means
anything: a few principal components explain the lines of every star like those of the training set, and leave most of
the lines of a galaxy, of another kind of star or of a star at a wrong velocity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.emulators.arrays import Required
from specxr.kernels.compiled import unexplained
from specxr.kernels.compiled.running_continuum import Spectra
from specxr.vocabulary import Flag

_MOST_ROWS = 4000  # spectra that decide the components
_TILE = 8  # see `networks`
_LEAST_SNR = 6.0  # mean of a pixel
# The thresholds are measured on spectra that are no star (tests/benchmarks/regressors.py).
_ERROR = 0.03  # of the components, as a share of the continuum
_NOISE_ERROR = 0.2  # of the variance that a survey gives
_LEAST_LINES = 10.0  # standard deviations of noise
_MARGIN, _LIMITS = 1.25, (0.15, 0.35)  # of the share of the lines that is left over


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of spectra over their continuum, in float32.

    Attributes
    ----------
    mean : ndarray, shape (pixel,)
    scale : ndarray, shape (pixel,)
        By which the flux less its mean is multiplied: noisy pixels count less.
    vectors : ndarray, shape (component, pixel)
        Orthonormal, in order of falling variance.
    unit : ndarray, shape (1,)
        Scatter of the first coefficient, the unit of all.
    limit : ndarray, shape (1,)
        Largest share of the lines that is left over in spectra of stars.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    vectors: NDArray[np.float32]
    unit: NDArray[np.float32]
    limit: NDArray[np.float32]

    @classmethod
    def of(cls, rows: Tensor, noise: NDArray[np.float32], number: int, seed: int) -> Self:
        """Find the components of spectra, shape (row, pixel), whose pixels have a noise of shape (pixel,)."""
        chosen = np.random.default_rng(seed).permutation(len(rows))[:_MOST_ROWS]
        part = rows[torch.from_numpy(chosen)]
        mean = part.mean(dim=0)
        scale = torch.from_numpy(_ERROR / np.sqrt(noise**2 + np.float32(_ERROR) ** 2))
        part = (part - mean) * scale
        number = max(_TILE, min(number, len(part) - 1, rows.shape[1]) // _TILE * _TILE)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found = torch.svd_lowrank(part, q=min(number + _TILE, *part.shape), niter=3)[2]
        vectors = found[:, :number].T.contiguous()
        unit, limit = (part @ vectors[0]).std().reshape(1).numpy(), np.full(1, _LIMITS[1], np.float32)
        return cls(mean.numpy(), scale.numpy(), vectors.numpy(), unit, limit)

    def limited_by(self, spectra: Spectra) -> Self:
        """The same with the limit that held-out stars call for."""
        _, model = self.coefficients_and_model(torch.from_numpy(spectra.flux))
        left, lines = self._shares(self.measures(spectra, model))
        share = np.quantile(left / lines, 0.99) if len(lines) else _LIMITS[1]
        return replace(self, limit=np.full(1, np.clip(_MARGIN * share, *_LIMITS), np.float32))

    def coefficients_and_model(self, flux: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients, shape (star, component), and the spectra that they stand for, shape (star, pixel)."""
        mean, scale, vectors = map(torch.from_numpy, (self.mean, self.scale, self.vectors))
        coefficients = ((flux - mean) * scale) @ vectors.T
        return coefficients / float(self.unit[0]), coefficients @ vectors / scale + mean

    def measures(self, spectra: Spectra, model: Tensor) -> NDArray[np.float64]:
        """What `measure_lines` says of the lines and of what the model leaves of them, shape (star, measure)."""
        out = np.empty((len(spectra.flux), unexplained.N_LINE_MEASURES))
        unexplained.measure_lines(spectra.flux, model.numpy(), spectra.weight, _ERROR, out)
        return out

    def flags(self, measures: NDArray[np.float64], snr: NDArray[np.float64]) -> NDArray[np.int64]:
        """Flags that the spectrum itself calls for, shape (star,)."""
        left, lines = self._shares(measures)
        poor = left > self.limit[0] * lines
        bare = ~(measures[:, unexplained.LINES] > _LEAST_LINES * measures[:, unexplained.UNCERTAINTY])
        low = ~(snr >= _LEAST_SNR)
        found = {Flag.POOR_FIT: poor, Flag.NO_LINES: bare, Flag.LOW_SNR: low}
        flags = np.zeros(len(snr), np.int64)
        for flag, stars in found.items():
            flags |= stars * int(flag)
        return flags

    @staticmethod
    def _shares(measures: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What is left beyond all noise, and the lines, which are positive."""
        noise = _NOISE_ERROR * measures[:, unexplained.NOISE] + 3.0 * measures[:, unexplained.UNCERTAINTY]
        return measures[:, unexplained.LEFT] - noise, np.maximum(measures[:, unexplained.LINES], 1e-9)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a model file holds of it."""
        return {name: getattr(self, name) for name in _NAMES}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Read what `arrays` gave."""
        return cls(*(arrays[name] for name in _NAMES))

    @staticmethod
    def required(n_pixel: int) -> dict[str, Required]:
        """What is required of the arrays of a file."""
        return {
            "mean": Required((n_pixel,), np.float32),
            "scale": Required((n_pixel,), np.float32, "positive"),
            "vectors": Required(("component", n_pixel), np.float32, "some"),
            "unit": Required((1,), np.float32, "positive"),
            "limit": Required((1,), np.float32, "positive"),
        }


_NAMES = ("mean", "scale", "vectors", "unit", "limit")
