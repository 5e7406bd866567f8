"""A server to put load on: the one of the program's tests, with any program and model."""

import os
import pathlib
import sys


def add_options(parser):
    parser.add_argument("--program", required=True, help="lacake, built in any way")
    parser.add_argument("--model", required=True, help="a GGUF file with a chat template")


def with_program(args):
    """Starts servers of this program and model."""
    os.environ.update(LACAKE_PROGRAM=str(pathlib.Path(args.program).resolve()),
                      LACAKE_TEST_MODEL=str(pathlib.Path(args.model).resolve()))
    sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "program"))
    from serve_test import Server  # reads the environment
    return Server
