"""Training labels with errors: what a label of known error says on average about the truth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray


def expected_labels(
    labels: Mapping[str, ArrayLike], errors: Mapping[str, ArrayLike]
) -> dict[str, NDArray[np.float64]]:
    """Replace labels by the truth that is expected for them, given their errors.

    A model that learns spectra from labels with errors learns too weak a dependence: at an extreme label, part of the
    stars are there by their error, and their spectra are those of ordinary stars. Labels that it infers are then too
    extreme. Among stars of one expected label, the mean of the truth is this label, so that a model that learns from
    expected labels is free of this to first order (regression calibration).

    Parameters
    ----------
    labels : mapping of str to array_like, shape (star,)
        Labels of the training stars.
    errors : mapping of str to array_like, shape () or (star,)
        Standard errors of each label, independent of one another.

    Returns
    -------
    dict of str to ndarray, shape (star,)
        m + (S - E) S^-1 (label - m), with the mean m and the covariance S of the labels and the mean variance E of
        their errors.

    Raises
    ------
    ValueError
        An error is missing, or the labels scatter no more than their errors.

    References
    ----------
    Carroll, Ruppert, Stefanski & Crainiceanu 2006, Measurement Error in Nonlinear Models, chapter 4.
    """
    names = list(labels)
    missing = [name for name in names if name not in errors]
    if missing:
        raise ValueError(
            f"there are no errors of {', '.join(missing)}; errors of all labels are required. Give 0 for exact labels."
        )
    values = np.stack([np.asarray(labels[name], "f8") for name in names], axis=1)
    variance = np.diag([float(np.mean(np.asarray(errors[name], "f8") ** 2)) for name in names])
    scatter = np.atleast_2d(np.cov(values.T))
    # Labels have different units: the comparison is made in units of their scatter.
    unit = np.sqrt(np.diag(scatter))
    true = (scatter - variance) / np.outer(unit, unit)
    if not np.isfinite(true).all() or np.linalg.eigvalsh(true).min() <= 0:
        raise ValueError(
            "the labels scatter no more than their errors say (in some direction); labels that differ by more than "
            "their errors are required. Correct the errors, or leave out the label that they drown."
        )
    slope = np.linalg.solve(scatter / np.outer(unit, unit), true).T * np.outer(unit, 1.0 / unit)
    mean = values.mean(axis=0)
    expected = mean + (values - mean) @ slope.T
    return dict(zip(names, expected.T, strict=True))
