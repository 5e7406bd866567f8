"""The library names settings; flags and environment variables are the program's."""

import json
import pathlib
import re
import unittest

from program import run

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEARCHED = (".h", ".cpp", ".md", ".def")


def program_names():
    """Every flag that is written with two dashes, and every environment variable that the program reads."""
    listed = json.loads(run("help", "--json").stdout)
    flags = {flag for command in listed["commands"] for option in command["options"] for flag in option["flags"]}
    return {flag for flag in flags if flag.startswith("--")}, {variable["name"] for variable in listed["environment"]}


def named(text, flags, variables, is_test=False):
    """The names that a text of the library must not have."""
    found = [word for word in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*(?!\w)", text) if word in flags]
    found += [word for word in re.findall(r"\b[A-Z][A-Z0-9_]+\b", text) if word in variables]
    # No other variable of ours either, whoever reads it. Tests are told the model's path by the build; other models,
    # which are tried where they are there, they may look for.
    found += re.findall(r"\"LACAKE_[A-Z_]+\"" if is_test else r"getenv\([^)]*\)|\"LACAKE_[A-Z_]+\"", text)
    return found


class Sources(unittest.TestCase):
    def test_the_library_names_no_flag_and_reads_no_environment(self):
        flags, variables = program_names()
        self.assertIn("--kv-budget", flags)
        self.assertIn("LACAKE_TARGET", variables)
        files = [path for folder in ("src", "include") for path in (ROOT / folder).rglob("*") if path.suffix in SEARCHED]
        self.assertGreater(len(files), 200)
        wrong = {str(path.relative_to(ROOT)): names for path in files
                 if (names := named(path.read_text(encoding="utf-8"), flags, variables, path.stem.endswith("_test")))}
        self.assertEqual(wrong, {})

    def test_a_planted_name_is_found(self):
        flags, variables = program_names()
        for planted in ('fail("--kv-budget: expected")', "// as --top-k says", 'std::getenv("HOME")', "LACAKE_TARGET=AVX2",
                        '"LACAKE_NEW"'):
            self.assertTrue(named(f"int x;\n{planted}\n", flags, variables), planted)
        for harmless in ("--n;", "a --b", "#ifdef LACAKE_HAVE_JINJA", "fail(\"kv_budget: expected\")", "---json"):
            self.assertEqual(named(harmless, flags, variables), [], harmless)

    def test_every_preset_that_can_be_configured_can_be_built(self):
        presets = json.loads((ROOT / "CMakePresets.json").read_text(encoding="utf-8"))
        configured = {preset["name"] for preset in presets["configurePresets"] if not preset.get("hidden")}
        self.assertEqual(configured, {preset["name"] for preset in presets["buildPresets"]})


if __name__ == "__main__":
    unittest.main()
