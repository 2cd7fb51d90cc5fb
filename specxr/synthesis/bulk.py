"""A large simulated survey, made block by block as fast as it can be written."""

from __future__ import annotations

import functools

import dask.array as da
import numpy as np
import xarray as xr

from specxr.cubes.schema import make_cube
from specxr.synthesis.survey import BAD_FRACTION, DEAD_FRACTION, GRID, TRUE_LABELS, simulate_survey
from specxr.vocabulary import LABELS, STAR, WAVELENGTH, MaskBit

WINDOW = slice(550, 1877)  # 4200 to 5700 Angstrom, 1,327 pixels


def simulate_bulk(
    n_stars: int,
    chunk: int,
    seed: int = 0,
    snr: tuple[float, float] = (20.0, 200.0),
    n_models: int = 2000,
) -> xr.Dataset:
    """Simulate spectra between 4200 and 5700 Angstrom, as many as are wanted.

    A star is one of a few thousand stars of `simulate_survey`, drawn at random, on a scale of its own, with photon
    noise and bad pixels of its own; labels and shapes of the spectra repeat.

    Parameters
    ----------
    n_stars : int
    chunk : int
        Stars in a block.
    seed : int, optional
        A block depends on it, on its place and on `chunk`.
    snr : (float, float), optional
        Signal-to-noise ratios per pixel at the median flux, uniform in their logarithm between these.
    n_models : int, optional
        Stars that the others repeat.

    Returns
    -------
    Dataset
        A cube, lazy, with ``true_rv`` [km/s], ``true_teff`` [K], ``true_logg``, ``true_feh`` [dex] and ``snr``
        beside the spectra.
    """
    rng = np.random.default_rng([seed, 0])
    stars = {"model": rng.integers(0, n_models, n_stars), "snr": np.exp(rng.uniform(*np.log(snr), n_stars))}
    models = simulate_survey(n_models, seed)
    truth = {f"true_{name}": models[f"true_{name}"].values[stars["model"]] for name in TRUE_LABELS}

    grid = GRID[WINDOW]
    blocks = xr.Dataset({name: (STAR, values) for name, values in stars.items()}).chunk({STAR: chunk})
    blocks["number"] = (STAR, da.arange(n_stars, chunks=chunk))
    zeros = ((STAR, WAVELENGTH), da.zeros((n_stars, grid.wavelength.size), chunks=(chunk, -1), dtype="f4"))
    template = xr.Dataset({"flux": zeros, "ivar": zeros, "mask": (zeros[0], zeros[1].astype("u1"))})
    spectra = xr.map_blocks(_observe, blocks, kwargs={"seed": seed, "n_models": n_models}, template=template)
    cube = make_cube(
        spectra["flux"].data,
        spectra["ivar"].data,
        grid,
        mask=spectra["mask"].data,
        obsid=np.arange(n_stars),
        stars={**truth, "snr": stars["snr"]},
        attrs={
            "survey": "simulated",
            "history": f"specxr.synthesis.bulk.simulate_bulk: {n_stars} stars, {n_models} models, seed {seed}",
        },
    )
    for name in TRUE_LABELS:
        label = LABELS[name]
        cube[f"true_{name}"].attrs = {"units": label.units, "long_name": f"true {label.long_name}"}
    return cube


@functools.lru_cache(maxsize=1)
def _models(n_models: int, seed: int) -> np.ndarray:
    """Spectra almost without noise, in units of their median, shape (model, pixel); made once a process."""
    flux = simulate_survey(n_models, seed, snr=(1e5, 1e5))["flux"][:, WINDOW].values
    return flux / np.median(flux, axis=1, keepdims=True)


def _observe(stars: xr.Dataset, seed: int, n_models: int) -> xr.Dataset:
    """Spectra of one block of stars: all in one go, and in single precision."""
    rng = np.random.default_rng([seed, 1, int(stars["number"].values[0])])
    flux = _models(n_models, seed)[stars["model"].values]
    scale = np.float32(10.0) ** rng.uniform(1.0, 4.0, (len(flux), 1)).astype("f4")
    sigma = np.sqrt(np.maximum(flux, np.float32(1e-3))) / stars["snr"].values.astype("f4")[:, None]
    flux = flux + sigma * rng.standard_normal(flux.shape, dtype="f4")
    chance = rng.random(flux.shape, dtype="f4")
    hit, dead = chance < BAD_FRACTION, chance > 1.0 - DEAD_FRACTION
    flux = np.where(hit, flux + 100.0 * sigma, flux) * scale
    mask = np.where(hit, int(MaskBit.BAD_ALWAYS | MaskBit.NO_IVAR), np.where(dead, int(MaskBit.NO_IVAR), 0))
    ivar = np.where(hit | dead, np.float32(0), (scale * sigma) ** np.float32(-2))
    pixels = (STAR, WAVELENGTH)
    return xr.Dataset({"flux": (pixels, flux), "ivar": (pixels, ivar), "mask": (pixels, mask.astype("u1"))})
