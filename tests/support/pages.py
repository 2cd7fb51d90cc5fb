"""The pages of the documents: their blocks of code, and the small files that these blocks work on."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from support.trained import observed, training_cube, training_set

from specxr.vocabulary import SPEED_OF_LIGHT

ROOT = Path(__file__).parents[2]
SHELL = ("", "bash", "sh", "console")
PYTHON = ("python", "{code-cell} ipython3")

_NOT_RUN = re.compile(r"<!-- not run: (.+) -->")


@dataclass(frozen=True)
class Block:
    """A block of code: the language of its fence ("" where it is indented), its text, and why it is not run."""

    language: str
    text: str
    not_run: str = ""


def blocks(text: str) -> list[Block]:
    """Fenced and indented blocks of a Markdown text. A comment `<!-- not run: REASON -->` stands before its block."""
    found, lines, language, reason = [], [], None, ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("```"):
            if language is not None:
                found.append(Block(language, "\n".join(lines), reason))
                reason = ""
            lines, language = [], (line[3:].strip() if language is None else None)
        elif language is not None:
            lines.append(line)
        elif line.startswith("    "):
            lines.append(line[4:])
        else:
            if lines:
                found.append(Block("", "\n".join(lines), reason))
                lines, reason = [], ""
            if match := _NOT_RUN.fullmatch(line):
                reason = match[1]
            elif line:
                reason = ""
    return found


def prose(text: str) -> str:
    """The text without its fenced and indented blocks."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return "\n".join(line for line in text.splitlines() if not line.startswith("    "))


def commands(block: Block) -> Iterator[list[str]]:
    """Commands of a block of the shell, as lists of words; what follows a pipe or an ampersand is left out."""
    for line in block.text.replace("\\\n", " ").splitlines():
        try:
            words = shlex.split(line.removeprefix("$ "), comments=True)
        except ValueError:  # a formula, not a command
            continue
        end = next((i for i, word in enumerate(words) if word in ("&", "|", ">", "&&", ";")), len(words))
        # Variables of the environment may be set before a command.
        start = next((i for i, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), end)
        if words[start:end]:
            yield words[start:end]


def make_files(folder: Path, write_lamost: Callable[..., Path]) -> None:
    """What a reader of the pages has: files of LAMOST, a cube of them with two runs, a catalogue, a trained model."""
    import specxr
    from specxr.synthesis.survey import simulate_survey

    survey = simulate_survey(16, seed=3, snr=(60.0, 150.0)).load()
    survey["obsid"] = survey["obsid"].copy(data=101001 + np.arange(survey.sizes["star"]))
    _write_files(folder, survey, write_lamost)
    (folder / "stars.txt").write_text("101002\n101005\n")
    specxr.ingest("lamost-lrs", folder / "spectra", folder / "dr10.zarr", workers=1)
    for name, lasp in (("lasp", specxr.LASP(clean=True, two_stage=True)), ("plain", specxr.LASP())):
        specxr.run(folder / "dr10.zarr", lasp, name=name)
    _write_catalogue(folder, survey)
    _train(folder)


def _write_files(folder: Path, survey: xr.Dataset, write_lamost: Callable[..., Path]) -> None:
    """Files of single stars where the pages have them, and a new night."""
    start = round(float(np.log10(survey["wavelength"][0])) * 1e4)
    public = folder / "PyLASP" / "test_data" / "LAMOST_spec_fits"
    places = {public: range(3), folder / "spectra": range(12), folder / "night": range(12, 16)}
    for place, stars in places.items():
        place.mkdir(parents=True)
        for i in stars:
            star = survey.isel(star=i)
            obsid = int(star["obsid"]) if place != public else (3703110, 3706009, 3706011)[i]
            cards = {name.upper(): float(star[name]) for name in ("ra", "dec")}
            cards |= {"SUBCLASS": "A0" if star["true_teff"] > 7500 else "G2", "CLASS": "STAR"}
            cards |= {"SNRG": float(star["snr"]), "Z": float(star["true_rv"]) / SPEED_OF_LIGHT}
            pixels = {name: star[name].values for name in ("flux", "ivar")}
            write_lamost(place / f"{obsid}.fits", start=start, OBSID=obsid, **pixels, **cards)


def _write_catalogue(folder: Path, survey: xr.Dataset) -> None:
    columns = {"obsid": survey["obsid"].values, "ra": survey["ra"].values, "dec": survey["dec"].values}
    columns |= {name: survey[f"true_{name}"].values for name in ("rv", "teff", "logg", "feh")}
    columns |= {f"{name}_err": 0.1 for name in ("rv", "teff", "logg", "feh")}
    pd.DataFrame(columns).to_csv(folder / "catalogue.csv", index=False)


def _train(folder: Path) -> None:
    import specxr

    cube = training_cube(60)
    specxr.write_cube(cube, folder / "training.zarr")
    fitted = specxr.train(cube, specxr.SLAM(loss="squared", c=(100.0,), gamma=(0.01, 0.1)))
    fitted.save(folder / "slam.safetensors")
    stars = observed(training_set(training_cube(6, seed=9)), snr=100)
    normalised = cube.isel(star=slice(6)).assign(
        {name: (("star", "wavelength"), getattr(stars, name)) for name in ("flux", "ivar", "mask")}
    )
    specxr.write_cube(normalised.drop_vars(["teff", "logg", "feh"]), folder / "cube.zarr")


def copy_files(folder: Path, to: Path) -> Path:
    """A copy of these files, which the blocks of one page may change."""
    return Path(shutil.copytree(folder, to, dirs_exist_ok=True))
