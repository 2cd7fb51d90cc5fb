"""The base model: any causal language model of transformers in a local folder, never a download."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from specxr.content import short_fingerprint

#: How the weights of the base model are held: in 32 bits, in 16, or in 4 (QLoRA), which are computed with in 16.
PRECISIONS = ("float32", "bfloat16", "nf4")
_SAMPLE = 1 << 20  # bytes at either end of a file of weights that tell it from others


@dataclass(frozen=True)
class Adapter:
    """The low-rank adapter (LoRA) of all linear layers (section III.3).

    Attributes
    ----------
    rank : int
    alpha : int
        Scaling factor.
    dropout : float
    """

    rank: int
    alpha: int
    dropout: float


def check_base(folder: str) -> Path:
    """Raise with what is missing unless a folder has the weights and the configuration of a model."""
    path = Path(folder)
    if not folder or not path.is_dir():
        found = f"there is no folder '{folder}'" if folder else "no base model is named"
        raise FileNotFoundError(
            f"{found}; a local folder with the weights of a causal language model is required, such as "
            "Llama-3.1-8B-Instruct, and nothing is downloaded. Get one from its publisher, and give base='FOLDER' "
            "(-o base=FOLDER)."
        )
    missing = [
        what
        for what, pattern in (("config.json", "config.json"), ("weights (*.safetensors)", "*.safetensors"))
        if not any(path.glob(pattern))
    ]
    if missing:
        raise FileNotFoundError(
            f"the folder '{path}' has no {' and no '.join(missing)}; both are required for a base model. Copy the "
            "folder as its publisher gives it."
        )
    return path


def fingerprint_of_base(folder: Path) -> str:
    """Content hash of a base model: its configuration, and of each file of weights the size and both ends."""
    content = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        with path.open("rb") as file:
            content.update(size.to_bytes(8, "little") + file.read(_SAMPLE))
            file.seek(max(0, size - _SAMPLE))
            content.update(file.read(_SAMPLE))
    return short_fingerprint((folder / "config.json").read_bytes(), content.digest())


def check_same_base(training: Mapping[str, Any], folder: Path) -> None:
    """Raise ``ValueError`` unless a folder has the base model of a training, as its description in the model says."""
    wanted, found = training.get("base_fingerprint"), fingerprint_of_base(folder)
    if found != wanted:
        raise ValueError(
            f"the base model in '{folder}' has the fingerprint {found}; {wanted} is required, that of "
            f"'{training.get('base')}', for which the adapter was trained. Name that base model: base='FOLDER' "
            "(-o base=FOLDER)."
        )


def check_length(model: Any, n_token: int) -> None:
    """Raise ``ValueError`` where a model cannot read so many tokens."""
    most = getattr(model.config, "max_position_embeddings", None)
    if most is not None and n_token > most:
        raise ValueError(
            f"a question with its answer has {n_token} tokens; at most {most} are required, which the base model can "
            'read. Take tokens="numbers", a wider step, or a model with a longer context.'
        )


def open_base(folder: Path, precision: str, device: str, adapter: Adapter, *, checkpointing: bool) -> Any:
    """Open a base model with a new adapter; only the adapter can be trained.

    Parameters
    ----------
    folder : Path
    precision : str
        One of `PRECISIONS`.
    device : str
        A device of torch.
    adapter : Adapter
    checkpointing : bool
        Whether the training computes activations twice instead of keeping them.
    """
    check_installed(precision)
    from peft import get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    options: dict[str, Any] = {"dtype": torch.float32 if precision == "float32" else torch.bfloat16}
    if precision == "nf4":
        # Stored as bfloat16, so that ZeRO-3 can distribute the packed weights.
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
            bnb_4bit_quant_storage=torch.bfloat16,
        )
        if device != "cpu" and "ACCELERATE_USE_DEEPSPEED" not in os.environ:
            options["device_map"] = {"": device}
    with _quiet():
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, **options
        )
        if precision == "nf4":
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return get_peft_model(model, _lora(folder, adapter))


def adapter_of(model: Any, state: Mapping[str, torch.Tensor] | None = None) -> dict[str, Any]:
    """Weights of the adapter as arrays, under the names that peft gives them in files.

    Parameters
    ----------
    model : PeftModel
    state : mapping of str to Tensor, optional
        Weights of the model by name; by default those that it has.
    """
    from peft import get_peft_model_state_dict

    with _quiet():
        weights = get_peft_model_state_dict(model, state_dict=state, save_embedding_layers=False)
    return {name: tensor.detach().float().cpu().numpy() for name, tensor in weights.items()}


def adapter_config(folder: Path, adapter: Adapter) -> dict[str, Any]:
    """What peft has to know of an adapter, as JSON types."""
    content = _lora(folder, adapter).to_dict()
    return {name: getattr(value, "value", value) for name, value in content.items()} | {
        "inference_mode": True
    }


def _lora(folder: Path, adapter: Adapter) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        base_model_name_or_path=str(folder),
    )


def set_adapter(model: Any, arrays: Mapping[str, Any]) -> None:
    """Put the weights of an adapter into a model.

    Raises
    ------
    ValueError
        They are those of another model.
    """
    from peft import set_peft_model_state_dict

    wanted = {name: array.shape for name, array in adapter_of(model).items()}
    given = {name: array.shape for name, array in arrays.items()}
    if wanted != given:
        odd = sorted(set(wanted.items()) ^ set(given.items()))[0][0]
        raise ValueError(
            f"the adapter does not fit the base model, for example in {odd}; an adapter of this base model is "
            "required. Name the base model that it was trained with: base='FOLDER' (-o base=FOLDER)."
        )
    with _quiet():
        set_peft_model_state_dict(model, {name: torch.from_numpy(array) for name, array in arrays.items()})


def check_installed(precision: str) -> None:
    """Raise ``ImportError`` with the name of the extra that is missing."""
    wanted: dict[str, tuple[str, ...]] = {"language": ("transformers", "peft", "accelerate")}
    if precision == "nf4":
        wanted["qlora"] = ("bitsandbytes",)
    for extra, names in wanted.items():
        missing = [name for name in names if find_spec(name) is None]
        if missing:
            raise ImportError(
                f"{', '.join(missing)} cannot be imported; the language model requires the extra '{extra}'. Install "
                f"it: pip install 'specxr[{extra}]'."
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars of transformers, and without warnings of one of these packages about another."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if shown:
            logging.enable_progress_bar()
