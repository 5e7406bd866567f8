"""What can be checked of documents: links lead somewhere, prose keeps to 120 columns, docs/README.md lists all."""

import os
import pathlib
import re
import shutil
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLUMNS = 120


def documents():
    try:
        listed = subprocess.run(["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
                                capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        raise unittest.SkipTest("not a git checkout") from None
    return [path for name in listed if (path := ROOT / name).exists()]


def prose(text):
    """The lines that are neither code nor rows of a table, with their numbers."""
    return [(i, line) for i, line in enumerate(text.splitlines(), 1) if not line.startswith(("    ", "|"))]


def anchor(heading):
    """As GitHub makes it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def anchors(path):
    return {anchor(line.lstrip("# ")) for _, line in prose(path.read_text(encoding="utf-8")) if line.startswith("#")}


def links(text):
    """Links to other files or headings of the repository: (path, anchor)."""
    text = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target.partition("#")[::2] for target in targets if not re.match(r"[a-z]+:", target)]


def broken_links(path):
    broken = []
    for name, heading in links(path.read_text(encoding="utf-8")):
        target = (path.parent / name).resolve() if name else path
        page = target / "README.md" if target.is_dir() else target
        if not target.exists() or heading and heading not in anchors(page):
            broken.append(f"{path.relative_to(ROOT)}: {name}#{heading}")
    return broken


def code_blocks(text):
    """Indented blocks, without the indentation."""
    blocks = re.findall(r"(?:^ {4}.*\n(?:\n(?= {4}))?)+", text, re.MULTILINE)
    return [re.sub(r"^ {4}", "", block, flags=re.MULTILINE) for block in blocks]


def program_of(blocks):
    """Each in a function of its own, with what the page's other blocks have made."""
    headers = sorted(path.name for path in (ROOT / "include" / "lacake").glob("*.h"))
    lines = ["#include <iostream>", *(f"#include <lacake/{name}>" for name in headers),
             "bool user_has_gone();", "void serve_the_others();"]
    for i, block in enumerate(blocks):
        body = "\n".join(line for line in block.splitlines() if not line.startswith("#include"))
        lines.append(f"void block_{i}(const lacake::Model& model, lacake::Engine& engine, const lacake::ChatPrompt& prompt, "
                     f"std::span<lacake::Session* const> sessions) {{ {{\n{body}\n}} }}")
    return "\n".join(lines) + "\n"


class Documents(unittest.TestCase):
    def test_the_librarys_page_shows_code_that_compiles(self):
        compiler = shutil.which(os.environ.get("CXX", "c++"))
        if not compiler:
            self.skipTest("no compiler")
        blocks = [b for b in code_blocks((ROOT / "docs" / "library.md").read_text()) if "lacake::" in b or "engine." in b]
        blocks = [b for b in blocks if not b.startswith("# CMake")]
        self.assertGreater(len(blocks), 3)
        compiled = subprocess.run([compiler, "-std=c++20", "-fsyntax-only", "-I", ROOT / "include", "-x", "c++", "-"],
                                  input=program_of(blocks), capture_output=True, text=True)
        self.assertEqual(compiled.stderr, "")

    def test_every_link_leads_to_a_file_and_a_heading(self):
        self.assertEqual([link for path in documents() for link in broken_links(path)], [])

    def test_no_line_of_prose_is_longer_than_120_columns(self):
        long = [f"{path.relative_to(ROOT)}:{number}" for path in documents()
                for number, line in prose(path.read_text(encoding="utf-8")) if len(line) > COLUMNS]
        self.assertEqual(long, [])

    def test_the_list_of_documents_names_each_of_them(self):
        docs = ROOT / "docs"
        listed = {(docs / name).resolve() for name, _ in links((docs / "README.md").read_text(encoding="utf-8"))}
        missing = [path.name for path in docs.glob("*.md") if path.name != "README.md" and path not in listed]
        self.assertEqual(missing, [])

    def test_headings_become_the_anchors_that_links_use(self):
        self.assertEqual(anchor("A 100-page PDF on a laptop, from end to end"),
                         "a-100-page-pdf-on-a-laptop-from-end-to-end")
        self.assertEqual(links("[a](b.md#c), [d](https://e.org/f), [g](#h)\n    [code](nowhere)"),
                         [("b.md", "c"), ("", "h")])


if __name__ == "__main__":
    unittest.main()
