"""Two servers with one store, and one that makes room for the other."""

import hashlib
import json
import re
import time

from program import FABLE, PATIENCE
from serve_test import ServeTest


class Two(ServeTest):
    def setUp(self):
        super().setUp()
        self.store = self.folder / "store"
        self.headers = {"X-Conversation-Id": "fable"}

    def ask(self, server, messages):
        """The answer's text and usage."""
        status, body = server.post("/v1/chat/completions", {"messages": messages, "max_tokens": 12}, **self.headers)
        self.assertEqual(status, 200, body)
        return body["choices"][0]["message"]["content"], body["usage"]

    def asked_first(self, server):
        """A conversation of one question and its answer, and how many tokens of it are held."""
        messages = [{"role": "user", "content": FABLE + "Who is sly?"}]
        text, usage = self.ask(server, messages)
        self.assertEqual(usage["prompt_tokens_details"]["cached_tokens"], 0)
        messages += [{"role": "assistant", "content": text}, {"role": "user", "content": "And who is proud?"}]
        return messages, usage["prompt_tokens"]

    def kept(self):
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.store.iterdir()
                if path.stat().st_size > 0}

    def test_what_one_was_killed_with_the_other_goes_on_with(self):
        first, second = self.serve("--store", self.store), self.serve("--store", self.store)
        messages, n_held = self.asked_first(first)
        first.kill()
        _, usage = self.ask(second, messages)
        self.assertGreaterEqual(usage["prompt_tokens_details"]["cached_tokens"], n_held)
        self.assertEqual(second.metric("lacake_conversations_loaded_total"), 1)

    def test_while_one_has_it_the_other_reads_by_itself_and_keeps_nothing(self):
        first, second = self.serve("--store", self.store), self.serve("--store", self.store)
        messages, _ = self.asked_first(first)
        before = self.kept()
        self.assertEqual(len(before), 1)
        text, usage = self.ask(second, messages[:1])
        self.assertEqual((text, usage["prompt_tokens_details"]["cached_tokens"]), (messages[1]["content"], 0))
        _, usage = self.ask(second, messages)  # from its own memory
        self.assertGreater(usage["prompt_tokens_details"]["cached_tokens"], 0)
        self.assertEqual(self.kept(), before)
        self.assertEqual(second.metric("lacake_conversations_stored_total"), 0)
        self.assertEqual(second.metric("lacake_store_failures_total"), 0)
        _, usage = self.ask(first, messages)  # nothing was taken from it
        self.assertGreater(usage["prompt_tokens_details"]["cached_tokens"], 150)
        self.assertNotEqual(self.kept(), before)

    def test_one_that_drains_leaves_its_conversations_to_the_other(self):
        key, operator = {"Authorization": "Bearer secret"}, {"Authorization": "Bearer op"}
        first, second = (self.serve("--store", self.store, "--api-key", "secret", "--admin-key", "op") for _ in range(2))
        self.headers.update(key)
        messages, n_held = self.asked_first(first)
        connection = first.connection()
        self.addCleanup(connection.close)
        connection.request("POST", "/v1/completions", json.dumps(
            {"prompt": "Once upon", "max_tokens": 100000, "ignore_eos": True, "stream": True}), key)
        stream = connection.getresponse()
        stream.read(10)
        for other in ({}, key):
            self.assertEqual(first.post("/drain", {}, **other)[0], 403)
        self.assertEqual(first.get("/ready")[0], 200)
        for wrong in ({"deadline": 3}, {"deadline_s": "soon"}, {"deadline_s": -1}):
            self.assertEqual(first.post("/drain", wrong, **operator)[0], 400, wrong)
        self.assertEqual(first.get("/ready")[0], 200)
        status, headers, body = first.ask("POST", "/drain", None, operator)
        self.assertEqual((status, json.loads(body)), (200, {"status": "draining", "requests": 1}))

        status, headers, body = first.ask("POST", "/v1/chat/completions", {"messages": messages}, key)
        self.assertEqual((status, headers["Retry-After"], json.loads(body)["error"]["type"]), (503, "5", "unavailable_error"))
        self.assertEqual([first.get(path)[0] for path in ("/ready", "/health")], [503, 200])
        _, usage = self.ask(second, messages)
        self.assertGreaterEqual(usage["prompt_tokens_details"]["cached_tokens"], n_held)

        stream.read(2000)  # what runs goes on
        self.assertEqual(first.post("/drain", {"deadline_s": 0.1}, **operator)[1]["requests"], 1)
        *_, last, done = stream.read().decode().strip().split("\n\n")
        self.assertEqual(done, "data: [DONE]")
        self.assertEqual(json.loads(last[len("data: "):])["choices"][0]["finish_reason"], "stop")  # else "length"
        for _ in range(100 * PATIENCE):
            left = first.post("/drain", {}, **operator)[1]
            if left["requests"] == 0:
                break
            time.sleep(0.05)
        self.assertEqual(left, {"status": "draining", "requests": 0})
        self.assertEqual(first.stop(), 0)

    def test_a_server_without_its_key_is_not_drained(self):
        server = self.serve()
        status, body = server.post("/drain", {})
        self.assertEqual((status, body["error"]["type"]), (403, "permission_error"))
        self.assertTrue(re.search("--admin-key", body["error"]["message"]))
        self.assertEqual(server.get("/ready")[0], 200)
        server.chat("Hi", n_new=1)


if __name__ == "__main__":
    import unittest

    unittest.main()
