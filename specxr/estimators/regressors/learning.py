"""How a regressor is trained: components, networks or machines, and the calibration of its errors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.content import short_fingerprint
from specxr.estimators.conformal import Conformal
from specxr.estimators.regressors.components import Components
from specxr.estimators.regressors.disturbance import Disturbance, SurveySpectra
from specxr.estimators.regressors.inputs import Inputs
from specxr.estimators.regressors.learnt import Blueprint, Held, LabelUnits, Learnt
from specxr.estimators.regressors.machines import MACHINES
from specxr.estimators.regressors.networks import Network
from specxr.estimators.regressors.training import Lesson, Schedule, learn_network
from specxr.estimators.trained import Progress
from specxr.kernels.compiled.running_continuum import Spectra
from specxr.spectra.training_set import TrainingSet

_ROWS = 4000  # spectra, disturbed anew, from which components are learnt
_MOST_COPIES = 8  # of one star among them
_PART = 256  # stars at once
_MARGIN = 1.5  # of the spread of the members of held-out stars


@dataclass(frozen=True, eq=False)
class Course:
    """Options of a training beside the blueprint; see `specxr.Regressor`."""

    schedule: Schedule
    snr: tuple[float, float]
    max_shift: int
    components: int
    validation: float
    device: str


def learn_regressor(
    training: TrainingSet,
    blueprint: Blueprint,
    course: Course,
    start: Learnt | None,
    progress: Progress | None,
    checkpoint: Path | None,
) -> dict[str, NDArray[Any]]:
    """Learn from a checked training set; returns the arrays of a model file."""
    seed = course.schedule.seed
    spectra = _survey(training, blueprint.inputs)
    order = np.random.default_rng(seed).permutation(len(training))
    n_held = min(max(1, round(course.validation * len(training))), len(training) - 1)
    held, learnt = np.sort(order[:n_held]), np.sort(order[n_held:])
    mild = Disturbance(seed, course.snr, course.max_shift, gaps=False)
    natural = Disturbance(seed, course.snr, 0, gaps=False, natural=True)

    copies = int(np.clip(_ROWS // len(learnt), 1, _MOST_COPIES))
    chosen = learnt if copies > 1 else order[n_held:][:_ROWS]
    flux = torch.cat([_flux(blueprint.inputs, mild, spectra, chosen, epoch) for epoch in range(copies)])
    seen = blueprint.inputs.spectra(*natural(spectra, held, 0))
    components = Components.of(flux, _noise(blueprint.inputs, spectra, chosen), course.components, seed)
    components = components.limited_by(seen)
    units = LabelUnits.of(blueprint.labels, training.label_array[learnt])
    centre = flux.mean(dim=0)
    scale = torch.full_like(centre, 1.0 / float(flux.std()))
    if start is not None:
        centre, scale, units = start.centre, start.scale, _kept_units(units, start.units)
    labels = torch.from_numpy(units.standardised(training.label_array)).float()
    result = Learnt(blueprint, units, components, centre, scale)
    if blueprint.network in MACHINES:
        pair = (components.coefficients_and_model(flux)[0], labels[np.tile(chosen, copies)])
        held_rows = components.coefficients_and_model(torch.from_numpy(seen.flux))[0]
        machine = MACHINES[blueprint.network].learn(pair, (held_rows, labels[held]), seed)
        result = replace(result, machine=machine)
    else:
        disturbance = Disturbance(seed, course.snr, course.max_shift)
        classes = _classes(training, blueprint.classes)
        lesson = Lesson(
            blueprint.inputs, spectra, labels, classes, disturbance, natural, centre, scale, course.device
        )
        networks = _networks(lesson, (learnt, held), result, start, course, progress, checkpoint)
        result = replace(result, networks=networks)
    return {**result.arrays(), **_held_out(result, seen, training.label_array[held]).arrays()}


def _networks(
    lesson: Lesson,
    parts: tuple[NDArray[np.int64], NDArray[np.int64]],
    result: Learnt,
    start: Learnt | None,
    course: Course,
    progress: Progress | None,
    checkpoint: Path | None,
) -> tuple[Network, ...]:
    """Train the members one after another; the files of those that are done stay until all are."""
    blueprint, schedule = result.blueprint, course.schedule
    content = (lesson.spectra.flux, lesson.spectra.ivar, lesson.labels.numpy(), lesson.classes.numpy())
    mark = ""
    if checkpoint is not None:
        first = {} if start is None else start.arrays()
        told = (
            repr(course),
            repr((blueprint.network, blueprint.hidden, blueprint.labels, blueprint.classes)),
        )
        mark = short_fingerprint(*content, *told, *(first[name] for name in sorted(first)))
    networks, files = [], []
    for i, network in enumerate(blueprint.networks(schedule.seed)):
        if start is not None:
            _take_over(network, start.networks[i % len(start.networks)], start.units.names, blueprint.labels)
        file = None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}.member{i}")

        def report(epochs: int, error: float, member: int = i) -> None:
            if progress is not None:
                progress(member * schedule.epochs + epochs, blueprint.members * schedule.epochs, error)

        own = replace(schedule, seed=schedule.seed + i)
        shaken = replace(lesson, disturbance=replace(lesson.disturbance, seed=schedule.seed + i))
        kept = None if file is None else (file, f"{mark} {i}")
        networks.append(learn_network(network, shaken, *parts, own, report, kept))
        files += [] if file is None else [file]
    for file in files:
        file.unlink(missing_ok=True)
    return tuple(networks)


def _take_over(network: Network, known: Network, names: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    """Begin with a trained body, and with the heads of labels that it knows."""
    network.body.load_state_dict(known.body.state_dict())
    with torch.no_grad():
        for i, name in enumerate(wanted):
            if name in names:
                of = 2 * names.index(name)
                network.head.weight[2 * i : 2 * i + 2] = known.head.weight[of : of + 2]
                network.head.bias[2 * i : 2 * i + 2] = known.head.bias[of : of + 2]


def _kept_units(units: LabelUnits, known: LabelUnits) -> LabelUnits:
    """The units of labels that were learnt before, and new ones for the others."""
    centre, scale = units.centre.copy(), units.scale.copy()
    for i, name in enumerate(units.names):
        if name in known.names:
            at = known.names.index(name)
            centre[i], scale[i] = known.centre[at], known.scale[at]
    return replace(units, centre=centre, scale=scale)


def _held_out(learnt: Learnt, seen: Spectra, truth: NDArray[np.float64]) -> Held:
    """Calibrate the errors by stars that were not learnt."""
    coefficients, _ = learnt.components.coefficients_and_model(torch.from_numpy(seen.flux))
    labels, errors, spread, _ = learnt.predict(seen, coefficients)
    teff = (
        labels[:, learnt.units.names.index("teff")] if "teff" in learnt.units.names else np.zeros(len(labels))
    )
    conformal = Conformal.of(labels - truth, errors, seen.snr, teff)
    pull = (labels - truth) / errors
    limit = max(1e-6, _MARGIN * float(np.quantile(spread, 0.99)))
    return Held(conformal, _correlation(pull), limit, (float(seen.snr.min()), float(seen.snr.max())))


def _correlation(pull: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlation of the ranks of errors, which outliers leave alone; of labels that are known together."""
    n_label = pull.shape[1]
    matrix = np.eye(n_label)
    for i, j in zip(*np.triu_indices(n_label, 1), strict=True):
        known = np.isfinite(pull[:, i]) & np.isfinite(pull[:, j])
        pair = np.stack([pull[known, i], pull[known, j]], axis=1)
        if len(pair) > n_label + 2:
            ranks = pair.argsort(axis=0).argsort(axis=0)
            matrix[i, j] = matrix[j, i] = np.asarray(np.corrcoef(ranks.T))[0, 1]
    # Pairs that different stars have need not fit together.
    lowest = float(np.linalg.eigvalsh(matrix)[0])
    return matrix if lowest > 0.0 else (matrix - lowest * 1.01 * np.eye(n_label)) / (1.0 - lowest * 1.01)


def _survey(training: TrainingSet, inputs: Inputs) -> SurveySpectra:
    flux = np.where(training.good, training.flux, 0.0).astype("f4")
    ivar = np.where(training.good, training.ivar, 0.0).astype("f4")
    snr = [
        inputs.spectra(
            flux[part : part + _PART], ivar[part : part + _PART], training.good[part : part + _PART]
        ).snr
        for part in range(0, len(flux), _PART)
    ]
    return SurveySpectra(flux, ivar, np.nan_to_num(np.concatenate(snr), nan=0.0))


def _flux(
    inputs: Inputs, disturbance: Disturbance, spectra: SurveySpectra, stars: NDArray[np.int64], epoch: int
) -> Tensor:
    parts = [
        inputs.spectra(*disturbance(spectra, stars[first : first + _PART], epoch)).flux
        for first in range(0, len(stars), _PART)
    ]
    return torch.from_numpy(np.concatenate(parts))


def _noise(inputs: Inputs, spectra: SurveySpectra, stars: NDArray[np.int64]) -> NDArray[np.float32]:
    """Noise of each pixel over its continuum, the median of some stars; that of all where few have the pixel."""
    some = stars[:_PART]
    weight = inputs.spectra(spectra.flux[some], spectra.ivar[some], spectra.ivar[some] > 0).weight
    noise = 1.0 / np.maximum(np.median(weight, axis=0), 1e-6)
    return np.asarray(np.minimum(noise, 10.0), np.float32)


def _classes(training: TrainingSet, classes: tuple[str, ...]) -> Tensor:
    """The class of each star, -1 where it has none; every class must have stars."""
    if not classes:
        return torch.full((len(training),), -1)
    types = training.types
    if types is None:
        raise ValueError(
            f"the classes {', '.join(classes)} are to be learnt, and the training set has no spectral types; the "
            "variable subclass along 'star' is required. Add it to the cube, or leave `classes` out."
        )
    of = np.full(len(training), -1)
    for i, name in enumerate(classes):
        of[np.char.startswith(types, name)] = i
    empty = [name for i, name in enumerate(classes) if not (of == i).any()]
    if empty:
        raise ValueError(
            f"no star of the training set has a spectral type that begins with {' or '.join(empty)}; at least one of "
            "each class is required. Leave the class out, or add stars of it."
        )
    return torch.from_numpy(of)
