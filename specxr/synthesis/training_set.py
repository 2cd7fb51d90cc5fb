"""Training sets: spectra with known labels, at rest, as a survey would observe and normalise them."""

from __future__ import annotations

from collections.abc import Mapping

import dask.array as da
import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from specxr.cubes.schema import make_cube
from specxr.kernels.pseudo_continuum import divide_by_continuum
from specxr.kernels.rebin import rebin
from specxr.kernels.refraction import convert_medium
from specxr.spectra.grid import Grid
from specxr.spectra.normalisation import Normalisation
from specxr.synthesis.generators import Generator
from specxr.synthesis.instrument import MAX_VSINI, Instrument, spreading
from specxr.vocabulary import LABELS, MASK_DTYPE, SPECTRA, STAR, VARIABLES, WAVELENGTH, MaskBit


def make_training_set(
    labels: Mapping[str, ArrayLike],
    generator: Generator,
    instrument: Instrument,
    normalisation: Normalisation | None,
    *,
    snr: ArrayLike = 1000.0,
    seed: int = 0,
    chunk: int = 250,
) -> xr.Dataset:
    """Make spectra with known labels, as a cube.

    Parameters
    ----------
    labels : mapping of str to array_like, shape (star,)
        Labels of the generator, and ``vsini`` [km/s] if the stars rotate; see `specxr.synthesis.designs`.
    generator : Generator
        Source of the spectra.
    instrument : Instrument
        Pixels and line spread of the survey.
    normalisation : Normalisation or None
        Recipe of the pseudo-continuum; None leaves the generator's flux as it is.
    snr : float or array_like, shape (star,), optional
        Signal-to-noise ratio per pixel at the median flux; the noise is Gaussian and the same in all pixels of a star.
    seed : int, optional
        Seed of the noise. A star depends on it and on its place, never on the chunks.
    chunk : int, optional
        Number of stars in a block.

    Returns
    -------
    Dataset
        A cube, lazy, with the labels and ``snr`` along ``star``; its attributes say how it was made.

    Raises
    ------
    ValueError
        The labels are not those of the generator, or not finite; the generator does not cover the pixels, or its
        spectra are too broad.
    """
    columns = {name: np.asarray(values, dtype="float64") for name, values in labels.items()}
    _check_labels(columns, generator)
    _check_coverage(generator, instrument)
    spreading(instrument, generator.resolving_power)
    n_stars = len(next(iter(columns.values())))
    snr = np.broadcast_to(np.asarray(snr, dtype="float64"), n_stars)
    if not (n_stars and np.all(np.isfinite(snr) & (snr > 0))):
        raise ValueError(
            f"there are {n_stars} stars with an S/N of {np.min(snr, initial=np.inf):g} or more; at least one star "
            "and finite, positive ratios are required. Correct the design or snr."
        )
    stars = columns | {"snr": snr}

    blocks = xr.Dataset({name: (STAR, values) for name, values in stars.items()})
    blocks["number"] = (STAR, np.arange(n_stars))
    spectra = xr.map_blocks(
        _expose,
        blocks.chunk({STAR: chunk}),
        kwargs={
            "generator": generator,
            "instrument": instrument,
            "normalisation": normalisation,
            "seed": seed,
        },
        template=_template(n_stars, instrument.grid, chunk),
    )
    cube = make_cube(
        spectra["flux"].data,
        spectra["ivar"].data,
        instrument.grid,
        mask=spectra["mask"].data,
        obsid=np.arange(n_stars),
        stars=stars,
        attrs={
            "survey": "synthetic",
            "history": f"specxr.synthesis.make_training_set: {n_stars} stars of {generator.name}, seed {seed}",
            **({"normalisation": normalisation.to_json()} if normalisation else {}),
        },
    )
    for name in columns:
        cube[name].attrs = LABELS[name].attrs
    cube["snr"].attrs = {"units": "1", "long_name": "signal-to-noise ratio per pixel at the median flux"}
    return cube


def _expose(
    stars: xr.Dataset,
    generator: Generator,
    instrument: Instrument,
    normalisation: Normalisation | None,
    seed: int,
) -> xr.Dataset:
    """Spectra of one block of stars, with noise, normalised."""
    labels = np.stack([stars[name].values for name in generator.labels], axis=1)
    fine = spectra_on(generator, labels, instrument)
    vsini = stars["vsini"].values if "vsini" in stars else np.zeros(len(labels))
    flux = instrument.observe(fine, vsini, generator.resolving_power)
    sigma = flux.nanmedian(-1, keepdim=True).values / torch.from_numpy(stars["snr"].values.copy())[:, None]
    # Each star has a random generator of its own, so that it is the same in any block.
    numbers = stars["number"].values
    noise = np.stack([np.random.default_rng([seed, int(n)]).normal(size=flux.shape[1]) for n in numbers])
    flux = flux + sigma * torch.from_numpy(noise)
    ivar = (sigma**-2.0).expand_as(flux)
    bad = ~torch.isfinite(flux)
    if normalisation is not None:
        flux, ivar = divide_by_continuum(flux, ivar, ~bad, instrument.grid.wavelength, normalisation)
    ivar = torch.where(bad, 0.0, ivar)
    arrays = {
        "flux": flux.numpy().astype("f4"),
        "ivar": ivar.numpy().astype("f4"),
        "mask": np.where(bad.numpy(), int(MaskBit.BAD_FLUX), 0).astype(MASK_DTYPE),
    }
    return xr.Dataset({name: ((STAR, WAVELENGTH), array) for name, array in arrays.items()})


def spectra_on(
    generator: Generator, labels: NDArray[np.float64], instrument: Instrument
) -> NDArray[np.float64]:
    """Spectra of the generator on the instrument's fine pixels, shape (star, fine pixel)."""
    own = convert_medium(generator.edges, generator.medium, instrument.grid.medium)
    flux = generator.spectra(labels)
    fine = instrument.edges
    if own.shape == fine.shape and np.allclose(own, fine, rtol=1e-9, atol=0.0):
        return flux
    return rebin(torch.from_numpy(np.ascontiguousarray(flux, dtype="f8")), own, fine).numpy()


def _template(n_stars: int, grid: Grid, chunk: int) -> xr.Dataset:
    shape = (n_stars, grid.wavelength.size)
    dtypes = {name: VARIABLES[name].dtype for name in SPECTRA}
    return xr.Dataset(
        {n: ((STAR, WAVELENGTH), da.zeros(shape, chunks=(chunk, -1), dtype=d)) for n, d in dtypes.items()}
    )


def _check_labels(labels: Mapping[str, NDArray[np.float64]], generator: Generator) -> None:
    allowed = {*generator.labels, "vsini"}
    missing, unknown = set(generator.labels) - set(labels), set(labels) - allowed
    if missing or unknown:
        raise ValueError(
            f"labels were given for {', '.join(labels)}; the {generator.name} requires "
            f"{', '.join(generator.labels)}, and vsini may be added. Give these labels."
        )
    sizes = {name: values.shape for name, values in labels.items()}
    if len(set(sizes.values())) != 1 or len(next(iter(sizes.values()))) != 1:
        raise ValueError(
            f"the labels have the shapes {sizes}; one value of each label for every star is required. Align them."
        )
    for name, values in labels.items():
        if not np.isfinite(values).all():
            raise ValueError(
                f"the label {name} is not finite for {(~np.isfinite(values)).sum()} stars; finite values are required. "
                "Drop these stars from the design."
            )
    vsini = labels.get("vsini", np.zeros(1))
    if vsini.size and not (vsini.min() >= 0 and vsini.max() <= MAX_VSINI):
        raise ValueError(
            f"vsini is {vsini.min():g} to {vsini.max():g} km/s; 0 to {MAX_VSINI:g} is required. Cut the design."
        )


def _check_coverage(generator: Generator, instrument: Instrument) -> None:
    own = convert_medium(generator.edges[[0, -1]], generator.medium, instrument.grid.medium)
    ends = instrument.edges[[0, -1]]
    if not (own[0] <= ends[0] and ends[1] <= own[1]):
        raise ValueError(
            f"the {generator.name} covers {own[0]:.1f}-{own[1]:.1f} Angstrom ({instrument.grid.medium}); "
            f"{ends[0]:.1f}-{ends[1]:.1f} is required, which rotation and line spread reach from the instrument's "
            "pixels. Cut the instrument's grid, or use another generator."
        )
