"""Small training sets with known labels, and estimators trained on them, for tests."""

import dask
import numpy as np
import torch

from specxr.emulators import default
from specxr.estimators.base import Block
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.synthesis.designs import Uniform, draw
from specxr.synthesis.generators import EmulatorSpectra
from specxr.synthesis.training_set import Instrument, make_training_set
from specxr.training import training_set

torch.set_num_threads(1)  # small networks: threads wait for one another more than they help

GRID = Grid(
    10.0 ** (np.arange(36900, 37208) * 1e-4), "vacuum", "log10", 1e-4, LineSpread.constant(1800.0)
)  # 4898 to 5257 A
LABELS = {"teff": Uniform(5000, 6500), "logg": Uniform(3.5, 4.8), "feh": Uniform(-1.0, 0.3)}


def training_cube(n, seed=0, normalisation=None, snr=1000.0, labels=LABELS):
    """A cube of normalised spectra with labels, in memory."""
    with dask.config.set(scheduler="sync"):
        cube = make_training_set(
            draw(labels, n, seed),
            EmulatorSpectra(default()),
            Instrument(GRID),
            normalisation,
            snr=snr,
            seed=seed,
        ).load()
    cube.attrs.setdefault("normalisation", "")
    return cube


def spectra_with_labels(n, seed=0, **options):
    """The same as a TrainingSet."""
    return training_set(training_cube(n, seed, **options))


def observed(training, snr, seed=0):
    """Spectra of a training set as they would be observed: noise added, S/N the same for all pixels."""
    rng = np.random.default_rng(seed)
    flux = training.flux + rng.normal(0, 1 / snr, training.flux.shape)
    return Block(
        training.grid,
        flux.astype("f4"),
        np.where(training.good, snr**2, 0).astype("f4"),
        training.mask.copy(),
    )
