"""Spectra and answers as tokens: the paper's text with the tokeniser of a model, or a vocabulary of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from specxr.estimators.language.grammar import DIGITS, SIGNS, Digits, Grammar, Part
from specxr.estimators.language.text import (
    CLASSES,
    FIRST_STAGE,
    MOST_DECIMALS,
    frame,
    number,
    question,
    spectral_class,
)

#: Numbers 0.000 to 1.000.
N_NUMBERS = 1001
_FLUX, _END_FLUX = "<flux>", "</flux>"
_DECIMALS, _DECIMALS_OF_TEFF = 3, 0  # of answers in the vocabulary of numbers


class Tokens(Protocol):
    """How spectra and labels become tokens."""

    @property
    def grammar(self) -> Grammar:
        """What an answer may be."""

    def prompt(self, values: NDArray[np.float64]) -> list[int]:
        """The question about a spectrum: flux over its maximum, shape (pixel,)."""

    def answer(self, labels: Mapping[str, float], kind: str = "") -> list[int]:
        """The answer with these labels; `kind` is the spectral type, if it is known."""


@dataclass(frozen=True, eq=False)
class TextTokens:
    """Question and answer of the paper in the tokens of a model.

    Parameters
    ----------
    tokenizer : tokenizer of transformers
    bounds : mapping of str to (float, float)
        Lowest and highest value of each label, which decide how many digits an answer may have.
    window : (float, float)
        First and last wavelength [Angstrom].
    """

    tokenizer: Any
    bounds: Mapping[str, tuple[float, float]]
    window: tuple[float, float]

    @cached_property
    def _parts(self) -> list[Part]:
        first, *between = frame(tuple(self.bounds))
        parts: list[Part] = [first]
        if "{}" in first:
            before, after = first.split("{}")
            parts = [before, CLASSES, after]
        for (name, ends), piece in zip(self.bounds.items(), between, strict=True):
            decimals = len(number(name, 0.5).partition(".")[2]) if name in FIRST_STAGE else None
            parts.append(
                Digits(
                    _integers(ends, zeros=False),
                    (1, MOST_DECIMALS) if decimals is None else (decimals, decimals),
                    ("", "-") if ends[0] < 0 else ("",),
                    " ",
                )
            )
            parts.append(piece)
        return parts

    @cached_property
    def grammar(self) -> Grammar:
        """What an answer may be."""
        return Grammar(self._parts, self._piece)

    def _piece(self, piece: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(piece, add_special_tokens=False))

    def prompt(self, values: NDArray[np.float64]) -> list[int]:
        """The question about a spectrum, as a message of the user where the model knows messages."""
        text = question(tuple(self.bounds), self.window, values)
        if self.tokenizer.chat_template is None:
            return list(self.tokenizer.encode(text))
        message = [{"role": "user", "content": text}]
        return list(
            self.tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False)
        )

    def answer(self, labels: Mapping[str, float], kind: str = "") -> list[int]:
        """The answer with these labels, piece by piece as it is decoded; `kind` is the spectral type, if known."""
        pieces: list[str] = []
        names = iter(self.bounds)
        for part in self._parts:
            if isinstance(part, Digits):
                name = next(names)
                pieces += part.spell(number(name, labels[name]))
            else:
                pieces.append(part if isinstance(part, str) else spectral_class(labels["teff"], kind))
        return [token for piece in pieces for token in self._piece(piece)]


@dataclass(frozen=True, eq=False)
class NumberTokens:
    """One token for each pixel, 0.000 to 1.000, and answers of fixed width, the most significant digit first.

    Parameters
    ----------
    bounds : mapping of str to (float, float)
        Lowest and highest value of each label, which decide how many digits an answer has.
    """

    bounds: Mapping[str, tuple[float, float]]

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """What is no number; their tokens come first."""
        return _FLUX, _END_FLUX, *SIGNS, *DIGITS, ".", *(f"<{name}>" for name in self.bounds)

    @cached_property
    def _numbers(self) -> dict[str, Digits]:
        numbers = {}
        for name, ends in self.bounds.items():
            integers = _integers(ends, zeros=True)
            decimals = _DECIMALS_OF_TEFF if name == "teff" else _DECIMALS
            numbers[name] = Digits(integers, (decimals, decimals), SIGNS if ends[0] < 0 else ("",), "")
        return numbers

    @cached_property
    def grammar(self) -> Grammar:
        """What an answer may be."""
        parts = [part for name, digits in self._numbers.items() for part in (f"<{name}>", digits)]
        return Grammar(parts, lambda piece: (self.symbols.index(piece),))

    def prompt(self, values: NDArray[np.float64]) -> list[int]:
        """The flux between its tags; what is below 0 or above 1 is written as the nearer of the two."""
        numbers = np.rint(np.clip(values, 0.0, 1.0) * (N_NUMBERS - 1)).astype(int) + len(self.symbols)
        return [self.symbols.index(_FLUX), *map(int, numbers), self.symbols.index(_END_FLUX)]

    def answer(self, labels: Mapping[str, float], kind: str = "") -> list[int]:
        """The answer with these labels."""
        pieces = []
        for name, digits in self._numbers.items():
            decimals = digits.decimals[0]
            value = round(float(labels[name]), decimals) + 0.0  # no minus before a zero
            sign = "" if "" in digits.signs else "-" if value < 0 else "+"
            width = digits.integers[0] + (decimals > 0) + decimals
            pieces += [f"<{name}>", *digits.spell(sign + f"{abs(value):0{width}.{decimals}f}")]
        return [self.symbols.index(piece) for piece in pieces]


def _integers(ends: tuple[float, float], *, zeros: bool) -> tuple[int, int]:
    """Least and largest number of digits before the point, of values between two; the largest where zeros fill it."""
    least, most = sorted(map(abs, ends))
    low, high = len(str(int(least))), len(str(int(np.ceil(most))))
    if zeros:
        return high, high
    return (1 if ends[0] <= 0 <= ends[1] else low), high


def open_tokenizer(folder: Path) -> Any:
    """The tokeniser in the folder of a model."""
    from transformers import AutoTokenizer

    if not any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")
    ):
        raise FileNotFoundError(
            f"the folder '{folder}' has no tokeniser; one is required for spectra as text. Put tokenizer.json beside "
            'the weights, or take tokens="numbers".'
        )
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)
