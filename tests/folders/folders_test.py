"""Which folder of src/ may use which, held against the compiler (includes) and the symbols of object files (calls)."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import tempfile
import unittest

BUILD = pathlib.Path(os.environ["LACAKE_BUILD_DIR"])
SOURCE = pathlib.Path(__file__).resolve().parents[2] / "src"
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def is_of_tests(path):
    return path.name.endswith("_test.cpp") or path.name.startswith("test_")


def files_of(folder):
    return sorted(p for p in (SOURCE / folder).rglob("*") if p.suffix in (".h", ".cpp") and not is_of_tests(p))


def header_of(folder):
    """Some header of a folder as it is included, "cache/arena.h", or None."""
    headers = [p for p in files_of(folder) if p.suffix == ".h" and not p.name.endswith("_inl.h")]
    return str(headers[0].relative_to(SOURCE)) if headers else None


class Row:
    def __init__(self, row):
        self.name = row["name"]
        self.sees = set(row["sees"].split())
        self.may_call = self.sees | set(row["calls"].split())
        self.objects = row["objects"].split()


ROWS = {row["name"]: Row(row) for row in json.loads((BUILD / "folders.json").read_text())}


def compiles(folder, text):
    """Whether a file of these lines would compile as one of the folder, with the compiler's complaint."""
    commands = json.loads((BUILD / "compile_commands.json").read_text())
    command = next(c for c in commands if f"/lacake_{folder}.dir/" in c["command"])
    words = shlex.split(command["command"])
    words = words[next(i for i, w in enumerate(words) if "ccache" not in w):]
    del words[words.index("-o"):words.index("-o") + 2]
    with tempfile.TemporaryDirectory() as place:
        planted = pathlib.Path(place) / "planted.cpp"
        planted.write_text(text)
        words = [w for w in words if w not in ("-c", command["file"])]
        found = subprocess.run([*words, "-fsyntax-only", planted], cwd=command["directory"], capture_output=True,
                               text=True, check=False)
    return found.returncode == 0, found.stderr


class Includes(unittest.TestCase):
    def test_a_planted_wrong_one_does_not_compile(self):
        for folder, wrong in (("cache", "engine"), ("policies", "model"), ("engine", "policies"), ("base", "cpu")):
            with self.subTest(folder=folder, includes=wrong):
                header = header_of(wrong)
                done, complaint = compiles(folder, f'#include "{header}"\n')
                self.assertFalse(done)
                self.assertRegex(complaint, f"{header}: No such file|'{header}' file not found")

    def test_a_planted_right_one_compiles(self):
        for folder, right in (("cache", "attention"), ("policies", "base"), ("engine", "cache")):
            with self.subTest(folder=folder, includes=right):
                done, complaint = compiles(folder, f'#include "{header_of(right)}"\n#include "lacake/engine.h"\n')
                self.assertTrue(done, complaint)

    def test_exactly_those_of_the_row_are_found(self):
        others = {name: header_of(name) for name in ROWS if header_of(name)}
        for row in ROWS.values():
            checks = [f'#if __has_include("{header}") != {int(name in row.sees)}\n#error "{name}"\n#endif\n'
                      for name, header in others.items()]
            with self.subTest(folder=row.name):
                done, complaint = compiles(row.name, "".join(checks))
                self.assertTrue(done, complaint)

    def test_none_goes_around_the_table(self):
        for row in ROWS.values():
            for path in files_of(row.name):
                for name in INCLUDE.findall(path.read_text()):
                    self.assertFalse(name.startswith((".", "/")), f"{path} includes {name}")

    def test_a_row_names_no_folder_that_nobody_includes(self):
        for row in ROWS.values():
            todo, seen = list(files_of(row.name)), set()
            while todo:
                path = todo.pop()
                if path in seen:
                    continue
                seen.add(path)
                todo += [SOURCE / name for name in INCLUDE.findall(path.read_text()) if (SOURCE / name).exists()]
            reached = {path.relative_to(SOURCE).parts[0] for path in seen}
            with self.subTest(folder=row.name):
                self.assertEqual(row.sees - {"base"}, reached - {"base"})


def symbols(row):
    """What a folder's objects define, and what they leave to others."""
    defined, wanted = set(), set()
    listed = subprocess.run([os.environ["LACAKE_NM"], "--format=posix", *row.objects], capture_output=True, text=True,
                            check=True).stdout
    for line in listed.splitlines():
        words = line.split()
        if len(words) >= 2:
            (wanted if words[1] in "Uw" else defined).add(words[0])
    return defined, wanted - defined


def forbidden_calls(symbols_of):
    """(folder, symbol) for each symbol that a folder wants and only folders define that its row does not name."""
    found = []
    for row in ROWS.values():
        for symbol in sorted(symbols_of[row.name][1]):
            homes = {name for name, (defined, _) in symbols_of.items() if symbol in defined}
            if homes and not homes & row.may_call:
                found.append((row.name, symbol))
    return found


class Calls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.symbols_of = {row.name: symbols(row) for row in ROWS.values()}

    def test_a_folder_calls_only_what_its_row_allows(self):
        self.assertEqual(forbidden_calls(self.symbols_of), [])

    def test_a_planted_wrong_one_is_found(self):
        anywhere_else = set().union(*(defined for name, (defined, _) in self.symbols_of.items() if name != "engine"))
        engines_own = min(self.symbols_of["engine"][0] - anywhere_else)
        defined, wanted = self.symbols_of["cache"]
        planted = {**self.symbols_of, "cache": (defined, wanted | {engines_own})}
        self.assertEqual(forbidden_calls(planted), [("cache", engines_own)])

    def test_a_row_names_no_folder_that_nobody_calls(self):
        for row in ROWS.values():
            for other in row.may_call - row.sees:
                with self.subTest(folder=row.name, calls=other):
                    self.assertTrue(self.symbols_of[row.name][1] & self.symbols_of[other][0])


if __name__ == "__main__":
    unittest.main()
