"""The Payne from training to labels: injected labels come back, no star depends on another, training can be resumed."""

import dataclasses

import numpy as np
import pytest
import torch
from support.trained import GRID, observed, spectra_with_labels, training_cube

import specxr
from specxr import Payne
from specxr.spectra.normalisation import Normalisation
from specxr.vocabulary import Flag, Result

SMALL = Payne(hidden=(32, 32), max_rounds=25, patience=5)


@pytest.fixture(scope="module")
def training():
    return spectra_with_labels(700)


@pytest.fixture(scope="module")
def held_out():
    return spectra_with_labels(250, seed=1)


@pytest.fixture(scope="module")
def payne(training):
    return SMALL.fit(training)


@pytest.fixture(scope="module")
def block(held_out):
    return observed(held_out, 60)


def test_the_network_predicts_spectra_that_it_has_not_seen(payne, held_out):
    labels = torch.from_numpy(held_out.label_array)
    flux = payne.emulator.flux(labels)[:, : GRID.wavelength.size].numpy()
    residual = flux - held_out.flux
    spread = (held_out.flux - held_out.flux.mean(axis=0)).std()
    assert residual.std() < 0.1 * spread
    # What it says of itself is right, with 1/1000 of noise taken off.
    own = np.sqrt(payne.variance.mean() + 1e-6)
    assert own == pytest.approx(residual.std(), rel=0.3)


def test_injected_labels_are_recovered_within_their_errors(payne, block, held_out):
    out = payne.estimate(block)
    converged = out["result"] == Result.CONVERGED
    # Labels are drawn up to the very bounds; stars that lie two errors inside have no reason to end at one.
    inside = np.ones(len(converged), dtype=bool)
    for name, (low, high) in payne.trained_model.bounds.items():
        margin = 2 * np.nanmedian(out[f"{name}_err"])
        inside &= (held_out.labels[name] > low + margin) & (held_out.labels[name] < high - margin)
    assert inside.mean() > 0.4
    assert converged[inside].mean() > 0.95
    for name in payne.labels:
        truth = held_out.labels.get(name, 0.0)
        pull = ((out[name] - truth) / out[f"{name}_err"])[converged]
        assert abs(np.median(pull)) < 0.3, name
        assert 1.4826 * np.median(abs(pull - np.median(pull))) == pytest.approx(1, abs=0.25), name
    assert np.median(out["chi2"] / out["n_good"]) == pytest.approx(1, abs=0.1)


def test_the_same_seed_gives_the_same_network_and_another_another(training):
    few = dataclasses.replace(SMALL, max_rounds=2)
    one, two = few.fit(training), few.fit(training)
    assert one.fingerprint == two.fingerprint
    assert dataclasses.replace(few, seed=1).fit(training).fingerprint != one.fingerprint


def test_training_ends_early_where_there_is_nothing_to_learn(training):
    rng = np.random.default_rng(0)
    noise = dataclasses.replace(
        training[np.arange(60)], flux=1 + 0.1 * rng.normal(size=(60, GRID.wavelength.size)).astype("f4")
    )
    seen = []
    dataclasses.replace(SMALL, hidden=(4,), patience=1, max_rounds=500).fit(noise, lambda *p: seen.append(p))
    done, total, error = zip(*seen, strict=True)
    assert len(done) < 100
    assert done == tuple(range(1, len(done) + 1))
    assert set(total) == {500}
    assert list(error) == sorted(error, reverse=True)


class Interrupted(Exception):
    pass


def test_an_interrupted_training_ends_as_if_it_had_not_been(training, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    whole = SMALL.fit(training)

    def stop(done, total, error):
        if done == 17:
            raise Interrupted

    with pytest.raises(Interrupted):
        SMALL.fit(training, stop, checkpoint)
    assert checkpoint.exists()
    first = []
    resumed = SMALL.fit(training, lambda done, *_: first.append(done), checkpoint)
    assert first[0] == 11
    assert resumed.fingerprint == whole.fingerprint
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_something_else_is_refused(training, tmp_path):
    checkpoint = tmp_path / "checkpoint"

    def stop(done, total, error):
        if done == 11:
            raise Interrupted

    with pytest.raises(Interrupted):
        SMALL.fit(training, stop, checkpoint)
    with pytest.raises(ValueError, match="another training"):
        dataclasses.replace(SMALL, seed=3).fit(training, checkpoint=checkpoint)
    content = bytearray(checkpoint.read_bytes())
    content[-100] ^= 4
    checkpoint.write_bytes(content)
    with pytest.raises(ValueError, match="does not have the hash"):
        SMALL.fit(training, checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be read"):
        SMALL.fit(training, checkpoint=checkpoint)


def test_held_labels_and_priors(payne, block, held_out):
    held = dataclasses.replace(payne, fixed={"logg": 4.2, "rv": 0.0})
    out = held.estimate(block)
    assert (out["logg"] == 4.2).all()
    assert (out["logg_err"] == 0).all()
    assert held.fingerprint != payne.fingerprint
    narrow = dataclasses.replace(payne, priors={"feh": (-0.3, 1e-3)}).estimate(block)
    np.testing.assert_allclose(narrow["feh"], -0.3, atol=0.01)
    np.testing.assert_allclose(narrow["feh_err"], 1e-3, rtol=0.01)


def test_stars_unlike_those_learnt_from_are_flagged(held_out, training):
    # Hot stars have high gravity here and cool ones low: a corner of the box is empty.
    strip = np.abs((training.labels["teff"] - 5750) / 750 - (training.labels["logg"] - 4.15) / 0.65) < 0.5
    payne = SMALL.fit(training[strip])
    out = payne.estimate(observed(held_out, 100))
    distance = np.abs((held_out.labels["teff"] - 5750) / 750 - (held_out.labels["logg"] - 4.15) / 0.65)
    flagged = (out["flags"] & Flag.OUTSIDE_TRAINING) > 0
    reported = out["flags"] & (Flag.OUTSIDE_TRAINING | Flag.EDGE_OF_GRID) > 0
    assert flagged[distance < 0.3].mean() < 0.15
    assert reported[distance > 1.2].mean() > 0.8


def test_model_spectra_are_in_the_units_of_the_flux(training):
    recipe = Normalisation(100.0)
    payne = SMALL.fit(spectra_with_labels(700, normalisation=recipe))
    star = training_cube(5, seed=3, snr=100.0)
    slope = 400 * np.linspace(0.7, 1.3, GRID.wavelength.size)
    raw = star.assign(flux=star.flux * slope, ivar=star.ivar / slope**2)
    del raw.attrs["normalisation"]
    out = specxr.infer(raw, payne, spectra=True)
    residual = ((raw.flux - out.model) / slope).where(out.used == 1)
    assert float(np.nanstd(residual)) == pytest.approx(0.01, rel=0.3)
    for name in ("teff", "logg", "feh"):
        pull = (out[name] - star[name]) / out[f"{name}_err"]
        assert float(np.abs(pull).max()) < 5


def test_single_precision_agrees_with_double(payne, block):
    double = payne.estimate(block)
    single = dataclasses.replace(payne, dtype="float32").estimate(block)
    both = (double["result"] == 0) & (single["result"] == 0)
    assert both.sum() >= 0.98 * (double["result"] == 0).sum() > 100
    for name in payne.labels:
        difference = np.abs(double[name] - single[name])[both] / double[f"{name}_err"][both]
        assert np.median(difference) < 0.02, name


def test_wrong_options_are_refused_before_anything_is_done(payne):
    with pytest.raises(ValueError, match="activation 'relu' is not known"):
        Payne(activation="relu")
    with pytest.raises(ValueError, match="validation is 1"):
        Payne(validation=1.0)
    with pytest.raises(ValueError, match="positive numbers are required"):
        Payne(hidden=())
    with pytest.raises(ValueError, match="dtype 'float16'"):
        Payne(dtype="float16")
    with pytest.raises(ValueError, match="learnt nothing yet"):
        Payne().check(GRID)
    with pytest.raises(ValueError, match="held and have a prior"):
        Payne(fixed={"teff": 5000}, priors={"teff": (5000, 10)})
    with pytest.raises(ValueError, match="standard deviation of 0"):
        Payne(priors={"teff": (5000, 0)})
    with pytest.raises(ValueError, match="'vsini' is to be held"):
        dataclasses.replace(payne, fixed={"vsini": 10.0}).check(GRID)
