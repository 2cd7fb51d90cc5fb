"""How close an emulator is to spectra that it has not learnt, and to their gradients (Sun et al. 2025, appendix A)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specxr.published.hot_stars import CORE_FLUX, GRADIENT_OFFSETS


def pixel_residuals(model: ArrayLike, flux: ArrayLike, core_flux: float = CORE_FLUX) -> dict[str, float]:
    """Compute the standard deviation of model minus normalised flux, of all pixels and of the cores of lines.

    Parameters
    ----------
    model, flux : array_like, shape (star, wavelength)
        Flux of the emulator, and spectra that it has not learnt; pixels that are not finite are left out.
    core_flux : float, optional
        A pixel with less flux lies in the core of a line; the value of Fig. A.1 by default.

    Returns
    -------
    dict
        Standard deviations ``all`` and ``core``.
    """
    model, flux = np.asarray(model, dtype="f8"), np.asarray(flux, dtype="f8")
    residual = model - flux
    used = np.isfinite(residual)
    core = used & (flux < core_flux)
    return {"all": float(residual[used].std()), "core": float(residual[core].std())}


def gradient_spectra(
    spectra: Callable[[NDArray[np.float64]], ArrayLike],
    reference: Mapping[str, float],
    offsets: Mapping[str, float] = GRADIENT_OFFSETS,
) -> dict[str, NDArray[np.float64]]:
    """Compute how spectra change with each label.

    Parameters
    ----------
    spectra : callable
        Function of labels of shape (star, label) that returns normalised flux of shape (star, wavelength): an
        emulator, or the generator with all that made the training set.
    reference : mapping of str to float
        Labels of the star, in the order that `spectra` takes.
    offsets : mapping of str to float, optional
        Change of each label; that of Fig. A.2 by default: 200 K, 0.2 dex, 4 km/s of vmic, 50 km/s of vsini.

    Returns
    -------
    dict of str to ndarray, shape (wavelength,)
        Flux at the label plus its offset, minus flux at the reference.

    Raises
    ------
    ValueError
        A label has no offset.
    """
    missing = [name for name in reference if name not in offsets]
    if missing:
        raise ValueError(
            f"the labels {', '.join(missing)} have no offset (there are offsets for {', '.join(offsets)}); one "
            "for each label is required. Pass it in `offsets`."
        )
    star = np.array([list(reference.values())], dtype="f8")
    changes = np.diag([offsets[name] for name in reference])
    flux = np.asarray(spectra(np.concatenate([star, star + changes])), dtype="f8")
    return dict(zip(reference, flux[1:] - flux[0], strict=True))
