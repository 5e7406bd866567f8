"""What lacake serve makes of HTTP: methods, limits, headers, keys."""

import gzip
import json
import re

from program import ON_MODEL, run
from serve_test import SMALL, Server, ServeTest


def message_of(received):
    """Of an answer's bytes: (status, error message)."""
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["message"]


class Http(ServeTest):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(*SMALL, "--body-size", "1MiB", "--cors", "http://a.b")

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def test_head_is_get_without_the_body(self):
        for path, status in (("/health", 200), ("/v1/health", 200), ("/ready", 200), ("/metrics", 200), ("/", 200),
                             ("/v1/models", 200), ("/props", 200), ("/nowhere", 404)):
            with self.subTest(path=path):
                got, headers, body = self.server.ask("HEAD", path)
                self.assertEqual((got, body), (status, b""))
                self.assertGreater(int(headers["Content-Length"]), 10)
        # Nothing of a body is left on the connection for the next answer.
        one = b"HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        last = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        received = self.server.raw(one + one + last)
        self.assertEqual(re.findall(rb"HTTP/1\.1 (\d+)", received), [b"200"] * 3)
        self.assertEqual(received.count(b'{"status":"ok"}'), 1)

    def test_a_method_that_a_path_has_not_is_answered_with_all_that_it_has(self):
        for method, path, allowed in (("DELETE", "/v1/sessions", "GET, HEAD, POST"), ("POST", "/health", "GET, HEAD"),
                                      ("POST", "/v1/health", "GET, HEAD"), ("DELETE", "/ready", "GET, HEAD"),
                                      ("POST", "/metrics", "GET, HEAD"), ("POST", "/", "GET, HEAD"),
                                      ("GET", "/v1/sessions/x", "DELETE"), ("HEAD", "/v1/completions", "POST")):
            with self.subTest(path=path, method=method):
                status, headers, body = self.server.ask(method, path)
                self.assertEqual((status, headers["Allow"]), (405, allowed))
                if method != "HEAD":
                    self.assertEqual(json.loads(body)["error"]["message"],
                                     f'"{path}": expected {allowed.replace(", ", " or ")}, found "{method}"')

    def test_a_path_that_is_none_is_named(self):
        self.assertEqual(self.server.get("/nowhere")[1]["error"]["message"], 'File Not Found: "/nowhere"')
        _, body = self.server.get("/%1b%5b2J%c2%9b%ff")
        self.assertEqual(body["error"]["message"], r'File Not Found: "/\u001b[2J\u009b\ufffd"')
        self.assertLess(len(self.server.get("/" + "x" * 5000)[1]["error"]["message"]), 200)

    def test_what_is_too_large_is_told_the_limit_and_its_flag(self):
        post = b"POST /v1/completions HTTP/1.1\r\n"
        self.assertEqual(message_of(self.server.raw(post + b"Content-Length: 2000000\r\n\r\n")),
                         (413, "body: expected at most 1048576 bytes (--body-size), found 2000000"))
        chunk = b"Transfer-Encoding: chunked\r\n\r\n1e8480\r\n"
        self.assertEqual(message_of(self.server.raw(post + chunk)),
                         (413, "body: expected at most 1048576 bytes (--body-size), found more"))
        self.assertEqual(message_of(self.server.raw(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n")),
                         (431, "headers: expected at most 16384 bytes together, found more"))
        keyed = self.serve("--api-key", "k")
        self.assertEqual(message_of(keyed.raw(post + b"Content-Length: 70000\r\n\r\n")),
                         (413, "body: expected at most 65536 bytes from a client without a key of this server, found 70000"))

    def test_a_length_that_is_none_is_named(self):
        post = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
        for lengths, found in ((b"Content-Length: -5\r\n", '"-5"'), (b"content-length: five\r\n", '"five"'),
                               (b"Content-Length: 5\r\nContent-Length: 7\r\n", '"7" beside "5"')):
            self.assertEqual(message_of(self.server.raw(post + lengths + b"\r\n")),
                             (400, f"Content-Length: expected one number of bytes, found {found}"))
        self.assertEqual(message_of(self.server.raw(b"nonsense\r\n\r\n"))[0], 400)

    def test_a_body_that_is_compressed_is_refused_by_its_header(self):
        body = gzip.compress(b'{"content": "Hi"}')
        status, headers, answered = self.server.ask("POST", "/tokenize", body, {"Content-Encoding": "gzip"})
        self.assertEqual((status, headers["Accept-Encoding"]), (415, "identity"))
        error = json.loads(answered)["error"]
        self.assertEqual(error["type"], "invalid_request_error")
        self.assertEqual(error["message"],
                         'Content-Encoding: expected none, as bodies are not decompressed, found "gzip"')
        self.assertEqual(self.server.ask("POST", "/tokenize", b'{"content": "Hi"}', {"Content-Encoding": "identity"})[0], 200)

    def test_requests_that_cannot_be_read_have_their_error_in_the_log(self):
        server = self.serve("--log-requests", "--body-size", "1MiB")
        server.raw(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n")
        server.raw(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n")
        server.raw(b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n")
        server.raw(b"nonsense\r\n\r\n")
        server.ask("HEAD", "/health")
        server.stop()
        lines = [json.loads(line) for line in server.log if line.startswith("{")]
        self.assertEqual([line["status"] for line in lines], [413, 431, 400, 400, 200])
        for line, words in zip(lines, ("body: ", "headers: ", "Content-Length: ", "HTTP/1.1")):
            self.assertIn(words, line["error"])
        self.assertEqual(lines[-1]["bytes"], 0)

    def test_a_key_is_asked_for_by_the_headers_that_carry_it(self):
        server = self.serve("--api-key-file", self.file("keys", "# comment\nk\n"))
        for headers, status, found in (({}, 401, "none"), ({"Authorization": "Bearer no"}, 401, "another"),
                                       ({"X-Api-Key": "no"}, 401, "another"), ({"X-Api-Key": "# comment"}, 401, "another"),
                                       ({"Authorization": "bearer k"}, 200, ""), ({"Authorization": "BEARER k"}, 200, ""),
                                       ({"Authorization": "Bearer K"}, 401, "another"), ({"X-Api-Key": "k"}, 200, "")):
            with self.subTest(headers=headers):
                got, answered, body = server.ask("GET", "/props", None, headers)
                self.assertEqual(got, status)
                if status == 401:
                    self.assertEqual(answered["WWW-Authenticate"], "Bearer")
                    line = json.loads(body)["error"]["message"]
                    self.assertTrue(line.startswith("Authorization or X-Api-Key: expected a key of this server"), line)
                    self.assertTrue(line.endswith(f"found {found}"), line)
        done = run("serve", *ON_MODEL, "--port", "0", "--api-key-file", self.file("none", "# comment\n"), timeout=20)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"expected a key on a line", done.stderr)


if __name__ == "__main__":
    import unittest

    unittest.main()
