"""Learned scores: made from a text, found beside the model, used by a policy, refused where they do not fit."""

import json
import os
import shutil
import signal

from program import FABLE, MODEL, PATIENCE, ProgramTest, run, start

SMALL = ["--chunk", "96", "-t", "1"]
LEARNED = ["-p", FABLE + "Who sang?", "-t", "1", "--policy", "learned", "--kv-budget", "64", "--temp", "0", "-n", "8"]


class Calibrate(ProgramTest):
    def setUp(self):
        super().setUp()
        self.model = self.folder / "model.gguf"
        os.symlink(MODEL, self.model)
        self.text = self.file("fable.txt", FABLE * 3)
        self.beside = self.folder / "model.calibration.gguf"

    def ok(self, *arguments):
        done = run(*arguments)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return done

    def refused(self, arguments, status, *says):
        done = run(*arguments)
        line = done.stderr.decode()
        self.assertEqual((done.returncode, done.stdout, line.count("\n")), (status, b"", 1), line)
        for words in says:
            self.assertIn(words, line)

    def test_a_file_beside_the_model_is_made_found_and_used(self):
        self.refused(["run", "-m", self.model, *LEARNED], 2, "policy learned: expected a model with learned scores "
                     "(--calibration), found none", "lacake calibrate")
        result = json.loads(self.ok("calibrate", "-m", self.model, "-f", self.text, *SMALL, "--json").stdout)
        learned = result["calibration"]
        self.assertEqual((result["file"], learned["texts"]), (str(self.beside), ["fable.txt"]))
        self.assertEqual(len(learned["r2"]), 30)
        self.assertGreater(learned["tokens"], 4 * learned["held_out"])
        self.assertGreater(learned["held_out"], 30)
        shown = json.loads(self.ok("inspect", "-m", self.model, "--json").stdout)["model"]["calibration"]
        for here, there in zip(learned.pop("r2"), shown.pop("r2"), strict=True):
            self.assertAlmostEqual(here, there, places=5)  # the file's are f32
        self.assertEqual(shown, learned)
        used = json.loads(self.ok("run", "-m", self.model, *LEARNED, "--json").stdout)
        self.assertLessEqual(used["kv"]["peak_bytes"], used["kv"]["budget_bytes"])
        self.assertEqual(len(used["tokens"]["ids"]), 8)
        self.refused(["run", "-m", self.model, *LEARNED, "--calibration", "none"], 2, "found none")
        named = self.folder / "other.gguf"
        self.beside.rename(named)
        again = json.loads(self.ok("run", "-m", self.model, *LEARNED, "--json", "--calibration", named).stdout)
        self.assertEqual(again["tokens"], used["tokens"])

    def test_of_another_model_or_no_calibration_it_is_refused(self):
        out = self.folder / "out.gguf"
        self.ok("calibrate", "-m", self.model, "-f", self.text, *SMALL, "-o", out, "-q")
        self.refused(["run", "-m", self.model, *LEARNED, "-q", "--calibration", out, "--rope-scale", "2"], 1,
                     "out.gguf: model.fingerprint: expected ")
        self.refused(["run", "-m", self.model, *LEARNED, "--calibration", MODEL], 1,
                     "expected a calibration that lacake made")
        out.write_bytes(out.read_bytes()[:-64])
        self.refused(["run", "-m", self.model, "-p", "hi", "--calibration", out], 1, "out.gguf", "cut short")

    def test_what_cannot_be_learned_from_is_refused_before_anything_is_written(self):
        empty = self.file("hi.txt", "Hi.")
        self.refused(["calibrate", "-m", self.model], 2, "--file: expected a text")
        self.refused(["calibrate", "-m", self.model, "-f", empty, "-q"], 1, "hi.txt: expected texts of 1536 tokens or more, found")
        self.refused(["calibrate", "-m", self.model, "-f", self.folder / "no.txt"], 1, "no.txt")
        self.refused(["calibrate", "-m", self.model, "-f", self.text, "-o", self.folder / "no" / "c.gguf"], 2,
                     "--output: expected a file that can be written, found ", "no/c.gguf")
        self.assertFalse(self.beside.exists())

    def test_a_file_that_is_read_is_never_written_over(self):
        model = self.folder / "copy.gguf"  # of its own: what fails here would write over it
        shutil.copy(MODEL, model)
        for output, says in ((self.text, f"--file {self.text}"), (model, f"--model {model}")):
            self.refused(["calibrate", "-m", model, "-f", self.text, *SMALL, "-o", output], 2,
                         f"--output: expected another file than {says}, found {output}")
        self.assertEqual(self.text.read_text(), FABLE * 3)

    def test_ctrl_c_leaves_what_was_there(self):
        self.beside.write_bytes(b"old")
        before = sorted(self.folder.iterdir())
        long = self.folder.parent / f"{self.folder.name}.txt"
        long.write_text(FABLE * 200)
        self.addCleanup(long.unlink)
        with start("calibrate", "-m", self.model, "-f", long, *SMALL) as process:
            self.assertIn(b"learning from", process.stderr.readline())
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60 * PATIENCE)
        self.assertEqual((process.returncode, out), (130, b""), err)
        self.assertEqual(self.beside.read_bytes(), b"old")
        self.assertEqual(sorted(self.folder.iterdir()), before)
