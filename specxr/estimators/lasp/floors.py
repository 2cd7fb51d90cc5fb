"""What the formal errors of LASP leave out, by temperature, measured with `specxr.calibration.floors`.

At high S/N formal errors go to zero, and what remains are errors of wavelengths, of the model and of the shape.
``tests/benchmarks/error_coverage.py`` prints these numbers: below 7,000 K they are those of repeat visits (LAMOST DR8),
above it those of the official labels (DR10), which are larger there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_TEFF = (5000.0, 6500.0, 7500.0, 8300.0, 9400.0, 10600.0)  # K
_FLOORS = {
    "rv": (3.7, 3.7, 3.7, 3.7, 3.7, 3.7),
    "teff": (27.0, 27.0, 50.0, 50.0, 160.0, 300.0),
    "logg": (0.03, 0.02, 0.02, 0.03, 0.08, 0.15),
    "feh": (0.01, 0.02, 0.02, 0.03, 0.085, 0.14),
    "sigma": (5.0, 6.0, 6.0, 6.0, 6.0, 6.0),
    "vsini": (10.0, 12.0, 12.0, 12.0, 12.0, 12.0),  # twice those of sigma, which is half as wide
}


def floors(names: Sequence[str], teff: Tensor) -> Tensor:
    """Error floor of each label [units of the label] at a temperature [K], shape (star, label)."""
    table = np.array([_FLOORS[name] for name in names])
    at = teff.detach().double().cpu().numpy()
    rows = [np.interp(at, _TEFF, row) for row in table]
    return torch.from_numpy(np.stack(rows, axis=-1)).to(teff.device)
