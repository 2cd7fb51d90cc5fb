"""Trained models, and the files that hold them: safetensors with JSON in the metadata, no pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from specxr.emulators.base import TrainedEmulator
from specxr.estimators.error_laws import Calibration, Domain
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread

SCHEMA = "specxr model 1"
SUFFIX = ".safetensors"
_UNHASHED = ("wavelength", "versions", "sha256")  # follows from the arrays; says who wrote; is the hash


@dataclass(frozen=True, eq=False)
class Model:
    """What a training leaves behind.

    Parameters
    ----------
    kind : str
        The estimator that it belongs to: "payne", "slam", ...
    emulator : TrainedEmulator
    grid : Grid
        Of the training set, with the recipe of its normalisation.
    variance : ndarray, shape (wavelength,)
        Mean squared error of the emulator on held-out spectra, the noise of these taken off; infinite for pixels that
        are not to be used.
    training_labels : ndarray, shape (star, label)
    options : mapping
        How it was trained, as JSON types.
    training : mapping, optional
        What it was trained on: fingerprint, number of stars, attributes of the cube such as the line spread.
    calibration : Calibration, optional
    source : Path, optional
        The file that it was read from; it then travels to other processes as this path and its hash.
    """

    kind: str
    emulator: TrainedEmulator
    grid: Grid
    variance: NDArray[np.float64]
    training_labels: NDArray[np.float64]
    options: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    source: Path | None = None

    @cached_property
    def domain(self) -> Domain:
        """Where the training labels lie."""
        return Domain(self.training_labels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides a label."""
        return _hash(self._arrays(), self._attributes())

    def __reduce__(self) -> tuple[Any, ...]:
        # A model reaches a worker as path and hash, and is read there once.
        if self.source is not None:
            return _reopen, (self.source, self.kind, type(self.emulator), self.fingerprint)
        return type(self), tuple(getattr(self, f.name) for f in fields(self))

    @property
    def n_pixel(self) -> int:
        """Pixels of the grid."""
        return int(self.grid.wavelength.size)

    def describe(self) -> dict[str, Any]:
        """All that a file of it says beside its numbers, as JSON types."""
        ends = [float(self.grid.wavelength[0]), float(self.grid.wavelength[-1])]
        return {
            **self._attributes(),
            "wavelength": ends,
            "versions": _versions(),
            "sha256": self.fingerprint,
        }

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write a file, which appears once it is complete."""
        path = Path(path)
        if path.suffix != SUFFIX:
            raise ValueError(f"'{path}' ends in '{path.suffix}'; a model file ends in {SUFFIX}. Name it so.")
        if path.exists() and not overwrite:
            raise FileExistsError(f"'{path}' is there already. Choose another name, or overwrite it.")
        draft = path.with_name(f".{path.stem}-{uuid4().hex}.safetensors")
        try:
            # Not save_file, whose files only their owner may read.
            draft.write_bytes(save(self._arrays(), metadata={"specxr": json.dumps(self.describe())}))
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays = {f"emulator.{name}": array for name, array in self.emulator.arrays().items()}
        arrays |= {
            "wavelength": self.grid.wavelength,
            "variance": self.variance,
            "training_labels": self.training_labels,
        }
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    def _attributes(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "labels": list(self.emulator.labels),
            "bounds": {name: list(bounds) for name, bounds in self.emulator.bounds.items()},
            "medium": self.grid.medium,
            "sampling": self.grid.sampling,
            "step": self.grid.step,
            "line_spread": None if self.grid.line_spread is None else self.grid.line_spread.to_json(),
            "normalisation": self.grid.normalisation,
            "options": dict(self.options),
            "training": dict(self.training),
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
        }


def describe_model(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a model file says of itself, once its hash is found to be right."""
    return _read(path)[1]


def read_model(path: str | os.PathLike[str], kind: str, emulator: type[TrainedEmulator]) -> Model:
    """Read a file that `Model.save` wrote; its content must have the hash that it had then.

    Raises
    ------
    ValueError
        The file is damaged, was changed, is of another kind, or is no model.
    """
    arrays, attributes = _read(path)
    if attributes["kind"] != kind:
        raise ValueError(
            f"{path} holds a model of kind {attributes['kind']!r}; {kind!r} is required here. Open it as what it is."
        )
    bounds = {name: (low, high) for name, (low, high) in attributes["bounds"].items()}
    weights = {
        name.removeprefix("emulator."): array
        for name, array in arrays.items()
        if name.startswith("emulator.")
    }
    grid = Grid(
        arrays["wavelength"],
        *(attributes[name] for name in ("medium", "sampling", "step")),
        line_spread=None
        if attributes["line_spread"] is None
        else LineSpread.from_json(attributes["line_spread"]),
        normalisation=attributes["normalisation"],
    )
    calibration = attributes["calibration"]
    return Model(
        kind,
        emulator.from_arrays(weights, bounds),
        grid,
        arrays["variance"],
        arrays["training_labels"],
        attributes["options"],
        attributes["training"],
        None if calibration is None else Calibration.from_dict(calibration),
        Path(path).absolute(),
    )


@lru_cache(maxsize=8)
def _reopen(path: Path, kind: str, emulator: type[TrainedEmulator], fingerprint: str) -> Model:
    model = read_model(path, kind, emulator)
    if model.fingerprint != fingerprint:
        raise ValueError(
            f"the model {path} has the hash {model.fingerprint[:16]} here, not {fingerprint[:16]} as where the work "
            "was prepared; both must be the same. Give every machine the same file."
        )
    return model


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no model file {path}; `specxr train` makes one.")
    try:
        with safe_open(path, framework="numpy") as file:
            attributes: dict[str, Any] = json.loads((file.metadata() or {}).get("specxr", "{}"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); a complete model file is required. Copy it again, or train again."
        ) from error
    if attributes.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} says it is {attributes.get('schema')!r}; {SCHEMA!r} is required. Give a file that `specxr train` "
            "made, or install the version of specxr that reads it."
        )
    wanted = attributes.get("sha256", "")
    hashed = {name: value for name, value in attributes.items() if name not in _UNHASHED}
    found = _hash(arrays, hashed)
    if found != wanted:
        raise ValueError(
            f"the content of {path} has the hash {found[:16]}, not {wanted[:16]} as when it was saved: it was damaged "
            "or changed since. Copy it again, or train again."
        )
    return arrays, attributes


def _hash(arrays: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any]) -> str:
    content = hashlib.sha256(json.dumps(attributes, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        content.update(f"{name} {array.shape} {array.dtype.str} ".encode())
        content.update(array.tobytes())
    return content.hexdigest()


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("specxr", "torch", "numpy")}
