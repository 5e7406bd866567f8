"""The tables of docs/results are those of its data."""

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


class Results(ProgramTest):
    def pages(self):
        folder = self.folder / "results"
        shutil.copytree(PAGES, folder)
        return folder

    def made(self, folder):
        subprocess.run([MAKE, "pages", folder], check=True)
        return {page.name: page.read_text() for page in folder.glob("*.md")}

    def test_tables_on_the_pages_are_those_of_the_data(self):
        for name, text in self.made(self.pages()).items():
            self.assertEqual((PAGES / name).read_text(), text, "scripts/make-results pages")

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
        shown = set().union(*(re.findall(r"<!-- table ([\w-]+) -->", page.read_text()) for page in PAGES.glob("*.md")))
        self.assertEqual(shown, {path.stem for path in (PAGES / "data").glob("*.json")})
        for path in (PAGES / "data").glob("*.json"):
            self.assertTrue(json.loads(path.read_text())["commands"], path.name)

    def test_a_page_of_a_table_that_is_not_there_is_refused(self):
        folder = self.pages()
        (folder / "more.md").write_text("<!-- table nowhere -->\n<!-- end -->\n")
        done = subprocess.run([MAKE, "pages", folder], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (1, "no data/nowhere.json, which a page has a table of\n"))


if __name__ == "__main__":
    unittest.main()
