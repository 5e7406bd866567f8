"""Conversations that outlive the process: read a text once, ask it ever after."""

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time
import unittest

from program import FABLE, MODEL, ON_MODEL, PATIENCE, PROGRAM, ProgramTest, environment, run, run_unread, start

SMALL = ["--kv-budget", "96", "--policy", "keydiff"]
GREEDY = ["--temp", "0", "-n", "12"]


class Saved(ProgramTest):
    def ok(self, *arguments, **options):
        done = run(*arguments, **options)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return done

    def ingest(self, name="book.kv", *more):
        path = self.folder / name
        self.ok("ingest", self.file("fable.txt", FABLE), *ON_MODEL, "-o", path, *(more or SMALL), "-q")
        return path

    def ask(self, path, question, *more):
        return json.loads(self.ok("run", *ON_MODEL, "--session", path, "-p", question, *GREEDY, "--json", *more).stdout)

    def refused(self, arguments, *says, status=1):
        done = run(*arguments)
        line = done.stderr.decode()
        self.assertEqual((done.returncode, done.stdout, line.count("\n")), (status, b"", 1), line)
        for words in says:
            self.assertIn(words, line)


class Ingest(Saved):
    def test_a_text_that_was_read_is_asked_without_reading_it_again(self):
        book = self.ingest()
        before = book.read_bytes()
        first = self.ask(book, "What did the fox want?")
        self.assertGreater(first["session"]["held_tokens"], 150)
        self.assertLess(first["tokens"]["prompt"], 30)
        self.assertEqual(self.ask(book, "What did the fox want?")["tokens"], first["tokens"])
        self.assertNotEqual(self.ask(book, "Who sang?")["text"], "")
        self.assertEqual(book.read_bytes(), before)  # asked, not changed

    def test_several_texts_and_standard_input_are_one_conversation(self):
        one, two = self.file("one.txt", "The key is 71.\n\n\n"), self.file("two.txt", "The door is green.")
        path = self.folder / "both.kv"
        done = self.ok("ingest", one, "-", two, *ON_MODEL, "-o", path, "--json", stdin=b"The cat is blue.\n")
        result = json.loads(done.stdout)
        self.assertEqual(result["file"]["bytes"], path.stat().st_size)
        page = self.folder / "page.html"
        self.ok("inspect", path, "--html", page)
        text = re.sub("<[^>]*>", "", page.read_text())
        self.assertIn("The key is 71.\n\nThe cat is blue.\n\nThe door is green.\n\n", text)

    def test_streaming_reads_more_than_the_budget_holds(self):
        book = self.ingest("long.kv", "--kv-budget", "96", "--policy", "lacache", "--prefill", "streaming")
        facts = json.loads(self.ok("inspect", book, "--json").stdout)
        self.assertEqual((facts["prefill"], facts["policy"]), ("streaming", "lacache"))
        self.assertLessEqual(facts["kv"]["held_bytes"], facts["kv"]["budget_bytes"])
        self.assertNotEqual(self.ask(book, "Who sang?")["text"], "")

    def test_a_question_that_is_saved_is_part_of_the_conversation(self):
        book = self.ingest()
        first = self.ask(book, "What did the fox want?", "--save")
        second = self.ask(book, "Who sang?")
        self.assertGreater(second["session"]["held_tokens"], first["session"]["held_tokens"])
        self.assertLess(second["tokens"]["prompt"], 60)

    def test_an_answer_that_was_stopped_is_saved_as_far_as_it_went_and_that_is_said(self):
        book = self.ingest()
        with start("run", *ON_MODEL, "--session", book, "--save", "-p", "Who sang?", "--ignore-eos", "-n", "-1",
                   "-q") as process:
            self.assertNotEqual(process.stdout.read(1), b"")
            process.send_signal(signal.SIGINT)
            _, log = process.communicate(timeout=300 * PATIENCE)
        self.assertEqual((process.returncode, log.decode()),
                         (130, f"stopped: {book} keeps the answer as far as it went\n"))
        self.assertIn("1 turn, ", self.ok("chat", *ON_MODEL, "--session", book, stdin=b"/stats\n").stderr.decode())

    def test_a_full_cache_has_room_for_an_answer(self):
        book = self.ingest("full.kv", "-c", "2048")
        self.assertEqual(len(self.ask(book, "Who sang?")["tokens"]["ids"]), 12)

    def test_wrong_use_is_refused_in_a_line(self):
        text, out = self.file("fable.txt", FABLE), self.folder / "out.kv"
        self.refused(["ingest", *ON_MODEL, "-o", out], "text: expected one file or more", status=2)
        self.refused(["ingest", text, *ON_MODEL], "--output: expected a file", status=2)
        self.refused(["ingest", self.folder / "no.txt", *ON_MODEL, "-o", out], "no.txt: cannot be opened")
        self.refused(["ingest", self.file("e.txt", "\n\n"), *ON_MODEL, "-o", out], "e.txt: expected some text, found none")
        self.refused(["ingest", self.file("b.txt", b"\xff"), *ON_MODEL, "-o", out], "b.txt: expected UTF-8 text")
        self.refused(["ingest", text, *ON_MODEL, "-o", self.folder / "no" / "out.kv"], "--output", status=2)
        self.assertFalse(out.exists())

    def test_a_file_that_is_read_is_never_written_over(self):
        text, other, model = self.file("fable.txt", FABLE), self.folder / "other.txt", self.folder / "model.gguf"
        other.symlink_to("fable.txt")
        shutil.copy(MODEL, model)
        before = model.read_bytes()
        on_model = ["-m", model, "-t", 1, "-q", *SMALL]
        self.refused(["ingest", text, *on_model, "-o", other],
                     f"--output: expected another file than text {text}, found {other}", status=2)
        self.refused(["ingest", text, *on_model, "-o", self.folder / "." / "model.gguf"],
                     f"--output: expected another file than --model {model}, found", status=2)
        self.refused(["ingest", text, *on_model, "-o", other, "--chat-template-file", text],
                     f"another file than --chat-template-file {text}", status=2)
        part, parts = self.folder / "m-00002-of-00002.gguf", self.folder / "m-00001-of-00002.gguf"
        parts.write_bytes(b"1")
        part.write_bytes(b"2")
        self.refused(["ingest", text, "-m", parts, "-o", part], f"another file than --model {part}", status=2)
        # One that is missing hides none behind it.
        first, third = self.folder / "n-00001-of-00003.gguf", self.folder / "n-00003-of-00003.gguf"
        first.write_bytes(b"1")
        third.write_bytes(b"3")
        self.refused(["ingest", text, "-m", first, "-o", third], f"another file than --model {third}", status=2)
        with open(text, "rb") as stdin:
            done = subprocess.run([PROGRAM, "ingest", "-", *map(str, on_model), "-o", str(text)], stdin=stdin,
                                  capture_output=True, env=environment(), check=False)
        self.assertEqual((done.returncode, done.stderr.decode()),
                         (2, f"lacake: error: --output: expected another file than text -, found {text}\n"))
        done = run("chat", *on_model, stdin=f"/save {model}\n".encode())
        self.assertEqual((done.returncode, done.stderr.decode()),
                         (2, f"lacake: error: /save: expected another file than --model {model}, found {model}\n"))
        self.assertEqual((text.read_text(), model.read_bytes()), (FABLE, before))

    def test_it_is_made_even_if_nobody_reads_what_is_said_of_it(self):
        path = self.folder / "unread.kv"
        done = run_unread("ingest", self.file("fable.txt", FABLE), *ON_MODEL, "-o", path, "-q", *SMALL)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(path.read_bytes(), self.ingest().read_bytes())

    def test_an_answer_that_nobody_reads_is_not_saved_and_that_is_said(self):
        book = self.ingest()
        before = book.read_bytes()
        done = run_unread("run", *ON_MODEL, "--session", book, "--save", "-p", "Who sang?", *GREEDY, "-q")
        self.assertEqual((done.returncode, done.stderr.decode()),
                         (0, f"nobody read the whole answer: {book} stays as it was\n"))
        self.assertEqual(book.read_bytes(), before)

    def test_ctrl_c_leaves_nothing(self):
        long, out = self.file("long.txt", FABLE * 12), self.folder / "out.kv"
        with start("ingest", long, *ON_MODEL, "-o", out) as process:
            self.assertIn(b"memory plan", process.stderr.readline())
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            process.stderr.read()
            self.assertEqual(process.wait(), 130)
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["long.txt"])


class Files(Saved):
    def test_what_is_no_conversation_is_refused_in_a_line(self):
        book = self.ingest()
        asked = ["-p", "Who sang?", *ON_MODEL, *GREEDY]
        whole = book.read_bytes()
        cut, damaged = self.file("cut.kv", whole[:-5000]), bytearray(whole)
        damaged[len(whole) // 2] ^= 1
        self.refused(["run", *asked, "--session", self.folder / "no.kv"], "no.kv: cannot be opened")
        self.refused(["run", *asked, "--session", MODEL], "expected a conversation that lacake saved", "it is a model")
        self.refused(["run", *asked, "--session", cut], "cut.kv", "was cut short")
        self.refused(["run", *asked, "--session", self.file("d.kv", bytes(damaged))], "d.kv: part blk.", "is damaged")
        self.refused(["inspect", cut], "cut.kv", "was cut short")
        self.refused(["run", *asked, "--session", book, "--override-kv", "llama.rope.freq_base=float:1000"],
                     "book.kv: model: expected", "with content")

    def test_options_that_the_file_has_may_be_said_again_but_not_otherwise(self):
        book = self.ingest()
        self.ok("run", *ON_MODEL, "--session", book, "-p", "Who?", *GREEDY, *SMALL)
        asked = ["run", *ON_MODEL, "--session", book, "-p", "Who?"]
        self.refused([*asked, "--policy", "tova"], "--policy: expected keydiff, as ", "found tova", status=2)
        self.refused([*asked, "--kv-budget", "97"], "--kv-budget: expected 96", status=2)
        self.refused([*asked, "--kv-type", "q8_0"], "--kv-type: expected f16", status=2)
        self.refused([*asked, "--prefill", "streaming"], "--prefill: expected exact", status=2)
        self.refused([*asked, "--system", "Hi."], "--system", "--session", status=2)
        self.refused([*asked, "--continuation", book], "--continuation", "--session", status=2)
        self.refused(["run", *ON_MODEL, "-p", "Who?", "--save"], "--save", "--session FILE", status=2)
        self.refused(["inspect", book, *ON_MODEL], "--model", "a saved conversation", status=2)
        self.refused(["inspect", *ON_MODEL, "--html", book], "--html", "a saved conversation", status=2)
        self.refused(["inspect", book, "--json", "--text"], "--text: expected one of --text and --json, found both",
                     status=2)

    def test_a_disk_that_is_full_leaves_the_old_file(self):
        book = self.ingest()
        before = book.read_bytes()

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        done = subprocess.run([PROGRAM, "run", *ON_MODEL, "--session", book, "-p", "Who sang?", *GREEDY, "--save"],
                              capture_output=True, preexec_fn=limit, env=environment(), check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"lacake: error: {book}: cannot be written: File too large", done.stderr.decode())
        self.assertNotEqual(done.stdout, b"")  # the answer was given all the same
        self.assertEqual(book.read_bytes(), before)
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["book.kv", "fable.txt"])

    def test_a_file_is_replaced_where_links_lead_and_stays_as_private_as_it_was(self):
        book, link = self.ingest(), self.folder / "link.kv"
        book.chmod(0o600)
        link.symlink_to("book.kv")
        before = book.read_bytes()
        self.ask(link, "Who sang?", "--save")
        self.assertTrue(link.is_symlink())
        self.assertNotEqual(book.read_bytes(), before)
        self.assertEqual(book.stat().st_mode & 0o777, 0o600)

    def test_a_picture_takes_no_file_that_is_read_or_written_besides(self):
        book, same, again = self.ingest(), self.folder / "same.svg", self.folder / "." / "same.svg"
        before = book.read_bytes()
        self.refused(["inspect", book, "--html", book],
                     f"--html: expected another file than the conversation {book}, found {book}", status=2)
        self.refused(["inspect", book, "--html", again, "--plot", same],
                     f"--html: expected another file than --plot {same}, found {again}", status=2)
        self.assertFalse(same.exists())
        self.assertEqual(book.read_bytes(), before)

    def test_what_may_not_be_replaced_is_refused_before_anything_is_read(self):
        text, link, book = self.file("fable.txt", FABLE), self.folder / "link.kv", self.file("book.kv", "old")
        os.mkfifo(self.folder / "pipe")
        link.symlink_to("pipe")
        self.refused(["ingest", text, *ON_MODEL, "-o", link], "--output: expected a file that can be written", status=2)
        link.unlink()
        link.symlink_to("nowhere/book.kv")
        self.refused(["ingest", text, *ON_MODEL, "-o", link], "nowhere: No such file or directory", status=2)
        book.chmod(0o444)
        if os.geteuid() != 0:
            self.refused(["ingest", text, *ON_MODEL, "-o", book], "Permission denied", status=2)
        self.assertEqual(book.read_text(), "old")

    def test_a_session_that_cannot_be_saved_is_refused_before_it_is_asked(self):
        book, no_model = self.ingest(), ["-m", str(self.folder / "no.gguf")]
        chat = ["chat", *no_model, "--session"]
        asked = ["run", *no_model, "-p", "Who sang?", "--save", "--session"]
        says = "lacake: error: --session: expected a file that can be written, found"

        def refused(command, path, why, **options):
            done = subprocess.run([PROGRAM, *command, str(path)], input=b"Who sang?\n", capture_output=True,
                                  env=environment(), check=False, **options)
            self.assertEqual((done.returncode, done.stdout, done.stderr.decode()), (2, b"", f"{says} {path}: {why}\n"))

        with open(book, "rb") as opened:
            for command in (chat, asked):
                refused(command, f"/dev/fd/{opened.fileno()}", "cannot be written: a link of /proc leads to no name",
                        pass_fds=[opened.fileno()])
        # Root may write everything, and somebody else may not even read what lies in root's folders.
        nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        for of_file, of_folder, why in ((0o444, 0o755, "cannot be written: Permission denied"),
                                        (0o666, 0o555, f"folder {self.folder}: Permission denied")):
            book.chmod(of_file)
            self.folder.chmod(of_folder)
            self.addCleanup(self.folder.chmod, 0o700)
            for command in (chat, asked):
                try:
                    refused(command, book, why, **nobody)
                except PermissionError:
                    self.skipTest("somebody else may not run the program here")

    def test_killed_while_it_saves_leaves_the_old_file_or_the_new_one(self):
        talk = self.folder / "talk.kv"
        self.ok("chat", *ON_MODEL, "--session", talk, *SMALL, *GREEDY, "-q", stdin=b"Hello.\n")
        rng = random.Random(7)
        for _ in range(12):
            process = subprocess.Popen([PROGRAM, "chat", *map(str, ON_MODEL), "--session", str(talk), "-q", "-n", "2"],
                                       stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       env=environment())
            process.stdin.write(b"And?\n/undo\n" * 40)
            process.stdin.flush()
            time.sleep(rng.uniform(0.3, 0.9))
            process.kill()
            process.wait()
            process.stdin.close()
            self.ok("inspect", talk, "--json")
            self.assertLessEqual(len(list(self.folder.iterdir())), 2)  # one unfinished copy at most, which is used again


class Chat(Saved):
    def talk(self, path, *lines, more=()):
        done = self.ok("chat", *ON_MODEL, "--session", path, *SMALL, *GREEDY, *more, stdin="\n".join([*lines, ""]).encode())
        return done.stdout.decode(), done.stderr.decode()

    def test_goes_on_where_it_was(self):
        path, other = self.folder / "talk.kv", self.folder / "other.kv"
        whole, _ = self.talk(other, "Name a fruit.", "And another.")
        first, _ = self.talk(path, "Name a fruit.")
        second, log = self.talk(path, "And another.")
        self.assertEqual(first + second, whole)
        self.assertIn("talk.kv: ", log)
        self.assertNotIn("read again", log)

    def test_an_answer_that_nobody_reads_is_not_kept_and_that_is_said(self):
        path = self.folder / "talk.kv"
        self.talk(path, "Name a fruit.")
        before = path.read_bytes()
        done = run_unread("chat", *ON_MODEL, "-q", "--session", path, *SMALL, *GREEDY, stdin=b"And another.\n")
        self.assertEqual((done.returncode, done.stderr.decode()),
                         (0, f"nobody read the whole answer: {path} stays as it was\n"))
        self.assertEqual(path.read_bytes(), before)

    def test_turns_of_another_program_are_never_written_over(self):
        talk = self.ingest()
        with self.talking(talk) as chat:
            self.ok("run", *ON_MODEL, "--session", talk, "--save", "-p", "What did the fox want?", *GREEDY)
            others = talk.read_bytes()
            answer, log = chat.communicate(b"Who sang?\nWho ate?\n", timeout=300 * PATIENCE)
        self.assertEqual(chat.returncode, 1)
        self.assertNotEqual(answer, b"")
        self.assertEqual(log.decode(), f"lacake: error: {talk}: another program changed it meanwhile; "
                         "/save FILE keeps this conversation elsewhere\n")
        self.assertEqual(talk.read_bytes(), others)

    def test_a_conversation_that_another_program_began_is_never_written_over(self):
        talk = self.folder / "talk.kv"
        with self.talking(talk) as chat:
            others = self.ingest("talk.kv").read_bytes()
            answer, log = chat.communicate(b"Who sang?\n", timeout=300 * PATIENCE)
        self.assertEqual(chat.returncode, 1)
        self.assertNotEqual(answer, b"")
        self.assertIn("another program changed it meanwhile", log.decode())
        self.assertEqual(talk.read_bytes(), others)

    def talking(self, path):
        """The running program, its conversation open."""
        chat = subprocess.Popen([PROGRAM, "chat", *map(str, ON_MODEL), *SMALL, *GREEDY, "--session", str(path)],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=environment())
        self.addCleanup(chat.kill)
        opened = b"ask about it\n" if path.exists() else b"  total"
        while opened not in (line := chat.stderr.readline()):
            self.assertNotEqual(line, b"")
        return chat

    def test_of_two_programs_that_answer_at_once_one_is_not_saved_and_says_so(self):
        book = self.ingest()
        asked = ["run", *ON_MODEL, "--session", book, "--save", "--temp", "0", "--ignore-eos", "-q", "-p", "Who sang?"]
        with start(*asked, "-n", "80", "--json") as slow:
            while not self.is_reading(slow.pid, book):
                time.sleep(0.01)
            slow.send_signal(signal.SIGSTOP)  # so that it is the slower one on any machine
            self.ok(*asked, "-n", "2")
            others = book.read_bytes()
            slow.send_signal(signal.SIGCONT)
            answer, log = slow.communicate(timeout=300 * PATIENCE)
        says = f"{book}: another program changed it meanwhile; the answer was not saved"
        self.assertEqual((slow.returncode, log.decode()), (1, f"lacake: error: {says}\n"))
        self.assertEqual(len(json.loads(answer)["tokens"]["ids"]), 80)
        self.assertEqual(book.read_bytes(), others)

    @staticmethod
    def is_reading(pid, path):
        try:
            with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
                return str(path) in maps.read()
        except OSError:
            return False

    def test_one_command_line_serves_the_first_time_and_the_next(self):
        # lacache takes its span from a share, and the file has it.
        path = self.folder / "talk.kv"
        line = ["chat", *ON_MODEL, "--session", path, "--policy", "lacache", "--kv-budget", "25%", "-c", "400", *GREEDY]
        self.ok(*line, stdin=b"Name a fruit.\n")
        self.ok(*line, stdin=b"Name a bird.\n")
        asked = ["run", *ON_MODEL, "--session", path, "-p", "Who?", *GREEDY]
        self.ok(*asked, "--policy", "lacache")
        self.refused([*asked, "--policy", "lacache:overlap=1"], "--policy: expected lacache:span=", status=2)

    def test_what_the_command_line_says_of_another_conversation_is_said_when_one_is_loaded(self):
        first, second = self.folder / "first.kv", self.folder / "second.kv"
        self.talk(first, "Name a fruit.")
        done = self.ok("chat", *ON_MODEL, "--session", second, "--policy", "tova", "--kv-budget", "96", "--system",
                       "Be brief.", "-q", stdin=f"/load {first}\n".encode())
        said = done.stderr.decode()
        self.assertIn("without effect on what was loaded: --policy: expected keydiff", said)
        self.assertEqual(said.count("--policy"), 1)
        self.assertIn('without effect on what was loaded: --system: expected ""', said)

    def test_undo_and_retry(self):
        path, other = self.folder / "talk.kv", self.folder / "other.kv"
        first, _ = self.talk(other, "Name a fruit.")
        second, _ = self.talk(other, "And another.")
        undone, log = self.talk(path, "Name a fruit.", "Name a bird.", "/undo", "And another.")
        self.assertIn("forgotten", log)
        self.assertTrue(undone.startswith(first) and undone.endswith(second), undone)
        self.assertNotIn("read again", log)
        again, log = self.talk(self.folder / "third.kv", "Name a fruit.", "/retry")
        self.assertEqual(again[:len(again) // 2], again[len(again) // 2:])  # greedy: the same answer again
        self.assertNotIn("read again", log)

    def test_an_answer_is_asked_for_again_in_another_process(self):
        path = self.folder / "talk.kv"
        first, _ = self.talk(path, "Name a fruit.", "Name a bird.")
        copies = json.loads(self.ok("inspect", path, "--json").stdout)["checkpoints"]
        self.assertGreaterEqual(len(copies), 2)
        again, log = self.talk(path, "/retry")
        self.assertTrue(first.endswith(again), again)  # greedy: the same answer again
        self.assertNotIn("read again", log)
        again, log = self.talk(path, "/undo", "Name a bird.")
        self.assertTrue(first.endswith(again), again)
        self.assertNotIn("read again", log)
        self.ok("run", *ON_MODEL, "--session", path, "-p", "Name a fish.", *GREEDY, "--save")
        _, log = self.talk(path, "/retry")
        self.assertNotIn("read again", log)

    def test_save_and_load(self):
        path, copy = self.folder / "talk.kv", self.folder / "copy.kv"
        self.talk(path, "Name a fruit.", f"/save {copy}", "Name a bird.")
        self.assertTrue(copy.exists())
        _, log = self.talk(self.folder / "third.kv", f"/load {copy}", "/stats")
        self.assertIn("1 turn, ", log)
        self.assertIn("saved in " + str(self.folder / "third.kv"), log)
        done = run("chat", *ON_MODEL, stdin=b"/load nowhere.kv\n")
        self.assertEqual((done.returncode, done.stderr.decode().splitlines()[-1]),
                         (1, "lacake: error: nowhere.kv: cannot be opened: No such file or directory"))

    def n_tokens(self, path):
        return json.loads(self.ok("inspect", path, "--json").stdout)["n_tokens"]

    def test_undo_forgets_the_first_question_to_a_book_and_not_the_book(self):
        book = self.ingest()
        read, asked, other = book.read_bytes(), self.folder / "asked.kv", self.folder / "other.kv"
        n_read = self.n_tokens(book)
        other.write_bytes(read)
        expected, _ = self.talk(other, "Who sang?")
        undone, log = self.talk(book, "What did the fox want?", "/undo", "Who sang?")
        self.assertTrue(undone.endswith(expected), undone)
        self.assertNotIn("read again", log)
        self.assertEqual(self.n_tokens(book), self.n_tokens(other))
        self.assertGreater(self.n_tokens(book), n_read)
        asked.write_bytes(read)
        self.ok("run", *ON_MODEL, "--session", asked, "--save", "-p", "What did the fox want?", *GREEDY)
        _, log = self.talk(asked, "/undo")
        self.assertIn("the text was read; ask about it", log)
        self.assertEqual(self.n_tokens(asked), n_read)
        again, log = self.talk(asked, "Who sang?")
        self.assertEqual(again, expected)
        self.assertNotIn("read again", log)

    def test_a_book_without_a_copy_to_go_back_to_is_read_again_and_that_is_said(self):
        book = self.ingest()
        n_read = self.n_tokens(book)
        undone, log = self.talk(book, "What did the fox want?", "/undo", "Who sang?", more=["--checkpoints", "1KiB"])
        self.assertIn("read again", log)
        self.assertNotEqual(undone, "")
        self.assertGreater(self.n_tokens(book), n_read)

    def test_a_book_is_asked_in_a_conversation(self):
        book = self.ingest()
        _, log = self.talk(book, "What did the fox want?", "/stats")
        self.assertIn("the text was read; ask about it", log)
        self.assertIn("1 turn, ", log)
        self.assertNotIn("read again", log)


if __name__ == "__main__":
    unittest.main()
