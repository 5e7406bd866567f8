"""The log of requests of lacake serve."""

import json
import re
import signal
import socket
import time

from program import ON_MODEL, PATIENCE, ProgramTest, run, start
from serve_test import SMALL, Server

ASKED = {"messages": [{"role": "user", "content": "Name a secret fruit."}], "max_tokens": 6}


class Log(ProgramTest):
    def serve(self, *arguments):
        server = Server(*SMALL, "--log-requests", *arguments)
        self.addCleanup(lambda: server.process.poll() is None and server.stop())
        return server

    def lines(self, path, n):
        """The lines of a log that is to have so many."""
        for _ in range(100 * PATIENCE):
            if path.exists() and len(path.read_text().splitlines()) >= n:
                break
            time.sleep(0.05)
        lines = path.read_text().splitlines()
        self.assertEqual(len(lines), n, lines)
        return [json.loads(line) for line in lines]

    def test_a_request_is_a_line(self):
        server = self.serve("--alias", "small")
        status, headers, _ = server.ask("POST", "/v1/chat/completions", json.dumps(ASKED),
                                        {"X-Request-Id": "mine-1", "X-Conversation-Id": "talk"})
        self.assertEqual((status, headers["X-Request-Id"], headers["Request-Id"]), (200, "mine-1", "mine-1"))
        server.events("/v1/messages", ASKED)
        server.post("/v1/completions", {"prompt": ["a", "b c"], "max_tokens": 2, "n": 2})
        self.assertEqual(server.get("/nowhere?key=secret")[0], 404)
        self.assertTrue(server.raw(b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400"))
        connection = server.connection()
        connection.request("POST", "/completion", json.dumps({"prompt": "secret", "n_predict": 100000,
                                                              "ignore_eos": True, "stream": True}))
        connection.getresponse().read(10)
        connection.close()
        while server.metric("lacake_requests_writing") > 0:
            time.sleep(0.05)
        self.assertEqual(server.stop(), 0)
        lines = [json.loads(line) for line in server.log if line.startswith("{")]
        lines.sort(key=lambda line: line["time"])  # they are written when all is known, which may be in another order
        chat, messages, texts, nowhere, nonsense, gone = [line for line in lines if line["path"] != "/metrics"]
        self.assertRegex(chat["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual([chat[name] for name in ("id", "client", "method", "path", "status", "model", "conversation")],
                         ["mine-1", "127.0.0.1", "POST", "/v1/chat/completions", 200, "small", "talk"])
        self.assertTrue(chat["bytes"] > 100 and chat["duration_ms"] > 0 and chat["queue_ms"] >= 0)
        self.assertEqual((chat["finish"], chat["generated_tokens"], chat["cached_tokens"]), ("length", 6, 0))
        self.assertGreater(chat["prompt_tokens"], 5)
        self.assertNotIn("conversation", messages)
        self.assertRegex(messages["id"], r"^req_\w{24}$")
        self.assertEqual((texts["generated_tokens"], texts["finish"]), (8, ["length"] * 4))
        self.assertEqual((nowhere["path"], nowhere["status"], nowhere["error"]), ("/nowhere", 404, 'File Not Found: "/nowhere"'))
        self.assertEqual((nonsense["status"], nonsense["method"]), (400, ""))
        self.assertEqual((gone["gone"], gone["finish"], gone["status"]), (True, "cancelled", 200))
        self.assertNotIn("secret", "".join(server.log))

    def test_what_clients_send_is_escaped(self):
        log = self.folder / "log"
        server = self.serve("--log-file", log, "--log-prompts")
        for i, wrong in enumerate((b"a b", b"x" * 129, b"\x1b[2J", b"\xff", b'"', b"")):
            received = server.raw(b"GET /%0a%1b%c2%9b%ff%7f HTTP/1.1\r\nConnection: close\r\nX-Request-Id: " + wrong + b"\r\n\r\n")
            self.assertRegex(received, b"HTTP/1.1 400" if i == 2 else b"HTTP/1.1 404")
            self.assertRegex(received, rb"X-Request-Id: req_\w{24}\r\n")
        self.assertEqual(server.ask("POST", "/tokenize", b'{"content": "\xff\n"}')[0], 400)
        answered = server.chat([{"role": "user", "content": "Hi \u2028 \x1b"}])["choices"][0]["message"]["content"]
        self.lines(log, 8)
        content = log.read_bytes()
        self.assertFalse(re.search(rb"[^\n -~]", content), content)
        *paths, tokenize, chat = (json.loads(line) for line in content.splitlines())
        self.assertEqual(paths[0]["path"], "/\n\x1b\x9b\ufffd\x7f")
        self.assertIn("\ufffd", tokenize["request"])
        self.assertEqual(json.loads(chat["request"])["messages"][0]["content"], "Hi \u2028 \x1b")
        self.assertEqual(chat["answer"], answered)

    def test_a_file_that_was_moved_is_opened_anew(self):
        log, old = self.folder / "log", self.folder / "log.1"
        server = self.serve("--log-file", log)
        server.get("/health")
        self.lines(log, 1)
        log.rename(old)
        server.get("/health")
        self.lines(old, 2)
        server.process.send_signal(signal.SIGHUP)
        for _ in range(100 * PATIENCE):
            if log.exists():
                break
            time.sleep(0.05)
        server.get("/ready")
        self.assertEqual(self.lines(log, 1)[0]["path"], "/ready")
        self.assertEqual(server.stop(), 0)
        self.assertEqual(len(self.lines(old, 2)), 2)

    def test_a_full_disk_costs_lines_and_no_answers(self):
        server = self.serve("--log-file", "/dev/full")
        for _ in range(3):
            self.assertEqual(server.get("/health")[0], 200)
        self.assertEqual(server.stop(), 0)
        said = [line for line in server.log if "/dev/full" in line]
        self.assertEqual(len(said), 1, server.log)
        self.assertIn("No space left", said[0])

    def test_a_reader_that_is_slow_or_gone_holds_nobody_up(self):
        for closes in (False, True):
            process = start("serve", *ON_MODEL, *SMALL, "--port", "0", "--log-requests")
            self.addCleanup(process.stdout.close)
            while not (found := re.search(rb"http://127\.0\.0\.1:(\d+)", process.stderr.readline())):
                pass
            if closes:
                process.stderr.close()
            with socket.create_connection(("127.0.0.1", int(found[1])), timeout=60 * PATIENCE) as connection:
                answers = connection.makefile("rb")
                for _ in range(300):  # more than a pipe takes
                    connection.sendall(b"GET /" + b"x" * 1000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    self.assertTrue(answers.readline().startswith(b"HTTP/1.1 404"))
                    length = 0
                    while (line := answers.readline()) != b"\r\n":
                        name, _, value = line.partition(b": ")
                        length = int(value) if name == b"Content-Length" else length
                    answers.read(length)
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(timeout=30 * PATIENCE), 0)
            if not closes:
                process.stderr.close()

    def test_options_without_effect_are_refused(self):
        for option in (["--log-file", self.folder / "log"], ["--log-prompts"]):
            done = run("serve", *ON_MODEL, *option)
            self.assertEqual(done.returncode, 2)
            self.assertIn("expected --log-requests", done.stderr.decode())
        done = run("serve", *ON_MODEL, "--log-requests", "--log-file", self.folder / "no" / "log")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"{self.folder}/no/log: cannot be opened", done.stderr.decode())


if __name__ == "__main__":
    import unittest

    unittest.main()
