"""Model files whose hash is right and whose content cannot be: one line at the load, and no block begins."""

import json
import math

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save
from support import zoo

import specxr
from specxr.content import fingerprint_of_file
from specxr.estimators.model_file import describe_model

UNSEALED = ("wavelength", "versions", "sha256")
MODELS = ("payne", "slam squared")


def contents(name):
    with safe_open(zoo.trained(name).model.source, framework="numpy") as file:
        return {n: file.get_tensor(n) for n in file.keys()}, json.loads(file.metadata()["specxr"])  # noqa: SIM118


def sealed(path, arrays, attributes):
    own = {name: value for name, value in attributes.items() if name not in UNSEALED}
    attributes = {**attributes, "sha256": fingerprint_of_file(arrays, own)}
    path.write_bytes(save(arrays, metadata={"specxr": json.dumps(attributes)}))
    return path


def refused(path):
    with pytest.raises(ValueError, match=r"[;,] .* (is|are) required. [A-Z]") as error:
        specxr.open_estimator(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500
    return str(error.value)


def spoilt(array, kind):
    if kind in ("nan", "infinite"):
        array = array.copy()
        array.flat[array.size // 2] = np.nan if kind == "nan" else np.inf
        return array
    return {
        "empty": array[..., :0],
        "of another shape": array[None],
        "shorter": array[:-1],
        "of another type": array.astype("i4"),
        "single": array.astype("f4"),
        "zeros": np.zeros_like(array),
    }[kind]


KINDS = ("removed", "added", "empty", "of another shape", "shorter", "of another type", "single", "nan",
         "infinite", "zeros")  # fmt: skip


# What remains a model like any other: numbers for the record, zeros of a bias, pixels not learnt, a star less.
def harmless(name, kind):
    name = name.removeprefix("weights.").removeprefix("emulator.")
    record = name in ("c", "epsilon", "cv_mse", "cv_md") and kind in ("nan", "infinite", "zeros")
    zeros = kind == "zeros" and (name in ("centre", "variance", "activation") or name.startswith("bias"))
    integer = name == "activation" and kind in ("nan", "infinite")
    fewer = name == "training_labels" and kind == "shorter"
    return record or zeros or integer or fewer or (name == "variance" and kind == "infinite")


@pytest.mark.parametrize("model", MODELS)
def test_no_array_that_cannot_be_is_accepted(model, tmp_path):
    arrays, attributes = contents(model)
    for name in arrays:
        for kind in KINDS:
            if harmless(name, kind):
                continue
            changed = dict(arrays)
            if kind == "removed":
                del changed[name]
            elif kind == "added":
                changed[f"{name} again"] = arrays[name]
            else:
                changed[name] = spoilt(arrays[name], kind)
            refused(sealed(tmp_path / "model.safetensors", changed, attributes))


@pytest.mark.parametrize("model", MODELS)
def test_no_attribute_that_cannot_be_is_accepted(model, tmp_path):
    arrays, attributes = contents(model)
    path = tmp_path / "model.safetensors"
    assert specxr.open_estimator(sealed(path, arrays, attributes)).labels[0] == "rv"
    for name in attributes.keys() - {"sha256", "wavelength"}:
        refused(sealed(path, arrays, {key: value for key, value in attributes.items() if key != name}))
        refused(sealed(path, arrays, {**attributes, name: [None]}))
    wrong = {
        "bounds": {"teff": [5.0, math.nan], "logg": [3, 4], "feh": [0, 1]},
        "step": 2e-4,
        "medium": "water",
        "sampling": "linear",
        "normalisation": "{}",
        "line_spread": "[]",
        "labels": ["feh", "logg", "teff"],
        "options": {**attributes["options"], "unheard of": 1},
        "calibration": {"labels": {}},
    }
    for name, value in wrong.items():
        refused(sealed(path, arrays, {**attributes, name: value}))
    with pytest.raises(ValueError, match="its attribute options"):
        describe_model(sealed(path, arrays, {**attributes, "options": None}))


@pytest.mark.parametrize("model", MODELS)
def test_every_flipped_bit_is_noticed(model, tmp_path):
    content = zoo.trained(model).model.source.read_bytes()
    rng = np.random.default_rng(3)
    header = 8 + int.from_bytes(content[:8], "little")
    path = tmp_path / "model.safetensors"
    for at in (*rng.choice(8 * header, 40, replace=False), *rng.choice(8 * len(content), 40, replace=False)):
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << (at % 8)
        path.write_bytes(flipped)
        try:
            again = specxr.open_estimator(path)
        except ValueError:
            continue
        # In what is for the record only: the versions, the ends of the wavelengths.
        assert again.model.fingerprint == zoo.trained(model).model.fingerprint
        assert at < 8 * header
