"""lacake inspect and lacake policies: facts, plans and pictures."""

import json
import os
import signal
import struct
import subprocess
import unittest
import xml.etree.ElementTree

from program import (FABLE, MODEL_LENGTH, N_LAYER, ON_MODEL, PROGRAM, ProgramTest, environment, run, run_unread,
                     start)

KEPT_BY = ["--policy", "streaming-llm:sinks=4", "--kv-budget", "40"]


class Inspect(ProgramTest):
    def inspect(self, *arguments, **options):
        done = run("inspect", *ON_MODEL, "-q", *arguments, **options)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return done.stdout.decode()

    def test_says_what_the_model_is_and_what_it_would_take(self):
        text = self.inspect()
        self.assertIn("30, width 576", text)
        self.assertIn("9 heads over 3 KV heads of 64", text)
        self.assertRegex(text, r"memory plan\n(  .+\n)+  total +\d+ MiB\n")
        result = json.loads(self.inspect("--json", "--policy", "lacache", "--kv-budget", "512"))
        self.assertEqual((result["schema"], result["model"]["n_layer"]), (1, N_LAYER))
        self.assertEqual(result["model"]["training_length"], MODEL_LENGTH)
        plan = result["plan"]
        # 3 KV heads of 64, K and V, 2 bytes each.
        self.assertEqual(plan["entry_bytes"], 3 * 64 * 2 * 2)
        self.assertEqual(plan["budget_bytes"], 512 * N_LAYER * plan["entry_bytes"])

    def test_plans_for_a_prompt_that_is_not_there(self):
        small, large = (json.loads(self.inspect("--json", "--prompt-tokens", n))["plan"]["memory"]
                        for n in (1000, 2000))
        self.assertAlmostEqual(large["cache"] / small["cache"], 2, delta=0.01)

    def test_kept_positions_are_sinks_and_window(self):
        path = self.folder / "kept.json"
        result = json.loads(self.inspect("--json", "-p", FABLE, "--kept", path, *KEPT_BY))
        kept = json.loads(path.read_text())
        n = kept["n_tokens"]
        self.assertEqual((kept["schema"], n), (1, result["n_tokens"]))
        self.assertEqual([layer["layer"] for layer in kept["layers"]], list(range(N_LAYER)))
        for layer in kept["layers"]:
            self.assertEqual(len(layer["heads"]), 3)
            for head in layer["heads"]:
                window = len(head) - 4
                self.assertTrue(30 < window <= 36)
                self.assertEqual(head, [0, 1, 2, 3, *range(n - window, n)])

    def test_files_are_made_even_if_nobody_reads_the_rest(self):
        kept, picture = self.folder / "kept.json", self.folder / "kept.svg"
        done = run_unread("inspect", *ON_MODEL, "-q", "-p", FABLE, "--kept", kept, "--plot", picture, *KEPT_BY)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(json.loads(kept.read_text())["schema"], 1)
        self.assertEqual(xml.etree.ElementTree.parse(picture).getroot().tag, "{http://www.w3.org/2000/svg}svg")

    def test_a_file_that_is_read_is_never_written_over(self):
        text, kept, again = self.file("fable.txt", FABLE), self.folder / "kept.svg", self.folder / "." / "kept.svg"
        for flags, than, found in ((["-f", text, "--kept", text], f"--file {text}", text),
                                   (["-p", FABLE, "--kept", again, "--plot", kept], f"--plot {kept}", again)):
            done = run("inspect", *ON_MODEL, *flags)
            says = f"lacake: error: --kept: expected another file than {than}, found {found}\n"
            self.assertEqual((done.returncode, done.stdout, done.stderr.decode()), (2, b"", says))
        self.assertEqual((text.read_text(), kept.exists()), (FABLE, False))

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_files_are_made_even_if_the_rest_cannot_be_written_which_is_said(self):
        kept = self.folder / "kept.json"
        for flags in ([], ["--json"]):
            with open("/dev/full", "wb") as full:
                arguments = ["inspect", *ON_MODEL, "-q", "-p", FABLE, "--kept", kept, *KEPT_BY, *flags]
                done = subprocess.run([PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=full,
                                      stderr=subprocess.PIPE, env=environment(), check=False)
            self.assertEqual((done.returncode, done.stderr.decode()),
                             (1, "lacake: error: standard output: cannot be written: No space left on device\n"))
            self.assertEqual(json.loads(kept.read_text())["schema"], 1)
            kept.unlink()

    def test_tokens_generated_are_kept_too(self):
        path = self.folder / "kept.json"
        self.inspect("-p", FABLE, "--kept", path, "-n", 5, "--ignore-eos", *KEPT_BY)
        after = json.loads(path.read_text())
        self.inspect("-p", FABLE, "--kept", path, *KEPT_BY)
        before = json.loads(path.read_text())
        # The last one chosen is not in the cache.
        self.assertEqual(after["n_tokens"], before["n_tokens"] + 4)
        self.assertEqual(after["layers"][0]["heads"][0][-1], after["n_tokens"] - 1)

    def test_picture_in_the_terminal_has_a_row_for_each_layer_in_80_columns(self):
        def rows(*flags, **env):
            lines = self.inspect("-p", FABLE, *KEPT_BY, *flags, **env).splitlines()
            self.assertLessEqual(max(map(len, lines)), 80)
            return [line for line in lines if "|" in line]

        blocks = rows()
        self.assertEqual(len(blocks), N_LAYER)
        self.assertRegex(blocks[0], r"^  0 \|[█▓▒░·]+ +[█▓▒░·]+\| +\d+$")
        for plain in (rows("--color", "never"), rows(LANG="C")):
            self.assertRegex(plain[0], r"^  0 \|[#*+:.]+ +[#*+:.]+\| +\d+$")

    def test_plots_are_svg_and_png(self):
        svg, png = self.folder / "kept.svg", self.folder / "kept.png"
        self.inspect("-p", FABLE, "--plot", svg, *KEPT_BY)
        self.assertTrue(xml.etree.ElementTree.parse(svg).getroot().tag.endswith("svg"))
        if b"without cairo" in run("inspect", *ON_MODEL, "-p", "hi", "--plot", png).stderr:
            self.skipTest("this program makes no PNG")
        self.inspect("-p", FABLE, "--plot", png, *KEPT_BY)
        content = png.read_bytes()
        self.assertEqual(content[:8], b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", content[16:24])
        self.assertTrue(width > 1000 and height > 500)
        self.assertEqual(sorted(self.folder.iterdir()), [png, svg])

    def test_ctrl_c_leaves_no_file(self):
        with start("inspect", *ON_MODEL, "-p", FABLE * 30, "--kept", self.folder / "kept.json") as program:
            self.assertTrue(program.stdout.readline())
            program.send_signal(signal.SIGINT)
            program.communicate(timeout=60)
        self.assertEqual(program.returncode, 130)
        self.assertEqual(list(self.folder.iterdir()), [])


class Policies(unittest.TestCase):
    def test_lists_every_policy_with_defaults_in_their_ranges(self):
        listed = json.loads(run("policies", "--json").stdout)
        policies = {policy["name"]: policy for policy in listed["policies"]}
        self.assertLessEqual({"full", "streaming-llm", "lacache", "cake"}, set(policies))
        for name, policy in policies.items():
            for parameter in policy["parameters"]:
                with self.subTest(policy=name, parameter=parameter["name"]):
                    self.assertTrue(parameter["help"])
                    if "choices" in parameter:
                        # One of them; where it depends on the model, followed by on what.
                        self.assertIn(parameter["default"].split()[0], parameter["choices"])
                    elif not isinstance(parameter["default"], str):
                        self.assertTrue(parameter["min"] <= parameter["default"] <= parameter["max"])
        text = run("policies").stdout.decode()
        for name in policies:
            self.assertIn(name, text.splitlines())

    def test_help_is_the_same_every_way_and_promises_only_what_exists(self):
        for words in (("help", "run"), ("--help", "run"), ("-h", "run")):
            self.assertEqual(run(*words).stdout, run("run", "--help").stdout)
        listed = run("--help").stdout.decode()
        for command in ("run", "chat", "inspect", "bench", "policies"):
            self.assertIn(f"  {command} ", listed)
            self.assertEqual(run(command, "--help").returncode, 0)
        self.assertRegex(run("--version").stdout.decode(), r"^lacake \d+\.\d+\.\d+\n$")


if __name__ == "__main__":
    unittest.main()
