"""The grammar of an answer: which tokens may follow, so that every answer that is decoded has its numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIGNS = ("-", "+")
DIGITS = tuple("0123456789")
_OF_NUMBERS = "".join((*SIGNS, *DIGITS, "."))


@dataclass(frozen=True)
class Digits:
    """A number within an answer, written sign by sign.

    Attributes
    ----------
    integers, decimals : (int, int)
        Least and largest number of digits before and behind the point; without decimals there is no point.
    signs : tuple of str
        Signs that may stand first; an empty one where there need be none.
    space : str
        What stands before each sign, digit and point.
    """

    integers: tuple[int, int]
    decimals: tuple[int, int]
    signs: tuple[str, ...]
    space: str

    def spell(self, written: str) -> list[str]:
        """The pieces of a number that is written as text."""
        return [f"{self.space}{sign}" for sign in written]


#: A part of an answer: text that is always there, one of several texts, or a number.
Part = str | tuple[str, ...] | Digits


class Grammar:
    """An automaton over tokens whose every path from its first to its last state is an answer.

    Parameters
    ----------
    parts : sequence of Part
    tokens : callable
        Gives the tokens of a piece of an answer.

    Attributes
    ----------
    ids : ndarray of int, shape (column,)
        The tokens that occur in answers; those of signs and digits come first, in the order of their values.
    allowed : ndarray of bool, shape (state, column)
        Which of them may follow; in the last state the first one stands for all.
    successor : ndarray of int, shape (state, column)
        The state after each of them.
    end : int
        The last state; the first is 0.
    digits : ndarray of int, shape (10,)
        Columns of the digits.
    """

    def __init__(self, parts: Sequence[Part], tokens: Callable[[str], tuple[int, ...]]) -> None:
        self._pieces: list[dict[str, int]] = [{}]  # of each state: the piece that follows, and the next state
        ends, numbers = [0], []
        for part in parts:
            if isinstance(part, Digits):
                ends = self._number(part, ends)
                numbers.append(part)
            else:
                ends = self._join(ends, (part,) if isinstance(part, str) else part)
        (self.end,) = ends
        space = numbers[0].space
        first = [tokens(f"{space}{sign}")[-1] for sign in (*SIGNS, *DIGITS)]
        self._compile(tokens, first)
        self.digits = np.array([self._column[token] for token in first[len(SIGNS) :]])

    def _new(self) -> int:
        self._pieces.append({})
        return len(self._pieces) - 1

    def _join(self, starts: Sequence[int], pieces: Sequence[str]) -> list[int]:
        """Let any of the pieces follow any of the states; returns the state after them."""
        after = self._new()
        for state in starts:
            self._pieces[state] |= dict.fromkeys(pieces, after)
        return [after]

    def _number(self, number: Digits, starts: list[int]) -> list[int]:
        """Let a number follow; returns the states in which it may end."""
        digits = number.spell("".join(DIGITS))
        signs = number.spell("".join(number.signs))
        before = self._join(starts, signs) if signs else []
        before += starts if "" in number.signs else []
        ends = []
        for count in range(1, number.integers[1] + 1):
            before = self._join(before, digits)
            ends += before if count >= number.integers[0] else []
        if not number.decimals[1]:
            return ends
        before, ends = self._join(ends, number.spell(".")), []
        for count in range(1, number.decimals[1] + 1):
            before = self._join(before, digits)
            ends += before if count >= number.decimals[0] else []
        return ends

    def _compile(self, tokens: Callable[[str], tuple[int, ...]], first: list[int]) -> None:
        """Turn pieces into tokens; pieces that begin with the same token share it."""
        edges: list[dict[int, int]] = [{} for _ in self._pieces]
        said: dict[tuple[int, int], str] = {}
        for start, following in enumerate(self._pieces):
            for piece, after in following.items():
                state, ids = start, tokens(piece)
                for token in ids[:-1]:
                    if token not in edges[state]:
                        edges.append({})
                        edges[state][token] = len(edges) - 1
                    state = edges[state][token]
                if ids[-1] in edges[state]:
                    raise ValueError(
                        f"the tokeniser gives {piece!r} the tokens {ids}, which begin another piece of an answer; "
                        "different tokens for each sign, digit and point are required. Use another base model, or "
                        'tokens="numbers".'
                    )
                edges[state][ids[-1]] = after
                said[state, ids[-1]] = piece
        known = dict.fromkeys(first) | dict.fromkeys(token for following in edges for token in following)
        self.ids = np.array(list(known))
        self._column = {int(token): column for column, token in enumerate(self.ids)}
        self.allowed = np.zeros((len(edges), len(known)), dtype=bool)
        self.successor = np.full((len(edges), len(known)), self.end)
        for place, choices in enumerate(edges):
            for token, after in choices.items():
                column = self._column[token]
                self.allowed[place, column], self.successor[place, column] = True, after
        self.allowed[self.end, 0] = True
        self._said = {(place, self._column[token]): piece for (place, token), piece in said.items()}

    def read(self, columns: NDArray[np.int64]) -> list[float]:
        """The numbers of an answer, given by the columns of its tokens up to its end or beyond it.

        Raises
        ------
        ValueError
            It is no answer; none that was decoded under the grammar.
        """
        state = 0
        pieces: list[str] = []
        for column in columns:
            if state == self.end:
                break
            if not self.allowed[state, column]:
                raise ValueError(
                    f"the token {self.ids[column]} follows {''.join(pieces)!r} in an answer; one that the grammar "
                    "allows is required. Decode under the grammar."
                )
            pieces.append(self._said.get((state, int(column)), ""))
            state = int(self.successor[state, column])
        if state != self.end:
            raise ValueError(
                f"the answer {''.join(pieces)!r} has no end; a whole one is required. Decode it to its end."
            )
        signs = [piece.strip() for piece in pieces if piece]
        runs = itertools.groupby(signs, key=lambda sign: len(sign) == 1 and sign in _OF_NUMBERS)
        return [float("".join(run)) for is_number, run in runs if is_number]
