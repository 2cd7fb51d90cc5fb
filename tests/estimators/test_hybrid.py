"""The hybrid: the second fit's labels and errors follow from the first's, as in one fit of all labels."""

import dataclasses

import numpy as np
import pytest
from support.trained import observed, spectra_with_labels, training_cube

import specxr
from specxr import SLAM, Hybrid, Payne
from specxr.estimators.base import Estimator
from specxr.vocabulary import MaskBit, Result

SMALL = Payne(hidden=(32, 32), max_rounds=25, patience=5)


@pytest.fixture(scope="module")
def all_labels():
    return SMALL.fit(spectra_with_labels(700))


@pytest.fixture(scope="module")
def two_labels():
    """Without [Fe/H], of stars whose [Fe/H] hardly differs."""
    training = spectra_with_labels(700)
    return SMALL.fit(dataclasses.replace(training, labels={n: training.labels[n] for n in ("teff", "logg")}))


@pytest.fixture(scope="module")
def held_out():
    return spectra_with_labels(200, seed=1)


class FirstOfAll(Payne):
    """A fit of all labels that tells of the first three: its errors hold what the hidden one does to them."""

    @property
    def labels(self):
        return super().labels[:3] if not self.__dict__.get("whole") else super().labels

    def estimate(self, block, spectra=False):
        object.__setattr__(self, "whole", True)
        try:
            out = super().estimate(block)
        finally:
            object.__setattr__(self, "whole", False)
        return out | {"covariance": out["covariance"][:, :3, :3], "limit": out["limit"][:, :3]}


def test_it_is_the_joint_fit_where_both_have_one_model(all_labels, held_out):
    first = FirstOfAll(**{f.name: getattr(all_labels, f.name) for f in dataclasses.fields(all_labels)})
    hybrid = Hybrid(first, all_labels)
    assert isinstance(hybrid, Estimator)
    assert hybrid.labels == ("rv", "teff", "logg", "feh")
    block = observed(held_out, 60)
    joint, found = all_labels.estimate(block), hybrid.estimate(block)
    ok = (joint["result"] == 0) & (found["result"] == 0)
    assert ok.sum() >= 0.98 * (joint["result"] == 0).sum() > 100
    for name in hybrid.labels:
        np.testing.assert_allclose(
            found[name][ok], joint[name][ok], atol=0.03 * np.median(joint[f"{name}_err"])
        )
        np.testing.assert_allclose(found[f"{name}_err"][ok], joint[f"{name}_err"][ok], rtol=0.02)
    scale = 1 / np.sqrt(np.einsum("sii->si", joint["covariance"]))
    difference = (found["covariance"] - joint["covariance"]) * scale[:, :, None] * scale[:, None]
    assert np.abs(difference[ok]).max() < 0.05


def test_outputs_are_as_declared_in_infer(all_labels):
    training = spectra_with_labels(150)
    slam = SLAM(loss="squared").fit(
        dataclasses.replace(training, labels={name: training.labels[name] for name in ("teff", "logg")})
    )
    hybrid = Hybrid(slam, all_labels)
    cube = training_cube(20, seed=3, snr=80.0)
    eager = specxr.infer(cube, hybrid, spectra=True)
    lazy = specxr.infer(cube.chunk(star=7), hybrid, spectra=True).compute(scheduler="threads")
    for name in eager.data_vars:
        np.testing.assert_array_equal(eager[name], lazy[name], err_msg=name)
    assert eager.sizes["label"] == 4
    covariance = eager.covariance.values
    np.testing.assert_allclose(np.sqrt(covariance[:, 3, 3]), eager.feh_err)
    np.testing.assert_allclose(covariance, np.swapaxes(covariance, 1, 2), rtol=1e-10)
    assert eager.attrs["estimator"] == "Hybrid"


def test_what_the_first_finds_is_held_and_its_errors_widen_the_others(two_labels, all_labels, held_out):
    block = observed(held_out, 60)
    found, first = Hybrid(two_labels, all_labels).estimate(block), two_labels.estimate(block)
    for name in ("rv", "teff", "logg"):
        np.testing.assert_array_equal(found[name], first[name])
        np.testing.assert_array_equal(found[f"{name}_err"], first[f"{name}_err"])
    ok = found["result"] == 0
    star = int(np.flatnonzero(ok)[0])
    held = {name: float(first[name][star]) for name in ("rv", "teff", "logg")}
    one = dataclasses.replace(
        block, flux=block.flux[star:][:1], ivar=block.ivar[star:][:1], mask=block.mask[star:][:1]
    )
    alone = dataclasses.replace(all_labels, fixed=held).estimate(one)
    assert found["feh"][star] == pytest.approx(alone["feh"][0], abs=1e-6)
    assert found["feh_err"][star] > alone["feh_err"][0]


def test_a_star_that_the_first_cannot_fit_has_no_labels(two_labels, all_labels, held_out):
    block = observed(held_out, 60)
    mask = block.mask.copy()
    mask[3] = int(MaskBit.MISSING)
    hybrid = Hybrid(two_labels, all_labels)
    clean, out = hybrid.estimate(block), hybrid.estimate(dataclasses.replace(block, mask=mask))
    assert out["result"][3] == Result.TOO_FEW_PIXELS
    assert np.isnan([out["teff"][3], out["feh"][3], out["feh_err"][3]]).all()
    others = np.arange(len(mask)) != 3
    for name in out:
        np.testing.assert_array_equal(out[name][others], clean[name][others], err_msg=name)


def test_the_second_must_know_more(two_labels, all_labels):
    with pytest.raises(ValueError, match="must share labels with the first and add others"):
        Hybrid(all_labels, two_labels)
    with pytest.raises(ValueError, match="must share labels with the first and add others"):
        Hybrid(all_labels, all_labels)
    assert Hybrid(two_labels, all_labels).rest == ("feh",)
