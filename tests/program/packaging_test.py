"""What runs lacake serve for others, with the programs that it is for."""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import unittest

from program import PATIENCE, PROGRAM, ProgramTest
from serve_test import SMALL, Server

KEY = {"Authorization": "Bearer secret"}

PACKAGING = pathlib.Path(__file__).parents[2] / "packaging"
PLACES = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"}
HAPROXY, NGINX = (shutil.which(name, path=PLACES["PATH"]) for name in ("haproxy", "nginx"))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


class Keyed(Server):
    def ask(self, method, path, body=None, headers=None):
        return super().ask(method, path, body, {**KEY, **(headers or {})})


class Unit(ProgramTest):
    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd is not here")
    def test_systemd_takes_it(self):
        text = (PACKAGING / "lacake.service").read_text().replace("/usr/local/bin/lacake", PROGRAM)
        unit = self.file("lacake.service", text)
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True)
        said = [line for line in done.stderr.decode().splitlines() if "lacake" in line]  # not of this machine's own units
        self.assertEqual((done.returncode, said), (0, []))

    def test_it_gives_answers_their_time(self):
        text = (PACKAGING / "lacake.service").read_text()
        drain, stop = (int(text.split(name)[1].split()[0]) for name in ("--drain-time ", "TimeoutStopSec="))
        self.assertGreater(stop, drain)


class Proxies(ProgramTest):
    def start(self, *command):
        proxy = subprocess.Popen(command, env=PLACES, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.addCleanup(proxy.stdout.close)
        self.addCleanup(proxy.wait)
        self.addCleanup(proxy.terminate)
        for _ in range(100 * PATIENCE):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                self.assertIsNone(proxy.poll(), proxy.stdout)
                time.sleep(0.05)

    def placed(self, name):
        """A configuration with ports of this test, and the servers that it names."""
        self.servers = []
        for _ in range(2):
            server = Keyed(*SMALL, "--store", self.folder / "store", "--api-key", "secret", "--admin-key", "op")
            self.addCleanup(lambda server=server: server.process.poll() is None and server.stop())
            self.servers.append(server)
        self.port = free_port()
        text = (PACKAGING / name).read_text()
        for old, new in (("8080", self.port), ("8081", self.servers[0].port), ("8082", self.servers[1].port)):
            text = text.replace(old, str(new))
        return self.file(name, text)

    def ask(self, messages, **headers):
        """(cached tokens, messages with the answer)"""
        for _ in range(100 * PATIENCE):
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60 * PATIENCE)) as connection:
                connection.request("POST", "/v1/chat/completions", json.dumps({"messages": messages, "max_tokens": 4}),
                                   {**KEY, **headers})
                response = connection.getresponse()
                body = json.loads(response.read())
            if response.status != 503:  # a server drains, and the proxy has not seen it yet: clients ask again
                break
            time.sleep(0.1)
        self.assertEqual(response.status, 200, body)
        self.assertTrue(response.headers["X-Request-Id"])
        cached = body["usage"]["prompt_tokens_details"]["cached_tokens"]
        return cached, [*messages, {"role": "assistant", "content": body["choices"][0]["message"]["content"]}]

    def check(self):
        asked = {"role": "user", "content": "Name a fruit and a tree."}
        names = ("X-Conversation-Id", "X-Claude-Code-Session-Id", "x-session-affinity", "X-Session-Id", "X-OpenWebUI-Chat-Id")
        talks = []
        for i in range(3):
            for name in names:
                key = {name: f"{name} {i}"}
                cached, messages = self.ask([asked], **key)
                self.assertEqual(cached, 0)
                cached, messages = self.ask([*messages, {"role": "user", "content": "And a bird."}], **key)
                self.assertGreater(cached, 10)
                talks.append((key, messages))
        stored = [server.metric("lacake_conversations_stored_total") for server in self.servers]
        self.assertEqual(sum(stored), 2 * len(talks))
        self.assertTrue(all(stored), stored)

        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60 * PATIENCE)
        self.addCleanup(connection.close)
        connection.request("POST", "/v1/completions", json.dumps({"prompt": "Once", "max_tokens": 100000, "ignore_eos": True,
                                                                  "stream": True}), KEY)
        self.assertTrue(connection.getresponse().read(20).startswith(b"data: "))  # it comes while it is written
        connection.close()
        for _ in range(200 * PATIENCE):
            if n_cancelled := sum(server.metric("lacake_requests_cancelled_total") for server in self.servers):
                break
            time.sleep(0.05)
        self.assertEqual(n_cancelled, 1)

        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60 * PATIENCE)
        self.addCleanup(connection.close)
        connection.request("POST", "/drain", "{}", KEY)
        self.assertEqual(connection.getresponse().status, 404)

        # One drains, then it is killed: its conversations go on at the other each time.
        leaving, staying = self.servers
        leaving.post("/drain", {}, Authorization="Bearer op")
        for kills in (False, True):
            if kills:
                leaving.process.send_signal(signal.SIGKILL)
                leaving.process.wait()
                leaving.closed()
            before = staying.metric("lacake_conversations_loaded_total")
            for i, (key, messages) in enumerate(talks):
                cached, talks[i] = self.ask([*messages, {"role": "user", "content": "Again."}], **key)
                talks[i] = key, talks[i]
                self.assertGreater(cached, 20)
            self.assertGreater(staying.metric("lacake_conversations_loaded_total"), before)

    @unittest.skipUnless(HAPROXY, "HAProxy is not here")
    def test_haproxy(self):
        self.start(HAPROXY, "-db", "-f", self.placed("haproxy.cfg"))
        self.check()

    @unittest.skipUnless(NGINX, "nginx is not here")
    def test_nginx(self):
        inner = self.placed("nginx.conf")
        temporary = " ".join(f"{name}_temp_path {self.folder}/{name};" for name in
                             ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        whole = self.file("whole.conf", f"daemon off; master_process off; pid {self.folder}/pid; error_log stderr;\n"
                          f"events {{}}\nhttp {{ access_log off; {temporary} include {inner}; }}\n")
        self.start(NGINX, "-p", self.folder, "-c", whole)
        self.check()


if __name__ == "__main__":
    unittest.main()
