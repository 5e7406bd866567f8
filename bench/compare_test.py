"""bench/compare and bench/programs.py with programs that only say what they were asked."""

import contextlib
import importlib.machinery
import importlib.util
import io
import json
import pathlib
import shutil
import tempfile
import unittest
from unittest import mock

import programs

_loader = importlib.machinery.SourceFileLoader("compare", str(pathlib.Path(__file__).parent / "compare"))
compare = importlib.util.module_from_spec(importlib.util.spec_from_loader("compare", _loader))
_loader.exec_module(compare)

# Speeds: fixed work and work by entry, in ms; llama.cpp is best with -fa 1, the fork with -fa 1 -rtr 1.
FAKE = """#!/usr/bin/env python3
import json, sys
ask = sys.argv[1:]
open({log!r}, "a").write(" ".join([{name!r}, *ask]) + "\\n")
def value(flag, default="0"):
    return ask[ask.index(flag) + 1] if flag in ask else default
if "--help" in ask:
    print({help!r})
elif ask[0] == "bench":
    depth, prompt = int(value("-d")), int(value("-p"))
    full = "full" in ask
    ms = 8 + (depth / 1000 if full else 0) if prompt == 0 else 2 + prompt / 10000
    print(json.dumps([{{"model": "fake", "weight_bytes_per_token": 4e6, "held_bytes": 2e6, "machine_read_gb_per_s": 2,
                        "decode_ms_per_token": {{"median": ms}}, "prefill_ms_per_token": {{"median": ms}}}}]))
else:
    pair = value("-gp", "")
    depth = int(pair.split(",")[0]) if pair else int(value("-d"))
    prompt, n = int(value("-p")), int(pair.split(",")[1]) if pair else int(value("-n"))
    slower = (1.0 if value("-fa") == "1" else 1.5) * (1.0 if value("-rtr", "1") == "1" else 1.2) * {factor}
    ms = (2 + prompt / 1000 if prompt else 10 + depth / 250) * slower
    print("noise\\n" + json.dumps([{{"avg_ns": ms * 1e6 * (prompt or n)}}]))
"""
LLAMA_HELP = "-n, --n-gen <n>\n-d, --n-depth <n>\n-fa\n--no-warmup"
FORK_HELP = "-n, --n-gen <n>\n-gp <pp,tg>\n-fa\n-rtr, --run-time-repack"


class FakePrograms(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lacake-compare-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.log = self.folder / "log"

    def fake(self, name, help_text="", factor=1.0):
        path = self.folder / name
        path.write_text(FAKE.format(log=str(self.log), name=name, help=help_text, factor=factor))
        path.chmod(0o755)
        return path

    def asked(self):
        return [line for line in self.log.read_text().splitlines() if "--help" not in line]


class Programs(FakePrograms):
    def test_llama_cpp_is_asked_for_a_depth(self):
        peer = programs.LlamaBench(self.fake("llama", LLAMA_HELP), programs.Run("m.gguf", 2, 16))
        self.assertEqual((peer.family, peer.variants), ("llama.cpp", ["-fa 0", "-fa 1"]))
        self.assertAlmostEqual(peer.measure("decode", 2500, "-fa 1"), 20)
        self.assertAlmostEqual(peer.measure("prefill", 8000, "-fa 0"), 15)
        decode, prefill = self.asked()
        self.assertEqual(decode, "llama -m m.gguf -t 2 -r 1 -p 0 -n 16 -d 2500 -fa 1 -o json")
        self.assertIn("-p 8000 -n 0 --no-warmup -fa 0", prefill)

    def test_a_fork_without_depths_decodes_after_a_prompt_and_tries_repacking(self):
        peer = programs.LlamaBench(self.fake("ik", FORK_HELP), programs.Run("m.gguf", 1, 16))
        self.assertEqual(peer.family, "ik_llama.cpp")
        self.assertEqual(peer.variants, ["-fa 0 -rtr 0", "-fa 0 -rtr 1", "-fa 1 -rtr 0", "-fa 1 -rtr 1"])
        self.assertAlmostEqual(peer.measure("decode", 2500, "-fa 1 -rtr 1"), 20)
        self.assertAlmostEqual(peer.measure("decode", 0, "-fa 1 -rtr 1"), 10)
        deep, flat = self.asked()
        self.assertIn("-p 0 -n 0 -gp 2500,16 -fa 1 -rtr 1", deep)
        self.assertIn("-p 0 -n 16 -fa 1", flat)

    def test_what_is_no_llama_bench_is_named(self):
        with self.assertRaisesRegex(programs.Failed, "other: expected a llama-bench"):
            programs.LlamaBench(self.fake("other", "-x"), programs.Run("m.gguf", 1, 16))
        with self.assertRaisesRegex(programs.Failed, "missing: No such file"):
            programs.LlamaBench(self.folder / "missing", programs.Run("m.gguf", 1, 16))

    def test_a_program_that_fails_is_quoted(self):
        with self.assertRaisesRegex(programs.Failed, "false .*exit status 1"):
            programs.Lacake("false", programs.Run("m.gguf", 1, 16)).measure("decode", 0, "")


class Compare(FakePrograms):
    def compared(self, *more):
        llama, ik = self.fake("llama", LLAMA_HELP), self.fake("ik", FORK_HELP, factor=0.9)
        command = ["compare", "-m", "m.gguf", "--lacake", str(self.fake("lacake")), "--llama-bench", str(llama),
                   "--peer", str(ik), "--json", str(self.folder / "out.json"), "--svg",
                   str(self.folder / "out.svg"), *more]
        with mock.patch("sys.argv", command), contextlib.redirect_stdout(io.StringIO()) as out, \
                contextlib.redirect_stderr(io.StringIO()):
            compare.main()
        return json.loads((self.folder / "out.json").read_text()), out.getvalue()

    def test_the_best_setting_of_the_best_peer_counts(self):
        result, table = self.compared("--depth", "1000,5000", "--prompt", "1000", "-r", "2")
        at = {(row["what"], row["at"]): row for row in result["ratios"]}
        # The fork at its best: 0.9 * (10 + 4) ms against 8 + 1 ms.
        self.assertEqual(at["decode", 1000]["peer"], "ik_llama.cpp")
        self.assertAlmostEqual(at["decode", 1000]["ratio"], 0.9 * 14 / 9)
        self.assertAlmostEqual(at["decode", 5000]["ratio"], 0.9 * 30 / 13)
        self.assertAlmostEqual(at["decode", 5000]["limit_ms"], 3)  # 6 MB at 2 GB/s
        self.assertAlmostEqual(at["prefill", 1000]["ratio"], 0.9 * 3 / 2.1)
        self.assertFalse(any(row["fitted"] for row in result["ratios"]))
        self.assertIn("1.40 (1.40-1.40)", table)

    def test_all_settings_run_in_the_first_round_and_the_best_one_later(self):
        self.compared("--depth", "1000", "--prompt", "0", "-r", "3")
        runs = [line for line in self.asked() if line.startswith("ik")]
        self.assertEqual(len(runs), 4 + 2)
        self.assertTrue(all("-fa 1 -rtr 1" in line for line in runs[4:]))
        # Programs alternate: lacake, llama.cpp, the fork, round by round.
        names = [line.split()[0] for line in self.asked()]
        self.assertEqual(names[-6:], ["lacake", "llama", "ik", "lacake", "llama", "ik"])

    def test_an_older_lacake_and_other_options_run_in_the_same_rounds(self):
        result, _ = self.compared("--depth", "1000", "--prompt", "1000", "-r", "1", "--before", str(self.fake("older")),
                                  "--also=--product=f32")
        asked = self.asked()
        self.assertEqual([line.split()[0] for line in asked],
                         2 * ["lacake", "older", "lacake", *2 * ["llama"], *4 * ["ik"]])
        self.assertEqual(["--product=f32" in line for line in asked[:3]], [False, False, True])
        names = ["lacake full", "lacake full, before", "lacake full --product=f32"]
        self.assertEqual([(row["what"], row["ours"]) for row in result["ratios"]],
                         [(what, name) for what in ("decode", "prefill") for name in names])

    def test_long_places_are_measured_for_lacake_and_fitted_for_peers(self):
        result, table = self.compared("--depth", "0,1000,5000", "--long-depth", "100000", "--prompt", "1000,4000",
                                      "--long-prompt", "100000", "--policy", "cake", "--streaming", "lacache",
                                      "-r", "1")
        at = {(row["ours"], row["what"], row["at"]): row for row in result["ratios"]}
        row = at["lacake cake 3.2%", "decode", 100000]
        self.assertTrue(row["fitted"])
        self.assertAlmostEqual(row["peer_ms"], 0.9 * 410)
        self.assertAlmostEqual(row["ratio"], 0.9 * 410 / 8)
        self.assertAlmostEqual(row["line"]["last_measured"], 5000)
        self.assertAlmostEqual(at["lacake full", "decode", 100000]["ratio"], 0.9 * 410 / 108)
        self.assertAlmostEqual(at["lacake lacache 4096, streaming", "prefill", 100000]["peer_ms"], 0.9 * 102)
        # Exact prefill of the long prompt would take hours, and 3.2 % of 1,000 tokens is nothing to choose from.
        self.assertNotIn(("lacake full", "prefill", 100000), at)
        self.assertNotIn(("lacake cake 3.2%", "decode", 1000), at)
        self.assertIn("* fitted", table)
        self.assertIn("(fitted)", (self.folder / "out.svg").read_text())

    def test_what_was_measured_before_a_failure_is_kept(self):
        # A fork that can't decode after prompts: its first place goes well.
        broken = FAKE.replace('else:\n    pair', 'elif "-gp" in ask:\n    sys.exit("out of memory")\nelse:\n    pair')
        with mock.patch.dict(globals(), FAKE=broken), self.assertRaisesRegex(programs.Failed, "ik .*out of memory"):
            self.compared("--depth", "0,1000", "--prompt", "0", "-r", "1")
        result = json.loads((self.folder / "out.json").read_text())
        self.assertEqual([(row["at"], row["peer"]) for row in result["ratios"]],
                         [(0, "ik_llama.cpp"), (1000, "llama.cpp")])


if __name__ == "__main__":
    unittest.main()
