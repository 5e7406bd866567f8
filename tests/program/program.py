"""Runs the built program with the test model."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

PROGRAM = os.environ["LACAKE_PROGRAM"]
MODEL = os.environ["LACAKE_TEST_MODEL"]
MODEL_LENGTH = 8192
N_LAYER = 30
# Under a sanitizer everything takes longer, by up to this factor.
PATIENCE = int(os.environ.get("LACAKE_TEST_PATIENCE", "1"))

# One thread: threads that wait for each other spin, so tests that run side by side would hold each other up.
ON_MODEL = ["-m", MODEL, "-t", "1"]

# Long enough for every policy to drop something, short enough to be read in moments.
FABLE = """A crow was sitting on a branch of a tree with a piece of cheese in her beak when a fox observed her and set
his wits to work to discover some way of getting the cheese. Coming and standing under the tree he looked up and said,
"What a noble bird I see above me! Her beauty is without equal, the hue of her plumage exquisite. If only her voice is as
sweet as her looks are fair, she ought without doubt to be Queen of the Birds." The crow was hugely flattered by this, and
just to show the fox that she could sing she gave a loud caw. Down came the cheese, of course, and the fox, snatching it
up, said, "You have a voice, madam, I see: what you want is wits."
"""


# What the program keeps of its user beyond a run.
STATE = tempfile.TemporaryDirectory(prefix="lacake-state-")


def environment(**changes):
    """No colours, locales or history of whoever runs the tests."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LC_") and k not in ("LANG", "NO_COLOR")}
    return {**kept, "LANG": "C.UTF-8", "TERM": "xterm", "XDG_STATE_HOME": STATE.name, **changes}


def run(*arguments, stdin=b"", timeout=300, **env):
    """The finished program; stdout and stderr as bytes."""
    return subprocess.run([PROGRAM, *map(str, arguments)], input=stdin, capture_output=True, timeout=timeout * PATIENCE,
                          env=environment(**env), check=False)


def answer(*arguments, **options):
    """The result of `lacake run --json`."""
    done = run("run", *ON_MODEL, "--json", "-q", *arguments, **options)
    if done.returncode != 0:
        raise AssertionError(f"status {done.returncode}: {done.stderr.decode()}")
    return json.loads(done.stdout)


def start(*arguments, **options):
    """The running program, with pipes. Use as a context manager."""
    return subprocess.Popen([PROGRAM, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=environment(), **options)


def run_unread(*arguments, stdin=b""):
    """The finished program, whose standard output nobody ever read."""
    reader, output = os.pipe()
    os.close(reader)
    with os.fdopen(output, "wb") as unread:
        return subprocess.run([PROGRAM, *map(str, arguments)], input=stdin, stdout=unread, stderr=subprocess.PIPE,
                              timeout=300 * PATIENCE, env=environment(), check=False)


class ProgramTest(unittest.TestCase):
    """A test with a folder of its own."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lacake-test-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path
