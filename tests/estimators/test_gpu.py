"""What a GPU computes is what a CPU computes, to a small part of the errors."""

import dataclasses

import numpy as np
import pytest
import torch
from support import zoo
from support.simulated import block_of, spectra
from support.trained import observed, spectra_with_labels

from specxr import LASP
from specxr.vocabulary import Result

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU on this machine"),
]


def agree(here, there, labels, share):
    both = (here["result"] == Result.CONVERGED) & (there["result"] == Result.CONVERGED)
    assert both.mean() > 0.8
    np.testing.assert_array_equal(here["n_good"], there["n_good"])
    for name in labels:
        difference = np.abs(here[name] - there[name])[both] / here[f"{name}_err"][both]
        assert np.median(difference) < share, name
        assert difference.max() < 50 * share, name
    np.testing.assert_allclose(here["chi2"][both], there["chi2"][both], rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "share"),
    [
        ({}, 0.002),
        ({"dtype": "float32"}, 0.02),
        ({"clean": True, "two_stage": True}, 0.01),
        ({"weighted": True}, 0.002),
        ({"vsini": True}, 0.01),
        ({"solver": "adam"}, 0.02),
    ],
    ids=str,
)
def test_lasp(options, share):
    flux, _ = spectra(40, 51, snr=80)
    block = block_of(flux)
    here = LASP(**options).estimate(block)
    lasp = LASP(device="cuda", **options)
    agree(here, lasp.estimate(block), lasp.labels, share)


@pytest.mark.parametrize("name", ["payne", "slam", "slam squared"])
@pytest.mark.parametrize(("dtype", "share"), [("float64", 0.002), ("float32", 0.05)])
def test_fits_of_emulators(name, dtype, share):
    here = zoo.trained(name)
    there = dataclasses.replace(here, device="cuda", dtype=dtype)
    stars = spectra_with_labels(
        40, seed=9, labels=zoo.INNER, normalisation=zoo.RECIPE if name == "payne" else None
    )
    block = observed(stars, 80)
    agree(here.estimate(block), there.estimate(block), here.labels, share)


@pytest.mark.parametrize("name", ["payne", "slam", "slam squared"])
def test_training(name):
    here = zoo.trained(name)
    stars = spectra_with_labels(300, normalisation=zoo.RECIPE if name == "payne" else None)
    there = dataclasses.replace(here, device="cuda", model=None).fit(stars)
    labels = torch.from_numpy(stars.label_array)
    one, other = (e.emulator.flux(labels)[:, : stars.grid.wavelength.size] for e in (here, there))
    spread = float(torch.from_numpy(stars.flux).std())
    # Training of a network in single precision goes its own way on every machine; machines are convex problems.
    assert float((one - other).std()) < (0.1 if name == "payne" else 0.01) * spread
