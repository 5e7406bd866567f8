"""lacake serve, asked as programs ask it that cannot be run here: recorded/*.json holds their requests, sent as they
are. Checked is what these programs read of the answers."""

import json
import pathlib
import unittest

from serve_test import SMALL, Server

RECORDED = pathlib.Path(__file__).parent / "recorded"
# Answers end soon whoever asks: the token that ends them is likelier.
SHORT = ["-l", "2+8", "-n", "24", "-c", "1000", "--kv-budget", "1000"]


def with_answer(value, answer):
    """A recorded value with the text that came in place of "<answer>"."""
    if isinstance(value, dict):
        return {name: with_answer(one, answer) for name, one in value.items()}
    if isinstance(value, list):
        return [with_answer(one, answer) for one in value]
    return answer if value == "<answer>" else value


class Recorded(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(*SMALL, *SHORT, "--chat-template-file", RECORDED / "tools.jinja")

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def send(self, request, headers):
        status, received, body = self.server.ask("POST", request["path"], request["body"], headers)
        return status, received["Content-Type"], body.decode()

    def events(self, request, headers):
        """[(name or None, data)] of a stream; data that is no JSON as it is."""
        status, kind, text = self.send(request, headers)
        self.assertEqual((status, kind), (200, "text/event-stream"), text)
        events = []
        for block in text.split("\n\n"):
            lines = [line for line in block.split("\n") if line and not line.startswith(":")]
            if not lines:
                continue
            name = next((line[len("event: "):] for line in lines if line.startswith("event: ")), None)
            data = next(line[len("data: "):] for line in lines if line.startswith("data: "))
            events.append((name, data if data == "[DONE]" else json.loads(data)))
        return events

    def talk(self, name, checker):
        """Sends a client's turns. What the checker found of the usage: [(tokens of the prompt, of these held)]"""
        recorded = json.loads((RECORDED / f"{name}.json").read_text())
        usages, answer = [], ""
        for turn in recorded["turns"]:
            answer, usage = checker(self.events(with_answer(turn, answer), recorded["headers"]))
            usages.append(usage)
        return recorded, usages

    def reads_only_what_is_new(self, usages):
        (n_first, n_held), (n_second, n_held_then) = usages
        self.assertEqual(n_held, 0)
        # All of the first prompt but the opening of its answer, which is read again.
        self.assertGreater(n_held_then, n_first - 8)
        self.assertLess(n_held_then, n_second)

    # --- what each client reads ---------------------------------------------------------------------------------------

    def codex(self, events):
        for name, data in events:
            self.assertEqual(data["type"], name)
        types = [name for name, _ in events]
        self.assertEqual((types[0], types[-1]), ("response.created", "response.completed"))
        created, completed = events[0][1]["response"], events[-1][1]["response"]
        self.assertEqual(created["id"], completed["id"])
        text, items, added = "", [], []
        for name, data in events:
            if name == "response.output_item.added":
                added.append(data["item"])
            elif name == "response.output_text.delta":
                text += data["delta"]
            elif name == "response.output_item.done":
                items.append(data["item"])
        self.assertEqual([item["type"] for item in added], [item["type"] for item in items])
        said = "".join(part["text"] for item in items if item["type"] == "message" for part in item["content"])
        self.assertEqual(text, said)
        usage = completed["usage"]
        self.assertEqual(usage["total_tokens"], usage["input_tokens"] + usage["output_tokens"])
        self.assertIn("reasoning_tokens", usage["output_tokens_details"])
        return text, (usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"])

    def claude_code(self, events):
        for name, data in events:
            self.assertEqual(data["type"], name)
        order = [name for name, _ in events if name not in ("content_block_delta", "ping")]
        self.assertEqual((order[0], order[-2:]), ("message_start", ["message_delta", "message_stop"]))
        self.assertEqual(order[1:-2], ["content_block_start", "content_block_stop"] * ((len(order) - 3) // 2))
        message = events[0][1]["message"]
        self.assertEqual((message["role"], message["content"]), ("assistant", []))
        text, open_at = "", None
        for name, data in events:
            if name == "content_block_start":
                open_at = data["index"]
            elif name == "content_block_delta":
                self.assertEqual(data["index"], open_at)
                text += data["delta"].get("text", "")
        ended = next(data for name, data in events if name == "message_delta")
        self.assertIn(ended["delta"]["stop_reason"], ("end_turn", "max_tokens", "tool_use"))
        usage = {**message["usage"], **ended["usage"]}
        self.assertEqual(usage["output_tokens"] > 0, "content_block_start" in order)
        n_held = usage["cache_read_input_tokens"]
        return text, (usage["input_tokens"] + n_held + usage["cache_creation_input_tokens"], n_held)

    def chat(self, events):
        """The package openai and what is built on it."""
        self.assertEqual(events[-1], (None, "[DONE]"))
        chunks = [data for _, data in events[:-1]]
        self.assertEqual({chunk["id"] for chunk in chunks}, {chunks[0]["id"]})
        self.assertEqual({chunk["object"] for chunk in chunks}, {"chat.completion.chunk"})
        self.assertEqual(chunks[0]["choices"][0]["delta"]["role"], "assistant")
        text, reasons = "", []
        for chunk in chunks:
            for choice in chunk["choices"]:
                text += choice["delta"].get("content") or ""
                reasons.append(choice["finish_reason"])
        self.assertEqual([reason for reason in reasons if reason], reasons[-1:])
        self.assertIn(reasons[-1], ("stop", "length", "tool_calls"))
        self.assertEqual(chunks[-1]["choices"], [])
        usage = chunks[-1]["usage"]
        return text, (usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"])

    # ------------------------------------------------------------------------------------------------------------------

    def test_codex(self):
        _, usages = self.talk("codex", self.codex)
        self.reads_only_what_is_new(usages)

    def test_claude_code_whose_first_line_changes_with_every_request(self):
        recorded, usages = self.talk("claude_code", self.claude_code)
        self.reads_only_what_is_new(usages)
        status, _, text = self.send(recorded["counted"], recorded["headers"])
        self.assertEqual((status, json.loads(text)), (200, {"input_tokens": usages[0][0]}))

    def test_only_that_line_of_claude_code_is_made_the_same(self):
        def counted(system):
            body = {"messages": [{"role": "user", "content": "Hi"}], "system": system}
            return self.server.post("/v1/messages/count_tokens", body)[1]["input_tokens"]
        line = "x-anthropic-billing-header: cc_version=2; cch={};"
        self.assertEqual(counted(line.format("a5145")), counted(line.format("0")))
        for system in ("Mark cch={};", line.format("0") + "\nMark cch={};"):
            self.assertGreater(counted(system.format("a5145a5145a5145")), counted(system.format("0")))

    def test_opencode(self):
        recorded, usages = self.talk("opencode", self.chat)
        self.reads_only_what_is_new(usages)
        status, _, text = self.send(recorded["overflow"], recorded["headers"])
        error = json.loads(text)["error"]
        self.assertEqual((status, error["code"]), (400, "context_length_exceeded"))
        self.assertRegex(error["message"], "exceeds the available context size")

    def test_open_webui(self):
        _, usages = self.talk("open_webui", self.chat)
        self.reads_only_what_is_new(usages)

    def test_continue(self):
        def checked(events):
            pieces = [data for _, data in events]
            self.assertEqual([piece["stop"] for piece in pieces], [False] * (len(pieces) - 1) + [True])
            return "".join(piece["content"] for piece in pieces), None
        recorded = json.loads((RECORDED / "continue.json").read_text())
        text, _ = checked(self.events(recorded["turns"][0], recorded["headers"]))
        self.assertTrue(text)


if __name__ == "__main__":
    unittest.main()
