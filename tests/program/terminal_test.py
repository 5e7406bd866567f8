"""What a person at a terminal sees: the progress bar and the conversation."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unittest

from program import FABLE, ON_MODEL, PROGRAM, ProgramTest, answer, environment, run, run_unread

CTRL_C, CTRL_D = b"\x03", b"\x04"


def resize(fd, columns, rows=24):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Screen:
    """The program in a terminal of its own."""

    def __init__(self, *arguments, program=PROGRAM, columns=80, rows=24, **env):
        self.seen = ""
        # The child waits for the size: the program must not see another first.
        ready, go = os.pipe()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.close(go)
            os.read(ready, 1)
            os.execve(program, [program, *map(str, arguments)], environment(**env))
        os.close(ready)
        resize(self.fd, columns, rows)
        self.modes = self.modes_now()
        os.close(go)

    def modes_now(self):
        return termios.tcgetattr(self.fd)

    def modes_at_end(self):
        """Those that the program leaves behind."""
        while self.read_for(60):
            pass
        return self.modes_now()

    def read_for(self, seconds):
        """The next bytes that are shown within so long; none also at the end."""
        ready, _, _ = select.select([self.fd], [], [], seconds)
        try:
            return os.read(self.fd, 65536) if ready else b""
        except OSError:
            return b""

    def kill(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def type(self, keys):
        os.write(self.fd, keys)

    def wait_for(self, pattern, timeout=120):
        """What was shown up to the end of the pattern's next match."""
        deadline = time.monotonic() + timeout
        while not (match := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError(f"no {pattern!r} in {self.seen[-2000:]!r}")
            try:
                self.seen += os.read(self.fd, 65536).decode(errors="replace")
            except OSError as error:  # Linux says so at the end
                raise AssertionError(f"ended without {pattern!r}: {self.seen[-2000:]!r}") from error
        shown, self.seen = self.seen[:match.end()], self.seen[match.end():]
        return shown

    def status(self):
        try:
            while os.read(self.fd, 65536):
                pass
        except OSError:
            pass
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Progress(ProgramTest):
    def log(self, *flags, columns=80):
        """Standard error as a terminal gets it; standard output is a pipe."""
        ours, theirs = pty.openpty()
        resize(ours, columns)
        arguments = [PROGRAM, "run", *ON_MODEL, "-f", self.file("fable.txt", FABLE * 3), "-n", "2", *flags]
        with subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs,
                              env=environment()) as program:
            os.close(theirs)
            text = b""
            try:
                while chunk := os.read(ours, 65536):
                    text += chunk
            except OSError:
                pass
            output = program.stdout.read()
        os.close(ours)
        self.assertEqual(program.returncode, 0, text)
        self.assertNotIn(b"\x1b", output)
        return text.decode()

    def test_bar_shows_speed_and_time_left_in_one_line_and_goes_away(self):
        for columns in (80, 46):
            log = self.log(columns=columns)
            frames = [frame.split("\x1b[K")[0] for frame in re.findall(r"\r(prompt [^\r\n]*)", log)]
            self.assertGreater(len(frames), 1, log)
            self.assertRegex(frames[-1], r"^prompt [█░]+ +\d+%  \d+ tokens/s  \d+:\d\d left$")
            self.assertLess(max(map(len, frames)), columns)
            self.assertRegex(log, r"\r\x1b\[K[^\r]*prompt tokens at")

    def test_no_bar_when_nobody_wants_it(self):
        self.assertEqual(self.log("-q"), "")
        self.assertNotIn("\rprompt", self.log("--json"))


class Chat(ProgramTest):
    def test_a_line_is_a_turn_and_earlier_turns_are_remembered(self):
        first, second = "What is the capital of France?", "And of Italy?"
        flags = ["--temp", "0", "-n", "12"]
        done = run("chat", *ON_MODEL, "-q", *flags, stdin=f"{first}\n{second}\n".encode())
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        told = answer("-p", first, *flags)["text"]
        self.assertTrue(done.stdout.decode().startswith(told + "\n"), done.stdout)
        # The same conversation, written out. The default system message comes from the template.
        system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
        whole = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in
                        (("system", system), ("user", first), ("assistant", told), ("user", second)))
        expected = answer("--raw", "--parse-special", "-p", whole + "<|im_start|>assistant\n", *flags)["text"]
        self.assertEqual(done.stdout.decode(), f"{told}\n{expected}\n")

    def test_conversation_at_a_terminal(self):
        screen = Screen("chat", *ON_MODEL, "--temp", 0, "-n", 6)
        self.assertIn("memory plan", screen.wait_for("> "))
        screen.type(b"Hello\n")
        screen.wait_for("> ")
        screen.type(b"/stats\n")
        shown = screen.wait_for("> ")
        self.assertIn("1 turn, ", shown)
        self.assertRegex(shown, r"KV .* held of")
        screen.type(b"/help\n")
        self.assertIn("/exit", screen.wait_for("> "))
        screen.type(b"/sats\n")
        self.assertIn("/sats is no command; did you mean /stats? /help lists them", screen.wait_for("> "))
        screen.type(b"/clear\n/stats\n")
        self.assertIn(" 0 tokens", screen.wait_for("planned[^>]*> "))
        screen.type(CTRL_D)
        self.assertEqual(screen.status(), 0)

    def test_ctrl_d_during_an_answer_leaves_after_it(self):
        screen = Screen("chat", *ON_MODEL, "-q", "--temp", 0, "-n", 40, "--ignore-eos")
        screen.wait_for("> ")
        screen.type(b"Hello\n")
        screen.wait_for(r"(?s)2004l.*\w \w")  # words of the answer
        screen.type(CTRL_D)
        self.assertEqual(screen.status(), 0)

    def test_what_another_program_saved_meanwhile_stays_and_the_talk_is_kept_elsewhere(self):
        talk, elsewhere = self.folder / "talk.kv", self.folder / "elsewhere.kv"
        chat = ["chat", *ON_MODEL, "--temp", 0, "-n", 6, "--session", talk]
        self.assertEqual(run(*chat, stdin=b"Hello\n").returncode, 0)
        screen = Screen(*chat)
        screen.wait_for("> ")
        self.assertEqual(run(*chat, stdin=b"A fruit!\n").returncode, 0)
        others = talk.read_bytes()
        for keys in (b"A bird!\n", b"/save\n", b"/undo\n"):
            screen.type(keys)
            self.assertIn("another program changed it meanwhile", screen.wait_for(r"changed it[^>]*> "))
        screen.type(b"A bird!\n")
        screen.wait_for(r"changed it[^>]*> ")
        screen.type(f"/save {elsewhere}\n".encode())
        screen.wait_for(r"elsewhere\.kv[^>]*> ")
        self.assertEqual(talk.read_bytes(), others)
        self.assertTrue(elsewhere.exists())
        screen.type(f"/load {talk}\n".encode())
        screen.wait_for(r"tokens[^>]*> ")
        screen.type(b"A bird!\n")
        self.assertNotIn("changed", screen.wait_for(r"bird![^>]*> "))
        screen.type(CTRL_D)
        self.assertEqual(screen.status(), 0)
        self.assertNotEqual(talk.read_bytes(), others)
        self.assertTrue(run(*chat, stdin=b"/stats\n").stderr.decode().splitlines()[1].startswith("3 turns, "))

    def test_input_that_cannot_be_read_is_said_and_fails(self):
        command = [PROGRAM, "chat", *map(str, ON_MODEL), "-q"]
        folder = os.open(self.folder, os.O_RDONLY)
        self.addCleanup(os.close, folder)
        for input_, reason in ((folder, "Is a directory"), (None, "Bad file descriptor")):
            done = subprocess.run(command, stdin=input_, preexec_fn=None if input_ else lambda: os.close(0),
                                  capture_output=True, env=environment(), check=False)
            self.assertEqual((done.returncode, done.stderr.decode()),
                             (1, f"lacake: error: standard input: cannot be read: {reason}\n"))

    def test_lines_of_other_systems_are_what_they_say(self):
        flags, kept = ["chat", *ON_MODEL, "-q", "--temp", 0, "-n", 6], self.folder / "kept.kv"
        plain = run(*flags, stdin=b"Hello\nA fruit!\n")
        lines = f"\ufeffHello\r\n\r\n  \t\r\n\f\r\n /save {kept} \r\nA fruit!\r\n\t/exit \r\nnever said\r\n"
        done = run(*flags, stdin=lines.encode())
        self.assertEqual((done.returncode, done.stdout), (0, plain.stdout))
        self.assertEqual(list(self.folder.iterdir()), [kept])
        self.assertEqual(run(*flags, stdin="\ufeff/exit\r\nnever said\r\n".encode()).stdout, b"")

    def test_a_command_that_can_do_nothing_fails_a_script(self):
        for command, says in (("/undo", "expected a question to forget"), ("/retry", "expected a question"),
                              ("/save", "expected a file, as nothing was said with --session"),
                              ("/load", "expected a file")):
            done = run("chat", *ON_MODEL, "-q", stdin=f"{command}\nHello\n".encode())
            self.assertEqual((done.returncode, done.stdout), (1, b""))
            self.assertRegex(done.stderr.decode(), f"^lacake: error: [^\n]*{says}, found none\n$")

    def test_a_misspelt_command_fails_a_script_and_a_message_that_begins_with_a_path_is_one(self):
        chat = ["chat", *ON_MODEL, "-q", "--temp", 0, "-n", 6]
        for word, hint in (("/sats", "did you mean /stats? /help"), ("\t/usr/bin ", "/help")):
            done = run(*chat, stdin=f"{word}\nHello\n".encode())
            self.assertEqual((done.returncode, done.stdout), (1, b""))
            self.assertEqual(done.stderr.decode(),
                             f"lacake: error: {word.strip()} is no command; {hint} lists them\n")
        done = run(*chat, stdin=b"/usr/bin is what?\n")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertNotEqual(done.stdout, b"")

    def test_a_command_that_can_do_nothing_at_a_terminal_is_said_and_the_talk_goes_on(self):
        screen = Screen("chat", *ON_MODEL, "-q")
        screen.wait_for("> ")
        for command, says in ((b"/undo\n", "a question to forget"), (b"/save\n", "a file")):
            screen.type(command)
            self.assertIn(f"expected {says}", screen.wait_for(r"error:[^>]*> "))
        screen.type(b" /exit \n")
        self.assertEqual(screen.status(), 0)

    def test_lines_that_are_left_because_nobody_reads_are_told(self):
        flags, talk = ["chat", *ON_MODEL, "-q", "--temp", 0, "-n", 6], self.folder / "talk.kv"
        left = "the lines after it are left undone"
        for lines, says in ((f"Hello\nHow are you?\n/save {talk}\n", f"nobody read the whole answer: {left}\n"),
                            (f"Hello\n/save {talk}", f"nobody read the whole answer: {left}\n"),
                            ("Hello\n\n /exit\nnever said\n", "")):
            done = run_unread(*flags, stdin=lines.encode())
            self.assertEqual((done.returncode, done.stderr.decode()), (0, says))
        done = run_unread(*flags, "--session", talk, stdin=b"Hello\nHow are you?\n")
        self.assertEqual((done.returncode, done.stderr.decode()),
                         (0, f"nobody read the whole answer: {talk} stays as it was, and {left}\n"))
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_exit_leaves(self):
        self.assertEqual(run("chat", *ON_MODEL, "-q", stdin=b"/exit\nnever said\n").returncode, 0)

    def test_ctrl_c_stops_an_answer_and_at_the_prompt_leaves(self):
        screen = Screen("chat", *ON_MODEL, "--ignore-eos", "-n", -1, "--policy", "lacache", "--kv-budget", 64)
        screen.wait_for("> ")
        screen.type(b"Story!\n")
        screen.wait_for(r"[a-z]+ [a-z]+ [a-z]+ [a-z]+ ")  # no words are in the progress bar
        screen.type(CTRL_C)
        screen.wait_for(r"stopped[^>]*> ")
        screen.type(b"/stats\n")
        screen.wait_for("> ")
        screen.type(CTRL_C)
        self.assertEqual(screen.status(), 130)

    def test_a_question_too_long_is_refused_and_the_conversation_goes_on(self):
        screen = Screen("chat", *ON_MODEL, "-q", "-n", 2, "-c", 100)
        screen.wait_for("> ")
        screen.type(b"word " * 150 + b"\n")
        self.assertRegex(screen.wait_for(r"error:[^>]*> "), "100")
        screen.type(b"Hello\n")
        self.assertNotIn("error", screen.wait_for("> "))
        screen.type(CTRL_D)
        self.assertEqual(screen.status(), 0)

    def test_an_answer_ends_where_the_conversation_is_full_and_says_so(self):
        for policy in ([], ["--policy", "streaming-llm", "--kv-budget", 48]):
            done = run("chat", *ON_MODEL, "-q", "--ignore-eos", "-n", 300, "-c", 64, *policy, stdin=b"Hello\n")
            self.assertEqual(done.returncode, 0)
            self.assertRegex(done.stderr.decode(), r"^\(the answer was cut: [^\n]*64 tokens[^\n]*--ctx-size[^\n]*\)\n$")

    def test_a_stopped_question_leaves_the_conversation_as_it_was(self):
        screen = Screen("chat", *ON_MODEL, "--temp", 0, "-n", 6)
        screen.wait_for("> ")
        screen.type(b"Hello\n")
        screen.wait_for("> ")
        screen.type(b"word " * 700 + b"\n")
        screen.wait_for("prompt ")
        screen.type(CTRL_C)
        screen.wait_for(r"stopped[^>]*> ")
        screen.type(b"/stats\n")
        self.assertIn("1 turn, ", screen.wait_for("> "))
        screen.type(b"Hello again\n")
        self.assertNotIn("error", screen.wait_for("> "))
        screen.type(b"/stats\n")
        self.assertIn("2 turns, ", screen.wait_for("> "))
        screen.type(CTRL_D)
        self.assertEqual(screen.status(), 0)

    def test_a_question_too_long_in_a_script_fails(self):
        done = run("chat", *ON_MODEL, "-q", "-n", 2, "-c", 100, stdin=b"word " * 150 + b"\n")
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertRegex(done.stderr.decode(), r"^lacake: error: [^\n]*100[^\n]*\n$")


if __name__ == "__main__":
    unittest.main()
