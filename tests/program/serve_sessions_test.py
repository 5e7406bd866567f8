"""Conversations that a client of lacake serve keeps, copies, moves and looks at."""

import contextlib
import json
import socket
import time

from program import FABLE, run
from serve_test import ServeTest


class Sessions(ServeTest):
    def begun(self, server, key):
        """The id of a conversation of one turn, and its messages with another question."""
        messages = [{"role": "user", "content": FABLE + "Who is sly?"}]
        body = server.chat(messages, lacake={"session": key})
        messages += [body["choices"][0]["message"], {"role": "user", "content": "And who is proud?"}]
        return body["lacake"]["id"], messages

    def go_on(self, server, messages, key):
        """Cached tokens and the text of the next answer."""
        body = server.chat(messages, lacake={"session": key})
        return body["usage"]["prompt_tokens_details"]["cached_tokens"], body["choices"][0]["message"]["content"]

    def test_a_copy_goes_on_by_itself_here_and_in_another_server(self):
        server = self.serve("--store", self.folder / "store")
        id, messages = self.begun(server, "book")
        status, headers, snapshot = server.ask("GET", f"/v1/sessions/{id}/snapshot")
        self.assertEqual((status, headers["Content-Type"]), (200, "application/octet-stream"))
        status, forked = server.post(f"/v1/sessions/{id}/fork", {"session": "branch"})
        self.assertEqual(status, 201)
        self.assertNotEqual(forked["id"], id)
        branch = self.go_on(server, messages, "branch")
        original = self.go_on(server, messages, "book")
        self.assertEqual(branch, original)
        self.assertGreater(branch[0], 150)

        other = self.serve()
        status, restored = other.post("/v1/sessions?session=moved", snapshot)
        self.assertEqual(status, 201)
        self.assertEqual(self.go_on(other, messages, "moved"), original)
        self.assertEqual([s["id"] for s in other.get("/v1/sessions")[1]["data"]], [restored["id"]])

        # The command line reads the same bytes.
        path = self.folder / "book.kv"
        path.write_bytes(snapshot)
        self.assertIn(b"entries in f16, exact prefill", run("inspect", path, "--color", "never").stdout)

    def test_a_key_that_a_conversation_has_is_not_taken_from_it(self):
        server = self.serve()
        id, _ = self.begun(server, "book")
        other, messages = self.begun(server, "other")
        snapshot = server.ask("GET", f"/v1/sessions/{id}/snapshot")[2]
        for key in ("book", "other"):
            for path, body in ((f"/v1/sessions/{id}/fork", {"session": key}), (f"/v1/sessions?session={key}", snapshot)):
                with self.subTest(path=path, key=key):
                    status, answered = server.post(path, body)
                    self.assertEqual((status, answered["error"]["type"]), (409, "conflict_error"))
                    self.assertEqual(answered["error"]["message"],
                                     f'session: expected a key that no conversation has, found "{key}"; '
                                     "delete the one that has it, or give another key")
        self.assertGreater(self.go_on(server, messages, "other")[0], 150)
        self.assertEqual(server.ask("DELETE", f"/v1/sessions/{other}")[0], 200)
        self.assertEqual(server.post(f"/v1/sessions/{id}/fork", {"session": "other"})[0], 201)

    def test_the_list_has_those_in_memory_and_on_disk_of_the_one_who_asks(self):
        server = self.serve("--store", self.folder / "store", "--parallel", "1", "--api-key", "a", "--api-key", "b")
        ask = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
        for key in ("one", "two"):
            server.post("/v1/chat/completions", {**ask, "lacake": {"session": key}}, Authorization="Bearer a")
        mine = server.get("/v1/sessions", Authorization="Bearer a")[1]["data"]
        self.assertEqual(sorted(s["state"] for s in mine), ["disk", "idle"])
        self.assertTrue(all(s["file_bytes"] > 0 for s in mine))
        self.assertEqual(server.get("/v1/sessions", Authorization="Bearer b")[1]["data"], [])
        for session in mine:
            for path in ("cache", "snapshot"):
                status, _, _ = server.ask("GET", f"/v1/sessions/{session['id']}/{path}", None, {"X-Api-Key": "b"})
                self.assertEqual(status, 404)
            self.assertEqual(server.ask("DELETE", f"/v1/sessions/{session['id']}", None, {"X-Api-Key": "b"})[0], 404)
        self.assertEqual(server.get("/v1/sessions", Authorization="Bearer a")[1]["data"], mine)

    def test_the_view_of_a_cache_says_what_each_layer_holds(self):
        server = self.serve()
        id, _ = self.begun(server, "book")
        status, view = server.get(f"/v1/sessions/{id}/cache")
        self.assertEqual((status, view["id"]), (200, id))
        self.assertEqual(len(view["tokens"]), view["n_tokens"])
        self.assertIn("crow was sitting", "".join(view["tokens"]))
        (session,) = server.get("/v1/sessions")[1]["data"]
        self.assertEqual(view["n_tokens"], session["tokens"])
        for i, layer in enumerate(view["layers"]):
            self.assertEqual(layer["layer"], i)
            self.assertEqual(layer["positions"], sorted(set(layer["positions"])))
            self.assertLess(max(layer["positions"]), view["n_tokens"])
            self.assertLessEqual(sum(layer["heads"]), layer["n_heads"] * 96)

    def test_what_is_dropped_is_read_again(self):
        server = self.serve("--store", self.folder / "store")
        id, messages = self.begun(server, "book")
        status, _, body = server.ask("DELETE", f"/v1/sessions/{id}")
        self.assertEqual((status, json.loads(body)["deleted"]), (200, True))
        self.assertEqual(server.get("/v1/sessions")[1]["data"], [])
        self.assertEqual(self.go_on(server, messages, "book")[0], 0)

    def test_whoever_runs_the_server_hears_that_conversations_are_not_kept(self):
        store = self.folder / "store"
        server = self.serve("--store", store, "--store-size", "10KB")
        started = [line for line in server.log if "--store-size" in line]
        self.assertEqual(len(started), 1, server.log)
        self.assertIn("9.77 KiB is less than a conversation may take", started[0])

        def asked(key):
            return server.chat("Hello", 2, lacake={"session": key})["lacake"]
        first = asked("one")
        self.assertEqual([first["stored"], asked("two")["stored"]], [False, False])
        server.stop()
        said = [line for line in server.log if "not kept" in line and line not in started]
        self.assertEqual(len(said), 1, server.log)
        self.assertRegex(said[0], f"^--store-size: expected [^;]* or more for this conversation, found 9.77 KiB; "
                         f"conversation {first['id']} and those after it")

    def test_a_store_that_works_again_is_said_to_fail_again(self):
        store, away = self.folder / "store", self.folder / "away"
        server = self.serve("--store", store)

        def stored(key):
            return server.chat("Hello", 2, lacake={"session": key})["lacake"]["stored"]
        for key in ("a", "b"):
            self.assertTrue(stored(key + "1"))
            store.rename(away)
            self.assertFalse(stored(key + "2"))
            self.assertFalse(stored(key + "3"))
            away.rename(store)
        server.stop()
        said = [line for line in server.log if "not kept" in line]
        self.assertEqual(len(said), 2, server.log)
        for line in said:
            self.assertTrue(line.startswith(f"{store}/lock: cannot be opened: No such file or directory; "), line)

    def test_more_copies_at_once_than_are_kept_in_memory_are_refused(self):
        # A full cache, so that a copy is more than the system takes unread.
        server = self.serve("!--kv-budget", "--policy", "full")
        id = server.chat([{"role": "user", "content": 4 * FABLE + "Who is sly?"}], lacake={"session": "book"})
        id = id["lacake"]["id"]
        with contextlib.ExitStack() as unread:
            sockets = []
            for _ in range(8):
                sockets.append(unread.enter_context(socket.create_connection(("127.0.0.1", server.port))))
                sockets[-1].sendall(f"GET /v1/sessions/{id}/snapshot HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                self.assertEqual(sockets[-1].recv(12), b"HTTP/1.1 200")
            status, headers, body = server.ask("GET", f"/v1/sessions/{id}/snapshot")
            self.assertEqual((status, headers["Retry-After"]), (429, "5"), body)
            self.assertIn("expected 8 conversations at most that are copied at once", json.loads(body)["error"]["message"])
            self.assertEqual(server.post(f"/v1/sessions/{id}/fork", {"session": "x"})[0], 429)
            self.assertEqual(server.get("/health")[0], 200)
        for _ in range(100):  # until it has seen that they are gone
            status = server.ask("GET", f"/v1/sessions/{id}/snapshot")[0]
            if status == 200:
                break
            time.sleep(0.05)
        self.assertEqual(status, 200)

    def test_what_is_wrong_is_named(self):
        server = self.serve()
        id, _ = self.begun(server, "book")
        for method, path, body, expected, words in [
            ("GET", "/v1/sessions/nobody/cache", None, 404, "conversation: expected the id of one that is here"),
            ("GET", "/v1/sessions/..%2F..%2Fetc%2Fpasswd/snapshot", None, 404, ""),
            ("POST", "/v1/sessions?session=x", b"no file of ours", 400, "snapshot: expected a conversation that lacake"),
            ("POST", "/v1/sessions", b"no file of ours", 400, "session: expected the new conversation's key"),
            ("POST", f"/v1/sessions/{id}/fork", {}, 400, "session: expected the new conversation's key"),
            ("POST", f"/v1/sessions/{id}/fork", {"session": 5}, 400, "session"),
            ("POST", f"/v1/sessions/{id}/cache", {}, 405, "expected GET"),
        ]:
            with self.subTest(path=path, method=method):
                status, _, answered = server.ask(method, path, body)
                self.assertEqual(status, expected, answered)
                self.assertIn(words, json.loads(answered)["error"]["message"])
