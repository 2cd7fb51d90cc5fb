"""The command line called from a test: what it prints, and the one line with which it refuses."""

from typer.testing import CliRunner

from specxr.cli import app


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def ok(*words: object) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*words: object) -> str:
    """Run what cannot work; the one line that it says."""
    result = run(*words)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("specxr: ")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr
