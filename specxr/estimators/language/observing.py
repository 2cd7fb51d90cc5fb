"""The spectra of a block as a language model reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from specxr.estimators.base import Block
from specxr.estimators.language.reading import Reading
from specxr.estimators.model_file import Model
from specxr.estimators.observe import Normalised, Observed, observe
from specxr.estimators.outputs import Inferred, model_spectra
from specxr.estimators.quality import Quality
from specxr.kernels.least_squares import LANES
from specxr.kernels.pseudo_continuum import over_continuum, pseudo_continuum
from specxr.spectra.grid import Grid
from specxr.spectra.normalisation import Normalisation
from specxr.vocabulary import Flag, Result


@dataclass(frozen=True, eq=False)
class Read:
    """The stars of a block that can be read, and what is read of them.

    Attributes
    ----------
    observed : Observed
        Its weights are 1 for the pixels that are used.
    values : ndarray, shape (fitted, linear pixel)
        Flux over its maximum.
    maximum : ndarray, shape (fitted,)
        By what the flux over its scale was divided.
    inside : slice
        The pixels among those of `observed` that are read.
    """

    observed: Observed
    values: NDArray[np.float64]
    maximum: NDArray[np.float64]
    inside: slice


def read_block(block: Block, grid: Grid, reading: Reading, bits: int, least: int) -> Read:
    """Read the spectra of a block.

    Parameters
    ----------
    block : Block
    grid : Grid
        Grid of the training set. Spectra that are not normalised yet are normalised by its recipe, if it has one.
    reading : Reading
    bits : int
        Bits of the mask that leave a pixel out.
    least : int
        A star needs more pixels than this.
    """
    pixels = grid.part_of(block.grid, "this LanguageModel")
    inside = reading.pixels(grid)
    recipe = None
    if grid.normalisation and not block.grid.normalisation:
        recipe = Normalisation.from_json(grid.normalisation)

    def normalise(flux_in: NDArray[Any], ivar_in: NDArray[Any], good_in: NDArray[np.bool_]) -> Normalised:
        flux = torch.from_numpy(np.asarray(flux_in, dtype="f8"))
        ivar, good = torch.from_numpy(np.asarray(ivar_in, dtype="f8")), torch.from_numpy(good_in)
        scale = torch.ones_like(flux[:, :1])
        if recipe is not None:
            scale = pseudo_continuum(torch.where(good, flux, 1.0), good, grid.wavelength, recipe)
            flux, ivar = over_continuum(flux, ivar, good, scale)
            good = good & (scale > 0)
        flux = torch.where(good, flux, 0.0)
        used = torch.zeros_like(good)
        used[:, inside] = good[:, inside]
        highest = torch.where(used, flux, -torch.inf).amax(dim=1) if len(flux) else flux[:, 0]
        snr = torch.where(used & (ivar > 0), flux * ivar.sqrt(), torch.nan)
        return Normalised(
            flux,
            used.double(),
            scale,
            used.sum(-1).numpy(),
            ((highest > 0) & torch.isfinite(highest)).numpy(),
            snr.nanmedian(dim=1).values if len(snr) else snr[:, 0],
        )

    observed = observe(
        block,
        pixels,
        bits,
        normalise,
        least=least,
        reference=torch.zeros(0, dtype=torch.float64),
        weighted=False,
    )
    width = pixels.stop - pixels.start
    flux, good = observed.flux[:, :width].numpy(), observed.sqrt_weight[:, :width].numpy() > 0
    values, maximum = reading(flux[:, inside], good[:, inside], grid.wavelength[inside])
    return Read(observed, values, maximum, inside)


def judged(
    block: Block,
    read: Read,
    reading: Reading,
    model: Model,
    labels: NDArray[np.float64],
    covariance: NDArray[np.float64],
) -> Inferred:
    """Labels of shape (fitted, label) with what is to be said of them: limits, flags, and what was read of the flux.

    ``chi2`` is what the reading leaves of the flux over its maximum, and ``reduced_chi2`` the same over the variance.
    """
    observed = read.observed
    used = observed.sqrt_weight[:, read.inside].numpy() > 0
    seen = reading.back(read.values, model.grid.wavelength[read.inside])
    square = np.where(used, observed.flux[:, read.inside].numpy() / read.maximum[:, None] - seen, 0.0) ** 2
    unit = observed.scale.expand(-1, observed.flux.shape[1])[:, read.inside].numpy() * read.maximum[:, None]
    ivar = block.ivar[observed.star][:, observed.pixels][:, read.inside]
    n_good = used.sum(axis=1)
    reduced = (np.where(used, ivar, 0.0) * unit**2 * square).sum(axis=1) / n_good
    values, bounds = torch.from_numpy(labels), torch.tensor(list(model.bounds.values()), dtype=torch.float64)
    error = torch.from_numpy(covariance).diagonal(dim1=1, dim2=2).sqrt()  # answers are rounded
    one = torch.ones(len(labels), dtype=torch.int64)
    n_pixel = read.inside.stop - read.inside.start
    return Inferred(
        values,
        torch.from_numpy(covariance),
        values < bounds[:, 0] - error,
        values > bounds[:, 1] + error,
        torch.from_numpy(square.sum(axis=1)),
        torch.from_numpy(n_good),
        one,
        (one * int(Result.CONVERGED)).to(torch.uint8),
        model.domain.outside(values) * int(Flag.OUTSIDE_TRAINING),
        Quality(observed.snr, torch.from_numpy(reduced), torch.zeros_like(one)),
        n_pixel,
        float(n_pixel),
    )


def spectra_of(block: Block, read: Read, reading: Reading, grid: Grid) -> dict[str, NDArray[Any]]:
    """What was read, as a model of the flux in its units, NaN outside the window; and the pixels that were used."""
    observed = read.observed
    seen = np.full(observed.flux.shape, np.nan)
    seen[:, read.inside] = read.maximum[:, None] * reading.back(read.values, grid.wavelength[read.inside])
    models = torch.from_numpy(seen)
    return model_spectra(block, observed, observed.sqrt_weight > 0, lambda index: models[index], LANES["cpu"])
