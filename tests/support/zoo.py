"""One tiny fitted estimator of each kind with spectra of known labels: what the contract is tested on."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from support import language
from support.simulated import GRID, block_of, spectra
from support.trained import observed, spectra_with_labels

from specxr import LASP, SLAM, Hybrid, Payne, Regressor
from specxr.estimators.base import Block
from specxr.estimators.held_out import calibrate_by_folds
from specxr.spectra.normalisation import Normalisation
from specxr.synthesis.designs import Uniform
from specxr.vocabulary import SPEED_OF_LIGHT

N_STAR = 8
# The spline is shorter than the broad features of the spectra, which a steep continuum would otherwise change.
RECIPE = Normalisation(50.0, excluded=((5080.0, 5088.0),))
# The window is 360 Angstrom wide, and the noise is that of the spectra of the contract.
TINY = {"continuum": 100.0, "components": 16, "snr": (60.0, 150.0), "max_shift": 0, "validation": 0.3}
# Away from the ends of what is learnt, where labels are limits or edges.
INNER = {"teff": Uniform(5300, 6000), "logg": Uniform(3.8, 4.5), "feh": Uniform(-0.7, 0.0)}


@dataclass(frozen=True)
class Member:
    """An estimator and a block of eight stars whose labels are known."""

    estimator: Any
    block: Block
    truth: dict[str, np.ndarray]


def rows(block: Block, chosen: Any) -> Block:
    """Some stars of a block."""
    arrays = {name: getattr(block, name)[chosen] for name in ("flux", "ivar", "mask")}
    return replace(block, **arrays, inputs={name: values[chosen] for name, values in block.inputs.items()})


def _lasp(**options: Any) -> Member:
    flux, truth = spectra(N_STAR, 41, snr=120)
    block = block_of(flux)
    if options.get("weighted"):
        block = replace(block, ivar=(np.full_like(flux, 120**2) / flux**2).astype("f4"))
    return Member(LASP(**options), block, truth)


def rotating(vsini: float, n: int = N_STAR, seed: int = 5, lasp: LASP | None = None) -> Member:
    """Stars that rotate at this speed [km/s], and LASP that knows the instrument."""
    import torch

    rng = np.random.default_rng(seed)
    lasp = lasp or LASP(vsini=True)
    prepared = lasp.prepare(GRID)
    pixel = SPEED_OF_LIGHT * prepared.ln_step
    shift, square = rng.uniform(-1, 1, n), np.full(n, (vsini / pixel) ** 2)
    teff, logg, feh = rng.uniform(5500, 7000, n), rng.uniform(3.8, 4.6, n), rng.uniform(-0.5, 0.2, n)
    parameters = torch.from_numpy(np.column_stack((shift, square, np.log(teff), logg, feh)))
    template = prepared.model.template(parameters).numpy()[:, : prepared.n_pixel]
    flux = np.ones((n, len(GRID.wavelength)))
    flux[:, prepared.pixels] = 100 * template * (1 + rng.normal(0, 0.01, template.shape))
    rv = SPEED_OF_LIGHT * np.expm1(prepared.ln_step * shift)
    truth = {"rv": rv, "teff": teff, "logg": logg, "feh": feh, "vsini": np.full(n, float(vsini))}
    return Member(lasp, block_of(flux), truth)


@functools.cache
def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="specxr-zoo-")
    _keep.append(folder)
    return Path(folder.name)


_keep: list[tempfile.TemporaryDirectory[str]] = []  # until the tests end


@functools.cache
def trained(name: str) -> Any:
    """A trained estimator that was saved and opened again."""
    recipe = RECIPE if name.startswith("payne") else None
    training = spectra_with_labels(300, normalisation=recipe)
    if name == "slam teff feh":
        training = replace(training, labels={label: training.labels[label] for label in ("teff", "feh")})
    untrained = {
        "payne": Payne(hidden=(24, 24), max_rounds=25, patience=5),
        "slam": SLAM(gamma=(0.1, 0.3), c=(10.0,), n_folds=3),
        "slam squared": SLAM(loss="squared", c=(10.0, 1e3), gamma=(0.03, 0.1)),
        "slam teff feh": SLAM(loss="squared", c=(10.0, 1e3), gamma=(0.03, 0.1)),
        "regressor": Regressor(hidden=(32, 16), epochs=40, **TINY),
        "regressor kernel_ridge": Regressor(network="kernel_ridge", **TINY),
    }[name]
    path = _folder() / f"{name.replace(' ', '-')}.safetensors"
    # This one does not know logg, which shapes the spectra: only held-out stars tell how large its errors are.
    hides_a_label = name == "slam teff feh"
    fitted = (
        calibrate_by_folds(untrained, training, snr=(60, 120)) if hides_a_label else untrained.fit(training)
    )
    fitted.save(path)
    return type(untrained).load(path)


@functools.cache
def speaking() -> Any:
    """A language model that was trained, saved and opened again."""
    untrained = language.untrained(
        window=(5000.0, 5100.0), step=2.0, epochs=12, minibatch=8, validation=0.2, learning_rate=2e-3
    )
    fitted = untrained.fit(spectra_with_labels(120, snr=80.0))
    fitted.save(_folder() / "language")
    return type(fitted).load(_folder() / "language")


def _emulated(estimator: Any, raw: bool, moving: bool = True) -> Member:
    stars = spectra_with_labels(N_STAR, seed=7, labels=INNER, normalisation=RECIPE if raw else None)
    block = observed(stars, 80)
    if raw:  # as a survey gives them, with a continuum
        slope = (400 * np.linspace(0.7, 1.3, block.flux.shape[1])).astype("f4")
        grid = replace(block.grid, normalisation="")
        block = replace(block, grid=grid, flux=block.flux * slope, ivar=block.ivar / slope**2)
    return Member(estimator, block, {"rv": np.zeros(N_STAR), **stars.labels} if moving else stars.labels)


_MEMBERS: dict[str, Callable[[], Member]] = {
    "lasp": lambda: _lasp(),
    "lasp clean two_stage": lambda: _lasp(clean=True, two_stage=True),
    "lasp vsini": lambda: rotating(120.0),
    "lasp weighted": lambda: _lasp(weighted=True),
    "lasp adam": lambda: _lasp(solver="adam"),
    "payne": lambda: _emulated(trained("payne"), raw=True),
    "slam": lambda: _emulated(trained("slam"), raw=False),
    "slam squared": lambda: _emulated(trained("slam squared"), raw=False),
    "regressor": lambda: _emulated(trained("regressor"), raw=False, moving=False),
    "regressor kernel_ridge": lambda: _emulated(trained("regressor kernel_ridge"), raw=False, moving=False),
    "language": lambda: _emulated(speaking(), raw=False, moving=False),
    "hybrid": lambda: _emulated(Hybrid(trained("slam teff feh"), trained("slam squared")), raw=False),
}
NAMES = tuple(_MEMBERS)


@functools.cache
def member(name: str) -> Member:
    """A member of the zoo, made once a session."""
    return _MEMBERS[name]()


@functools.cache
def estimated(name: str) -> dict[str, np.ndarray]:
    """What a member gives for its block, spectra included; not to be changed."""
    one = member(name)
    return one.estimator.estimate(one.block, spectra=True)
