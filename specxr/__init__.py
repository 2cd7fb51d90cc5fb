"""specxr: stellar labels from survey spectra, array-native.

Spectra are chunked, Zarr-backed xarray datasets indexed by star and wavelength; estimators run block by block
over Dask; labels, errors and masks come back as variables aligned with the stars.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from specxr import cluster
    from specxr.cube import validate
    from specxr.estimators.hybrid import Hybrid
    from specxr.estimators.lasp import LASP
    from specxr.estimators.payne import Payne
    from specxr.estimators.slam import SLAM
    from specxr.inference import infer
    from specxr.runner import run
    from specxr.store import open_cube, open_labels, write_labels
    from specxr.training import train

__version__ = version("specxr")

# The public doors are imported when first used: `specxr --help` need not wait for torch and xarray.
_DOORS = {
    "SLAM": "specxr.estimators.slam",
    "Hybrid": "specxr.estimators.hybrid",
    "LASP": "specxr.estimators.lasp",
    "Payne": "specxr.estimators.payne",
    "infer": "specxr.inference",
    "open_cube": "specxr.store",
    "open_labels": "specxr.store",
    "run": "specxr.runner",
    "train": "specxr.training",
    "validate": "specxr.cube",
    "write_labels": "specxr.store",
}

__all__ = [
    "LASP",
    "SLAM",
    "Hybrid",
    "Payne",
    "cluster",
    "infer",
    "open_cube",
    "open_labels",
    "run",
    "train",
    "validate",
    "write_labels",
]


def __getattr__(name: str) -> Any:
    if name == "cluster":
        return import_module("specxr.cluster")
    if name in _DOORS:
        return getattr(import_module(_DOORS[name]), name)
    raise AttributeError(f"module 'specxr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_DOORS, "cluster"])
