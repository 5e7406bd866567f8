"""Two servers with one store."""

import hashlib

from program import FABLE
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


if __name__ == "__main__":
    import unittest

    unittest.main()
