"""The tables and pictures of docs/results and docs/performance are those of their data."""

import json
import pathlib
import re
import shutil
import subprocess
import unittest

from program import ProgramTest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAKE = ROOT / "scripts" / "make-results"
PAGES = ROOT / "docs" / "results"
FOLDERS = (PAGES, ROOT / "docs" / "performance")


class Results(ProgramTest):
    def pages(self, folder=PAGES):
        copy = self.folder / folder.name
        shutil.copytree(folder, copy)
        return copy

    def made(self, folder):
        subprocess.run([MAKE, "pages", folder], check=True)
        return {page.name: page.read_text() for page in folder.glob("*.md")}

    def test_tables_on_the_pages_are_those_of_the_data(self):
        for folder in FOLDERS:
            for name, text in self.made(self.pages(folder)).items():
                self.assertEqual((folder / name).read_text(), text, "scripts/make-results pages")

    def test_pictures_that_data_asks_for_are_those_of_the_data(self):
        folder = self.pages()
        asked = {path.stem for path in (folder / "data").glob("*.json") if "picture" in json.loads(path.read_text())}
        self.assertTrue(asked)
        for name in asked:
            (folder / f"{name}.svg").unlink()
        self.made(folder)
        for name in asked:
            self.assertEqual((PAGES / f"{name}.svg").read_text(), (folder / f"{name}.svg").read_text(),
                             "scripts/make-results pages")

    def test_a_figure_that_changes_in_the_data_changes_on_the_page(self):
        folder = self.pages()
        before = self.made(folder)
        data = folder / "data" / "ruler-in-short.json"
        table = json.loads(data.read_text())
        table["rows"][0][1] = [99.9]
        data.write_text(json.dumps(table))
        after = self.made(folder)
        self.assertIn("| **99.9** |", after["README.md"])
        self.assertNotEqual(before["ruler.md"], after["ruler.md"])

    def test_every_table_of_data_is_on_a_page_with_its_command(self):
        for folder in FOLDERS:
            pages = [page.read_text() for page in folder.glob("*.md")]
            shown = set().union(*(re.findall(r"<!-- table ([\w-]+) -->", page) for page in pages))
            self.assertEqual(shown, {path.stem for path in (folder / "data").glob("*.json")})
            for path in (folder / "data").glob("*.json"):
                self.assertTrue(json.loads(path.read_text())["commands"], path.name)

    def test_a_page_of_a_table_that_is_not_there_is_refused(self):
        folder = self.pages()
        (folder / "more.md").write_text("<!-- table nowhere -->\n<!-- end -->\n")
        done = subprocess.run([MAKE, "pages", folder], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (1, "no data/nowhere.json, which a page has a table of\n"))

    def folder_of_results(self, name, policy, meaning, grid):
        folder = self.folder / name
        folder.mkdir()
        model = {"file": "small.gguf", "weight_types": "f32"}
        config = {"meaning": {"task": "needle", "model": model, **meaning}, "grid": {"seed": 1, "cells": [policy], **grid}}
        cell = {"cell": f"{policy} @ 64", "policy": policy, "budget": "64", "samples": 4, "score": 0.5, "interval": [0.4, 0.6]}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "metrics.json").write_text(json.dumps({"task": "needle", "cells": [cell]}))
        return folder

    def test_a_table_is_of_folders_of_one_model_and_the_same_samples(self):
        # A repository of its own: what is added is written to it.
        root = self.folder / "root"
        for path in ("scripts/make-results", "bench/chart.py"):
            (root / path).parent.mkdir(parents=True)
            shutil.copy(ROOT / path, root / path)
        data = root / "docs" / "results" / "data"
        data.mkdir(parents=True)
        first = self.folder_of_results("first", "cake", {}, {})

        def added(folder):
            return subprocess.run([root / "scripts" / "make-results", "add", "table", first, folder], capture_output=True,
                                  text=True, check=False)
        other = {"model": {"file": "large.gguf", "weight_types": "f32"}}
        for name, policy, meaning, grid, says in (
                ("model", "h2o", other, {}, f"meaning: expected that of {first}, found another model"),
                ("seed", "h2o", {}, {"seed": 2}, f"grid: expected that of {first}, found another seed"),
                ("again", "cake", {}, {}, "expected cells that no other folder has, found cake @ 64 again")):
            folder = self.folder_of_results(name, policy, meaning, grid)
            done = added(folder)
            self.assertEqual((done.returncode, done.stderr), (1, f"{folder}: {says}\n"))
            self.assertEqual(list(data.iterdir()), [])
        self.assertEqual(added(self.folder_of_results("second", "h2o", {}, {})).returncode, 0)
        table = json.loads((data / "table.json").read_text())
        self.assertEqual([row[0] for row in table["rows"]], ["cake", "h2o"])


if __name__ == "__main__":
    unittest.main()
