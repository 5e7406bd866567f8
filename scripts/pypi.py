"""Fetches one pinned file through pip. What reaches its final place has the pinned SHA-256; nothing else ever does."""

import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile


def cache_dir():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(base) / "lacake"


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_intact(path, expected):
    return path.is_file() and sha256(path) == expected


def fail(message):
    sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {message}")


def download(requirement, pip_options, suffix, scratch):
    """Path in `scratch` of the one file with `suffix` that pip downloads for `requirement`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *pip_options, "-d", scratch, requirement]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    files = sorted(pathlib.Path(scratch).glob("*" + suffix))
    if done.returncode != 0 or len(files) != 1:
        sys.stderr.write(done.stdout)
        fail(f"{requirement}: pip could not download it (above is what pip said); check the network, then run this again")
    return files[0]


def obtain(target, expected_sha256, make):
    """Puts what `make(scratch)` returns at `target`, unless the intact file is there already."""
    if is_intact(target, expected_sha256):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # Scratch beside the target: the last step is a rename within one file system, so a reader sees all or nothing.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as scratch:
        made = make(scratch)
        found = sha256(made)
        if found != expected_sha256:
            fail(f"{target.name}: expected SHA-256 {expected_sha256}, the download has {found}")
        os.replace(made, target)
