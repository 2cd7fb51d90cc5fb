"""Emulator files: whatever is changed in one of them is noticed, and said in one line."""

import json
import math

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from specxr.content import fingerprint_of_file
from specxr.emulators import PolynomialEmulator, open_emulator, write_safetensors

RNG = np.random.default_rng(9)


@pytest.fixture
def path(tmp_path):
    emulator = PolynomialEmulator(
        RNG.normal(size=(2, 4, 30)).astype("f4"),
        np.linspace(5000.0, 5060.0, 31),
        "air",
        np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        np.tile([5000.0, 4.0, 0.0], (2, 1)),
        np.tile([1000.0, 1.0, 1.0], (2, 1)),
        np.array([[5500.0, 6000.0]]),
        {"teff": (4000.0, 9000.0), "logg": (1.0, 5.0), "feh": (-2.0, 0.5)},
        False,
        name="small",
    )
    write_safetensors(emulator, tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


def changed(path, change, sealed):
    """Change arrays and attributes of a file; `sealed` says whether its hash is made anew."""
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        attributes = json.loads(file.metadata()["specxr"])
    change(arrays, attributes)
    if sealed:
        own = {name: value for name, value in attributes.items() if name not in ("schema", "sha256")}
        attributes["sha256"] = fingerprint_of_file(arrays, own)
    save_file(arrays, path, metadata={"specxr": json.dumps(attributes)})


def refusal(path):
    with pytest.raises(ValueError, match="is no emulator .* is required, as it was written. Give") as error:
        open_emulator(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_flipped_bit_is_noticed(path):
    content = path.read_bytes()
    for at in RNG.choice(8 * len(content), 80, replace=False):
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << (at % 8)
        path.write_bytes(flipped)
        refusal(path)
    path.write_bytes(content)
    assert open_emulator(path).name == "small"


ATTRIBUTES = {
    "bounds": {"teff": [4000.0, math.inf], "logg": [1, 5], "feh": [-2, 0]},
    "medium": "ether",
    "remainders": [math.nan],
    "resolving_power": math.inf,
    "log_teff": "no",
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_that_cannot_be_is_refused(path, name):
    changed(path, lambda _, attributes: attributes.update({name: ATTRIBUTES[name]}), sealed=True)
    refusal(path)


SPOILT = {
    "empty": lambda a: a[..., :0],
    "of another shape": lambda a: a[..., None],
    "of another type": lambda a: a.astype("c8"),
    "nan": lambda a: np.where(np.arange(a.size).reshape(a.shape) == 1, np.nan, a).astype(a.dtype),
    "infinite": lambda a: np.where(np.arange(a.size).reshape(a.shape) == 1, np.inf, a).astype(a.dtype),
    "zeros": np.zeros_like,
}


@pytest.mark.parametrize("kind", [*SPOILT, "removed", "added"])
@pytest.mark.parametrize("name", ["coefficients", "edges", "powers", "fiducial", "scale", "knots"])
def test_an_array_that_cannot_be_is_refused(path, name, kind):
    if (name, kind) in {
        ("powers", "zeros"),
        ("fiducial", "zeros"),
        ("powers", "nan"),
        ("powers", "infinite"),
    }:
        return  # an emulator like any other, or one that cannot be written

    def spoil(arrays, _):
        if kind == "removed":
            del arrays[name]
        elif kind == "added":
            arrays[f"{name} again"] = arrays[name]
        else:
            arrays[name] = SPOILT[kind](arrays[name])

    original = path.read_bytes()
    changed(path, spoil, sealed=False)
    assert "does not have the hash" in refusal(path)
    path.write_bytes(original)
    changed(path, spoil, sealed=True)
    refusal(path)
