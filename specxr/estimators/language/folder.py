"""The folder of a trained language model: what it learnt beside its base model, in two files of safetensors."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from specxr.content import by_reference, check_local, fingerprint_of_file, room_named
from specxr.estimators.model_file import FOLDER_FILE, Model, open_model

_ADAPTER = "adapter_model.safetensors"  # names that peft reads
_ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True, eq=False)
class AdaptedModel(Model):
    """A trained language model: a `Model`, and the adapter of the base model beside it.

    Parameters
    ----------
    adapter : mapping of str to ndarray
        Weights of the adapter, under the names that peft gives them.
    adapter_config : mapping
        What peft has to know of it, as JSON types.
    source : Path, optional
        The folder that it was read from.
    """

    adapter: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    adapter_config: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Model, adapter: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> AdaptedModel:
        """Put an adapter beside a model, whose description then holds the hash of the adapter."""
        shared = {f.name: getattr(model, f.name) for f in fields(Model)}
        shared["training"] = {**model.training, "adapter": fingerprint_of_file(adapter, {})}
        return cls(**shared, adapter=adapter, adapter_config=config)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.source is not None:
            return by_reference(open_adapted, str(self.source), self)
        return super().__reduce__()

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write a folder, which appears once it is complete; of several processes, the first one does."""
        if os.environ.get("RANK", "0") != "0":
            return
        check_model_folder(path, overwrite)
        folder = Path(path)
        draft = folder.with_name(f".{folder.name}-{uuid4().hex}")
        try:
            with room_named(folder):
                draft.mkdir()
                (draft / _ADAPTER).write_bytes(save(dict(self.adapter), metadata={"format": "pt"}))
                (draft / _ADAPTER_CONFIG).write_text(json.dumps(dict(self.adapter_config), indent=2))
                super().save(draft / FOLDER_FILE)
                if folder.exists():
                    shutil.rmtree(folder)
                os.replace(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def check_model_folder(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Raise, before anything is computed, where a folder of a model cannot be written to this path."""
    check_local(path)
    folder = Path(path)
    if not folder.parent.is_dir():
        raise FileNotFoundError(
            f"the folder '{folder.parent}' of {folder.name} does not exist; an existing folder is required. Make it, "
            "or choose another one."
        )
    if not folder.exists():
        return
    # Whoever overwrites a model does not mean a folder with other content.
    if not (folder / FOLDER_FILE).is_file():
        raise FileExistsError(
            f"'{folder}' exists and is no folder of a language model; a new name is required. Choose another name."
        )
    if not overwrite:
        raise FileExistsError(
            f"'{folder}' exists already; a new name is required. Choose another name, or overwrite it (--overwrite)."
        )


def open_adapted(path: str | os.PathLike[str]) -> AdaptedModel:
    """Read a folder that `AdaptedModel.save` wrote.

    Raises
    ------
    FileNotFoundError
        A file is missing.
    ValueError
        A file is damaged or was changed.
    """
    folder = Path(path).absolute()
    model = open_model(folder / FOLDER_FILE)
    for name in (_ADAPTER, _ADAPTER_CONFIG):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"the folder '{folder}' has no {name}; the weights of the adapter and their description are required. "
                "Copy the whole folder again, or train again."
            )
    try:
        adapter = load_file(folder / _ADAPTER)
        config = json.loads((folder / _ADAPTER_CONFIG).read_text())
    except (SafetensorError, ValueError) as error:
        raise ValueError(
            f"the adapter in '{folder}' cannot be read ({error}); a complete one is required. Copy the folder again, "
            "or train again."
        ) from error
    if fingerprint_of_file(adapter, {}) != model.training.get("adapter"):
        raise ValueError(
            f"the adapter in '{folder}' is not the one that belongs to {FOLDER_FILE}: it was damaged, changed or "
            "exchanged; the two as they were saved are required. Copy the folder again, or train again."
        )
    shared = {f.name: getattr(model, f.name) for f in fields(Model)}
    return replace(AdaptedModel(**shared, adapter=adapter, adapter_config=config), source=folder)
