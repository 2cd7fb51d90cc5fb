"""Emulators in files: our own format, and others through entry points."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from specxr.content import fingerprint_of_file, whole_file
from specxr.emulators.polynomial import PolynomialEmulator

FORMATS = "specxr.emulator_formats"
DEFAULT = "default"

_DEFAULT_FILE = Path(__file__).parents[1] / "data" / "default_emulator.safetensors"
_SCHEMA = "specxr polynomial emulator 2"
_ARRAYS = ("coefficients", "edges", "powers", "fiducial", "scale", "knots")
_ATTRIBUTES = (
    "medium", "bounds", "log_teff", "remainders", "resolving_power",
    "name", "citation", "licence", "label_scale", "accuracy", "errors",
)  # fmt: skip


def open_emulator(source: str | Path) -> PolynomialEmulator:
    """Open an emulator by name or from a file.

    Parameters
    ----------
    source : str or Path
        ``"default"`` for the embedded one, or a file whose suffix names its format: ``.safetensors`` (ours)
        or ``.fits`` (ULySS TGM). Others are added under the entry points ``specxr.emulator_formats``.

    Returns
    -------
    PolynomialEmulator
        It is pickled as its path and its fingerprint, and read again where it is unpickled.
    """
    if str(source) == DEFAULT:
        return default()
    path = Path(source).absolute()
    readers = entry_points(group=FORMATS)
    suffix = path.suffix.removeprefix(".")
    if suffix not in readers.names:
        raise ValueError(
            f"the emulator {source} has the suffix {path.suffix!r}; one of "
            f"{', '.join(sorted('.' + name for name in readers.names))} is required. Give such a file, or '{DEFAULT}'."
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no emulator file {source}; an existing file is required. Give the path of one, or '{DEFAULT}'."
        )
    emulator: PolynomialEmulator = readers[suffix].load()(path)
    return replace(emulator, source=str(path))


@lru_cache(maxsize=1)
def default() -> PolynomialEmulator:
    """The embedded emulator, 3541-7409 Angstrom, 3100-30000 K (docs/design/emulators.md), opened once."""
    return replace(read_safetensors(_DEFAULT_FILE), source=DEFAULT)


def read_safetensors(path: str | Path) -> PolynomialEmulator:
    """Read an emulator that `write_safetensors` wrote; its content must have the hash that it had then."""
    try:
        with safe_open(path, framework="numpy") as file:
            attributes = json.loads((file.metadata() or {}).get("specxr", "{}"))
            if attributes.pop("schema", None) != _SCHEMA:
                raise ValueError(f"its metadata do not say '{_SCHEMA}'")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if attributes.pop("sha256", None) != fingerprint_of_file(arrays, attributes):
            raise ValueError(
                "its content does not have the hash that it was written with: it was damaged or changed"
            )
        attributes["bounds"] = {label: tuple(bounds) for label, bounds in attributes["bounds"].items()}
        attributes["remainders"] = tuple(attributes["remainders"])
        attributes["errors"] = tuple(tuple(row) for row in attributes["errors"])
        return PolynomialEmulator(**arrays, **attributes)
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is no emulator ({error}); a file made by specxr.emulators.write_safetensors is "
            f"required, as it was written. Give such a file, copy it again, or take '{DEFAULT}'."
        ) from error


def write_safetensors(emulator: PolynomialEmulator, path: str | Path) -> None:
    """Write an emulator: its arrays as tensors, all else as JSON in the metadata with a hash of both; no pickle."""
    attributes = {name: getattr(emulator, name) for name in _ATTRIBUTES}
    attributes |= {"bounds": dict(emulator.bounds), "remainders": list(emulator.remainders)}
    attributes["errors"] = [list(row) for row in emulator.errors]
    arrays = {name: np.ascontiguousarray(getattr(emulator, name)) for name in _ARRAYS}
    metadata = {"schema": _SCHEMA, **attributes, "sha256": fingerprint_of_file(arrays, attributes)}
    content = save(arrays, metadata={"specxr": json.dumps(metadata)})
    with whole_file(path) as draft:
        draft.write_bytes(content)
