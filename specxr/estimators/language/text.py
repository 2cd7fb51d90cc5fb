"""Questions and answers as the language paper writes them (Lu et al. 2026, section III.1), and back.

The flux is divided by its maximum and written with three decimals, values separated by a comma and a space. In an
answer a space stands before each sign, digit and point of a number, so that a tokeniser sees them one by one
(Gruver et al. 2023).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

# The paper's first question has no second "angstrom", and its first answer no quotation mark at the end.
FIRST_QUESTION = (
    "Given the normalized flux data sorted by wavelength, from {first} angstrom to {last}. Your task is to analyze "
    "this spectrum, and predict spectral type and physical parameters. Organize your answer in the order of "
    "['class', 'Teff', 'logg', '[Fe/H]']. <flux>{flux}</flux>"
)
SECOND_QUESTION = (
    "Given the normalized flux data sorted by wavelength, from {first} angstrom to {last} angstrom. Your task is to "
    "analyze this spectrum, and predict physical parameters: {labels}. <flux>{flux}</flux>"
)

#: The labels of the paper's first stage; all others are asked in the form of its second stage.
FIRST_STAGE = ("teff", "logg", "feh")
_DECIMALS = dict(zip(FIRST_STAGE, (2, 3, 4), strict=True))
MOST_DECIMALS = 9

FLUX_DECIMALS = 3
# Lowest temperature of each spectral class [K], with which the first answer begins, where no type is known.
_CLASSES = {
    "O": 30_000.0,
    "B": 10_000.0,
    "A": 7_300.0,
    "F": 6_000.0,
    "G": 5_300.0,
    "K": 3_900.0,
    "M": -np.inf,
}
CLASSES = tuple(_CLASSES)

_NUMBER = re.compile(r"(?:- ?)?\d[\d ]*(?:\.[\d ]*)?")


def flux_text(values: ArrayLike) -> str:
    """Flux over its maximum, shape (pixel,), as text: "0.303, 0.3, 1.0"."""
    return ", ".join(
        str(float(value)) for value in np.round(np.asarray(values, np.float64), FLUX_DECIMALS) + 0.0
    )


def read_flux(text: str) -> NDArray[np.float64]:
    """The flux between the tags of a question, or of `flux_text` alone; shape (pixel,)."""
    inside = re.search(r"<flux>(.*)</flux>", text, re.DOTALL)
    try:
        return np.array([float(item) for item in (inside[1] if inside else text).split(",")])
    except ValueError as error:
        raise ValueError(
            f"the text {text[:60]!r} holds no flux ({error}); numbers with commas between them, between <flux> and "
            "</flux>, are required. Write it with `question`."
        ) from error


def question(labels: Sequence[str], window: tuple[float, float], values: ArrayLike) -> str:
    """Ask for labels of a spectrum.

    Parameters
    ----------
    labels : sequence of str
        ``teff``, ``logg`` and ``feh`` are asked for as in the first stage, all others by name as in the second.
    window : (float, float)
        First and last wavelength [Angstrom].
    values : array_like, shape (pixel,)
        Flux over its maximum.
    """
    template = FIRST_QUESTION if tuple(labels) == FIRST_STAGE else SECOND_QUESTION
    first, last = (f"{end:g}" for end in window)
    names = " ".join(label.upper() for label in labels)
    return template.format(first=first, last=last, labels=names, flux=flux_text(values))


def frame(labels: Sequence[str]) -> tuple[str, ...]:
    """What stands before, between and after the numbers of an answer: one piece more than there are labels.

    In the first piece of the first stage ``{}`` stands for the spectral class.
    """
    if tuple(labels) == FIRST_STAGE:
        return "[ '{}','", " ','", " ','", " ]"
    starts = [f"{name.upper()}:'" for name in labels]
    return f"[{starts[0]}", *(f" ', {start}" for start in starts[1:]), " ']"


def number(label: str, value: float) -> str:
    """A label as the paper writes it: decimals by label, or else eight significant digits, as APOGEE's are printed."""
    decimals = _DECIMALS.get(label, MOST_DECIMALS)
    value = round(float(value), decimals) + 0.0  # no minus before a zero
    if label in _DECIMALS:
        return f"{value:.{decimals}f}"
    return np.format_float_positional(value, precision=8, unique=False, fractional=False, trim="0")


def answer(labels: Mapping[str, float], kind: str = "") -> str:
    """Labels by name, in their order, as an answer; `kind` is the spectral type, if it is known."""
    pieces = list(frame(tuple(labels)))
    if tuple(labels) == FIRST_STAGE:
        pieces[0] = pieces[0].format(spectral_class(labels["teff"], kind))
    spaced = ["".join(f" {sign}" for sign in number(name, value)) for name, value in labels.items()]
    return "".join(piece + value for piece, value in zip(pieces, [*spaced, ""], strict=True))


def read_answer(text: str, labels: Sequence[str]) -> dict[str, float]:
    """The labels of an answer.

    Raises
    ------
    ValueError
        The text is no answer to the question for these labels.
    """
    pieces = [re.escape(piece).replace(r"\{\}", "[A-Z]") for piece in frame(labels)]
    pattern = "".join(f"{piece}( {_NUMBER.pattern} ?)" for piece in pieces[:-1]) + pieces[-1].removeprefix(
        r"\ "
    )
    found = re.fullmatch(pattern, text)
    if found is None:
        raise ValueError(
            f"the answer {text[:80]!r} has no number for each of {', '.join(labels)}; an answer as `answer` writes it "
            "is required. Decode under the grammar, where no other answer is possible."
        )
    return {name: float(item.replace(" ", "")) for name, item in zip(labels, found.groups(), strict=True)}


def spectral_class(teff: float, kind: str = "") -> str:
    """The letter of the spectral class: of a spectral type such as "G5", or by effective temperature [K]."""
    if kind[:1] in CLASSES:
        return kind[:1]
    return next(letter for letter, lowest in _CLASSES.items() if teff >= lowest)
