"""specxr: stellar labels from survey spectra, array-native.

Spectra are chunked, Zarr-backed xarray datasets indexed by star and wavelength; estimators run block by block
over Dask; labels, errors and masks come back as variables aligned with the stars.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from specxr import (
        calibration,
        emulators,
        galaxy,
        plotting,
        published,
        synthesis,
        transforms,
        validation,
        vocabulary,
    )
    from specxr.calibration.floors import calibrate
    from specxr.cubes.ingestion import ingest
    from specxr.cubes.schema import make_cube, validate
    from specxr.cubes.specutils_bridge import from_specutils, to_specutils
    from specxr.cubes.store import list_runs, open_cube, open_labels, write_cube, write_labels
    from specxr.cubes.tables import label_table, read_table, write_table
    from specxr.estimators.emulated.hybrid import Hybrid
    from specxr.estimators.emulated.payne import Payne
    from specxr.estimators.emulated.slam import SLAM
    from specxr.estimators.language.estimator import LanguageModel
    from specxr.estimators.lasp.estimator import LASP
    from specxr.estimators.registry import open_estimator
    from specxr.estimators.regressors.regressor import Regressor
    from specxr.inference import infer
    from specxr.runs import cluster
    from specxr.runs.driver import run
    from specxr.runs.names import delete_run, rename_run
    from specxr.runs.report import report
    from specxr.spectra.grid import Grid
    from specxr.spectra.line_spread import LineSpread
    from specxr.training import train
    from specxr.transforms.normalise import normalise
    from specxr.transforms.resample import resample
    from specxr.transforms.rest_frame import to_rest
    from specxr.validation.comparison import compare

__version__ = version("specxr")

# The public doors and the module of each, imported when first used: `specxr --help` need not wait for torch and xarray.
_DOORS = {
    "LASP": "specxr.estimators.lasp.estimator",
    "SLAM": "specxr.estimators.emulated.slam",
    "Grid": "specxr.spectra.grid",
    "Hybrid": "specxr.estimators.emulated.hybrid",
    "LanguageModel": "specxr.estimators.language.estimator",
    "LineSpread": "specxr.spectra.line_spread",
    "Payne": "specxr.estimators.emulated.payne",
    "Regressor": "specxr.estimators.regressors.regressor",
    "calibrate": "specxr.calibration.floors",
    "compare": "specxr.validation.comparison",
    "delete_run": "specxr.runs.names",
    "from_specutils": "specxr.cubes.specutils_bridge",
    "infer": "specxr.inference",
    "ingest": "specxr.cubes.ingestion",
    "label_table": "specxr.cubes.tables",
    "list_runs": "specxr.cubes.store",
    "make_cube": "specxr.cubes.schema",
    "normalise": "specxr.transforms.normalise",
    "open_cube": "specxr.cubes.store",
    "open_estimator": "specxr.estimators.registry",
    "open_labels": "specxr.cubes.store",
    "read_table": "specxr.cubes.tables",
    "rename_run": "specxr.runs.names",
    "report": "specxr.runs.report",
    "resample": "specxr.transforms.resample",
    "run": "specxr.runs.driver",
    "to_rest": "specxr.transforms.rest_frame",
    "to_specutils": "specxr.cubes.specutils_bridge",
    "train": "specxr.training",
    "validate": "specxr.cubes.schema",
    "write_cube": "specxr.cubes.store",
    "write_labels": "specxr.cubes.store",
    "write_table": "specxr.cubes.tables",
}
_WINGS = {
    "calibration": "specxr.calibration",
    "cluster": "specxr.runs.cluster",
    "emulators": "specxr.emulators",
    "galaxy": "specxr.galaxy",
    "plotting": "specxr.plotting",
    "published": "specxr.published",
    "synthesis": "specxr.synthesis",
    "transforms": "specxr.transforms",
    "validation": "specxr.validation",
    "vocabulary": "specxr.vocabulary",
}

__all__ = [  # noqa: F822
    "LASP",
    "SLAM",
    "Grid",
    "Hybrid",
    "LanguageModel",
    "LineSpread",
    "Payne",
    "Regressor",
    "calibrate",
    "calibration",
    "cluster",
    "compare",
    "delete_run",
    "emulators",
    "from_specutils",
    "galaxy",
    "infer",
    "ingest",
    "label_table",
    "list_runs",
    "make_cube",
    "normalise",
    "open_cube",
    "open_estimator",
    "open_labels",
    "plotting",
    "published",
    "read_table",
    "rename_run",
    "report",
    "resample",
    "run",
    "synthesis",
    "to_rest",
    "to_specutils",
    "train",
    "transforms",
    "validate",
    "validation",
    "vocabulary",
    "write_cube",
    "write_labels",
    "write_table",
]


def __getattr__(name: str) -> Any:
    if name in _WINGS:
        return import_module(_WINGS[name])
    if name in _DOORS:
        import_module("specxr.accessor")  # cube.specxr, beside whatever makes a cube
        return getattr(import_module(_DOORS[name]), name)
    raise AttributeError(f"module 'specxr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
