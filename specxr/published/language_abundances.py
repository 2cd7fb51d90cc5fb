"""Lu et al. 2026: abundances of the second stage (Tables 5, 6 and 8); the rest of the paper is in ``language``.

Table 6 disagrees with Table 5 of the same model: a root mean square is never below the standard deviation of one set.
"""

from __future__ import annotations

from specxr.published.language import SPECTRAL_CLASSES
from specxr.published.paper import Residual

# Table 5: number of test spectra of each class.
ABUNDANCE_TEST_SPECTRA = {"A": 1087, "F": 5092, "G": 22780, "K": 8765, "M": 1255}


def _residuals(*rows: tuple[str | float, ...]) -> dict[str, dict[str, Residual]]:
    """Residuals by label and class, of rows of a label and a pair of numbers for each class."""
    out = {}
    for name, *numbers in rows:
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        values = [Residual(float(bias), float(scatter)) for bias, scatter in pairs]
        out[str(name)] = dict(zip(SPECTRAL_CLASSES, values, strict=True))
    return out


# Table 5: mean and standard deviation of predicted minus true abundances [dex].
ABUNDANCE_RESIDUALS = _residuals(
    ("c_fe", 0.02, 0.11, 0.01, 0.09, -0.01, 0.07, -0.01, 0.05, -0.01, 0.06),
    ("ci_fe", 0.02, 0.11, 0.01, 0.10, 0.00, 0.09, 0.00, 0.09, -0.01, 0.08),
    ("n_fe", -0.04, 0.24, -0.01, 0.20, 0.00, 0.11, -0.01, 0.12, -0.01, 0.14),
    ("o_fe", 0.01, 0.09, 0.01, 0.07, 0.00, 0.07, -0.02, 0.12, -0.02, 0.13),
    ("mg_fe", 0.02, 0.10, 0.01, 0.08, 0.00, 0.06, -0.01, 0.08, -0.03, 0.09),
    ("al_fe", 0.01, 0.14, 0.01, 0.11, 0.00, 0.10, -0.01, 0.11, -0.04, 0.14),
    ("si_fe", 0.01, 0.09, 0.01, 0.07, 0.01, 0.05, 0.00, 0.06, -0.01, 0.06),
    ("s_fe", -0.01, 0.14, 0.00, 0.12, 0.00, 0.12, 0.00, 0.12, -0.01, 0.15),
    ("mn_fe", 0.03, 0.16, 0.01, 0.11, 0.00, 0.08, -0.01, 0.09, 0.01, 0.09),
    ("ni_fe", 0.00, 0.23, 0.00, 0.20, 0.00, 0.15, -0.01, 0.11, -0.01, 0.07),
    ("ca_fe", 0.01, 0.15, 0.00, 0.11, 0.00, 0.06, -0.01, 0.06, -0.02, 0.08),
    ("na_fe", 0.06, 0.61, 0.03, 0.29, 0.03, 0.26, 0.00, 0.18, 0.00, 0.17),
    ("p_fe", 0.01, 0.49, 0.03, 0.36, 0.03, 0.31, 0.00, 0.22, -0.01, 0.21),
    ("k_fe", 0.03, 0.20, 0.02, 0.18, 0.00, 0.12, 0.00, 0.12, -0.02, 0.13),
    ("ti_fe", -0.01, 0.21, -0.01, 0.15, -0.01, 0.11, -0.02, 0.08, -0.03, 0.11),
    ("tiii_fe", 0.03, 0.26, 0.02, 0.23, 0.02, 0.21, 0.02, 0.26, 0.02, 0.26),
    ("cr_fe", 0.00, 0.29, 0.00, 0.24, 0.00, 0.17, 0.00, 0.11, -0.01, 0.10),
    ("co_fe", 0.11, 0.55, 0.07, 0.43, 0.02, 0.35, -0.01, 0.38, 0.01, 0.26),
    ("cu_fe", -0.02, 0.34, -0.01, 0.28, 0.00, 0.21, 0.01, 0.15, -0.02, 0.15),
    ("v_fe", 0.00, 0.21, -0.01, 0.21, -0.01, 0.18, 0.00, 0.18, 0.01, 0.17),
    ("ce_fe", 0.03, 0.30, 0.01, 0.28, 0.02, 0.28, 0.04, 0.24, 0.03, 0.23),
)  # fmt: skip


def _errors(*rows: tuple[str | float, ...]) -> dict[str, dict[str, dict[str, float]]]:
    """Root mean square errors by model, label and class, of rows of a label and twelve numbers."""
    classes = ("all", *SPECTRAL_CLASSES)
    out: dict[str, dict[str, dict[str, float]]] = {"resnet50": {}, "llm": {}}
    for name, *numbers in rows:
        for model, values in zip(out.values(), (numbers[:6], numbers[6:]), strict=True):
            model[str(name)] = dict(zip(classes, map(float, values), strict=True))
    return out


# Table 6: root mean square errors [dex].
ABUNDANCE_ERRORS = _errors(
    ("c_fe", 0.08, 0.11, 0.08, 0.09, 0.06, 0.06, 0.11, 0.23, 0.12, 0.10, 0.10, 0.12),
    ("ci_fe", 0.11, 0.11, 0.09, 0.13, 0.08, 0.08, 0.14, 0.15, 0.13, 0.14, 0.14, 0.15),
    ("n_fe", 0.12, 0.15, 0.18, 0.11, 0.08, 0.12, 0.16, 0.37, 0.17, 0.15, 0.16, 0.18),
    ("mg_fe", 0.08, 0.12, 0.09, 0.08, 0.07, 0.08, 0.12, 0.17, 0.12, 0.12, 0.12, 0.14),
    ("al_fe", 0.17, 0.30, 0.19, 0.19, 0.08, 0.12, 0.13, 0.13, 0.13, 0.13, 0.13, 0.14),
    ("si_fe", 0.08, 0.11, 0.09, 0.09, 0.05, 0.07, 0.09, 0.13, 0.09, 0.09, 0.09, 0.11),
    ("s_fe", 0.18, 0.12, 0.11, 0.21, 0.13, 0.07, 0.16, 0.18, 0.16, 0.16, 0.16, 0.17),
    ("mn_fe", 0.10, 0.12, 0.11, 0.11, 0.06, 0.06, 0.10, 0.14, 0.10, 0.10, 0.10, 0.11),
    ("ni_fe", 0.08, 0.14, 0.09, 0.08, 0.05, 0.08, 0.06, 0.12, 0.06, 0.06, 0.06, 0.07),
    ("ca_fe", 0.14, 0.16, 0.11, 0.18, 0.04, 0.06, 0.09, 0.08, 0.09, 0.09, 0.09, 0.09),
    ("na_fe", 0.21, 0.26, 0.30, 0.21, 0.13, 0.10, 0.27, 0.24, 0.27, 0.27, 0.27, 0.28),
    ("p_fe", 0.24, 0.16, 0.20, 0.28, 0.13, 0.09, 0.31, 0.27, 0.31, 0.31, 0.31, 0.33),
    ("k_fe", 0.47, 0.28, 0.24, 0.59, 0.11, 0.07, 0.16, 0.36, 0.16, 0.15, 0.15, 0.17),
    ("ti_fe", 0.28, 0.18, 0.16, 0.34, 0.08, 0.05, 0.14, 0.09, 0.14, 0.14, 0.14, 0.14),
    ("tiii_fe", 0.17, 0.08, 0.18, 0.19, 0.12, 0.05, 0.26, 0.15, 0.25, 0.26, 0.26, 0.28),
    ("cr_fe", 0.21, 0.15, 0.22, 0.24, 0.10, 0.08, 0.18, 0.15, 0.18, 0.18, 0.17, 0.18),
    ("co_fe", 0.55, 0.09, 0.38, 0.66, 0.30, 0.22, 0.35, 0.12, 0.35, 0.35, 0.35, 0.36),
    ("cu_fe", 0.22, 0.17, 0.24, 0.25, 0.12, 0.10, 0.22, 0.31, 0.22, 0.21, 0.22, 0.24),
    ("o_fe", 0.08, 0.10, 0.07, 0.08, 0.06, 0.07, 0.13, 0.11, 0.14, 0.13, 0.13, 0.14),
    ("v_fe", 0.14, 0.02, 0.06, 0.16, 0.11, 0.06, 0.20, 0.21, 0.21, 0.20, 0.21, 0.20),
    ("ce_fe", 0.19, 0.25, 0.19, 0.21, 0.14, 0.04, 0.31, 0.31, 0.30, 0.31, 0.31, 0.26),
)  # fmt: skip


def _external(*rows: tuple[str | float, ...]) -> dict[str, dict[str, tuple[int, Residual]]]:
    """Number of stars and residual by survey and label."""
    out: dict[str, dict[str, tuple[int, Residual]]] = {"gaia_eso": {}, "galah_dr4": {}}
    for name, *numbers in rows:
        for survey, (n, bias, scatter) in zip(out.values(), (numbers[:3], numbers[3:]), strict=True):
            survey[str(name)] = (int(n), Residual(float(bias), float(scatter)))
    return out


# Table 8: abundances against other surveys [dex].
EXTERNAL_ABUNDANCES = _external(
    ("o_fe", 5925, 0.03, 0.27, 56771, -0.01, 0.25),
    ("na_fe", 6620, 0.03, 0.25, 60817, 0.01, 0.26),
    ("mg_fe", 6349, -0.05, 0.13, 56166, -0.04, 0.13),
    ("al_fe", 5464, -0.03, 0.16, 48280, -0.03, 0.16),
    ("si_fe", 5582, -0.04, 0.10, 49623, -0.06, 0.10),
    ("k_fe", 6510, 0.15, 0.19, 60117, 0.16, 0.20),
    ("ca_fe", 6684, 0.12, 0.12, 61522, 0.13, 0.13),
    ("ti_fe", 5341, -0.13, 0.13, 46616, -0.12, 0.13),
    ("v_fe", 5481, 0.09, 0.28, 47977, 0.09, 0.27),
    ("cr_fe", 6016, 0.07, 0.15, 56561, 0.07, 0.15),
    ("mn_fe", 6007, -0.08, 0.11, 56558, -0.07, 0.12),
    ("co_fe", 5271, -0.27, 0.24, 46105, -0.24, 0.21),
    ("ni_fe", 6430, 0.03, 0.07, 59210, 0.02, 0.08),
    ("cu_fe", 5721, 0.03, 0.18, 52287, 0.02, 0.18),
    ("c_fe", 2055, -0.06, 0.09, 12277, -0.04, 0.10),
    ("n_fe", 1144, -0.03, 0.15, 8819, -0.02, 0.17),
    ("ce_fe", 1139, -0.09, 0.32, 8367, -0.03, 0.34),
)  # fmt: skip

# Section V.2.2: how well the abundances agree with other surveys.
STABLE_ABUNDANCES = ("mg_fe", "si_fe", "ca_fe", "ti_fe", "mn_fe", "ni_fe", "c_fe", "n_fe")
MODERATE_ABUNDANCES = ("al_fe", "k_fe", "cr_fe", "cu_fe")
WEAK_ABUNDANCES = ("o_fe", "na_fe", "v_fe", "co_fe", "ce_fe")
