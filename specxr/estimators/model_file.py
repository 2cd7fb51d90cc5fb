"""Trained models, and the files that hold them: safetensors with JSON in the metadata, no pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from specxr.content import by_reference, check_local, fingerprint_of_file, whole_file
from specxr.emulators.arrays import Required, check_arrays
from specxr.estimators.domain import Domain
from specxr.estimators.error_laws import Calibration
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.spectra.normalisation import Normalisation
from specxr.vocabulary import LABELS

SUFFIX = ".safetensors"
#: The model file of a model that is a folder, such as a language model.
FOLDER_FILE = "specxr_model.safetensors"
_SCHEMA = "specxr model 2"
_UNHASHED = ("wavelength", "versions", "sha256")  # follows from the arrays; says who wrote; is the hash
_WEIGHTS = "weights."  # before the names of the method's own arrays
# Types of the attributes that a file has.
_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("kind", "medium", "sampling", "normalisation"), str),
    **dict.fromkeys(("bounds", "options", "training", "versions"), dict),
    "labels": list,
    "step": float,
    "line_spread": (str, type(None)),
    "calibration": (dict, type(None)),
}


@dataclass(frozen=True, eq=False)
class Model:
    """What a training leaves behind, whatever the method.

    Parameters
    ----------
    kind : str
        Name of the estimator that it belongs to: "payne", "slam", ...
    grid : Grid
        Grid of the training set, with the recipe of its normalisation.
    bounds : mapping of str to (float, float)
        Lowest and highest value of each label of the training set, in the order of the labels.
    weights : mapping of str to ndarray
        Arrays that the method learnt, under names of its own.
    training_labels : ndarray, shape (star, label)
    options : mapping
        Options that decided what was learnt, as JSON types.
    training : mapping, optional
        Description of the training set: fingerprint, number of stars, attributes of the cube such as the line spread.
    calibration : Calibration, optional
    source : Path, optional
        The file that it was read from; it then travels to other processes as this path and its hash.
    """

    kind: str
    grid: Grid
    bounds: Mapping[str, tuple[float, float]]
    weights: Mapping[str, NDArray[Any]]
    training_labels: NDArray[np.float64]
    options: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    source: Path | None = None

    def __repr__(self) -> str:
        return f"<Model: {', '.join(self.labels)}; {self.grid!r}>"

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels that were learnt."""
        return tuple(self.bounds)

    @cached_property
    def domain(self) -> Domain:
        """Where the training labels lie."""
        return Domain(self.training_labels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides a label."""
        return fingerprint_of_file(self._arrays(), self._attributes())

    def __reduce__(self) -> tuple[Any, ...]:
        if self.source is not None:
            return by_reference(open_model, str(self.source), self)
        return type(self), tuple(getattr(self, f.name) for f in fields(self))

    @property
    def n_pixel(self) -> int:
        """Number of pixels of the grid."""
        return int(self.grid.wavelength.size)

    def describe(self) -> dict[str, Any]:
        """Description that a file of it holds beside the numbers, as JSON types."""
        ends = [float(self.grid.wavelength[0]), float(self.grid.wavelength[-1])]
        return {
            **self._attributes(),
            "wavelength": ends,
            "versions": {name: version(name) for name in ("specxr", "torch", "numpy")},
            "sha256": self.fingerprint,
        }

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write a file, which appears once it is complete."""
        check_model_path(path)
        # Not save_file, whose files only their owner may read.
        with whole_file(path, overwrite) as draft:
            draft.write_bytes(save(self._arrays(), metadata={"specxr": json.dumps(self.describe())}))

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays = {f"{_WEIGHTS}{name}": array for name, array in self.weights.items()}
        arrays |= {"wavelength": self.grid.wavelength, "training_labels": self.training_labels}
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    def _attributes(self) -> dict[str, Any]:
        spread = self.grid.line_spread
        return {
            "schema": _SCHEMA,
            "kind": self.kind,
            "labels": list(self.labels),
            "bounds": {name: list(bounds) for name, bounds in self.bounds.items()},
            "medium": self.grid.medium,
            "sampling": self.grid.sampling,
            "step": self.grid.step,
            "line_spread": None if spread is None else spread.to_json(),
            "normalisation": self.grid.normalisation,
            "options": dict(self.options),
            "training": dict(self.training),
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
        }


def check_model_path(path: str | os.PathLike[str]) -> None:
    """Raise ``ValueError`` unless a path is one of this machine, with the suffix of a model file."""
    check_local(path)
    if Path(path).suffix != SUFFIX:
        raise ValueError(
            f"'{path}' ends in '{Path(path).suffix}'; the suffix {SUFFIX} is required for a model file. Name it so."
        )


def is_model(source: object) -> bool:
    """Whether a path names a model file, or the folder of a model."""
    if not isinstance(source, str | os.PathLike):
        return False
    return Path(source).suffix == SUFFIX or (Path(source) / FOLDER_FILE).is_file()


def describe_model(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Description in a model file, or in that of a folder, read once its content is found to be right."""
    model, attributes = _open(Path(path) / FOLDER_FILE if Path(path).is_dir() else path)
    return {**attributes, **model.describe(), "versions": attributes["versions"]}


def open_model(path: str | os.PathLike[str]) -> Model:
    """Read a file that `Model.save` wrote; its content must have the hash that it had then.

    What a method requires of its own arrays, the method checks: see ``Trained.load``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is damaged, was changed, or holds no model.
    """
    return _open(path)[0]


def refused(path: str | os.PathLike[str], fault: object) -> ValueError:
    """The error of a file whose content has the right hash and cannot be used all the same."""
    return ValueError(
        f"{path} holds no model that can be used: {fault}; a file as `specxr train` wrote it is required. Copy it "
        "again, or train again."
    )


def _open(path: str | os.PathLike[str]) -> tuple[Model, dict[str, Any]]:
    arrays, attributes = _read(path)
    try:
        return _model(arrays, attributes, Path(path).absolute()), attributes
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise refused(path, error) from error


def _model(arrays: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any], source: Path) -> Model:
    for name, kind in _TYPES.items():
        if not isinstance(attributes.get(name), kind):
            raise ValueError(f"its attribute {name} is {attributes.get(name)!r}")
    bounds = {str(name): (float(low), float(high)) for name, (low, high) in attributes["bounds"].items()}
    if list(bounds) != attributes["labels"] or not bounds or not set(bounds) <= set(LABELS):
        raise ValueError(f"its labels are {attributes['labels']}, with bounds of {list(bounds)}")
    if not all(np.isfinite(ends).all() and ends[0] < ends[1] for ends in bounds.values()):
        raise ValueError(f"its bounds are {bounds}")
    weights = {n.removeprefix(_WEIGHTS): array for n, array in arrays.items() if n.startswith(_WEIGHTS)}
    check_arrays(
        {name: array for name, array in arrays.items() if not name.startswith(_WEIGHTS)},
        {
            "wavelength": Required(("wavelength",), values="positive"),
            "training_labels": Required(("star", len(bounds)), values="some"),
        },
    )
    if len(arrays["training_labels"]) <= len(bounds):
        raise ValueError(f"it has {len(arrays['training_labels'])} training stars for {len(bounds)} labels")
    spread, calibration = attributes["line_spread"], attributes["calibration"]
    grid = Grid(
        arrays["wavelength"],
        attributes["medium"],
        attributes["sampling"],
        attributes["step"],
        None if spread is None else LineSpread.from_json(spread),
        attributes["normalisation"],
    )
    grid.check()
    if grid.normalisation:
        Normalisation.from_json(grid.normalisation)
    return Model(
        attributes["kind"],
        grid,
        bounds,
        weights,
        arrays["training_labels"],
        attributes["options"],
        attributes["training"],
        None if calibration is None else Calibration.from_dict(calibration),
        source,
    )


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"there is no model file {path}; an existing one is required. Train one: specxr train."
        )
    try:
        with safe_open(path, framework="numpy") as file:
            attributes = json.loads((file.metadata() or {}).get("specxr", "{}"), parse_constant=_no_number)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); a complete model file is required. Copy it again, or train again."
        ) from error
    if not isinstance(attributes, dict) or attributes.get("schema") != _SCHEMA:
        said = attributes.get("schema") if isinstance(attributes, dict) else attributes
        raise ValueError(
            f"{path} says it is {said!r}; {_SCHEMA!r} is required. Give a file that `specxr train` "
            "made, or install the version of specxr that reads it."
        )
    expected = str(attributes.get("sha256"))
    actual = fingerprint_of_file(
        arrays, {name: value for name, value in attributes.items() if name not in _UNHASHED}
    )
    if actual != expected:
        raise ValueError(
            f"the content of {path} has the hash {actual[:16]}, not {expected[:16]} as when it was saved: it was "
            "damaged or changed since; the file as saved is required. Copy it again, or train again."
        )
    return arrays, attributes


def _no_number(text: str) -> None:
    raise ValueError(f"{text} among its attributes")
