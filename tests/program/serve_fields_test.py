"""lacake serve: what is asked for comes, streamed or not, and what cannot be had is refused by the name that was sent."""

import unittest

from serve_test import SMALL, Server
from serve_recorded_test import RECORDED

ASKED = [{"role": "user", "content": "Is water dry? Answer as JSON."}]
BOOLEAN = {"type": "json_schema", "json_schema": {"name": "b", "schema": {"type": "boolean"}}}
TOOL = {"name": "look", "parameters": {"type": "object", "properties": {}}}


class FieldsTest(unittest.TestCase):
    ON = []

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*SMALL, "--kv-budget", "400", *cls.ON)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def taken(self, path, **body):
        status, answered = self.server.post(path, body)
        self.assertEqual(status, 200, answered)
        return answered

    def refused(self, path, line, **body):
        """By one line that begins like this."""
        status, answered = self.server.post(path, body)
        self.assertEqual(status, 400, (body, answered))
        message = answered["error"]["message"]
        self.assertTrue(message.startswith(line), f"{message!r} for {body}")
        self.assertNotIn("\n", message)
        return answered["error"]

    def chat(self, **more):
        return self.taken("/v1/chat/completions", **{"messages": ASKED, "max_tokens": 8, **more})

    def refused_chat(self, line, **more):
        return self.refused("/v1/chat/completions", line, **{"messages": ASKED, "max_tokens": 8, **more})


class Streams(FieldsTest):
    def test_an_answer_by_a_schema_streams_as_the_json_that_it_is(self):
        whole = self.chat(response_format=BOOLEAN)["choices"][0]["message"]["content"]
        self.assertIn(whole, ("true", "false"))
        events, _ = self.server.events("/v1/chat/completions", {"messages": ASKED, "response_format": BOOLEAN})
        self.assertEqual("".join(e["choices"][0]["delta"].get("content") or "" for e in events), whole)
        events, _ = self.server.events("/v1/responses", {
            "input": ASKED[0]["content"], "text": {"format": {"type": "json_schema", "name": "b", **BOOLEAN["json_schema"]}}})
        self.assertEqual("".join(e["delta"] for e in events if e["type"] == "response.output_text.delta"), whole)
        self.assertEqual([e["text"] for e in events if e["type"] == "response.output_text.done"], [whole])
        self.assertEqual(events[-1]["response"]["output"][0]["content"][0]["text"], whole)

    def test_an_echo_streams_before_the_answer_which_comes_once(self):
        for n_answers, n_tokens in ((1, 5), (2, 5), (1, 0)):
            asked = {"prompt": ["Once upon a time", "The sky"], "max_tokens": n_tokens, "echo": True, "n": n_answers,
                     "logprobs": 1}
            whole = {c["index"]: c for c in self.taken("/v1/completions", **asked)["choices"]}
            events, _ = self.server.events("/v1/completions", asked)
            for index, choice in whole.items():
                pieces = [e["choices"][0] for e in events if e["choices"][0]["index"] == index]
                self.assertEqual("".join(piece["text"] for piece in pieces), choice["text"])
                self.assertEqual(pieces[-1]["logprobs"], choice["logprobs"])


class Refused(FieldsTest):
    def test_tools_that_cannot_be_counted_do_not_end_the_server(self):
        self.refused("/v1/messages/count_tokens", "tools[0].name: expected a name", messages=ASKED, tools=[{}])
        self.assertEqual(self.server.get("/health")[0], 200)

    def test_no_token_is_no_token(self):
        asked = {"prompt": "Once upon a time", "n_predict": 0, "return_tokens": True, "n_probs": 1}
        whole = self.taken("/completion", **asked)
        self.assertEqual((whole["content"], whole["tokens"], whole["tokens_predicted"], whole["stop_type"]),
                         ("", [], 0, "limit"))
        self.assertEqual((whole["completion_probabilities"], whole["timings"]["predicted_n"]), ([], 0))
        self.assertEqual(whole["generation_settings"]["n_predict"], 0)
        self.assertGreater(whole["tokens_evaluated"], 3)
        events, _ = self.server.events("/completion", asked)
        self.assertEqual(([e["content"] for e in events], events[-1]["tokens"]), ([""], []))



if __name__ == "__main__":
    unittest.main()
