"""The command line, called in this process."""

import numpy as np
from typer.testing import CliRunner

from metalora import cli

SMALL = ["--image-size", "8", "--max-queries", "40", "--batch-size", "16", "--device", "cpu"]
QUICK = [*SMALL, "--steps", "2", "--rank", "2"]
COMPARE = ["compare", *QUICK, "--backbone", "resnet20", "--jobs", "1"]


def run(*arguments, code=0):
    """Call the command line in this process; its result, after a look at the exit code."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def refused(*arguments):
    """The one sentence on stderr of a call with wrong input."""
    lines = [line for line in run(*arguments, code=2).stderr.splitlines() if not line.startswith(("Reading", "Train"))]
    assert len(lines) == 1 and lines[0].startswith("Error: "), lines
    return lines[0]


def arrays(path):
    """What an .npz file holds."""
    with np.load(path) as file:
        return dict(file)
