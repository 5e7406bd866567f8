"""scripts/test and scripts/setup, each in a repository of its own with as little in it as they need."""

import os
import pathlib
import shutil
import subprocess
import unittest

from program import ProgramTest

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Scripts(ProgramTest):
    def copied(self, *names):
        for name in names:
            self.file(name, (ROOT / name).read_text()).chmod(0o755)

    def file(self, name, content):
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        return super().file(name, content)

    def done(self, *words, **more):
        return subprocess.run([self.folder / words[0], *words[1:]], capture_output=True, text=True, check=False, **more)

    @unittest.skipIf(shutil.which("cmake") is None, "no CMake")
    def test_a_run_that_finds_no_test_fails(self):
        self.copied("scripts/test", "scripts/skipped")
        preset = '{"name": "small", "binaryDir": "build/small", "generator": "Unix Makefiles"}'
        self.file("CMakePresets.json", '{"version": 3, "configurePresets": [%s], "testPresets": '
                                       '[{"name": "small", "configurePreset": "small"}]}' % preset)
        self.file("CMakeLists.txt", "cmake_minimum_required(VERSION 3.21)\nproject(small NONE)\nenable_testing()\n"
                                    "add_test(NAME one COMMAND ${CMAKE_COMMAND} -E true)\n")
        # No compiler is asked for, and so no make: any program stands for it.
        subprocess.run(["cmake", "--preset", "small", "-DCMAKE_MAKE_PROGRAM=true"], cwd=self.folder, check=True,
                       capture_output=True)
        found = self.done("scripts/test", "small", "-R", "one")
        self.assertEqual(found.returncode, 0, found)
        self.assertIn("100% tests passed", found.stdout)
        none = self.done("scripts/test", "small", "-R", "nosuch")
        self.assertNotEqual(none.returncode, 0)
        self.assertIn("No tests were found", none.stdout)

    def test_setup_does_all_that_its_words_ask_for(self):
        self.copied("scripts/setup")
        script = "#!/bin/sh\n"
        for name, content in {
                "scripts/quietly": 'log=$1; shift; echo "$log $*" >>done', "scripts/get-llama-sources": "true",
                "scripts/get-model": "echo model", "bin/cmake": "echo cmake version 4.0", "bin/dpkg-query": "echo ii",
                "bin/chromium": "true", "bin/apt-get": "exit 1"}.items():
            self.file(name, script + content + "\n").chmod(0o755)
        for name in ("cmake/llama.cmake", "cmake/probe/CMakeLists.txt", "model",
                     "build/_deps/llama.cpp/ggml/src/CMakeLists.txt", "build/_deps/llama.cpp/.sha256"):
            self.file(name, "")

        def built(*words):
            shutil.rmtree(self.folder / "build" / "_deps" / "prefix-portable", ignore_errors=True)
            for left in ("done", "build/_deps/clients.stamp"):
                (self.folder / left).unlink(missing_ok=True)
            done = self.done("scripts/setup", *words, env={**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}"})
            self.assertEqual(done.returncode, 0, done.stderr)
            log = (self.folder / "done").read_text() if (self.folder / "done").exists() else ""
            return "prefix-portable" in log, "pip install" in log
        self.assertEqual(built("--portable"), (True, False))
        self.assertEqual(built("--tests"), (False, True))
        self.assertEqual(built("--tests", "--portable"), (True, True))
        self.assertEqual(built("--portable", "--tests"), (True, True))
        unknown = self.done("scripts/setup", "--tests", "--portabel")
        self.assertEqual(unknown.returncode, 1)
        self.assertIn("unknown argument '--portabel'", unknown.stderr)


if __name__ == "__main__":
    unittest.main()
