"""lacake eval: grids, folders of results, refusals."""

import json
import signal
import unittest

from program import FABLE, MODEL, ON_MODEL, ProgramTest, run, start


class Eval(ProgramTest):
    def evaluated(self, task, *arguments, results="results"):
        done = run("eval", task, *ON_MODEL, "--json", "-q", "--results", self.folder / results, *arguments)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return json.loads(done.stdout)

    def refused(self, status, *says, arguments):
        done = run("eval", *arguments)
        line = done.stderr.decode()
        self.assertEqual((done.returncode, done.stdout), (status, b""), line)
        self.assertEqual(line.count("\n"), 1, line)
        for words in says:
            self.assertIn(words, line)

    def test_perplexity_leaves_a_folder_and_goes_on_from_it(self):
        text = self.file("fable.txt", FABLE * 2)
        grid = ["-f", text, "--chunk", 64, "--policy", "full,streaming-llm", "--kv-budget", "32,48"]
        metrics = self.evaluated("perplexity", *grid)
        self.assertEqual(len(metrics["cells"]), 3)
        self.assertEqual(metrics["cells"][0]["kl"], 0)
        self.assertLess(metrics["cells"][2]["kl"], metrics["cells"][1]["kl"])
        folder = self.folder / "results"
        self.assertEqual(sorted(p.name for p in folder.iterdir()),
                         ["config.json", "metrics.json", "predictions.jsonl", "report.html"])
        self.assertEqual(json.loads((folder / "metrics.json").read_text()), metrics)
        records = (folder / "predictions.jsonl").read_bytes()
        self.assertEqual(self.evaluated("perplexity", *grid), metrics)
        self.assertEqual((folder / "predictions.jsonl").read_bytes(), records)
        self.refused(2, "another configuration", "chunk: was 64, now 32",
                     arguments=["perplexity", *ON_MODEL, "-f", text, "--chunk", 32, "--results", folder])

    def test_needle_answers_under_both_protocols(self):
        grid = ["--lengths", 512, "--seeds", 1, "--limit", 2, "--policy", "full,cake", "--kv-budget", "50%"]
        for question in ("seen", "later"):
            metrics = self.evaluated("needle", *grid, "--question", question, results=question)
            self.assertEqual([cell["samples"] for cell in metrics["cells"]], [2, 2])
        done = run("eval", "compare", self.folder / "seen", self.folder / "later")
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        self.assertIn('question: was "seen", now "later"', done.stdout.decode())
        self.assertTrue((self.folder / "seen" / "heatmap.svg").exists())

    def test_ctrl_c_keeps_what_is_finished(self):
        text = self.file("fable.txt", FABLE * 40)
        arguments = ["eval", "perplexity", *ON_MODEL, "-f", text, "--chunk", 64, "--results", self.folder / "results"]
        with start(*arguments) as program:
            records = self.folder / "results" / "predictions.jsonl"
            while not records.exists() and program.poll() is None:
                pass
            program.send_signal(signal.SIGINT)
            _, log = program.communicate(timeout=120)
        self.assertEqual(program.returncode, 130, log)
        self.assertIn(b"the same command goes on from there", log)
        self.assertGreater(len(records.read_text().splitlines()), 0)

    def test_what_cannot_be_used_is_refused(self):
        self.refused(2, "perplexty", "did you mean perplexity", arguments=["perplexty", "-m", MODEL])
        self.refused(2, "no task", "perplexity", arguments=["-m", MODEL])
        self.refused(2, "-f FILE", arguments=["perplexity", "-m", MODEL])
        self.refused(2, "-m FILE", arguments=["needle"])
        self.refused(2, "two folders", arguments=["compare", self.folder])
        self.refused(1, "config.json", "no such file", arguments=["compare", self.folder, self.folder])


if __name__ == "__main__":
    unittest.main()
