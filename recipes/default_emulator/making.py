"""From stars of the library to an emulator with which LASP finds their labels without a bias."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from default_emulator.fit import Form, Regime, cubic, emulator, fit, sharpen
from default_emulator.library import LABELS, WINDOW, Library, fit_labels, ramp
from numpy.typing import NDArray

import specxr
from specxr.emulators import PolynomialEmulator

MILES_FWHM = 2.54  # Angstrom (Beifiori et al. 2011); ELODIE fitted to these stars gives 2.43-2.75
RESOLVING_POWER = 3000.0  # of the stored spectra; docs/design/emulators.md says how well it is reached

# The stars from which the bias is measured. It is a full cubic of the scaled labels.
_STARS, _FARTHEST = (3700.0, 8500.0), 300.0  # K
_BIAS = Regime(_STARS, (3.72, 3.3, -0.3), (0.1, 1.2, 0.8), ridge=1e-3)
_REACH = 2.2  # in scaled labels; beyond, the cubic is held constant


def make(library: Library, form: Form, stars: NDArray[np.int64]) -> PolynomialEmulator:
    """Make an emulator from some of the stars.

    It is made twice. With the first one, LASP finds the labels of these stars with a bias of about 20 K and 0.04 dex,
    which is smooth in the labels: the coefficients that fit the spectra best do not give the best labels. The second
    one is made with labels from which this bias is subtracted.
    """
    labels = library.labels[stars]
    first = made_of(library, form, stars, labels)
    found = fit_labels(specxr.LASP(first, window=WINDOW), library.observed_of(stars))[list(LABELS)].to_numpy()
    return made_of(library, form, stars, labels - bias(labels, found - labels, library.weight[stars]))


def made_of(
    library: Library, form: Form, stars: NDArray[np.int64], labels: NDArray[np.float64]
) -> PolynomialEmulator:
    """Make an emulator from some of the stars, with these labels."""
    fitted = fit(form, labels, library.flux[stars], library.weight[stars])
    rows = sharpen(fitted.coefficients, library.edges, MILES_FWHM, RESOLVING_POWER)
    made = emulator(form, rows, library.edges, RESOLVING_POWER, name="default")
    return replace(made, label_scale=f"{np.sum(fitted.weight > 0)} stars")


def bias(
    labels: NDArray[np.float64], difference: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The smooth part of the difference, shape (star, 3); zero where there are no good labels to measure it."""
    powers = cubic()
    y = np.column_stack([np.log10(labels[:, 0]), labels[:, 1:]])
    x = np.clip((y - _BIAS.fiducial) / _BIAS.scale, -_REACH, _REACH)
    terms = np.prod(x[:, None, :] ** powers, axis=2)
    seen = (weight > 0) & np.isfinite(difference).all(axis=1) & (np.abs(difference[:, 0]) < _FARTHEST)
    seen &= (labels[:, 0] > _STARS[0]) & (labels[:, 0] < _STARS[1])
    penalty = np.diag(_BIAS.ridge * seen.sum() * (powers.sum(axis=1) > 0))
    smooth = np.empty_like(labels)
    for label in range(3):
        target, trust = difference[seen, label], np.ones(seen.sum())
        for _ in range(20):  # Geman-McClure weights, because labels of single stars may be far off
            weighted = (terms[seen] * trust[:, None]).T
            row = np.linalg.solve(weighted @ terms[seen] + penalty, weighted @ target)
            away = target - terms[seen] @ row
            trust = (1.0 + (away / (2.0 * 1.4826 * np.median(np.abs(away)))) ** 2) ** -2.0
        smooth[:, label] = terms @ row
    fade = ramp(labels[:, 0], 3600.0, 4000.0) * ramp(labels[:, 0], 9000.0, 7500.0)
    return smooth * fade[:, None]
