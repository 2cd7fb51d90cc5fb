"""`specxr train` on a cube in a bucket, and URLs that are refused without a word of what they hold."""

import pytest
from support.program import ok, refused
from support.trained import training_cube

from specxr.cubes.store import write_cube

SECRET = "AKIASECRET:very-secret"
FEW = ("-o", "hidden=8", "-o", "max_rounds=2")


def test_a_cube_in_a_bucket_is_trained_on(bucket, tmp_path):
    url = f"{bucket}/spectra/training.zarr"
    write_cube(training_cube(60), url)
    out = tmp_path / "model.safetensors"
    assert "60 stars, teff, logg, feh" in ok("train", url, "--out", out, *FEW)
    assert "hidden" in ok("models", "info", out)


@pytest.mark.parametrize(
    "arguments",
    [
        (f"s3://{SECRET}@bucket/training.zarr", "--out", "model.safetensors"),
        ("{cube}", "--out", f"s3://{SECRET}@bucket/model.safetensors"),
        ("{cube}", "--out", f"s3://{SECRET}@bucket/model.pt"),
        ("{cube}", "--out", "model.safetensors", "--checkpoint", f"s3://{SECRET}@bucket/kept"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_and_not_repeated(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_cube(training_cube(10), "cube.zarr")
    line = refused("train", *(text.format(cube="cube.zarr") for text in arguments), *FEW)
    assert "required" in line or "allowed" in line
    assert "secret" not in line.lower()
