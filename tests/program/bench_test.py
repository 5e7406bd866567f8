"""lacake bench: every combination measured, in a table and as JSON; and what it refuses."""

import json
import signal
import unittest

from program import FABLE, MODEL, MODEL_LENGTH, N_LAYER, ON_MODEL, ProgramTest, run, start
from terminal_test import Screen

TINY = ["-p", 24, "-n", 2, "-r", 2]
ENTRY_BYTES = 3 * 64 * 2 * 2  # a layer's K and V of one token: 3 KV heads of 64, 2 bytes each


class Bench(ProgramTest):
    def measured(self, *arguments):
        done = run("bench", *ON_MODEL, *TINY, "--json", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return json.loads(done.stdout)

    def test_measures_every_policy_budget_and_depth(self):
        rows = self.measured("-d", "0,700", "--policy", "full,cake:window=8,gamma=100,lacache", "--kv-budget", "96,128")
        self.assertEqual(
            [(row["depth"], row["policy"], row["kv_budget"]) for row in rows],
            [(depth, policy, budget) for depth in (0, 700) for policy, budget in
             (("full", None), ("cake:window=8,gamma=100", "96"), ("cake:window=8,gamma=100", "128"),
              ("lacache", "96"), ("lacache", "128"))])
        for row in rows:
            with self.subTest(row=row["policy"], depth=row["depth"]):
                self.assertEqual((row["schema"], row["threads"], row["repetitions"]), (1, 1, 2))
                self.assertEqual(row["fill"], "synthetic" if row["depth"] else "none")
                for kind in ("prefill", "decode"):
                    spread = row[f"{kind}_ms_per_token"]
                    self.assertEqual(len(spread["values"]), 2)
                    self.assertTrue(0 < spread["min"] <= spread["median"] <= spread["max"])
                    self.assertAlmostEqual(row[f"{kind}_tokens_per_s"], 1e3 / spread["median"])
                self.assertGreaterEqual(row["slowest_token_ms"], row["decode_ms_per_token"]["max"])
                self.assertLessEqual(row["held_bytes"], row["budget_bytes"])
                self.assertGreater(row["peak_rss_bytes"], row["held_bytes"])
                self.assertGreater(row["planned_bytes"], row["budget_bytes"])
                read = (row["weight_bytes_per_token"] + row["held_bytes"]) / row["decode_ms_per_token"]["median"] / 1e6
                self.assertAlmostEqual(row["read_gb_per_s"], read)
                self.assertAlmostEqual(row["bandwidth_share"], read / row["machine_read_gb_per_s"])
        full = rows[5]
        # 700 made-up tokens, one that is not timed, and two that are.
        self.assertEqual(full["held_bytes"], (700 + 1 + 2) * N_LAYER * ENTRY_BYTES)
        self.assertEqual(full["entries_per_layer"], 703)
        self.assertEqual(rows[6]["budget_bytes"], 96 * N_LAYER * ENTRY_BYTES)

    def test_reads_or_makes_up_the_depth_as_told(self):
        for told, is_ in (("auto", "real"), ("real", "real"), ("synthetic", "synthetic")):
            (row,) = self.measured("-d", 40, "-r", 1, "--fill", told)
            self.assertEqual(row["fill"], is_)
            self.assertEqual(len(row["fill_ms"]["values"]), 1)

    def test_leaves_out_what_is_not_to_be_measured(self):
        (row,) = self.measured("-n", 0)
        self.assertIsNone(row["decode_tokens_per_s"])
        self.assertNotIn("read_gb_per_s", row)
        (row,) = self.measured("-p", 0)
        self.assertIsNone(row["prefill_ms_per_token"])

    def test_says_what_the_policy_takes_of_a_token_and_of_a_prompt(self):
        (row,) = self.measured("-d", 700, "--policy", "h2o", "--kv-budget", "96")
        for of in ("decode", "prefill"):
            policy, whole = (row[f"{of}_{what}ms_per_token"]["median"] for what in ("policy_", ""))
            self.assertGreater(policy, 0)
            self.assertLess(policy, whole)

    def test_a_share_refers_to_the_depth(self):
        (row,) = self.measured("-d", 1000, "--policy", "streaming-llm", "--kv-budget", "10%")
        self.assertEqual(row["budget_bytes"], 100 * N_LAYER * ENTRY_BYTES)

    def test_lengths_beyond_training_only_where_positions_allow_or_when_told(self):
        streamed = ["--prefill", "streaming", "--policy", "lacache", "--kv-budget", "64"]
        (row,) = self.measured("-d", 9000, "-r", 1, *streamed)
        self.assertEqual((row["depth"], row["prefill"]), (9000, "streaming"))
        (row,) = self.measured("-d", 9000, "-r", 1, "--policy", "cake", "--kv-budget", "1%", "--beyond-training")
        self.assertEqual(row["depth"], 9000)
        (row,) = self.measured("-d", MODEL_LENGTH, "-r", 1, "-p", 0)
        self.assertEqual(row["entries_per_layer"], MODEL_LENGTH + 3)

    def test_prompts_are_made_of_the_file(self):
        fable = self.file("fable.txt", FABLE)
        (row,) = self.measured("-f", fable, "-p", 300)
        self.assertEqual(row["n_prompt"], 300)

    def test_table_has_a_row_each_in_80_columns(self):
        done = run("bench", *ON_MODEL, *TINY, "-d", "0,600", "--policy", "full", "--policy", "lacache:span=9,overlap=2",
                   "--kv-budget", "128", "--color", "never")
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        lines = done.stdout.decode().splitlines()
        self.assertLessEqual(max(map(len, lines)), 80)
        self.assertEqual(sum(line.startswith("full ") for line in lines), 2)
        self.assertEqual(sum(line == "lacache:span=9,overlap=2" for line in lines), 2)
        self.assertRegex(lines[1], r"^lacake .*, 1 thread, products \w+, attention \w+ (f32|int16)$")
        self.assertRegex(lines[2], r"^a plain read .* [\d.]+ GB/s$")
        self.assertIn("made-up entries", lines[-1])

    def test_ctrl_c_leaves_what_was_measured(self):
        with start("bench", *ON_MODEL, "-d", 0, "-p", 0, "-n", 3, "-r", 1, "-d", 8000, "--fill", "real", "--color",
                   "never") as program:
            lines = [program.stdout.readline().decode() for _ in range(7)]
            program.send_signal(signal.SIGINT)
            rest, _ = program.communicate(timeout=60)
        self.assertEqual(program.returncode, 130)
        self.assertRegex(lines[-1], r"^full +- +0 ")
        self.assertNotIn(b"8000", rest)

    def test_shows_where_it_is_on_a_terminal(self):
        screen = Screen("bench", *ON_MODEL, "-d", 4000, "--fill", "real", "-p", 0)
        screen.wait_for(r"reading 4000 tokens [^\r]*%")
        screen.type(b"\x03")
        self.assertEqual(screen.status(), 130)


class Refusals(ProgramTest):
    def refused(self, arguments, status, *says):
        done = run("bench", "-m", MODEL, *arguments)
        line = done.stderr.decode()
        self.assertEqual((done.returncode, done.stdout), (status, b""), line)
        self.assertEqual(line.count("\n"), 1, line)
        self.assertTrue(line.startswith("lacake: error: "), line)
        for words in says:
            self.assertIn(words, line)

    def test_each_in_one_line(self):
        self.refused(["-d", "0,many"], 2, "--depth", "whole numbers", "0,many")
        self.refused(["-d", "-1"], 2, "--depth")
        self.refused(["-d", ""], 2, "--depth")
        self.refused(["-r", 0], 2, "--repetitions", "1 to 1000")
        self.refused(["--fill", "none"], 2, "--fill", "auto")
        self.refused(["-p", 0, "-n", 0], 2, "--n-prompt", "--n-gen")
        self.refused(["--policy", "full,lacach", "--kv-budget", 64], 2, "lacach", "did you mean 'lacache'")
        self.refused(["--policy", "cake:window=8,gama=2", "--kv-budget", 64], 2, "gama", "did you mean 'gamma'")
        self.refused(["--policy", "lacache"], 2, "lacache", "--kv-budget")
        self.refused(["--policy", "lacache", "--kv-budget", "64,many"], 2, "--kv-budget", "many")
        self.refused(["--policy", "cake", "--kv-budget", "4"], 2, "--kv-budget 4", "66 entries")
        self.refused(["-d", 9000], 2, "--depth 9000", "8192", "--beyond-training")
        self.refused(["-p", 9000], 2, "--n-prompt 9000", "8192", "--beyond-training")
        self.refused(["-f", self.file("short.txt", "Hi.")], 1, "short.txt", "8 tokens")
        self.refused(["--depht", 3], 2, "--depht", "did you mean --depth")
        self.refused(["-ctk", "q8_0"], 2, "-ctk", "did you mean --kv-type K,V?")
        self.refused(["-d", 100_000_000, "--beyond-training"], 1, "do not fit")


if __name__ == "__main__":
    unittest.main()
