"""What every paper has: a title, a citation, and pairs of numbers to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Paper:
    """A paper whose method or numbers the package uses.

    Attributes
    ----------
    title : str
    citation : str
        First author, year and, where it is known, journal, volume and page.
    doi : str
        Digital object identifier; empty where the text of the paper does not give one.
    arxiv : str
        Number of the preprint; empty where there is none.
    """

    title: str
    citation: str
    doi: str = ""
    arxiv: str = ""


class Residual(NamedTuple):
    """Mean and standard deviation of a difference of labels [units of the label]."""

    bias: float
    scatter: float
