"""The Payne: a network from labels to flux, and a fit of all labels at once.

Ting et al. 2019, ApJ 879, 69; Sun et al. 2025 (the hot-star paper), section 3.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from specxr.emulators.network import ACTIVATIONS, NetworkEmulator
from specxr.emulators.network_training import Recipe, train_network
from specxr.estimators.backend import check_choice
from specxr.estimators.emulated.base import Emulated
from specxr.estimators.trained import Progress
from specxr.spectra.training_set import TrainingSet


@dataclass(frozen=True, kw_only=True, eq=False)
class Payne(Emulated):
    """Labels and radial velocity of each star, with an emulator that is a network.

    The network has smooth activations, one layer after another; its spectra, shifted, are fitted to the normalised
    observed ones, every pixel weighted by its inverse variance and by how well the network predicts held-out
    spectra there. Options of the fit are those of `Emulated`.

    Parameters
    ----------
    hidden : tuple of int, optional
        Numbers of neurons of the hidden layers; (40, 40) in the hot-star paper.
    activation : {"silu", "sigmoid"}, optional
        "sigmoid" in the hot-star paper. SiLU does not saturate: with the same time it is several times closer to
        spectra that were not learnt (docs/measured/payne.md).
    learning_rate : float, optional
        Learning rate of Adam at the beginning; it is halved whenever ``patience`` rounds brought no gain, six times at
        most.
    weight_decay : float, optional
        Weight decay of AdamW; few observed spectra require more of it.
    batch : int, optional
        Number of stars in a step; a round has a hundred steps.
    max_rounds, patience : int, optional
        The training ends after ``max_rounds`` rounds, or when the learning rate was halved six times.
    validation : float, optional
        Fraction of the stars that are held out, to decide when to stop and how good the network is in each pixel.
    seed : int, optional
        Seed of the split, of the first weights and of the batches.

    Examples
    --------
    >>> from specxr import Payne
    >>> paper = Payne(hidden=(40, 40), activation="sigmoid", learning_rate=1e-3, validation=0.3)
    """

    hidden: tuple[int, ...] = (96, 96)
    activation: str = "silu"
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    batch: int = 128
    max_rounds: int = 1000
    patience: int = 15
    validation: float = 0.1
    seed: int = 0

    kind: ClassVar[str] = "payne"
    emulator_type: ClassVar[type[NetworkEmulator]] = NetworkEmulator
    keeps_checkpoints: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("activation", self.activation, ACTIVATIONS)
        if not 0.0 < self.validation < 1.0:
            raise ValueError(
                f"validation is {self.validation}; a fraction between 0 and 1 of the stars is required, held out to "
                "decide when to stop. Take 0.1, or 0.3 as the paper did."
            )
        positive = ("learning_rate", "batch", "max_rounds", "patience")
        wrong = [name for name in positive if not getattr(self, name) > 0]
        if wrong or not self.hidden or min(self.hidden) < 1:
            raise ValueError(
                f"hidden is {self.hidden}, {', '.join(f'{n} is {getattr(self, n)}' for n in positive)}; positive "
                "numbers are required. Correct them."
            )

    def train_emulator(
        self, training: TrainingSet, progress: Progress | None, checkpoint: Path | None
    ) -> tuple[NetworkEmulator, NDArray[np.float64]]:
        """Train the network; ``progress(round, max_rounds, rms)`` tells the residual of the held-out spectra."""
        recipe = Recipe(**self.training_options)
        return train_network(training, recipe, self.device, progress, checkpoint)
