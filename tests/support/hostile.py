"""Blocks of hostile numbers: a few stars of a good block are spoilt in ways that are drawn at random."""

from dataclasses import replace

import numpy as np

from specxr.estimators.base import Block
from specxr.vocabulary import START_INPUTS, MaskBit

EXTREMES = np.array(
    [
        0.0,
        -0.0,
        1.0,
        -1.0,
        np.nan,
        np.inf,
        -np.inf,
        1e-45,
        1e-38,
        1e-30,
        1e-9,
        1e9,
        1e18,
        1e30,
        -1e30,
        3e38,
        -3e38,
    ]
)
FLUX = ("as it is", "nan", "infinite", "zero", "constant", "negative", "huge", "tiny", "denormal", "beyond single",
        "extremes", "some extremes", "one spike", "deep spike", "noise", "alternating", "steps", "exponential",
        "absorbed", "reversed", "permuted")  # fmt: skip
IVAR = ("as it is", "one", "unknown", "partly unknown", "zero", "negative", "infinite", "one pixel", "huge", "tiny",
        "extremes", "wide range")  # fmt: skip
MASK = ("as it is", "nothing", "one pixel", "few pixels", "some pixels", "side by side", "half", "every other",
        "random bits", "two islands")  # fmt: skip


def spoilt_flux(flux, kind, rng):
    n = len(flux)
    if kind in ("as it is", "nan", "infinite", "zero", "constant"):
        return {"as it is": flux, "nan": flux * np.nan, "infinite": flux + np.inf, "zero": 0 * flux,
                "constant": 0 * flux + rng.choice([1e-30, 1.0, 1e30])}[kind]  # fmt: skip
    if kind in ("negative", "huge", "tiny", "denormal", "beyond single"):
        return (
            flux
            * {"negative": -1, "huge": 1e30, "tiny": 1e-30, "denormal": 1e-44, "beyond single": 1e300}[kind]
        )
    if kind == "extremes":
        return rng.choice(EXTREMES, n)
    if kind == "some extremes":
        return np.where(rng.random(n) < 0.02, rng.choice(EXTREMES, n), flux)
    if kind in ("one spike", "deep spike"):
        out = flux.copy()
        out[rng.integers(n)] = rng.choice([1e6, 1e20, 3e38]) * (1 if kind == "one spike" else -1)
        return out
    if kind == "noise":
        return rng.normal(rng.choice([0.0, 1.0, 100.0]), 1, n)
    x = np.linspace(-1, 1, n)
    return {
        "alternating": flux * (-1.0) ** np.arange(n),
        "steps": flux * 10.0 ** np.round(3 * x),
        "exponential": flux * np.exp(30 * x),
        "absorbed": np.where(np.abs(x) < 0.6, 1e-12 * flux, flux),
        "reversed": flux[::-1],
        "permuted": rng.permutation(flux),
    }[kind]


def spoilt_ivar(ivar, kind, rng):
    n = len(ivar)
    if kind == "partly unknown":
        return np.where(rng.random(n) < 0.5, np.nan, ivar)
    if kind == "one pixel":
        out = 0 * ivar + rng.choice([1e-20, 1.0])
        out[rng.integers(n)] = rng.choice([1e12, 1e30, 3e38])
        return out
    if kind == "extremes":
        return rng.choice(EXTREMES, n)
    if kind == "wide range":
        return 10.0 ** rng.uniform(-30, 30, n)
    level = {"as it is": None, "one": 1.0, "unknown": np.nan, "zero": 0.0, "negative": -1.0, "infinite": np.inf,
             "huge": 1e38, "tiny": 1e-40}[kind]  # fmt: skip
    return ivar if level is None else 0 * np.nan_to_num(ivar) + level


def spoilt_mask(mask, kind, rng):
    n = len(mask)
    bad = np.ones(n, dtype=bool)
    if kind == "as it is":
        return mask
    if kind == "random bits":
        return rng.integers(0, 256, n)
    if kind in ("one pixel", "few pixels", "some pixels"):
        count = {"one pixel": 1, "few pixels": rng.integers(2, 110), "some pixels": rng.integers(110, 300)}[
            kind
        ]
        bad[rng.choice(n, min(count, n), replace=False)] = False
    elif kind in ("side by side", "two islands"):
        for _ in range(1 if kind == "side by side" else 2):
            first, width = rng.integers(n), rng.integers(60, 320)
            bad[first : first + width] = False
    elif kind == "half":
        bad[: n // 2] = False
    elif kind == "every other":
        bad[::2] = False
    return np.where(bad, int(MaskBit.MISSING), 0)


def hostile(block: Block, rng: np.random.Generator) -> tuple[Block, np.ndarray, list[tuple[str, str, str]]]:
    """Spoil some stars of a block; also which, and how."""
    n = len(block.flux)
    spoilt = rng.permutation(n)[: rng.integers(1, n)]
    wide = rng.random() < 0.3
    flux = block.flux.astype("f8" if wide else "f4")
    ivar, mask = block.ivar.astype("f8" if wide else "f4"), block.mask.astype(rng.choice(["u1", "u2"]))
    kinds = []
    with np.errstate(all="ignore"):
        for star in spoilt:
            how = tuple(
                str(rng.choice(kinds)) if rng.random() < 0.7 else "as it is" for kinds in (FLUX, IVAR, MASK)
            )
            flux[star] = spoilt_flux(flux[star].astype("f8"), how[0], rng)
            ivar[star] = spoilt_ivar(ivar[star].astype("f8"), how[1], rng)
            mask[star] = spoilt_mask(mask[star], how[2], rng)
            kinds.append(how)
    inputs = dict(block.inputs)
    if rng.random() < 0.3:  # a start for the good stars too, so that both blocks have it
        start = np.stack([np.full(n, value) for value in (5600.0, 4.2, -0.3)])
        start[:, spoilt] = rng.choice(EXTREMES, (3, len(spoilt)))
        inputs |= dict(zip(START_INPUTS, start, strict=True))
    return replace(block, flux=flux, ivar=ivar, mask=mask, inputs=inputs), np.sort(spoilt), kinds
