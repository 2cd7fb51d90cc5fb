"""Guards of scripts and limits of processes: each is told in one line, before anything starts."""

import os
import resource
import signal
import subprocess
import sys

import pytest
from support.fakes import Mean, write_fake_cube
from support.program import refused

import specxr
from specxr.cubes import processes

PROGRAM = [sys.executable, "-c", "import sys; from specxr.cli import main; main()"]


def run(words, **options):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, **options)


# Scripts that worker processes import

CALL = "check_importable('specxr.run')"
GUARDED = f"if __name__ == '__main__':\n    {CALL}\n"
FUNCTION = f"def work():\n    {CALL}\n"


@pytest.mark.parametrize(
    ("script", "refused"),
    [
        (CALL, True),
        (FUNCTION + "work()\n", True),
        (f"if True:\n    {CALL}\n", True),
        (GUARDED, False),
        (FUNCTION + "if __name__ == '__main__':\n    work()\n", False),
    ],
)
def test_a_script_without_the_guard_is_told_so(tmp_path, script, refused):
    file = tmp_path / "script.py"
    file.write_text(f"from specxr.cubes.processes import check_importable\n{script}\n")
    ended = run([sys.executable, str(file)])
    assert ended.returncode == refused
    if refused:
        line = ended.stderr.splitlines()[-1]
        assert line.startswith(f"RuntimeError: {file}, line ")
        assert "calls specxr.run without a guard" in line
        assert 'if __name__ == "__main__": is required. Put the call under it' in line


def test_what_is_no_script_needs_no_guard(tmp_path):
    assert (
        run([sys.executable, "-c", f"from specxr.cubes.processes import check_importable\n{CALL}"]).returncode
        == 0
    )
    processes.check_importable("specxr.run")  # pytest is guarded


def test_local_workers_ask_for_the_guard_before_anything_starts(tmp_path):
    file = tmp_path / "script.py"
    file.write_text("import specxr\nspecxr.cluster.local(1)\n")
    ended = run([sys.executable, str(file)])
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(f"RuntimeError: {file}, line 2, calls specxr.run")
    assert ended.stderr.count("Traceback") == 1


# Limits


@pytest.mark.parametrize(
    ("limit", "size", "words"),
    [
        ("RLIMIT_AS", 500_000_000, r"0.5 GB (ulimit -v); 4 GB of addresses are required"),
        ("RLIMIT_NOFILE", 24, "24 (ulimit -n); 64 open files are required"),
    ],
)
def test_a_limit_that_is_too_small_is_one_line(tmp_path, limit, size, words):
    number = getattr(resource, limit)
    hard = resource.getrlimit(number)[1]
    path = write_fake_cube(tmp_path / "cube.zarr")
    ended = run([*PROGRAM, "infer", str(path)], preexec_fn=lambda: resource.setrlimit(number, (size, hard)))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"specxr: the limit of this process is {words}. Raise the limit")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["demo", "--out", "demo"], ["train", "cube.zarr", "--out", "model.safetensors"]]
)
def test_every_command_that_fits_looks_at_the_limits(tmp_path, monkeypatch, words):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (10**9, 10**9))
    monkeypatch.chdir(tmp_path)
    assert "the limit of this process is 1 GB (ulimit -v)" in refused(*words)
    assert not any(tmp_path.iterdir())


def test_run_looks_at_the_limits(tmp_path, monkeypatch):
    path = write_fake_cube(tmp_path / "cube.zarr", 5)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (10**9, 10**9))
    with pytest.raises(OSError, match="the limit of this process is 1 GB"):
        specxr.run(path, Mean(), name="a")


def test_the_memory_of_a_block_is_held_against_the_limits(tmp_path, monkeypatch):
    from specxr.runs import driver, forecast

    monkeypatch.setattr(driver, "cores", lambda: 1)
    path = write_fake_cube(tmp_path / "cube.zarr")
    limits = {resource.RLIMIT_DATA: 3_000_000_000}
    monkeypatch.setattr(
        resource, "getrlimit", lambda kind: (limits.get(kind, resource.RLIM_INFINITY), resource.RLIM_INFINITY)
    )
    assert processes.memory_left() == 3e9
    monkeypatch.setattr(forecast, "_BASE_MEMORY", 3.1e9)
    with pytest.raises(ValueError, match="may use 2.79 GiB for each of its threads; a block that fits"):
        specxr.run(path, Mean(), name="a")


# Ctrl-C, and the end of a batch job


@pytest.mark.slow
def test_an_interrupt_while_workers_start_is_one_line(tmp_path):
    path = write_fake_cube(tmp_path / "cube.zarr")
    program = subprocess.Popen(
        [*PROGRAM, "infer", str(path), "--workers", "2"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert program.stderr.readline() == "starting 2 workers ...\n"
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does: to all processes of the command
    said = program.communicate(timeout=300)[1].splitlines()
    assert program.returncode == 130
    assert said[-1] == "specxr: interrupted. So far nothing was fitted; the same command goes on from there."
    # Of the bar, which is not shown, a blank line is left; a line that the stop cuts is printed again.
    assert {*said[:-1]} <= {"", "starting 2 workers ..."}, said


PATIENT = """
import os, signal, sys
from specxr.cli import main
from specxr.estimators import registry
from support.fakes import Mean
from specxr.runs import driver

slots = int(sys.argv.pop())

class Ended(Mean):
    def estimate(self, block, spectra=False):
        if block.flux[0, 1] == 10:
            os.kill(os.getpid(), signal.SIGTERM)
            while slots > 1 and signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
                pass  # the first request is on its way
            while slots > 1:
                os.kill(os.getpid(), signal.SIGINT)
        return super().estimate(block, spectra)

if __name__ == "__main__":
    registry.open_estimator = lambda *args, **options: Ended()
    driver.cores = lambda: slots
    main()
"""


def test_the_end_of_a_batch_job_is_one_line(tmp_path):
    path = write_fake_cube(tmp_path / "cube.zarr")
    (tmp_path / "script.py").write_text(PATIENT)
    ended = run([sys.executable, str(tmp_path / "script.py"), "infer", str(path), "--name", "a", "1"])
    assert ended.returncode == 130, ended.stderr
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("specxr: interrupted. So far 10 of 40 stars have their labels in "), ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_second_request_ends_the_process_at_once(tmp_path):
    path = write_fake_cube(tmp_path / "cube.zarr")
    (tmp_path / "script.py").write_text(PATIENT)
    ended = run([sys.executable, str(tmp_path / "script.py"), "infer", str(path), "--name", "a", "2"])
    assert ended.returncode == -signal.SIGINT, ended.stderr
    assert specxr.run(path, Mean(), name="a").complete  # its lock is that of a dead process
