"""Lu et al. 2026: spectra as text, and a large language model that answers with labels.

Residuals are mean and standard deviation of predicted minus official labels [K, dex]. The abundances of the second
stage are in ``language_abundances``.
"""

from __future__ import annotations

from dataclasses import dataclass

from specxr.estimators.language.text import FIRST_QUESTION, SECOND_QUESTION
from specxr.published.paper import Paper, Residual

LANGUAGE_PAPER = Paper(
    title="Spectra as Language: Large Language Models for Scalable Stellar Parameter and Abundance Inference",
    citation="Lu, H.-L., et al. 2026",
    arxiv="2605.22162",
)

SPECTRAL_CLASSES = ("A", "F", "G", "K", "M")

# Labels of the first stage in the order of the answer, and of the second stage in the order of Table 1. Names of the
# vocabulary where it has them; the prompts write C_FE for c_fe. ``tiii_fe`` is [Ti/Fe] from Ti II.
FIRST_STAGE_LABELS = ("teff", "logg", "feh")
SECOND_STAGE_LABELS = (
    "c_fe", "ci_fe", "n_fe", "o_fe", "mg_fe", "al_fe", "si_fe", "s_fe", "mn_fe", "ni_fe",
    "ca_fe", "na_fe", "p_fe", "k_fe", "ti_fe", "tiii_fe", "cr_fe", "co_fe", "cu_fe", "v_fe", "ce_fe",
)  # fmt: skip


@dataclass(frozen=True)
class PromptFormat:
    """How a spectrum becomes text, and labels become an answer (section III.1).

    Attributes
    ----------
    wavelength : (float, float)
        First and last wavelength [Angstrom].
    step : float
        Step of the wavelengths [Angstrom]; 4,901 pixels.
    decimals : int
        Decimals of the flux, which is divided by its maximum before.
    snr : float
        Least signal-to-noise ratio in the bands r and i.
    first_question, second_question : str
        Text of the question; ``{first}`` and ``{last}`` are the ends of the wavelengths, ``{flux}`` is the flux, values
        separated by a comma and a space, and ``{labels}`` the labels of the second stage, separated by spaces.
    first_answer, second_answer : str
        Examples of the answer: a space stands before each digit, sign and point of a number.
    """

    wavelength: tuple[float, float] = (3800.0, 8700.0)
    step: float = 1.0
    decimals: int = 3
    snr: float = 2.0
    first_question: str = FIRST_QUESTION
    first_answer: str = "[ 'M',' 3 7 9 4 . 6 6 ',' 4 . 6 2 8 ',' - 0 . 0 2 9 5 ]"
    second_question: str = SECOND_QUESTION
    second_answer: str = "[C_FE:' 0 . 1 5 1 3 9 9 9 9 ', CI_FE:' 0 . 1 3 8 5 1 9 9 9 ']"


PROMPT_FORMAT = PromptFormat()


@dataclass(frozen=True)
class LanguageTraining:
    """Training of the language model (sections II.1, III.2 and III.3).

    Attributes
    ----------
    base : str
        Pretrained model.
    rank, scaling, dropout : int, int, float
        Those of QLoRA.
    learning_rate, weight_decay : float
        Those of AdamW; the learning rate follows a cosine.
    train_fraction : float
        Share of the spectra, not of the stars, that is learnt.
    set_sizes : tuple of int
        Numbers of spectra, one fifth of each class (section II.1, Tables 2 to 4).
    second_stage_size : int
        Number of spectra with abundances, about (section III.3).
    """

    base: str = "LLaMA-3.1-8B Instruct"
    rank: int = 64
    scaling: int = 128
    dropout: float = 0.1
    learning_rate: float = 1e-4
    weight_decay: float = 0.1
    train_fraction: float = 0.8
    set_sizes: tuple[int, ...] = (100_000, 500_000, 1_500_000)
    second_stage_size: int = 100_000


LANGUAGE_TRAINING = LanguageTraining()


@dataclass(frozen=True)
class BaselineTraining:
    """Training of the networks that the paper compares with (section IV.1).

    Attributes
    ----------
    learning_rate : float
    epochs, batch : int
    regression_weight : float
        Weight of the squared error of the labels beside the cross-entropy of the class.
    patience, stop_after : int
        Epochs without a lower validation loss, after which the learning rate falls by `decay` and after which training
        ends; 0 where it does not end early.
    decay : float
    """

    learning_rate: float = 1e-3
    epochs: int = 80
    batch: int = 32
    regression_weight: float = 50.0
    patience: int = 3
    stop_after: int = 7
    decay: float = 0.1


FIRST_STAGE_BASELINE = BaselineTraining()
# Section IV.2: the learning rate is halved, all epochs are run, and the weights of the least validation loss are kept.
SECOND_STAGE_BASELINE = BaselineTraining(epochs=100, batch=256, stop_after=0, decay=0.5)
GRU_LAYERS = 3


def _by_class(*rows: tuple[str | float, ...]) -> dict[str, dict[str, Residual]]:
    """Residuals by class and label, of rows of a class and a pair of numbers for each label."""
    return {str(row[0]): dict(zip(FIRST_STAGE_LABELS, _pairs(row[1:]), strict=True)) for row in rows}


def _pairs(numbers: tuple[str | float, ...]) -> list[Residual]:
    values = [float(number) for number in numbers]
    return [Residual(bias, scatter) for bias, scatter in zip(values[::2], values[1::2], strict=True)]


# Table 1: spectra with a valid label, in the order of `SECOND_STAGE_LABELS`.
LABELLED_SPECTRA: dict[str, tuple[int, ...]] = {
    "A": (
        441, 441, 330, 92, 569, 554, 567, 535, 538, 563, 474, 131, 95, 178, 132, 148, 171, 145, 177, 45, 65,
    ),
    "F": (
        23_698, 23_823, 20_744, 1362, 24_021, 23_977, 24_027, 23_837, 23_883, 24_004, 23_729, 4736, 3374,
        21_313, 12_061, 11_014, 16_161, 14_877, 16_125, 1297, 1256,
    ),
    "G": (
        111_535, 111_446, 108_299, 65_077, 111_831, 111_720, 111_841, 111_073, 110_958, 111_790, 111_701,
        74_542, 73_388, 111_424, 105_506, 92_075, 110_991, 98_557, 110_372, 53_733, 61_161,
    ),
    "K": (
        42_201, 41_759, 41_145, 37_818, 42_221, 42_193, 42_225, 37_039, 40_391, 42_221, 42_214, 15_124,
        15_138, 40_977, 37_456, 13_079, 42_183, 40_887, 40_375, 17_804, 12_250,
    ),
    "M": (
        17_305, 17_155, 12_815, 17_286, 17_304, 17_236, 17_306, 3918, 5305, 17_297, 17_299, 1778, 3897,
        1141, 822, 134, 9073, 17_021, 13_523, 3886, 119,
    ),
}  # fmt: skip

# Table 2: the first stage, learnt from 1.5 million spectra.
FIRST_STAGE_RESIDUALS = _by_class(
    ("A", 17, 71, 0.01, 0.06, -0.02, 0.05),
    ("F", 0, 30, 0.01, 0.05, -0.02, 0.02),
    ("G", -5, 35, -0.02, 0.07, -0.02, 0.03),
    ("K", -1, 32, -0.01, 0.06, -0.02, 0.04),
    ("M", -1, 39, 0.00, 0.07, -0.01, 0.11),
    ("all", 0, 38, 0.00, 0.06, -0.02, 0.04),
)  # fmt: skip

# Table 3: models that learn from 100,000 spectra.
RESIDUALS_100K: dict[str, dict[str, dict[str, Residual]]] = {
    "lightgbm": _by_class(
        ("A", -13, 433, -0.01, 0.19, 0.01, 0.27),
        ("F", -21, 185, 0.02, 0.21, -0.01, 0.19),
        ("G", 6, 170, 0.01, 0.34, 0.01, 0.18),
        ("K", -12, 168, -0.01, 0.27, 0.01, 0.19),
        ("M", 39, 176, -0.01, 0.41, -0.02, 0.19),
        ("all", 0, 251, 0.00, 0.30, 0.00, 0.21),
    ),
    "resnet50": _by_class(
        ("A", 86, 666, 0.01, 0.18, 0.05, 0.22),
        ("F", -29, 180, 0.09, 0.18, 0.06, 0.14),
        ("G", -39, 132, 0.14, 0.24, 0.09, 0.12),
        ("K", -53, 165, 0.02, 0.17, 0.06, 0.13),
        ("M", 44, 706, -0.04, 0.38, 0.01, 0.16),
        ("all", 2, 453, 0.04, 0.25, 0.05, 0.16),
    ),
    "small_cnn": _by_class(
        ("A", -94, 699, 0.05, 0.27, 0.01, 0.34),
        ("F", -50, 328, -0.03, 0.29, -0.01, 0.23),
        ("G", -2, 288, -0.03, 0.43, -0.02, 0.22),
        ("K", 12, 302, -0.03, 0.38, 0.00, 0.22),
        ("M", 53, 396, -0.07, 0.64, -0.01, 0.25),
        ("all", -17, 434, -0.02, 0.42, -0.01, 0.26),
    ),
    "gru": _by_class(
        ("A", 99, 849, -0.01, 0.21, 0.03, 0.40),
        ("F", -7, 252, 0.02, 0.26, -0.03, 0.33),
        ("G", 0, 243, 0.02, 0.46, 0.04, 0.31),
        ("K", -8, 233, 0.04, 0.33, -0.01, 0.28),
        ("M", 6, 238, 0.02, 0.36, -0.01, 0.19),
        ("all", 18, 440, 0.02, 0.34, 0.01, 0.31),
    ),
    "llm": _by_class(
        ("A", 51, 297, 0.05, 0.15, 0.00, 0.18),
        ("F", 9, 80, 0.01, 0.14, -0.03, 0.09),
        ("G", 4, 84, 0.00, 0.17, -0.02, 0.08),
        ("K", 8, 72, -0.01, 0.15, -0.02, 0.09),
        ("M", -1, 53, 0.01, 0.22, 0.00, 0.15),
        ("all", 14, 150, 0.01, 0.17, -0.01, 0.12),
    ),
}  # fmt: skip

# Table 4: models that learn from 500,000 spectra.
RESIDUALS_500K: dict[str, dict[str, dict[str, Residual]]] = {
    "resnet50": _by_class(
        ("A", 61, 327, 0.05, 0.14, 0.01, 0.19),
        ("F", -47, 137, -0.08, 0.14, -0.03, 0.12),
        ("G", -48, 124, -0.11, 0.19, -0.02, 0.16),
        ("K", 2, 93, -0.09, 0.15, -0.02, 0.12),
        ("M", 107, 1975, -0.09, 2.65, -0.08, 1.16),
        ("all", 15, 908, -0.06, 1.20, -0.03, 0.54),
    ),
    "llm": _by_class(
        ("A", 22, 269, 0.01, 0.12, -0.03, 0.15),
        ("F", 0, 68, 0.00, 0.12, -0.03, 0.07),
        ("G", -5, 66, -0.03, 0.14, -0.03, 0.06),
        ("K", -4, 55, -0.02, 0.11, -0.03, 0.08),
        ("M", -1, 56, 0.01, 0.23, -0.01, 0.14),
        ("all", 2, 133, 0.00, 0.15, -0.03, 0.11),
    ),
}  # fmt: skip

# Table 7: the first stage against other surveys.
EXTERNAL_RESIDUALS: dict[str, dict[str, dict[str, Residual]]] = {
    "gaia_eso": _by_class(
        ("A", 41, 380, 0.02, 0.40, -0.06, 0.33),
        ("F", 17, 164, 0.04, 0.19, -0.02, 0.13),
        ("G", 6, 123, -0.06, 0.23, -0.05, 0.15),
        ("K", -63, 128, 0.04, 0.17, 0.00, 0.18),
        ("M", -102, 147, -0.13, 0.26, 0.17, 0.38),
        ("all", -5, 138, -0.02, 0.22, -0.03, 0.16),
    ),
    "galah_dr4": _by_class(
        ("A", -280, 186, 0.01, 0.23, 0.11, 0.13),
        ("F", 108, 98, 0.03, 0.13, -0.01, 0.07),
        ("G", 28, 86, 0.00, 0.14, -0.02, 0.07),
        ("K", -49, 114, 0.07, 0.13, 0.03, 0.09),
        ("M", -42, 86, -0.06, 0.24, 0.19, 0.28),
        ("all", 42, 105, 0.02, 0.14, -0.01, 0.08),
    ),
}  # fmt: skip
