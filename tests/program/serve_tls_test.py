"""lacake serve over TLS."""

import contextlib
import http.client
import json
import re
import socket
import ssl
import subprocess
import time
import warnings

from program import ON_MODEL, PATIENCE, ProgramTest, run
from serve_test import SMALL, Server

ENDLESS = {"messages": [{"role": "user", "content": "Count to a thousand."}], "max_tokens": 100000, "ignore_eos": True}


def certificate(folder, name):
    """(key, certificate) of "localhost", signed by itself."""
    key, cert = folder / f"{name}.key", folder / f"{name}.crt"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2",
                    "-keyout", key, "-out", cert], check=True, capture_output=True)
    return key, cert


class TlsServer(Server):
    def __init__(self, key, cert, *arguments):
        super().__init__("--ssl-key-file", key, "--ssl-cert-file", cert, *arguments)
        self.context = ssl.create_default_context(cafile=cert)

    def connection(self):
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60 * PATIENCE, context=self.context)


class Tls(ProgramTest):
    def setUp(self):
        super().setUp()
        self.key, self.cert = certificate(self.folder, "own")

    def serve(self, *arguments):
        server = TlsServer(self.key, self.cert, *SMALL, *arguments)
        self.addCleanup(lambda: server.process.poll() is None and server.stop())
        return server

    def closed_by_server(self, data):
        """What comes of bytes that are no TLS, until the server closes."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=30 * PATIENCE) as connection:
            connection.sendall(data)
            received = b""
            with contextlib.suppress(ConnectionResetError):
                while part := connection.recv(65536):
                    received += part
            return received

    def test_clients_are_answered_and_let_go(self):
        self.server = server = self.serve("--request-time", "1")
        self.assertTrue(any("listening on https://127.0.0.1:" in line for line in server.log))
        whole = server.chat("Name a fruit.")["choices"][0]["message"]["content"]
        events, last = server.events("/v1/chat/completions",
                                     {"messages": [{"role": "user", "content": "Name a fruit."}], "max_tokens": 12})
        self.assertEqual("".join(e["choices"][0]["delta"].get("content") or "" for e in events), whole)
        self.assertEqual(last, "[DONE]")
        with contextlib.closing(server.connection()) as connection:  # several requests, and a large one
            for text in ("Hi", "word " * 100_000, "Hi"):
                connection.request("POST", "/tokenize", json.dumps({"content": text}))
                response = connection.getresponse()
                self.assertEqual(response.status, 200)
                self.assertGreater(len(json.loads(response.read())["tokens"]), len(text) // 6)

        # A handshake that does not end, also one that drips, and plain HTTP: closed at the deadline or before.
        for data in (b"", b"\x16\x03\x01\x02\x00", b"GET /health HTTP/1.1\r\n\r\n"):
            self.assertNotIn(b"HTTP/1.1", self.closed_by_server(data), data)
        with socket.create_connection(("127.0.0.1", server.port), timeout=30 * PATIENCE) as connection:
            with self.assertRaises(OSError):
                for byte in b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc" + b"\0" * 2000:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.02)
        with contextlib.closing(server.connection()) as connection:  # a request that drips
            connection.connect()
            with self.assertRaises(OSError):
                for byte in b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 300:
                    connection.sock.sendall(bytes([byte]))
                    time.sleep(0.02)

        # Who goes, with a word of TLS or without, while it streams or before: the work ends.
        before = server.metric("lacake_requests_cancelled_total")
        ways = [(stream, polite) for stream in (True, False) for polite in (True, False)]
        for stream, polite in ways:
            connection = server.connection()
            connection.request("POST", "/v1/chat/completions", json.dumps({**ENDLESS, "stream": stream}))
            if stream:
                connection.getresponse().read(10)
            while server.metric("lacake_requests_writing") == 0:
                time.sleep(0.02)
            if polite:
                with contextlib.suppress(OSError):
                    connection.sock.settimeout(0.2)
                    connection.sock.unwrap()
            connection.close()
            for _ in range(200 * PATIENCE):
                if server.metric("lacake_requests_writing") == 0:
                    break
                time.sleep(0.05)
            self.assertEqual(server.metric("lacake_requests_writing"), 0, (stream, polite))
        self.assertEqual(server.metric("lacake_requests_cancelled_total"), before + len(ways))

    def test_two_requests_at_once_are_answered_and_the_end_is_told(self):
        server = self.serve()
        one = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        last = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=30 * PATIENCE) as plain:
            with server.context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as connection:
                connection.sendall(one + one + last)
                received = b""
                while part := connection.recv(65536):  # a cut would be an error
                    received += part
        self.assertEqual(re.findall(rb"HTTP/1\.1 (\d+)", received), [b"200", b"200", b"404"])

    def test_old_versions_are_refused(self):
        server = self.serve()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            server.context.minimum_version = ssl.TLSVersion.TLSv1
            server.context.maximum_version = ssl.TLSVersion.TLSv1_1
        server.context.set_ciphers("ALL:@SECLEVEL=0")
        with self.assertRaises(ssl.SSLError):
            server.get("/health")
        server.context.maximum_version = server.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.assertEqual(server.get("/health")[0], 200)

    def test_files_that_cannot_be_used_are_named(self):
        other_key, _ = certificate(self.folder, "other")
        none, locked = self.folder / "none.pem", self.folder / "locked.key"
        subprocess.run(["openssl", "pkey", "-in", self.key, "-out", locked, "-aes256", "-passout", "pass:x"], check=True)
        text = self.file("text.pem", "no certificate")
        empty = self.file("empty.pem", "")
        for key, cert, named in ((none, self.cert, none), (self.key, none, none), (text, self.cert, text),
                                 (self.key, text, text), (other_key, self.cert, other_key), (locked, self.cert, locked),
                                 (empty, self.cert, empty), (self.key, empty, empty)):
            done = run("serve", *ON_MODEL, "--port", "0", "--ssl-key-file", key, "--ssl-cert-file", cert)
            line = done.stderr.decode()
            self.assertEqual((done.returncode, line.count("\n")), (1, 1), line)
            flag = "--ssl-key-file" if key == named else "--ssl-cert-file"
            self.assertIn(f"{flag} {named}: expected ", line)
            self.assertEqual("found an empty file" in line, named == empty, line)
        for alone, missing in (("--ssl-key-file", "--ssl-cert-file"), ("--ssl-cert-file", "--ssl-key-file")):
            done = run("serve", *ON_MODEL, "--port", "0", alone, self.key)
            self.assertEqual(done.returncode, 2)
            self.assertIn(missing, done.stderr.decode())


if __name__ == "__main__":
    import unittest

    unittest.main()
