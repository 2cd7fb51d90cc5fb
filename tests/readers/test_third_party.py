"""A survey whose reader is in somebody else's package: tests/support/toysurvey is all that its author writes."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from support.program import run

import specxr
from specxr.readers.registry import survey_names

PACKAGE = Path(__file__).parents[1] / "support" / "toysurvey"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package as pip would install it: its module, and its entry points."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    site = tmp_path / "site-packages"
    about = site / f"{project['name']}-{project['version']}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    points = project["entry-points"]["specxr.readers"]
    lines = [f"{name} = {target}" for name, target in points.items()]
    (about / "entry_points.txt").write_text("\n".join(["[specxr.readers]", *lines]))
    (site / "toysurvey.py").write_text((PACKAGE / "toysurvey.py").read_text())
    monkeypatch.syspath_prepend(site)
    return tmp_path


def write(path, number, n_pixels=200):
    rows = [f"{1.0 + pixel % 7} {0.5 if pixel % 50 else 0.0}" for pixel in range(n_pixels)]
    path.write_text("\n".join([f"# toy {number} 10.5 -3.25 42", *rows]))
    return path


def test_a_reader_of_another_package_is_one_module_and_one_entry_point(installed):
    assert "toy" in survey_names()
    for number in (7, 8):
        write(installed / f"{number}.txt", number)
    write(installed / "short.txt", 9, n_pixels=100)
    (installed / "other.txt").write_text("something else")
    files = sorted(installed.glob("*.txt"))
    result = run("ingest", "toy", *files, "--out", installed / "toy.zarr", "--workers", 2)
    assert result.exit_code == 0, result.output
    assert "short.txt: 100 pixels; the survey has 200" in result.stderr
    assert "other.txt: the first line does not begin with" in result.stderr
    cube = specxr.open_cube(installed / "toy.zarr")
    assert cube.attrs["survey"] == "Toy"
    assert cube["obsid"].values.tolist() == [7, 8]
    assert cube["dec"].values.tolist() == [-3.25, -3.25]
    assert cube["wavelength"].attrs["medium"] == "air"
    masked = np.arange(200) % 50 == 0
    np.testing.assert_array_equal(cube["mask"].values > 0, [masked] * 2)
    np.testing.assert_array_equal(cube["ivar"].values, [np.where(masked, 0, 4.0)] * 2)
