"""What a person sees who types a conversation at a terminal: a terminal emulator (pyte) stands for the terminal."""

import json
import os
import re
import signal
import time
import unittest

from program import ON_MODEL, PATIENCE, PROGRAM, ProgramTest, run
from terminal_test import CTRL_C, CTRL_D, Screen, resize

try:
    import pyte
except ImportError:
    pyte = None

LEFT, RIGHT, UP, DOWN, HOME, END, DELETE = (f"\x1b[{key}".encode() for key in ("D", "C", "A", "B", "H", "F", "3~"))
ENTER, ALT_ENTER, TAB, BACKSPACE, CTRL_R, CTRL_Z = b"\r", b"\x1b\r", b"\t", b"\x7f", b"\x12", b"\x1a"


def pasted(text):
    """As a terminal hands it over that was asked to mark it."""
    return b"\x1b[200~" + text.encode().replace(b"\n", b"\r") + b"\x1b[201~"


class Typed(ProgramTest):
    """A conversation whose program keeps its history in the test's folder."""

    def setUp(self):
        super().setUp()
        if pyte is None:
            self.skipTest("pyte, a terminal emulator, is not here")
        self.history = self.folder / "state" / "lacake" / "chat_history"

    def open(self, *flags, **settings):
        """At the prompt. What is typed is answered by two words at most."""
        return self.start(*self.command(*flags), **settings)

    def command(self, *flags):
        return ["chat", *ON_MODEL, "-q", "--temp", 0, "-n", 2, *flags]

    def start(self, *arguments, columns=80, rows=24, prompt="> $", **settings):
        settings = {"XDG_STATE_HOME": str(self.folder / "state"), **settings}
        self.talk = Screen(*arguments, columns=columns, rows=rows, **settings)
        self.addCleanup(self.talk.kill)
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.shown_until(prompt)

    def shown(self):
        """The rows that are not empty, as seen; wide letters take two columns."""
        rows = [row.rstrip() for row in self.screen.display]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def shown_until(self, pattern):
        """The rows, once the last one of them up to the cursor shows this."""
        deadline = time.monotonic() + 60 * PATIENCE
        while True:
            self.stream.feed(self.talk.read_for(0.05))
            rows = [row for row in self.screen.display[:self.screen.cursor.y + 1]]
            last = rows[-1][:self.screen.cursor.x]
            if re.search(pattern, last) or (re.search(pattern, rows[-1].rstrip()) and "$" in pattern):
                return self.shown()
            self.assertLess(time.monotonic(), deadline, f"no {pattern!r} in {self.screen.display}")

    def type(self, *keys, until):
        self.talk.type(b"".join(key.encode() if isinstance(key, str) else key for key in keys))
        return self.shown_until(until)

    def leave(self):
        self.talk.type(CTRL_D)
        return self.talk.status()

    def questions(self):
        """What was asked of the model, as the history has it."""
        lines = [json.loads(line) for line in self.history.read_text().splitlines()]
        return [line for line in lines if not line.startswith("/")]


class Editing(Typed):
    def test_a_line_is_edited_in_place(self):
        self.open()
        self.type("helo wold", until="> helo wold$")
        rows = self.type(LEFT, LEFT, "r", until="> helo wor")
        self.assertEqual(rows[-1], "> helo world")
        rows = self.type(HOME, RIGHT * 3, "l", DELETE, "o", until="> hello")
        self.assertEqual(rows[-1], "> hello world")
        self.type(END, BACKSPACE, "!", until="> hello worl!$")
        self.type(ENTER, until="^> $")
        self.assertEqual(self.leave(), 0)
        self.assertEqual(self.questions(), ["hello worl!"])

    def test_letters_of_two_columns_and_marks_stay_whole(self):
        self.open()
        rows = self.type("日本語 a\u0308 und ö", LEFT * 6, BACKSPACE, until="> ")
        time.sleep(0.2)
        rows = self.type(END, "!", until="!$")
        self.type(ENTER, until="^> $")
        self.assertEqual(self.leave(), 0)
        asked, = self.questions()
        self.assertTrue(asked.startswith("日本語") and asked.endswith(" und ö!"), asked)
        self.assertEqual(rows[-1].replace(" ", "")[:2], ">日")

    def test_a_line_longer_than_the_terminal_wraps_and_is_edited_above(self):
        self.open(columns=80)
        words = " ".join(f"word{i:02}" for i in range(30))
        rows = self.type(words, until="word29$")
        self.assertEqual("".join(row.ljust(80) for row in rows[-3:]).rstrip(), "> " + words)
        self.type(HOME, "First ", until="> First ")
        rows = self.type(END, ".", until=r"word29\.$")
        self.assertEqual("".join(row.ljust(80) for row in rows[-3:]).rstrip(), "> First " + words + ".")
        self.type(ENTER, until="^> $")
        self.assertEqual(self.leave(), 0)
        self.assertEqual(self.questions(), ["First " + words + "."])

    def test_another_size_draws_the_line_again(self):
        self.open(columns=80)
        self.type("What is the capital of France", until="France$")
        for columns in (60, 40, 100):  # twice at least: the second one must be heard too
            self.stream.feed(self.talk.read_for(0.2))
            self.screen.resize(24, columns)
            resize(self.talk.fd, columns)
            rows = self.type(until="France$")
            self.assertEqual([row for row in rows if "capital" in row], ["> What is the capital of France"])
        rows = self.type(" and of all of its many neighbours?" * 3, until=r"neighbours\?$")
        self.assertLess(max(map(len, rows)), 100 + 1)
        self.type(ENTER, until="^> $")
        self.assertEqual(self.leave(), 0)
        self.assertEqual(self.questions(), ["What is the capital of France" + " and of all of its many neighbours?" * 3])

    def test_a_pasted_paragraph_is_one_message(self):
        self.open()
        text = "A crow sat\non a branch.\n\tA fox came by:\n/clear\n"
        rows = self.type("Read this: ", pasted(text), until="/clear$")
        self.assertEqual(rows[-4:], ["> Read this: A crow sat", "on a branch.", "        A fox came by:", "/clear"])
        self.type(" and answer", until="and answer$")
        self.type(ENTER, until="^> $")
        self.assertEqual(self.leave(), 0)
        self.assertEqual(self.questions(), ["Read this: A crow sat\non a branch.\n\tA fox came by:\n/clear and answer"])

    def test_a_pasted_book_is_shown_by_its_size_and_asked_whole(self):
        self.open("--policy", "streaming-llm", "--kv-budget", 64, "--prefill", "streaming")
        book = "\n".join(f"Line {i} of the book." for i in range(120))
        self.type("Read: ", pasted(book), " Well?", until=r"> Read: \[text 1: 120 lines\] Well\?$")
        self.type(ENTER, until="^> $")
        self.type(UP, until=r"> Read: \[text 1: 120 lines\] Well\?$")
        self.type(CTRL_C, until="^> $")
        self.assertEqual(self.leave(), 0)
        self.assertEqual(self.questions(), [f"Read: {book} Well?"])

    def test_alt_enter_begins_a_line_of_the_same_message(self):
        self.open()
        self.type("Two", ALT_ENTER, "lines", until="^lines$")
        self.type(ENTER, until="^> $")
        self.assertEqual(self.leave(), 0)
        self.assertEqual(self.questions(), ["Two\nlines"])

    def test_what_a_paste_has_of_control_letters_moves_nothing(self):
        self.open()
        rows = self.type(pasted("a\x1b[2Jb\x07c\x7fd"), until=r"> a\[2Jbcd$")
        self.assertEqual(rows[-1], "> a[2Jbcd")
        self.type(CTRL_C, until="^> $")
        self.assertEqual(self.leave(), 0)

    def test_tab_completes_commands_and_files(self):
        self.open()
        self.type("/u", TAB, until="> /undo$")
        self.type(CTRL_C, until="^> $")
        rows = self.type("/s", TAB, until="> /s$")
        self.assertIn("/stats", "\n".join(rows))
        self.type("a", TAB, until="> /save $")
        self.type(str(self.folder)[:-1], TAB, until=re.escape(self.folder.name) + "/$")
        self.type("kept.kv", ENTER, until="^> $")
        self.assertEqual(self.leave(), 0)

    def test_ctrl_c_gives_up_a_line_and_leaves_an_empty_one(self):
        self.open()
        self.type("never asked", until="asked$")
        rows = self.type(CTRL_C, until="^> $")
        self.assertEqual(rows[-2], "> never asked^C")
        self.talk.type(CTRL_C)
        self.assertEqual(self.talk.status(), 130)
        self.assertEqual(self.history.read_text(), "")

    def test_the_terminal_is_left_as_it_was(self):
        for keys, status in ((CTRL_D, 0), (CTRL_C, 130), (signal.SIGTERM, -signal.SIGTERM)):
            self.open()
            if isinstance(keys, signal.Signals):
                os.kill(self.talk.pid, keys)
            else:
                self.talk.type(keys)
            before, after = self.talk.modes, self.talk.modes_at_end()
            self.assertEqual(before, after)
            self.assertEqual(self.talk.status(), status)

    def test_ctrl_z_and_back(self):
        self.start("--norc", "--noprofile", "-i", program="/bin/bash", prompt=r"\$ $", PS1="$ ")
        command = " ".join(map(str, [PROGRAM, *self.command()]))
        self.type(command, ENTER, until="^> $")
        self.type("half a", until="half a$")
        self.type(CTRL_Z, until=r"^\$ $")
        self.type("fg", ENTER, until="> half a$")
        self.type(" line", until="> half a line$")
        self.type(ENTER, until="^> $")
        self.type(CTRL_D, until=r"^\$ $")
        self.assertEqual(self.questions(), ["half a line"])


class History(Typed):
    def test_lines_come_back_in_this_conversation_and_in_the_next(self):
        self.open()
        self.type("First line", ENTER, until="^> $")
        self.type("/stats", ENTER, until="^> $")
        self.type(UP, UP, until="> First line$")
        self.type(DOWN, until="> /stats$")
        self.type(CTRL_C, until="^> $")
        self.assertEqual(self.leave(), 0)
        self.open()
        self.type(UP, until="> /stats$")
        self.type(UP, "!", until="> First line!$")
        self.type(CTRL_C, until="^> $")
        self.type(CTRL_R, "irst", until="^> F")
        self.type(ENTER, until="^> $")
        self.assertEqual(self.leave(), 0)
        self.assertEqual(self.questions(), ["First line", "First line"])

    def test_only_its_user_may_read_it(self):
        self.open()
        self.type("/stats", ENTER, until="^> $")
        self.assertEqual(self.leave(), 0)
        self.assertEqual([json.loads(line) for line in self.history.read_text().splitlines()], ["/stats"])
        self.assertEqual(self.history.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.history.parent.stat().st_mode & 0o777, 0o700)

    def test_it_is_bounded(self):
        self.history.parent.mkdir(parents=True)
        lines = [f"line {i}" for i in range(2001)]
        self.history.write_text("no JSON\n" + "".join(json.dumps(line) + "\n" for line in lines))
        self.open()
        self.type("x" * 900 + "\u00e4", until="ä$")
        self.type(CTRL_C, until="^> $")
        self.type(UP, until="> line 2000$")
        self.type(CTRL_C, until="^> $")
        self.assertEqual(self.leave(), 0)
        self.assertEqual([json.loads(line) for line in self.history.read_text().splitlines()], lines[-1000:])

    def test_it_can_be_turned_off(self):
        self.history.parent.mkdir(parents=True)
        self.history.write_text('"secret"\n')
        self.open("--no-history")
        self.type(UP, "/stats", ENTER, until="^> $")
        self.assertNotIn("secret", "\n".join(self.shown()))
        self.assertEqual(self.leave(), 0)
        self.assertEqual(self.history.read_text(), '"secret"\n')

    def test_where_it_cannot_be_kept_is_said_and_the_talk_goes_on(self):
        self.file("state", "no folder")
        self.open()
        self.assertIn("no history: ", "\n".join(self.shown()))
        self.type("/stats", ENTER, until="^> $")
        self.assertEqual(self.leave(), 0)

    def test_it_has_no_effect_without_a_terminal_which_is_said(self):
        done = run("chat", *ON_MODEL, "--no-history", stdin=b"Hello\n")
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stderr, b"lacake: error: --no-history: expected a terminal at which lines are typed, found none\n")


class Plain(Typed):
    def test_a_terminal_that_moves_no_cursor_takes_lines_as_they_are(self):
        self.open(TERM="dumb")
        self.type("Hello", ENTER, until="^> $")
        rows = self.type("/stats", ENTER, until="^> $")
        self.assertIn("1 turn, ", "\n".join(rows))
        self.assertNotIn("\x1b", "\n".join(rows))
        self.assertEqual(self.leave(), 0)

    def test_a_locale_without_utf8_edits_utf8(self):
        self.open(LANG="C")
        self.type("ö", LEFT, "ä", until="> ä")
        self.type(ENTER, until="^> $")
        self.assertEqual(self.leave(), 0)
        self.assertEqual(self.questions(), ["äö"])


if __name__ == "__main__":
    unittest.main()
