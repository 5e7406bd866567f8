"""lacake eval: grids, folders of results, refusals."""

import json
import os
import shutil
import signal
import subprocess
import unittest

from program import FABLE, MODEL, ON_MODEL, PROGRAM, ProgramTest, environment, run, start


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
        self.refused(2, "another configuration", 'product: was "auto", now "f32"',
                     arguments=["perplexity", *ON_MODEL, *grid, "--product", "f32", "--results", folder])

    def test_texts_of_one_name_are_refused(self):
        text = self.file("fable.txt", FABLE)
        self.refused(2, "fable.txt", "names of their own", arguments=["perplexity", *ON_MODEL, "-f", text, "-f", text])

    def test_needle_answers_under_both_protocols(self):
        grid = ["--lengths", 512, "--seeds", 1, "--limit", 2, "--policy", "full,cake", "--kv-budget", "50%"]
        for question in ("seen", "later"):
            metrics = self.evaluated("needle", *grid, "--question", question, results=question)
            self.assertEqual([cell["samples"] for cell in metrics["cells"]], [2, 2])
        done = run("eval", "compare", self.folder / "seen", self.folder / "later")
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        self.assertIn('question: was "seen", now "later"', done.stdout.decode())
        # Other texts are another configuration too.
        other = self.folder / "other"
        shutil.copytree(self.folder / "seen", other)
        config = json.loads((other / "config.json").read_text())
        config["grid"]["seed"] = 7
        (other / "config.json").write_text(json.dumps(config))
        self.assertIn("grid.seed: was ", run("eval", "compare", self.folder / "seen", other).stdout.decode())
        self.assertTrue((self.folder / "seen" / "heatmap.svg").exists())

    def test_several_questions_about_one_text_go_on_where_they_stopped(self):
        grid = ["--length", 1024, "--samples", 1, "--policy", "full,streaming-llm", "--kv-budget", "64", "--tasks",
                "niah_single_1,vt", "--question", "later", "--questions", 3]
        metrics = self.evaluated("ruler", *grid, results="whole")
        for cell in metrics["cells"]:
            self.assertEqual((cell["samples"], cell["texts"]), (6, 2))
            self.assertEqual([q["question"] for q in cell["questions"]], [1, 2, 3])
        self.assertIn("Scores by question", (self.folder / "whole" / "report.html").read_text())
        whole = (self.folder / "whole" / "predictions.jsonl").read_text().splitlines()
        part = self.folder / "part"
        self.evaluated("ruler", *grid, "--limit", 2, results="part")
        self.evaluated("ruler", *grid, results="part")

        def essence(lines):
            records = [json.loads(line) for line in lines]
            return sorted((r["sample"], r["cell"], r["answer"], r["tokens"]["prompt"]) for r in records)
        self.assertEqual(essence((part / "predictions.jsonl").read_text().splitlines()), essence(whole))

    def test_what_several_questions_need_is_said(self):
        hay = self.file("hay.txt", FABLE * 20)
        self.refused(2, "--questions", "--question later", arguments=["ruler", *ON_MODEL, "--questions", 2])
        self.refused(2, "--questions", "a haystack (-f FILE)",
                     arguments=["needle", *ON_MODEL, "--question", "later", "--questions", 2])
        self.refused(2, "--depths", "one question about a text", arguments=[
            "needle", *ON_MODEL, "-f", hay, "--question", "later", "--questions", 2, "--depths", 3])
        self.refused(2, "fwe", "one question about a text", arguments=[
            "ruler", *ON_MODEL, "--length", 1024, "--question", "later", "--questions", 2, "--tasks", "fwe"])

    def test_keys_are_of_the_form_asked_for(self):
        grid = ["--lengths", 512, "--seeds", 1, "--limit", 1]
        self.evaluated("needle", *grid, "--key", "digits:3", results="digits")
        record = json.loads((self.folder / "digits" / "predictions.jsonl").read_text())
        self.assertRegex(record["references"][0], r"^[1-9]\d\d$")
        self.refused(2, "--key", "digits:N, tokens:N or words:N", arguments=["needle", *ON_MODEL, "--key", "letters:3"])
        self.refused(2, "another configuration", 'key: was "digits:3", now "words:2"', arguments=[
            "needle", *ON_MODEL, *grid, "--key", "words:2", "--results", self.folder / "digits"])

    def test_a_report_is_made_of_records_that_are_there(self):
        grid = ["--lengths", 512, "--seeds", 1, "--limit", 2, "--policy", "full,cake,streaming-llm", "--kv-budget", "50%"]
        made = self.evaluated("needle", *grid)
        folder = self.folder / "results"
        for name in ("metrics.json", "report.html"):
            (folder / name).unlink()
        done = run("eval", "report", folder, "--json", "-q")
        self.assertEqual(json.loads(done.stdout), made, done.stderr.decode())
        done = run("eval", "report", folder, "--beside", "streaming-llm")
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        cells = json.loads((folder / "metrics.json").read_text())["cells"]
        self.assertEqual([("beside" in cell) for cell in cells], [False, True, False])
        self.assertIn("beside", done.stdout.decode())
        self.refused(2, "--beside", "tova", arguments=["report", folder, "--beside", "tova"])
        self.refused(2, "--window", "perplexity", arguments=["report", folder, "--window", 9])
        self.refused(2, "a folder of results", arguments=["report"])
        self.refused(1, "config.json", "no such file", arguments=["report", self.folder])

    def longbench_file(self, *lines):
        line = {"input": "What did the fox want?", "context": FABLE, "length": 180, "language": "en", "all_classes": None}
        return self.file("some.jsonl", "".join(
            (x if isinstance(x, str) else json.dumps({**line, "_id": str(i), **x})) + "\n" for i, x in enumerate(lines)))

    def test_ruler_makes_samples_of_a_length_and_reads_its_own_files(self):
        grid = ["--length", 400, "--samples", 1, "--policy", "full,streaming-llm", "--kv-budget", "64"]
        made = self.evaluated("ruler", *grid, "--tasks", "niah_single_1,fwe", results="made")
        self.assertEqual([cell["samples"] for cell in made["cells"]], [2, 2])
        self.assertEqual({g["tags"]["task"] for g in made["cells"][0]["groups"]}, {"niah_single_1", "fwe"})
        for line in (self.folder / "made" / "predictions.jsonl").read_text().splitlines():
            tokens = json.loads(line)["tokens"]
            self.assertLessEqual(tokens["prompt"], 400)
        again = self.evaluated("ruler", *grid, "--tasks", "niah_single_1,fwe", results="again")
        self.assertEqual([cell["score"] for cell in again["cells"]], [cell["score"] for cell in made["cells"]])
        own = self.file("niah_single_1.jsonl", json.dumps(
            {"index": 0, "input": "A special magic number is hidden.\n" + FABLE +
             "\nWhat is the special magic number for old-fox mentioned in the provided text?", "outputs": ["1234567"],
             "answer_prefix": " The special magic number is"}) + "\nbroken\n")
        self.refused(1, "niah_single_1.jsonl:2: not JSON", arguments=["ruler", *ON_MODEL, "--data", own, "-q"])
        read = self.evaluated("ruler", "--data", own, "--skip-broken", "--question", "later", results="own")
        self.assertEqual(read["cells"][0]["samples"], 1)
        config = json.loads((self.folder / "own" / "config.json").read_text())
        self.assertEqual(config["grid"]["broken_lines"], 1)
        self.assertIn("Scores by task", (self.folder / "made" / "report.html").read_text())

    def ruler_file(self, name, *numbers):
        """Of niah tasks; each line hides a number of its own."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps({
            "input": f"A special magic number is hidden.\nOne of the special magic numbers for old-fox is: {number}.\n"
                     "What is the special magic number for old-fox mentioned in the provided text?",
            "outputs": [str(number)], "answer_prefix": " The special magic number is"}) + "\n" for number in numbers))
        return path

    def samples(self, results="results"):
        lines = (self.folder / results / "predictions.jsonl").read_text().splitlines()
        return [json.loads(line)["sample"] for line in lines]

    def test_ruler_files_of_one_task_are_all_run(self):
        one = self.ruler_file("a/niah_single_1/validation.jsonl", 1000001, 1000002)
        two = self.ruler_file("b/niah_single_1/validation.jsonl", 1000003)
        metrics = self.evaluated("ruler", "--data", one, "--data", two)
        self.assertEqual(metrics["cells"][0]["samples"], 3)
        self.assertEqual(self.samples(), ["niah_single_1/0", "niah_single_1/1", "niah_single_1/2/0"])
        copy = self.ruler_file("c/niah_single_1/validation.jsonl", 1000003)
        self.refused(2, "--data", "expected samples of its own",
                     arguments=["ruler", *ON_MODEL, "--data", two, "--data", copy])

    def test_ruler_runs_the_tasks_asked_for_of_its_files(self):
        one, two = (self.ruler_file(f"niah_{name}.jsonl", number) for name, number in (("single_1", 1000001),
                                                                                       ("multikey_1", 1000002)))
        data = ["--data", one, "--data", two]
        self.evaluated("ruler", *data, "--tasks", "niah_multikey_1", results="one")
        self.assertEqual(self.samples("one"), ["niah_multikey_1/0"])
        self.evaluated("ruler", *data, "--tasks", "niah_multikey_1,niah_single_1", results="both")
        self.assertEqual(self.samples("both"), ["niah_single_1/0", "niah_multikey_1/0"])
        self.refused(1, "--tasks: expected tasks that the data has samples of, found vt",
                     arguments=["ruler", *ON_MODEL, "-q", *data, "--tasks", "niah_single_1,vt"])

    def test_longbench_has_a_sample_of_each_task_asked_for(self):
        data = self.longbench_file({"dataset": "trec", "answers": ["Food"], "all_classes": ["Food", "Animal"]})
        self.refused(1, "--tasks: expected tasks that the data has samples of, found lcc",
                     arguments=["longbench", *ON_MODEL, "-q", data, "--tasks", "trec,lcc"])

    def test_data_from_a_pipe_is_known_by_what_came_through_it(self):
        asked = {"longbench": [["@"], ["-f", "@"]], "ruler": [["--tasks", "niah_single_1", "--data", "@"]]}
        lines = {"longbench": self.longbench_file({"dataset": "passage_count", "answers": ["5"]}).read_bytes(),
                 "ruler": self.ruler_file("x.jsonl", 1000001).read_bytes()}
        for task, forms in asked.items():
            for form in forms:
                with self.subTest(task=task, form=form):
                    results = self.folder / f"{task}{len(form)}"
                    hashes = []
                    for content in (lines[task], lines[task].replace(b"5", b"6").replace(b"1000001", b"1000002")):
                        pipe, end = os.pipe()
                        os.write(end, content)
                        os.close(end)
                        command = [PROGRAM, "eval", task, *map(str, ON_MODEL), "-q", "--results", str(results), "--limit", "1",
                                   *[word.replace("@", f"/dev/fd/{pipe}") for word in form]]
                        done = subprocess.run(command, capture_output=True, pass_fds=[pipe], env=environment(), check=False)
                        os.close(pipe)
                        hashes.append((done.returncode, "another configuration" in done.stderr.decode()))
                    self.assertEqual(hashes, [(0, False), (2, True)])

    def test_nothing_to_show_is_an_error(self):
        needle = ["needle", *ON_MODEL, "-q", "--length", 300, "--seeds", 1, "--limit", 1]
        done = run("eval", *needle, "--policy", "cake", "--kv-budget", 1, "--results", self.folder / "needle")
        self.assertEqual((done.returncode, done.stdout), (2, b""), done.stderr)
        self.assertRegex(done.stderr.decode(), r"\Acake @ 1 left out [^\n]*\nlacake: error: cake @ 1 left out [^\n]*\n\Z")
        self.refused(1, "expected records", arguments=["report", self.folder / "needle"])
        empty = self.file("niah_single_1.jsonl", "\n")
        self.refused(1, "niah_single_1.jsonl: expected some text", arguments=["ruler", *ON_MODEL, "--data", empty])
        broken = self.file("vt.jsonl", "{\n")
        done = run("eval", "ruler", *ON_MODEL, "--data", broken, "--skip-broken")
        self.assertEqual((done.returncode, done.stdout), (1, b""), done.stderr)
        self.assertIn("vt.jsonl: expected a sample", done.stderr.decode().splitlines()[-1])

    def test_longbench_scores_files_as_published_and_goes_on(self):
        data = self.longbench_file({"dataset": "trec", "answers": ["Food"], "all_classes": ["Food", "Animal"]},
                                   {"dataset": "passage_count", "answers": ["5"]},
                                   {"dataset": "multifieldqa_zh", "answers": ["奶酪"]})
        grid = [data, "--max-length", 150, "--policy", "full,snapkv", "--kv-budget", "64"]
        some = self.evaluated("longbench", *grid, "--tasks", "trec")
        self.assertEqual([cell["samples"] for cell in some["cells"]], [1, 1])
        records = (self.folder / "results" / "predictions.jsonl").read_bytes()
        metrics = self.evaluated("longbench", *grid)
        self.assertTrue((self.folder / "results" / "predictions.jsonl").read_bytes().startswith(records))
        self.assertEqual([cell["samples"] for cell in metrics["cells"]], [3, 3])
        self.assertTrue(all("task_mean" in cell for cell in metrics["cells"]))
        for line in (self.folder / "results" / "predictions.jsonl").read_text().splitlines():
            record = json.loads(line)
            # The chat template comes on top.
            self.assertLessEqual(record["tokens"]["prompt"], 152 if record["tags"]["task"] == "trec" else 200)
        self.refused(2, "another configuration", "max_length: was 150, now 120", arguments=[
            "longbench", *ON_MODEL, data, "--max-length", 120, "--results", self.folder / "results"])

    def test_longbench_stops_at_a_broken_line_or_leaves_it_out(self):
        good = {"dataset": "lcc", "answers": ["x = 1"]}
        data = self.longbench_file(good, '{"input": ', {**good, "dataset": "lccc"}, good)
        self.refused(1, "some.jsonl:2: not JSON", arguments=["longbench", *ON_MODEL, data])
        empty = self.longbench_file({**good, "answers": []})
        self.refused(1, "answers: expected a list of texts, one or more, found an empty list",
                     arguments=["longbench", *ON_MODEL, empty])
        data = self.longbench_file(good, '{"input": ', {**good, "dataset": "lccc"}, good)
        done = run("eval", "longbench", *ON_MODEL, data, "--skip-broken", "--limit", 1, "--max-length", 64, "--results",
                   self.folder / "results")
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        self.assertIn("some.jsonl:3: dataset: expected narrativeqa", done.stderr.decode())
        self.assertIn("lcc", done.stdout.decode())

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
        self.refused(2, "niah_singel_1", "did you mean niah_single_1", "vt",
                     arguments=["ruler", "-m", MODEL, "--tasks", "niah_singel_1"])
        self.refused(2, "as haystack", arguments=["ruler", "-m", MODEL, "--tasks", "niah_single_2"])
        self.refused(2, "--qa FILE", arguments=["ruler", "-m", MODEL, "--tasks", "qa"])
        self.refused(2, "lacake eval longbench FILE", arguments=["longbench", "-m", MODEL])
        self.refused(2, "trek", "did you mean trec", arguments=["longbench", "-m", MODEL, "x.jsonl", "--tasks", "trek"])
        self.refused(1, "no.jsonl", "no such file", arguments=["longbench", "-m", MODEL, "no.jsonl"])
        self.refused(1, "none of a task", arguments=["longbench", "-m", MODEL, self.folder])
        self.refused(2, "two folders", arguments=["compare", self.folder])
        self.refused(1, "config.json", "no such file", arguments=["compare", self.folder, self.folder])


if __name__ == "__main__":
    unittest.main()
