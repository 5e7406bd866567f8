"""lacake serve, as the programs meet it that people use: the packages openai and anthropic."""

import unittest

from program import FABLE
from serve_test import SMALL, Server

try:
    import anthropic
    import openai
except ImportError:  # scripts/setup installs them
    anthropic = openai = None

ASKED = [{"role": "user", "content": "Name a fruit."}]


@unittest.skipIf(openai is None, "the packages openai and anthropic are not installed (scripts/setup)")
class RealClients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(*SMALL, "-c", "400")
        address = f"http://127.0.0.1:{cls.server.port}"
        cls.openai = openai.OpenAI(base_url=address + "/v1", api_key="none", max_retries=0)
        cls.anthropic = anthropic.Anthropic(base_url=address, api_key="none", max_retries=0)
        cls.expected = cls.server.chat("Name a fruit.")["choices"][0]["message"]["content"]

    @classmethod
    def tearDownClass(cls):
        cls.openai.close()
        cls.anthropic.close()
        assert cls.server.stop() == 0

    def test_openai_chats(self):
        chats = self.openai.chat.completions
        whole = chats.create(model="any", messages=ASKED, max_tokens=12, logprobs=True, top_logprobs=2)
        self.assertEqual(whole.choices[0].message.content, self.expected)
        self.assertEqual(whole.usage.completion_tokens, len(whole.choices[0].logprobs.content))
        text, usage = "", None
        for event in chats.create(model="any", messages=ASKED, max_tokens=12, stream=True,
                                  stream_options={"include_usage": True}):
            text += (event.choices[0].delta.content or "") if event.choices else ""
            usage = event.usage or usage
        self.assertEqual(text, self.expected)
        self.assertEqual(usage.prompt_tokens_details.cached_tokens, whole.usage.prompt_tokens)

    def test_openai_completes_and_lists(self):
        self.assertEqual(len(self.openai.models.list().data), 1)
        done = self.openai.completions.create(model="any", prompt="Once upon a time", max_tokens=5, echo=True, logprobs=1)
        self.assertTrue(done.choices[0].text.startswith("Once upon a time"))
        self.assertIsNone(done.choices[0].logprobs.token_logprobs[0])

    def test_openai_responds(self):
        asked = {"model": "any", "input": "Name a fruit.", "max_output_tokens": 12}
        whole = self.openai.responses.create(**asked)
        self.assertEqual((whole.output_text, whole.status), (self.expected, "completed"))
        text, types = "", []
        for event in self.openai.responses.create(**asked, stream=True, store=False, include=[], prompt_cache_key="k",
                                                  tools=[{"type": "web_search"}]):
            types.append(event.type)
            text += event.delta if event.type == "response.output_text.delta" else ""
        self.assertEqual(text, self.expected)
        self.assertEqual((types[0], types[-1]), ("response.created", "response.completed"))
        self.assertEqual(event.response.output_text, self.expected)
        events = list(self.openai.responses.create(model="any", input=FABLE * 3, stream=True))
        self.assertEqual((events[-1].type, events[-1].response.error.code), ("response.failed", "context_length_exceeded"))

    def test_openai_knows_a_prompt_that_is_too_long(self):
        with self.assertRaises(openai.BadRequestError) as raised:
            self.openai.chat.completions.create(model="any", messages=[{"role": "user", "content": FABLE * 3}])
        self.assertEqual(raised.exception.code, "context_length_exceeded")

    def test_anthropic_chats(self):
        messages = self.anthropic.messages
        whole = messages.create(model="any", messages=ASKED, max_tokens=12)
        self.assertEqual((whole.content[0].text, whole.stop_reason), (self.expected, "end_turn"))
        with messages.stream(model="any", messages=ASKED, max_tokens=12) as stream:
            self.assertEqual("".join(stream.text_stream), self.expected)
            self.assertEqual(stream.get_final_message().usage.output_tokens, whole.usage.output_tokens)
        counted = messages.count_tokens(model="any", messages=ASKED).input_tokens
        self.assertEqual(counted, whole.usage.input_tokens + whole.usage.cache_read_input_tokens)

    def test_anthropic_knows_a_wrong_request(self):
        with self.assertRaises(anthropic.BadRequestError):
            self.anthropic.messages.create(model="any", messages=[], max_tokens=12)


if __name__ == "__main__":
    unittest.main()
