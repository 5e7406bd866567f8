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
    def test_the_older_completions_follow_a_format_too(self):
        text = self.taken("/v1/completions", prompt="Is water dry?", response_format=BOOLEAN)["choices"][0]["text"]
        self.assertIn(text, ("true", "false"))
        self.refused("/v1/completions", "response_format: expected none beside json_schema", prompt="Is water dry?",
                     response_format=BOOLEAN, json_schema={"type": "boolean"})

    def test_messages_of_anthropic_follow_a_format_too(self):
        asked = {"messages": ASKED, "max_tokens": 8}
        format = {"type": "json_schema", "schema": {"type": "boolean"}}
        for more in ({"output_config": {"format": format, "effort": "low"}}, {"output_format": format}):
            self.assertIn(self.taken("/v1/messages", **asked, **more)["content"][0]["text"], ("true", "false"))
        self.refused("/v1/messages", "output_config.format.type: expected text, json_object or json_schema", **asked,
                     output_config={"format": {}})

    def test_an_item_that_is_not_known_is_refused(self):
        for item in ({"type": "nonsense"}, {"type": "item_reference", "id": "msg_1"}):
            self.refused("/v1/responses", "input[1].type: expected message, reasoning, function_call, function_call_output, "
                         f'custom_tool_call or custom_tool_call_output, found "{item["type"]}"',
                         input=[{"role": "user", "content": "Hi"}, item])
        # It ran elsewhere, and the answer behind it says what came of it.
        self.taken("/v1/responses", max_output_tokens=1,
                   input=[{"role": "user", "content": "Hi"}, {"type": "web_search_call", "id": "ws_1", "status": "completed"}])

    def test_what_responses_do_not_keep_is_refused(self):
        for path in ("/v1/responses", "/v1/responses/input_tokens"):
            for field, value in (("previous_response_id", "resp_1"), ("conversation", "conv_1"), ("conversation", {"id": "c"}),
                                 ("prompt", {"id": "pmpt_1"})):
                self.refused(path, f"{field}: expected none, but the whole conversation as input", input="Hi", **{field: value})
        self.taken("/v1/responses", input="Hi", max_output_tokens=1, conversation=None, prompt=None,
                   previous_response_id=None)

    def test_calls_of_tools_are_not_left_out_where_the_template_cannot_say_them(self):
        call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        line = ": they have calls of tools, and the model's chat template knows no tools"
        self.refused_chat("messages" + line, messages=[*ASKED, {"role": "assistant", "tool_calls": [call]},
                                                       {"role": "tool", "tool_call_id": "c", "content": "It is."}])
        use = {"type": "tool_use", "id": "c", "name": "look", "input": {}}
        self.refused("/v1/messages", "messages" + line, max_tokens=8,
                     messages=[*ASKED, {"role": "assistant", "content": [use]},
                               {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "It is."}]}])
        for item in ({"type": "function_call", "arguments": "{}"}, {"type": "custom_tool_call", "input": "x"}):
            self.refused("/v1/responses", "input" + line, input=[*ASKED, {**item, "call_id": "c", "name": "look"}])

    def test_a_user_calls_no_tools(self):
        call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        self.refused_chat('messages[0].role: expected assistant, where there are tool_calls, found "user"',
                          messages=[{**ASKED[0], "tool_calls": [call]}])
        self.chat(messages=[{**ASKED[0], "tool_calls": []}])
        self.refused("/v1/messages", "messages[0].content[0].type: expected no tool_use but in an assistant's message",
                     max_tokens=8, messages=[{"role": "user", "content": [{"type": "tool_use", "name": "look", "input": {}}]}])

    def test_a_part_without_text_is_refused_by_its_place(self):
        text = {"type": "text", "text": "Hi"}
        none = ": expected a text, found none"
        no_type = ': expected "text": this model reads nothing else, found none'
        for part, line in (({"type": "text"}, ".text" + none), ({}, ".type" + no_type),
                           ({"image_url": {"url": "x"}}, ".type" + no_type), ({"type": "text", "text": None}, ".text" + none),
                           ({"type": "input_text"}, ".text" + none), (7, ": expected an object, found 7")):
            self.refused_chat("messages[0].content[1]" + line, messages=[{"role": "user", "content": [text, part]}])
            self.refused("/v1/responses", "input[0].content[1]" + line, input=[{"role": "user", "content": [text, part]}])
        self.refused_chat("messages[0].content: expected a text or a list of parts, found none", messages=[{"role": "user"}])
        self.refused("/v1/responses", "input[0].content: expected a text or a list of parts, found none",
                     input=[{"role": "user"}])
        asked = {"max_tokens": 8, "messages": ASKED}
        self.refused("/v1/messages", "system[0].text" + none, **asked, system=[{"type": "text"}])
        self.refused("/v1/messages", "messages[0].content[1].text" + none, max_tokens=8,
                     messages=[{"role": "user", "content": [text, {"type": "text"}]}])
        result = {"type": "tool_result", "tool_use_id": "c"}
        self.refused("/v1/messages", "messages[0].content[0].content[0].text" + none, max_tokens=8,
                     messages=[{"role": "user", "content": [{**result, "content": [{"type": "text"}]}]}])
        # A tool may have nothing to say, and an answer may have been stopped before its first word.
        self.taken("/v1/messages", max_tokens=8, messages=[{"role": "user", "content": [result, text]}])
        self.chat(messages=[*ASKED, {"role": "assistant", "content": None}, ASKED[0]])

    def test_to_require_a_call_there_must_be_a_tool(self):
        line = "tool_choice: expected auto or none, where there are no tools to call, found one that requires a call"
        for tools in ({}, {"tools": []}):
            self.refused_chat(line, tool_choice="required", **tools)
            self.refused("/v1/messages", line, messages=ASKED, max_tokens=8, tool_choice={"type": "any"}, **tools)
            self.refused("/v1/responses", line, input="Hi", tool_choice="required", **tools)
        self.refused("/v1/responses", line, input="Hi", tool_choice="required", tools=[{"type": "web_search"}])
        self.refused("/v1/messages", "tool_choice.name: expected one of the tools", messages=ASKED, max_tokens=8,
                     tool_choice={"type": "tool", "name": "look"})
        self.chat(tool_choice="auto")

    def test_a_tool_of_another_form_is_refused(self):
        for tool in ({"type": "custom", "custom": {"name": "x"}}, {"type": "nonsense"}):
            self.refused_chat(f'tools[0].type: expected function, found "{tool["type"]}"', tools=[tool])
        for tool in ({}, {"type": "nonsense"}):
            self.refused("/v1/responses", "tools[0].type: expected function, or a tool of the service, found", input="Hi",
                         tools=[tool])
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            asked = {"messages": ASKED, "max_tokens": 8}
            self.refused(path, "tools[0].type: expected custom, or a tool of the service", **asked,
                         tools=[{"type": "function", "function": TOOL}])
            self.refused(path, "tools[0].name: expected", **asked, tools=[{"function": TOOL}])
            for type in ("web_search_20250305", "tool_search_tool_regex", "mcp_toolset"):
                self.taken(path, **asked, tools=[{"type": type, "name": "x"}])
        ignored = [{"type": "web_search"}, {"type": "custom", "name": "apply_patch"}, {"type": "local_shell"},
                   {"type": "web_search_preview_2025_03_11"}]
        self.taken("/v1/responses", input="Hi", max_output_tokens=1, tools=ignored, tool_choice="auto")

    def test_tools_that_cannot_be_counted_do_not_end_the_server(self):
        self.refused("/v1/messages/count_tokens", "tools[0].name: expected a name", messages=ASKED, tools=[{}])
        self.assertEqual(self.server.get("/health")[0], 200)

    def test_a_value_that_cannot_be_used_is_refused(self):
        self.refused_chat('reasoning_format: expected none, auto, deepseek or deepseek-legacy, found "x"', reasoning_format="x")
        self.refused_chat('chat_template_kwargs.enable_thinking: expected true or false, found "yes"',
                          chat_template_kwargs={"enable_thinking": "yes"})
        for thinking, found in (({"type": "nope"}, '"nope"'), ({}, "none")):
            self.refused("/v1/messages", f"thinking.type: expected enabled, disabled, adaptive or between_tools, found {found}",
                         messages=ASKED, max_tokens=8, thinking=thinking)
        for type in ("adaptive", "between_tools"):
            self.taken("/v1/messages", messages=ASKED, max_tokens=2, thinking={"type": type})
        self.refused("/v1/responses", "reasoning: expected an object, found 5", input="Hi", reasoning=5)
        for body in ({}, {"token": [1]}):
            self.refused("/detokenize", "tokens: expected a list of tokens, found none", **body)

    def test_two_lengths_that_differ_are_refused(self):
        for path, body in (("/completion", {"prompt": "Hi"}), ("/v1/completions", {"prompt": "Hi"}),
                           ("/v1/chat/completions", {"messages": ASKED})):
            self.refused(path, "max_tokens: expected 3, as n_predict says, found 2", **body, n_predict=3, max_tokens=2)
            self.refused(path, "max_completion_tokens: expected 3, as max_tokens says, found 2", **body, max_tokens=3,
                         max_completion_tokens=2)
            self.taken(path, **body, max_tokens=2, max_completion_tokens=2)
        self.refused("/v1/responses", "max_output_tokens: expected 3, as max_tokens says, found 2", input="Hi", max_tokens=3,
                     max_output_tokens=2)

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

    def test_a_bias_is_for_a_token_that_there_is_or_a_text(self):
        for key in ("99999999999", "9999999999", "-5"):
            self.refused_chat(f"logit_bias: expected a token's number, found \"{key}\"", logit_bias={key: 1})
        for bias in ({"": 2}, [["", 2]]):
            self.refused_chat('logit_bias: expected a token or a text before each bias, found ""', logit_bias=bias)
        self.refused_chat("logit_bias: expected a token from 0 to", logit_bias={"999999999": 1})
        self.chat(logit_bias={"5": 1, "-": 1, "a5": 1})
        self.chat(logit_bias=[["-5", 1], [5, False]])

    def test_a_schema_that_no_answer_can_follow_is_named_as_it_was_sent(self):
        wrong = {"type": "nonsense"}
        line = ": expected a JSON schema that can be held to"
        for path, form in (("response_format.json_schema.schema", {"type": "json_schema", "json_schema": {"schema": wrong}}),
                           ("response_format.schema", {"type": "json_object", "schema": wrong})):
            self.refused_chat(path + line, response_format=form)
        self.refused("/v1/responses", "text.format.schema" + line, input="Hi",
                     text={"format": {"type": "json_schema", "schema": wrong}})
        self.refused_chat("json_schema" + line, json_schema=wrong)

    def test_an_error_names_the_field_that_was_sent(self):
        for field, value, line in (("samplers", "kz", "samplers: expected letters of"),
                                   ("reasoning_budget_tokens", 5, "reasoning_budget_tokens: cannot be used"),
                                   ("lacake", {"policy": "nope"}, "lacake.policy"),
                                   ("lacake", {"kv_budget": "many"}, "lacake.kv_budget")):
            error = self.refused_chat(line, **{field: value})
            self.assertEqual(error["param"], line.split(":")[0], error)
        self.refused("/v1/messages", "thinking.type: expected enabled, disabled, adaptive or between_tools, found 5", messages=ASKED,
                     max_tokens=8, thinking=5)

    def test_stop_sequences_are_named_as_they_were_sent(self):
        self.refused("/v1/messages", 'stop_sequences: expected texts that are not empty, found ""', messages=ASKED,
                     max_tokens=8, stop_sequences=[""])


class WithTools(FieldsTest):
    """A template that knows tools."""

    ON = ["--chat-template-file", RECORDED / "tools.jinja", "--verbose"]

    def test_a_call_and_a_format_are_not_both_asked_for(self):
        line = "tool_choice: expected auto or none, where the answer's content has a format, found one that requires a call"
        self.refused_chat(line, tools=[{"type": "function", "function": TOOL}], tool_choice="required",
                          response_format=BOOLEAN)
        self.refused("/v1/responses", line, input="Hi", tools=[{"type": "function", **TOOL}], tool_choice="required",
                     text={"format": {"type": "json_schema", "schema": {"type": "boolean"}}})

    def test_a_custom_tools_calls_are_read_as_calls(self):
        def counted(*items):
            body = {"input": [*ASKED, *items]}
            return self.taken("/v1/responses/input_tokens", **body)["input_tokens"]
        custom = counted({"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "a b"},
                         {"type": "custom_tool_call_output", "call_id": "c", "output": "Done."})
        self.assertEqual(custom, counted({"type": "function_call", "call_id": "c", "name": "patch",
                                          "arguments": '{"input": "a b"}'},
                                         {"type": "function_call_output", "call_id": "c", "output": "Done."}))
        self.assertGreater(custom, counted() + 10)


if __name__ == "__main__":
    unittest.main()
