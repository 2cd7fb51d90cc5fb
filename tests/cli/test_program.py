"""What is true of the program as a whole: version, help, examples, logs, progress, and its own check of a machine."""

import subprocess
import sys

import pytest
import typer
from support.fakes import Mean, write_fake_cube
from support.program import ok, run

import specxr
from specxr.cli import app
from specxr.cli.examples import EXAMPLES


def commands(group, path=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_the_version_and_the_module():
    assert ok("--version").strip() == f"specxr {specxr.__version__}"
    done = subprocess.run([sys.executable, "-m", "specxr", "--version"], capture_output=True, text=True)
    assert done.stdout.strip() == f"specxr {specxr.__version__}"
    assert "--show-completion" in ok("--help")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples_that_the_program_accepts_and_fits_80_columns(name):
    text = ok(*name.split(), "--help")
    assert max(map(len, text.splitlines())) <= 80
    for example in EXAMPLES[name]:
        assert example in text
        words = example.split()[1 + len(name.split()) :]
        assert example.startswith(f"specxr {name}")
        options = {word for word in words if word.startswith("--")}
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert options <= known


def test_brackets_are_not_swallowed():
    assert "Begin the fits" in ok("infer", "--help")
    assert "[Angstrom]" in " ".join(ok("plot", "--help").split())


def test_what_is_done_is_logged_and_progress_can_be_left_out(tmp_path, monkeypatch):
    path = tmp_path / "c.zarr"
    specxr.write_cube(specxr.synthesis.simulate_survey(3, seed=1).load(), path)
    log = tmp_path / "log.txt"
    loud = run("--log", log, "infer", path, "--name", "a")
    assert loud.exit_code == 0, loud.output
    assert "3 stars in 1 blocks" in loud.stderr
    assert "3 stars in 1 blocks" in log.read_text()
    assert "emulator default" in loud.stdout
    quiet = run("--quiet", "infer", path, "--name", "b")
    assert "blocks" not in quiet.stderr
    assert "emulator" not in quiet.stdout
    assert "::b: 3 converged" in quiet.stdout
    assert "blocks" in run("infer", path, "--name", "c").stderr
    failed = run("--log", log, "infer", tmp_path / "absent.zarr")
    assert failed.exit_code == 1
    assert failed.stderr.count("\n") == 1
    assert "FileNotFoundError" in log.read_text()
    assert "Traceback" in run("--verbose", "infer", tmp_path / "absent.zarr").stderr


def test_a_link_to_a_dashboard_is_given_only_where_it_works(tmp_path, client, monkeypatch):
    path = write_fake_cube(tmp_path / "c.zarr", 4, star_chunk=2)
    monkeypatch.setattr("specxr.cli.inference.open_estimator", lambda *_, **__: Mean(), raising=False)
    monkeypatch.setattr("specxr.estimators.registry.open_estimator", lambda *_, **__: Mean())
    words = ("infer", path, "--scheduler", client.scheduler.address, "--overwrite")
    for there in (True, False):
        monkeypatch.setattr("specxr.cli.progress.find_spec", lambda name, there=there: there)
        assert ("dashboard: http" in run(*words).stderr) == there


def test_the_doctor_looks_at_everything_and_says_what_is_broken(tmp_path, monkeypatch):
    text = ok("doctor", "--folder", tmp_path)
    for word in ("specxr 0.1", "cores", "GPU", "written and read back", "simulated star"):
        assert word in text
    assert not list(tmp_path.iterdir())

    def broken(*_, **__):
        raise OSError("the disk is full")

    monkeypatch.setattr("specxr.cubes.store.write_cube", broken)
    result = run("doctor")
    assert result.exit_code == 1
    assert "store     FAILED: OSError: the disk is full" in result.stdout
    assert "1 of the checks above failed" in result.stderr
