"""scripts/test, in a repository of its own with as little in it as it needs."""

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


if __name__ == "__main__":
    unittest.main()
