"""The programs that are compared, each run once for one measurement."""

import json
import pathlib
import shlex
import subprocess
import sys


LONG = 2048  # tokens


class Failed(Exception):
    """A program did not give a measurement; the message is what a person needs to know."""


class Run:
    """What all programs are given alike."""

    def __init__(self, model, threads, n_gen, prefix=""):
        self.model = str(model)
        self.threads = threads
        self.n_gen = n_gen
        self.prefix = shlex.split(prefix)  # a command that runs each program: taskset, nice, a queue

    def output(self, command):
        done = subprocess.run([*self.prefix, *map(str, command)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise Failed(f"{shlex.join(map(str, command))}: exit status {done.returncode}: {last}")
        return done.stdout

    def rows(self, command):
        """The JSON list that a program prints, which may stand among other lines."""
        text = self.output(command)
        try:
            return json.loads(text[text.index("["):text.rindex("]") + 1])
        except ValueError as error:
            raise Failed(f"{shlex.join(map(str, command))}: expected a JSON list, found {text[:80]!r}") from error


class Lacake:
    """One policy and budget of `lacake bench`."""

    def __init__(self, path, run, policy="full", budget=None, options=()):
        self.path, self.run, self.policy, self.budget, self.options = path, run, policy, budget, list(options)
        self.name = f"lacake {policy}" + (f" {budget}" if budget else "")
        self.family = "lacake"
        self.variants = [""]
        self.last = {}  # all that lacake said of its last measurement

    def measure(self, what, at, _variant):
        """ms a token: of `what` = "decode" after `at` tokens, or "prefill" of `at` tokens."""
        sizes = ["-d", at, "-p", 0, "-n", self.run.n_gen] if what == "decode" else ["-d", 0, "-p", at, "-n", 0]
        budget = ["--kv-budget", self.budget] if self.budget else []
        (self.last,) = self.run.rows([self.path, "bench", "-m", self.run.model, "-t", self.run.threads, "-r", 1, *sizes,
                                      "--policy", self.policy, *budget, *self.options, "--beyond-training", "--json",
                                      "-q"])
        return self.last[f"{what}_ms_per_token"]["median"]


    def least_ms(self):
        """Of the last token: its bytes at the speed of a plain read, measured in the same process."""
        n_bytes = self.last["weight_bytes_per_token"] + self.last["held_bytes"]
        return n_bytes / self.last["machine_read_gb_per_s"] / 1e6


class LlamaBench:
    """llama.cpp's llama-bench, or that of a fork: what it calls things is read from its help."""

    def __init__(self, path, run):
        self.path, self.run = pathlib.Path(path), run
        try:
            done = subprocess.run([self.path, "--help"], capture_output=True, text=True, check=False)
        except OSError as error:
            raise Failed(f"{path}: {error.strerror}") from error
        text = done.stdout + done.stderr
        if "-fa" not in text or "-n, --n-gen" not in text:
            raise Failed(f"{path}: expected a llama-bench, its --help names neither -fa nor -n")
        self.has_depth = "--n-depth" in text
        self.can_start_cold = "--no-warmup" in text
        if not self.has_depth and "-gp" not in text:
            raise Failed(f"{path}: this llama-bench can't decode after a prompt: neither -d nor -gp in its --help")
        self.family = "ik_llama.cpp" if "--run-time-repack" in text else "llama.cpp"
        self.name = self.family
        attention = ["-fa 0", "-fa 1"]
        self.variants = [f"{a} -rtr {r}" for a in attention for r in "01"] if "-rtr" in text else attention

    def measure(self, what, at, variant):
        n = self.run.n_gen
        if what == "prefill":
            sizes = ["-p", at, "-n", 0]
        elif at == 0:
            sizes = ["-p", 0, "-n", n]
        else:
            sizes = ["-p", 0, "-n", n, "-d", at] if self.has_depth else ["-p", 0, "-n", 0, "-gp", f"{at},{n}"]
        # llama.cpp warms up with the whole prompt, which would double the time of a long one and change nothing.
        if what == "prefill" and at > LONG and self.can_start_cold:
            sizes.append("--no-warmup")
        (row,) = self.run.rows([self.path, "-m", self.run.model, "-t", self.run.threads, "-r", 1, *sizes,
                                *variant.split(), "-o", "json"])
        return row["avg_ns"] / 1e6 / (at if what == "prefill" else n)


def build_llama_bench(root, folder):
    """Path of a llama-bench built from the pinned sources, which are unpacked with its tools. About ten minutes."""
    sources, build = folder / "llama.cpp-tools", folder / "llama-bench"
    program = build / "bin" / "llama-bench"
    steps = [
        [root / "scripts" / "get-llama-sources", "--with-tools", sources],
        ["cmake", "-S", sources, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF",
         "-DLLAMA_BUILD_TOOLS=ON", "-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_BUILD_APP=OFF",
         "-DLLAMA_BUILD_MTMD=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_OPENSSL=OFF",
         # As in scripts/setup: compiled by GCC 12 without these, its AMX products crash.
         "-DCMAKE_CXX_FLAGS=-fno-dse -fno-tree-dse"],
        ["cmake", "--build", build, "--target", "llama-bench"],
    ]
    print(f"compare: building {program}", file=sys.stderr)
    for i, step in enumerate(steps):
        log = folder.parent / "_logs" / f"llama-bench-{i}.log"
        done = subprocess.run([root / "scripts" / "quietly", log, *step], check=False)
        if done.returncode != 0:
            raise Failed("llama-bench could not be built; a built one can be given with --llama-bench PATH")
    return program
