"""Regressors on tiny spectra: inputs, missing labels, two stages, checkpoints, errors, flags and files."""

import dataclasses

import numpy as np
import pytest
import torch
from support import zoo
from support.nonsense import noise, shifted
from support.program import ok
from support.trained import GRID, observed, spectra_with_labels, training_cube

import specxr
from specxr import Regressor
from specxr.estimators.regressors.disturbance import Disturbance, SurveySpectra
from specxr.estimators.regressors.inputs import Inputs
from specxr.estimators.regressors.networks import NETWORKS, build_network
from specxr.spectra.grid import Grid
from specxr.vocabulary import DISTRUST, Flag, Result

FAST = Regressor(hidden=(32, 16), epochs=3, members=1, **zoo.TINY)


@pytest.fixture(scope="module")
def training():
    return spectra_with_labels(300)


@pytest.fixture(scope="module")
def regressor():
    return zoo.trained("regressor")


def test_inputs_do_not_depend_on_the_scale_and_tell_what_is_masked():
    rng = np.random.default_rng(0)
    wavelength = np.linspace(4000, 5000, 1003)
    flux = (1 + 0.1 * rng.normal(size=(2, 1003))).astype("f4")
    ivar, good = np.full((2, 1003), 100, "f4"), np.ones((2, 1003), bool)
    good[1, 100:151] = False
    slope = np.linspace(1, 1.5, 1003).astype("f4")
    inputs = Inputs(wavelength, 200.0)
    plain = inputs.spectra(flux, ivar, good)
    steep = inputs.spectra(1e-15 * flux * slope, 1e30 * ivar / slope**2, good)
    # The surroundings are one-sided at the ends.
    np.testing.assert_allclose(plain.flux[:, 300:-300], steep.flux[:, 300:-300], atol=0.03)
    assert plain.snr == pytest.approx([10, 10], rel=0.05)
    np.testing.assert_allclose(steep.snr, plain.snr, rtol=1e-4)
    # What is masked is a straight line, has no weight, and is told in pieces of 20 pixels.
    assert (plain.weight[1] > 0).sum() == 1003 - 51 == plain.n_good[1]
    np.testing.assert_allclose(np.diff(plain.flux[1, 99:152], 2), 0, atol=1e-6)
    np.testing.assert_allclose(plain.share[1, 4:9], [1, 0, 0, 9 / 20, 1])
    assert inputs.rows(plain).shape == (2, inputs.width) == (2, 1003 + 51 + 1)


def test_disturbances_depend_on_seed_epoch_and_star_alone():
    n, n_pixel = 50, 400
    spectra = SurveySpectra(np.ones((n, n_pixel), "f4"), np.full((n, n_pixel), 1e4, "f4"), np.full(n, 100.0))
    disturb = Disturbance(1, (10.0, 50.0), 3)
    stars = np.arange(n)
    flux, ivar, good = disturb(spectra, stars, 4)
    for again, same in zip(disturb(spectra, stars[::-1], 4), (flux, ivar, good), strict=True):
        np.testing.assert_array_equal(again[::-1], same)
    for other in (disturb(spectra, stars, 5), dataclasses.replace(disturb, seed=2)(spectra, stars, 4)):
        assert (other[0] != flux).mean() > 0.5
    # The noise is what the inverse variance says, gaps are there in most spectra, and edges are shifted out.
    assert ((flux - 1) * np.sqrt(ivar))[good].std() == pytest.approx(1, abs=0.1)
    snr = np.sqrt(ivar.max(axis=1))
    assert 9.9 < snr.min() < 15 < 35 < snr.max() < 50.1
    assert 0.25 < (~good[:, 3:-3]).any(axis=1).mean() < 0.75
    assert (~good).mean() < 0.2
    quiet = dataclasses.replace(disturb, shift=0, gaps=False, natural=True, snr=(50.0, 200.0))
    np.testing.assert_array_equal(quiet(spectra, stars, 0)[0], spectra.flux)


def test_intervals_errors_and_members(regressor):
    out = zoo.estimated("regressor")
    for name in regressor.labels:
        assert (out[f"{name}_lo95"] < out[name] - 1.3 * out[f"{name}_err"]).all()
        assert (out[f"{name}_hi95"] > out[name] + 1.3 * out[f"{name}_err"]).all()
    outputs = {output.name: output.attrs for output in regressor.outputs}
    assert outputs["teff_lo95"] == {
        "units": "K",
        "long_name": "lower end of the 95 % interval of effective temperature",
    }


def test_errors_hold_for_stars_that_were_not_learnt(regressor):
    held = spectra_with_labels(400, seed=9)
    out = regressor.estimate(observed(held, 90))
    for name in regressor.labels:
        away = np.abs(out[name] - held.labels[name])
        # 90 stars calibrate: the share within one error is known to 5 %.
        assert (away < out[f"{name}_err"]).mean() == pytest.approx(0.68, abs=0.15)
        inside = (held.labels[name] > out[f"{name}_lo95"]) & (held.labels[name] < out[f"{name}_hi95"])
        assert inside.mean() > 0.88


def test_spectra_that_are_no_star_are_flagged_and_stars_are_not(regressor):
    stars = observed(spectra_with_labels(200, seed=3), 90)
    flags = regressor.estimate(stars)["flags"]
    own = int(Flag.POOR_FIT | Flag.NO_LINES | Flag.LOW_SNR | Flag.LOW_COVERAGE)
    assert ((flags & own) > 0).mean() <= 0.02
    wrong = {**noise(stars.grid, 50), "1500 km/s": shifted(stars, 1500.0)}
    half = np.arange(len(GRID.wavelength)) < 150
    wrong["half reversed"] = dataclasses.replace(stars, flux=np.where(half, stars.flux[:, ::-1], stars.flux))
    for name, block in wrong.items():
        out = regressor.estimate(block)
        assert ((out["flags"] & int(DISTRUST)) > 0)[out["result"] == 0].mean() >= 0.95, name


def test_a_wide_gap_is_flagged(regressor):
    stars = observed(spectra_with_labels(8, seed=3), 90)
    mask = stars.mask.copy()
    mask[::2, 100:180] = 1
    flagged = regressor.estimate(dataclasses.replace(stars, mask=mask))["flags"] & int(Flag.LOW_COVERAGE)
    np.testing.assert_array_equal(flagged > 0, np.arange(8) % 2 == 0)


def test_a_missing_label_leaves_the_others_alone(training):
    feh = training.labels["feh"].copy()
    feh[::2] = np.nan
    lacking = dataclasses.replace(training, labels={**training.labels, "feh": feh})
    some = FAST.fit(lacking)
    assert all(
        np.isfinite(array).all() for name, array in some.model.weights.items() if name.startswith("member")
    )
    out = some.estimate(observed(training[np.arange(20)], 100))
    assert np.isfinite(out["feh"]).all()
    # A label nobody knows of a star, and a star of which nothing is known.
    with pytest.raises(ValueError, match="feh is not finite for 300 of 300"):
        FAST.fit(dataclasses.replace(training, labels={**training.labels, "feh": np.full(300, np.nan)}))
    bare = {name: np.where(np.arange(300) == 7, np.nan, values) for name, values in training.labels.items()}
    with pytest.raises(ValueError, match="1 stars .* no label at all, the first in row 7"):
        FAST.fit(dataclasses.replace(training, labels=bare))
    with pytest.raises(ValueError, match="feh is not finite"):
        specxr.Payne().fit(lacking)


def test_a_second_stage_keeps_what_was_learnt_and_adds_heads(training, tmp_path):
    path = str(tmp_path / "first.safetensors")
    first = dataclasses.replace(FAST, epochs=25)
    first = first.fit(dataclasses.replace(training, labels={k: training.labels[k] for k in ("teff", "logg")}))
    first.save(path)
    few = training[np.arange(60)]
    second = dataclasses.replace(FAST, start_from=path, epochs=1, learning_rate=1e-6).fit(few)
    assert second.labels == ("teff", "logg", "feh")
    block = observed(spectra_with_labels(50, seed=4), 100)
    kept, alone = second.estimate(block), FAST.fit(few).estimate(block)
    np.testing.assert_allclose(kept["teff"], first.estimate(block)["teff"], rtol=1e-3)
    assert np.std(alone["teff"] - first.estimate(block)["teff"]) > 50
    with pytest.raises(ValueError, match="network with the options and the pixels of this one is required"):
        dataclasses.replace(FAST, hidden=(16, 16), start_from=path).fit(few)


class Interrupted(Exception):
    pass


def test_an_interrupted_training_ends_as_if_it_had_not_been(training, tmp_path):
    few, two = training[np.arange(80)], dataclasses.replace(FAST, members=2, epochs=8)
    checkpoint = tmp_path / "checkpoint"

    def stop(done, total, error):
        if done == 14:  # the second member has a state of its fifth epoch
            raise Interrupted

    with pytest.raises(Interrupted):
        two.fit(few, stop, checkpoint)
    seen = []
    resumed = two.fit(few, lambda done, *_: seen.append(done), checkpoint)
    assert seen == [14, 15, 16]
    assert resumed.fingerprint == two.fit(few).fingerprint
    assert not list(tmp_path.iterdir())
    with pytest.raises(Interrupted):
        two.fit(few, stop, checkpoint)
    with pytest.raises(ValueError, match="another training"):
        dataclasses.replace(two, learning_rate=0.1).fit(few, checkpoint=checkpoint)


def test_classes_are_learnt_beside_the_labels(training):
    hot = training.labels["teff"] > 5750
    typed = dataclasses.replace(training, types=np.where(hot, "F5", "G2"))
    learnt = dataclasses.replace(FAST, classes=("F", "G"), epochs=30).fit(typed)
    stars = spectra_with_labels(100, seed=5)
    out = learnt.estimate(observed(stars, 100))
    assert (out["spectral_class"] == (stars.labels["teff"] <= 5750)).mean() > 0.75
    assert ((out["spectral_class_probability"] > 0.5) & (out["spectral_class_probability"] <= 1)).all()
    with pytest.raises(ValueError, match="begins with M; at least one of each class"):
        dataclasses.replace(FAST, classes=("F", "G", "M")).fit(typed)
    with pytest.raises(ValueError, match="no spectral types"):
        dataclasses.replace(FAST, classes=("F", "G")).fit(training)


@pytest.mark.parametrize("name", [*NETWORKS, "ridge", "lightgbm"])
def test_every_network_trains_saves_and_answers_alike_whatever_its_neighbours(name, training, tmp_path):
    if name == "lightgbm":
        pytest.importorskip("lightgbm", reason="lightgbm is not installed")
    loss = "paper" if name == "resnet50" else "beta_nll"
    tiny = dataclasses.replace(FAST, network=name, hidden=(16, 8), epochs=1, loss=loss)
    fitted = tiny.fit(training[np.arange(24)])
    fitted.save(tmp_path / "model.safetensors")
    again = specxr.open_estimator(tmp_path / "model.safetensors")
    block = observed(training[np.arange(24)], 100)
    whole, part = fitted.estimate(block), again.estimate(zoo.rows(block, slice(22, 24)))
    for key, values in part.items():
        np.testing.assert_array_equal(values, whole[key][22:], err_msg=key)
    assert (whole["result"] == Result.CONVERGED).all()


def test_the_paper_has_one_head_for_each_label_and_one_for_the_classes():
    network = build_network("resnet50", 400, (8,), 2 * 3 + 5, 0)
    assert 15e6 < sum(p.numel() for p in network.parameters()) < 17e6
    assert network.eval()(torch.zeros(2, 421)).shape == (2, 11)


def test_a_cube_that_is_not_like_the_training_set_is_refused(regressor):
    linear = Grid(np.arange(4000.0, 6000.0), "vacuum", "linear", 1.0)
    air = dataclasses.replace(GRID, medium="air")
    broad = dataclasses.replace(GRID, line_spread=GRID.line_spread.constant(900.0))
    for grid, word in ((linear, "sampling"), (air, "medium air"), (broad, "resolving power")):
        with pytest.raises(ValueError, match=word):
            regressor.check(grid)


def test_wrong_options_are_refused_before_anything_is_done():
    for options, words in (
        ({"network": "mlp"}, "network 'mlp' is not known"),
        ({"components": 60}, "multiple of eight"),
        ({"hidden": ()}, "positive numbers are required"),
        ({"validation": 1.0}, "a fraction between 0 and 1"),
        ({"snr": (50.0, 10.0)}, "rising positive numbers"),
        ({"device": "cuda"}, "torch finds no GPU"),
    ):
        if options.get("device") == "cuda" and torch.cuda.is_available():
            continue
        with pytest.raises(ValueError, match=words):
            Regressor(**options)


def test_the_command_trains_on_a_cube_as_observed(tmp_path):
    cube = training_cube(90)
    del cube.attrs["normalisation"]  # a regressor reads what the survey gives
    specxr.write_cube(cube, tmp_path / "cube.zarr")
    model = tmp_path / "model.safetensors"
    options = {"hidden": "[16,8]", "epochs": "2", "members": "1", "components": "8", "snr": "[50,100]"}
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    ok("train", str(tmp_path / "cube.zarr"), "--estimator", "regressor", "--out", str(model), *words)
    labels = specxr.infer(specxr.open_cube(tmp_path / "cube.zarr"), specxr.open_estimator(model)).compute()
    assert {"teff", "teff_err", "teff_lo95", "flags"} <= set(labels.data_vars)
    assert np.isfinite(labels.teff).all()
    with pytest.raises(ValueError, match="no folds are required"):
        specxr.train(cube, Regressor(), folds=3)
