"""The language model: it learns, is saved and opened to the bit, goes on to a second stage, and refuses."""

import functools
import json
import shutil
import socket
import warnings
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.language import llama_tokenizer, tiny_base, untrained, write_base
from support.trained import observed, spectra_with_labels, training_cube

import specxr
from specxr import LanguageModel
from specxr.estimators.base import Block
from specxr.estimators.language.fine_tuning import ByLength
from specxr.estimators.language.reading import Reading
from specxr.spectra.grid import Grid


@functools.cache
def sixteen():
    return spectra_with_labels(16)


@functools.cache
def learnt_by_heart():
    return untrained(epochs=200).fit(sixteen())


def block_of(training):
    return Block(training.grid, training.flux, training.ivar, training.mask)


def away(labels, training):
    """Largest difference of each label, as a share of its range."""
    return [np.abs(labels[name] - known).max() / np.ptp(known) for name, known in training.labels.items()]


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def test_it_learns_sixteen_stars_saves_and_infers_without_a_network(no_network, tmp_path):
    """Spectra binned to 25 Angstrom, a model of random weights, the vocabulary of numbers."""
    fitted = learnt_by_heart()
    labels = fitted.estimate(block_of(sixteen()))
    assert max(away(labels, sixteen())) < 0.01
    fitted.save(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "specxr_model.safetensors",
    }  # fmt: skip
    again = specxr.open_estimator(tmp_path / "model")
    assert again.fingerprint == fitted.fingerprint
    for name, array in fitted.model.adapter.items():
        np.testing.assert_array_equal(again.model.adapter[name], array)
    for name, array in again.estimate(block_of(sixteen())).items():
        np.testing.assert_array_equal(array, labels[name], err_msg=name)


def test_peft_reads_the_adapter(tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    learnt_by_heart().save(tmp_path / "model")
    base = AutoModelForCausalLM.from_pretrained(tiny_base(), local_files_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, about peft
        model = PeftModel.from_pretrained(base, tmp_path / "model")
    weights = dict(model.named_parameters())
    for name, array in learnt_by_heart().model.adapter.items():
        ours = weights[name.replace(".weight", ".default.weight")].detach().numpy()
        np.testing.assert_array_equal(ours, array)


def test_the_regression_head_learns_as_well():
    fitted = untrained(answer="regression", epochs=100).fit(sixteen())
    assert max(away(fitted.estimate(block_of(sixteen())), sixteen())) < 0.05


def test_the_number_token_loss_brings_wrong_digits_nearer():
    import torch

    from specxr.estimators.language.fine_tuning import _distance_of_digits

    digits = np.arange(10, 20)
    near, far = torch.zeros(2, 1, 30), 0
    near[0, 0, 13], near[1, 0, 19] = 9.0, 9.0  # 3 and 9 where 2 is said
    said = torch.tensor([12])
    near, far = (float(_distance_of_digits(scores, said, digits)) for scores in near)
    assert near == pytest.approx(1.0, abs=0.02)
    assert far == pytest.approx(7.0, abs=0.02)
    fitted = untrained(epochs=2, number_token_loss=0.5).fit(sixteen())
    plain = untrained(epochs=2).fit(sixteen())
    assert fitted.fingerprint != plain.fingerprint


def test_the_same_seed_gives_the_same_model_and_accumulation_the_same_step():
    one, two = (untrained(epochs=2, seed=3).fit(sixteen()) for _ in range(2))
    assert one.fingerprint == two.fingerprint
    assert one.fingerprint != untrained(epochs=2, seed=4).fit(sixteen()).fingerprint
    parts = untrained(epochs=2, seed=3, minibatch=4, accumulation=4).fit(sixteen())
    for name, array in one.model.adapter.items():
        np.testing.assert_allclose(parts.model.adapter[name], array, atol=2e-3)


def test_checkpointing_changes_nothing():
    one, two = (untrained(epochs=2, checkpointing=kept).fit(sixteen()) for kept in (False, True))
    for name, array in one.model.adapter.items():
        np.testing.assert_allclose(two.model.adapter[name], array, atol=1e-6)


@functools.cache
def text_base():
    """A base model that has a tokeniser."""
    return write_base(f"{tiny_base()}-text", words=2000, tokenizer=llama_tokenizer())


def test_spectra_as_text_are_learnt_and_answered():
    few = spectra_with_labels(5)
    fitted = untrained(base=text_base(), tokens="text", draws=4, epochs=80).fit(few)
    labels = fitted.estimate(block_of(few))
    assert away(labels, few)[0] < 0.25  # teff; what has not learnt to read is away by more than half


def test_four_bits_learn_and_answer():
    pytest.importorskip("bitsandbytes", reason="bitsandbytes holds the weights in four bits")
    losses = []
    fitted = untrained(dtype="nf4", epochs=12).fit(
        sixteen(), progress=lambda done, total, loss: losses.append(loss)
    )
    assert losses[-1] < 0.8 * losses[0]
    labels = fitted.estimate(block_of(sixteen()))
    assert np.isfinite(labels["teff"]).all()


def test_a_second_stage_goes_on_from_the_first(tmp_path):
    first = learnt_by_heart()
    first.save(tmp_path / "first")
    stars = sixteen()
    more = stars.labels | {"mg_fe": np.linspace(-0.1, 0.4, 16)}
    second = specxr.spectra.training_set.TrainingSet(stars.grid, stars.flux, stars.ivar, stars.mask, more)
    loss = {}
    for start in (str(tmp_path / "first"), ""):
        untrained(start_from=start, epochs=1).fit(
            second, progress=lambda done, total, now, start=start: loss.setdefault(start, now)
        )
    assert loss[str(tmp_path / "first")] < 0.7 * loss[""]
    with pytest.raises(
        ValueError, match="step is 20.0, not 25.0 as in .* the same is required .* Give the options"
    ):
        untrained(start_from=str(tmp_path / "first"), step=20.0).fit(second)


def test_errors_are_calibrated_by_stars_that_are_not_learnt():
    fitted = untrained(epochs=3, validation=0.4).fit(spectra_with_labels(60, snr=100))
    others = spectra_with_labels(60, seed=2)
    labels = fitted.estimate(observed(others, 100))
    for name, known in others.labels.items():
        inside = np.abs(labels[name] - known) < labels[f"{name}_err"]
        assert 0.45 < inside.mean() < 0.95, name
        assert (labels[f"{name}_lo95"] < labels[name]).all()
        assert (labels[f"{name}_hi95"] > labels[name]).all()
    with pytest.raises(ValueError, match="holds 2 out; at least 20 are required .* Hold more"):
        untrained(validation=0.1).fit(sixteen())


def test_lengths_within_a_batch_are_alike_and_every_star_comes_once():
    lengths = np.random.default_rng(0).integers(10, 1000, 103)
    sampler = ByLength(lengths, 4, 0)
    batches = list(sampler)
    assert sorted(star for batch in batches for star in batch) == list(range(103))
    assert len(batches) == len(sampler) == 26
    assert np.mean([np.ptp(lengths[batch]) for batch in batches]) < 60
    assert list(sampler) != batches


# -- what is read ----------------------------------------------------------------------------------------------------
WAVELENGTH = 10.0 ** np.arange(3.56, 3.96, 1e-4)


def test_the_papers_pixels_are_a_cubic_spline_over_the_maximum():
    flux = 300.0 + 100.0 * np.sin(WAVELENGTH / 40.0)
    reading = Reading((3800.0, 8700.0), 1.0)
    values, maximum = reading(flux[None], np.ones((1, len(flux)), bool), WAVELENGTH)
    assert values.shape == (1, 4901)
    assert maximum[0] == flux.max()
    expected = (300.0 + 100.0 * np.sin(reading.wavelength / 40.0)) / flux.max()
    np.testing.assert_allclose(values[0], expected, atol=0.00051)


def test_wide_pixels_are_means_and_bad_ones_are_bridged():
    flux = np.linspace(1.0, 2.0, len(WAVELENGTH))
    good = np.ones((2, len(flux)), bool)
    good[1, 2000:2060] = False
    spoilt = np.where(good[1], flux, 50.0)
    reading = Reading((3800.0, 8700.0), 25.0)
    values, maximum = reading(np.stack([flux, spoilt]), good, WAVELENGTH)
    assert values.shape == (2, 197)
    assert maximum.tolist() == [2.0, 2.0]
    np.testing.assert_allclose(values[1], values[0], atol=0.002)


def test_one_hot_pixel_sets_the_scale_of_the_whole_spectrum():
    """A weakness of the paper's scale, which docs/methods/language.md names."""
    flux = np.ones((2, len(WAVELENGTH)))
    flux[1, 1234] = 11.6
    values, _ = Reading((3800.0, 8700.0), 1.0)(flux, np.ones(flux.shape, bool), WAVELENGTH)
    assert np.median(values, axis=1).tolist() == [1.0, 0.086]


# -- what is refused -------------------------------------------------------------------------------------------------
def refused(kind, tmp_path):
    """An untrained model whose base cannot be used, and what is said of it."""
    if kind == "no base":
        return untrained(base=""), "no base model is named; .* is required, .* nothing is downloaded. Get one"
    if kind == "no folder":
        return untrained(base=str(tmp_path / "none")), "there is no folder .*none'; .* is required"
    (tmp_path / "empty").mkdir()
    if kind == "no weights":
        shutil.copy(f"{tiny_base()}/config.json", tmp_path / "empty")
        return untrained(base=str(tmp_path / "empty")), "has no weights .* required for a base model. Copy"
    return untrained(tokens="text"), "has no tokeniser; one is required for spectra as text. Put"


@pytest.mark.parametrize("kind", ["no base", "no folder", "no weights", "no tokeniser"])
def test_a_base_model_that_is_not_there_is_refused(kind, tmp_path):
    model, said = refused(kind, tmp_path)
    with pytest.raises(FileNotFoundError, match=said):
        model.fit(sixteen())


def test_an_adapter_of_another_base_model_is_refused(tmp_path):
    learnt_by_heart().save(tmp_path / "model")
    other = write_base(tmp_path / "other", seed=1)
    model = LanguageModel.load(tmp_path / "model", base=other)
    with pytest.raises(
        ValueError, match="the base model in .* has the fingerprint .* is required, .* Name that base"
    ):
        model.check(sixteen().grid)
    with pytest.raises(ValueError, match="has the fingerprint"):
        untrained(base=other, start_from=str(tmp_path / "model")).fit(sixteen())


def test_an_exchanged_or_damaged_adapter_is_refused(tmp_path):
    learnt_by_heart().save(tmp_path / "model")
    path = tmp_path / "model" / "adapter_model.safetensors"
    arrays = load_file(path)
    save_file({name: array + 1.0 for name, array in arrays.items()}, path)
    with pytest.raises(ValueError, match="is not the one that belongs to .* required. Copy"):
        LanguageModel.load(tmp_path / "model")
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"cannot be read \(.* required. Copy"):
        LanguageModel.load(tmp_path / "model")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="has no adapter_model.safetensors; .* required. Copy"):
        specxr.open_estimator(tmp_path / "model")


def test_a_folder_that_is_no_model_is_never_replaced(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious").touch()
    with pytest.raises(FileExistsError, match="is no folder of a language model; a new name is required"):
        learnt_by_heart().save(tmp_path / "data", overwrite=True)
    learnt_by_heart().save(tmp_path / "model")
    with pytest.raises(FileExistsError, match="exists already; a new name is required. .* overwrite"):
        learnt_by_heart().save(tmp_path / "model")
    learnt_by_heart().save(tmp_path / "model", overwrite=True)
    assert (tmp_path / "data" / "precious").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "model"]


def test_cubes_that_do_not_reach_over_the_window_are_refused():
    with pytest.raises(ValueError, match="3800-8700 Angstrom is required, .* Give another window"):
        untrained(window=(3800.0, 8700.0)).fit(sixteen())
    grid = sixteen().grid
    shifted = grid.wavelength[0] * 10 ** (1e-4 * (np.arange(320) - 4.5))
    other = Grid(shifted, grid.medium, grid.sampling, grid.step, grid.line_spread)
    with pytest.raises(ValueError, match="pixels depart by 0.5 pixels .* required"):
        learnt_by_heart().check(other)


def test_options_without_sense_are_refused():
    for options, said in (
        ({"tokens": "words"}, "tokens 'words' is not known"),
        ({"dtype": "float16"}, "dtype 'float16' is not known"),
        ({"rank": 0}, "rank is 0; positive numbers are required"),
        ({"window": (5000.0, 4000.0)}, "window is"),
        ({"device": "cuda"}, "finds no GPU; one is required. Use device='cpu'"),
    ):
        if options.get("device") == "cuda" and specxr.estimators.backend.torch.cuda.is_available():
            continue
        with pytest.raises(ValueError, match=said):
            LanguageModel(**options)


def test_a_question_that_is_too_long_for_the_base_model_is_refused(tmp_path):
    config = json.loads(Path(tiny_base(), "config.json").read_text())
    shutil.copytree(tiny_base(), tmp_path / "short")
    (tmp_path / "short" / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 20}))
    with pytest.raises(ValueError, match="has 3. tokens; at most 20 are required, .* Take tokens"):
        untrained(base=str(tmp_path / "short")).fit(sixteen())


def test_labels_that_the_cube_lacks_cannot_be_learnt():
    with pytest.raises(ValueError, match="vsini cannot be learnt from this cube"):
        specxr.train(training_cube(16), untrained(), ["teff", "vsini"])


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    from specxr.estimators.language import base_model

    monkeypatch.setattr(base_model, "find_spec", lambda name: None if name in ("peft", "bitsandbytes") else 1)
    with pytest.raises(
        ImportError, match="peft cannot be imported; .* extra 'language'. Install it: pip install"
    ):
        untrained().fit(sixteen())
    monkeypatch.setattr(base_model, "find_spec", lambda name: None if name == "bitsandbytes" else 1)
    with pytest.raises(ImportError, match="extra 'qlora'"):
        untrained(dtype="nf4").fit(sixteen())
