"""Man pages, completions and reference pages follow from the program's own tables."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import unittest

from program import PROGRAM, ProgramTest, run

ROOT = pathlib.Path(__file__).parents[2]
MAKE = ROOT / "scripts" / "make-reference"


class Reference(ProgramTest):
    def made(self, kind, program=PROGRAM):
        """What is made, by name."""
        folder = self.folder / f"{kind}-{pathlib.Path(program).name}"
        subprocess.run([MAKE, kind, program, folder], check=True)
        return {path.name: path.read_text() for path in folder.iterdir()}

    def program_with(self, option):
        """A program whose table has one option more, of `run`."""
        table = json.loads(run("help", "--json").stdout)
        next(command for command in table["commands"] if command["name"] == "run")["options"].append(option)
        answer = self.file("table.json", json.dumps(table))
        program = self.file("other", f"#!/bin/sh\nif [ $1 = help ]; then cat '{answer}'; else exec '{PROGRAM}' \"$@\"; fi\n")
        program.chmod(0o755)
        return program

    def test_pages_in_docs_are_those_of_this_program(self):
        for name, page in self.made("pages").items():
            self.assertEqual((ROOT / "docs" / "reference" / name).read_text(), page,
                             f"scripts/make-reference pages {PROGRAM} docs/reference")

    def test_a_new_option_is_in_all_of_them(self):
        program = self.program_with({"flags": ["-Z", "--brand-new"], "group": "Model", "help": "does what was never done",
                                     "json": "brand_new", "kind": "choice", "value": "HOW", "words": ["so", "otherwise"]})
        man, completions, pages = (self.made(kind, program) for kind in ("man", "completions", "pages"))
        self.assertIn("\\-\\-brand\\-new", man["lacake-run.1"])
        self.assertNotIn("brand", man["lacake-chat.1"])
        for name in ("lacake", "_lacake", "lacake.fish"):
            self.assertIn("brand-new", completions[name])
            self.assertIn("otherwise", completions[name])
        self.assertIn("- `-Z, --brand-new HOW`\n  does what was never done (so, otherwise)\n", pages["command-line.md"])

    def test_every_option_of_every_command_is_there(self):
        man, completions = self.made("man"), self.made("completions")
        for command in json.loads(run("help", "--json").stdout)["commands"]:
            for option in command["options"]:
                for flag in option["flags"] if option["flags"][0].startswith("-") else []:
                    self.assertIn(flag.replace("-", "\\-"), man[f"lacake-{command['name']}.1"])
                    self.assertIn(flag, completions["lacake"])
                    self.assertIn(flag, completions["_lacake"])

    def test_bash_completes_commands_options_words_and_files(self):
        script = self.folder / "completion"
        script.write_text(self.made("completions")["lacake"])
        self.file("book.txt", "")

        def completed(*words):
            listed = " ".join(f"'{word}'" for word in words)
            command = (f"source {script}; COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; _lacake; "
                       "printf '%s\\n' \"${COMPREPLY[@]}\"")
            done = subprocess.run(["bash", "-c", command], capture_output=True, check=True, cwd=self.folder)
            return done.stdout.decode().split()

        self.assertEqual(completed("lacake", "in"), ["ingest", "inspect"])
        self.assertEqual(completed("lacake", "run", "--sess"), ["--session"])
        self.assertEqual(completed("lacake", "chat", "--prefill", "s"), ["streaming"])
        self.assertEqual(completed("lacake", "run", "-f", "boo"), ["book.txt"])
        self.assertEqual(completed("lacake", "help", "be"), ["bench"])

    def test_other_shells_take_theirs(self):
        made = self.made("completions")
        for shell, name, flags in (("bash", "lacake", ["-n"]), ("zsh", "_lacake", ["-n"]), ("fish", "lacake.fish", ["-n"])):
            with self.subTest(shell):
                if not shutil.which(shell):
                    self.skipTest(f"{shell} is not here")
                script = self.file(f"{shell}-script", made[name])
                done = subprocess.run([shell, *flags, script], capture_output=True)
                self.assertEqual((done.returncode, done.stderr), (0, b""))

    @unittest.skipUnless(shutil.which("fish"), "fish is not here")
    def test_fish_completes(self):
        script = self.file("lacake.fish", self.made("completions")["lacake.fish"])
        for line, expected in (("lacake in", {"ingest", "inspect"}), ("lacake run --sess", {"--session"}),
                               ("lacake chat --prefill s", {"streaming"})):
            done = subprocess.run(["fish", "-N", "-c", f"source {script}; complete -C '{line}'"], capture_output=True)
            self.assertEqual({word.split(b"\t")[0].decode() for word in done.stdout.splitlines()}, expected, done.stderr)

    @unittest.skipUnless(shutil.which("mandoc") or shutil.which("man"), "neither man nor mandoc is here")
    def test_man_pages_show_in_a_terminal(self):
        folder = self.folder / "pages"
        subprocess.run([MAKE, "man", PROGRAM, folder], check=True)
        show = ["mandoc", "-T", "ascii"] if shutil.which("mandoc") else ["man", "-P", "cat", "-l"]
        environment = {**os.environ, "MANWIDTH": "80"}
        done = subprocess.run([*show, folder / "lacake-chat.1"], capture_output=True, env=environment, check=True)
        self.assertIn(b"--checkpoints", re.sub(b".\x08", b"", done.stdout))  # bold is a letter over itself
        self.assertEqual(done.stderr, b"")


if __name__ == "__main__":
    unittest.main()
