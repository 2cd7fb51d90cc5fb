"""Tiny language models with random weights, made here: nothing is downloaded."""

import functools
import tempfile
from pathlib import Path

import torch

from specxr import LanguageModel

_keep: list[tempfile.TemporaryDirectory[str]] = []  # until the tests end


def write_base(folder, seed=0, width=64, layers=2, words=64, tokenizer=None):
    """A causal model of the architecture of LLaMA with random weights, in a folder."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        # It is not trained with an adapter, and as it is made no token could be much more likely than another.
        model.lm_head.weight.data *= 30.0
        model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return str(folder)


@functools.cache
def tiny_base():
    """Folder of a tiny base model without a tokeniser."""
    folder = tempfile.TemporaryDirectory(prefix="specxr-language-")
    _keep.append(folder)
    return write_base(Path(folder.name) / "base")


def untrained(**options):
    """A language model of the vocabulary of numbers that learns in seconds."""
    return LanguageModel(**{
        "base": tiny_base(), "tokens": "numbers", "window": (4900.0, 5250.0), "step": 25.0, "dropout": 0.0,
        "learning_rate": 3e-3, "weight_decay": 0.0, "minibatch": 16, "accumulation": 1, "checkpointing": False,
        "validation": 0.0,
    } | options)  # fmt: skip


@functools.cache
def llama_tokenizer():
    """A tokeniser that splits text as LLaMA-3's does, with numbers of up to three digits and few words."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    corpus = [
        ", ".join(f"0.{i:03d}" for i in range(1000)) + ", 1.0",
        "[ 'M',' 3 . 6 ',' - 0 . 1 ]",
        "<flux>0</flux>",
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=2000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
