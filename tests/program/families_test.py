"""Real models of other families answer as they should. Each is skipped where its file is not beside the test model."""

import json
import pathlib
import unittest

from program import MODEL, ProgramTest, run

# A base model continues, an instructed one answers.
CONTINUED = {
    "Paris is the capital of": "France",
    "The opposite of hot is": "cold",
    "One, two, three, four,": "five",
    "Monday, Tuesday, Wednesday,": "Thursday",
    "Romeo and Juliet was written by William": "Shakespeare",
}
ANSWERED = {
    "What is the capital of France?": "Paris",
    "What is 2 + 3? Answer with one number.": "5",
    "What is the opposite of hot? One word.": "cold",
    "Which day comes after Wednesday? One word.": "Thursday",
    "Who wrote Romeo and Juliet?": "Shakespeare",
}


class Families(ProgramTest):
    def ask(self, name, question, *flags):
        model = pathlib.Path(MODEL).with_name(name)
        if not model.exists():
            self.skipTest(f"{model} is not there")
        done = run("run", "-m", model, "-t", "1", "--json", "-q", "--temp", 0, "-p", question, *flags)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return json.loads(done.stdout)

    def test_gemma3_continues_five_texts(self):
        for text, word in CONTINUED.items():
            with self.subTest(text=text):
                self.assertIn(word, self.ask("gemma3-270m.gguf", text, "--raw", "-n", 8)["text"])

    def test_qwen2_answers_five_questions(self):
        for question, word in ANSWERED.items():
            with self.subTest(question=question):
                self.assertIn(word.lower(), self.ask("qwen2.5-0.5b.gguf", question, "-n", 24)["text"].lower())

    def test_sliding_layers_hold_no_more_than_their_window(self):
        text = "The quick brown fox jumps over the lazy dog. " * 90  # 900 tokens
        kv = self.ask("gemma3-270m.gguf", text, "--raw", "-n", 4, "--policy", "streaming-llm", "--kv-budget", 600)["kv"]
        lengths = kv["entries_per_layer"]
        self.assertEqual(sorted(lengths)[:15], [512] * 15)
        self.assertGreater(min(sorted(lengths)[15:]), 600)
        self.assertLessEqual(kv["peak_bytes"], kv["budget_bytes"])


if __name__ == "__main__":
    unittest.main()
