"""lacake serve, for those who come from llama-server: its flags and the fields of its requests. Its own test suite runs
against lacake too: tests/peer."""

import unittest

from program import FABLE, MODEL, run
from serve_test import SMALL, Server

ONCE = "Once upon a time"


class Flags(unittest.TestCase):
    def test_flags_that_change_nothing_are_taken_and_said(self):
        taken = ["--metrics", "--slots", "--no-jinja", "--kv-unified", "-cb", "--no-context-shift", "-b", "2048",
                 "--ubatch-size=512"]
        server = Server(*SMALL, *taken)
        self.assertEqual(server.get("/slots")[0], 200)
        self.assertEqual(server.stop(), 0)
        said = "".join(server.log)
        for flag in (word.split("=")[0] for word in taken if word.startswith("-")):
            self.assertIn(f"{flag}: has no effect: ", said)

    def test_slots_that_are_not_shown_are_refused_as_there(self):
        server = Server(*SMALL, "--no-slots")
        status, body = server.get("/slots")
        self.assertEqual(server.stop(), 0)
        self.assertEqual((status, body["error"]["type"]), (501, "not_supported_error"))

    def test_flags_that_promise_what_is_not_kept_are_refused_with_what_to_write(self):
        for flag, hint in (("--context-shift", "streaming-llm"), ("--slot-save-path", "--store"), ("--cache-ram", "--store"),
                           ("--cors-origins", "--cors"), ("--props", "cannot be changed"), ("-ngl", "CPU")):
            done = run("serve", "-m", MODEL, flag, "9")
            self.assertEqual(done.returncode, 2)
            self.assertRegex(done.stderr.decode(), rf"^lacake: error: {flag}: no such option[^\n]*{hint}[^\n]*\n$")
        # A value is never taken for a flag, and other commands take none of them.
        done = run("serve", "-m", "--metrics", "-b", "1", "--nonsense")
        self.assertIn("--nonsense: no such option", done.stderr.decode())
        self.assertEqual(run("run", "-m", MODEL, "-p", "hi", "--metrics").returncode, 2)


class Fields(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(*SMALL, "--kv-budget", "400", "--verbose")

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def complete(self, **body):
        status, answered = self.server.post("/completion", {"prompt": ONCE, "n_predict": 4, **body})
        self.assertEqual(status, 200, answered)
        return answered

    def streamed(self, path="/completion", **body):
        return self.server.events(path, body)[0]

    def test_a_prompt_may_be_text_tokens_both_or_several(self):
        tokens = self.server.post("/tokenize", {"content": ONCE, "add_special": True})[1]["tokens"]
        content = self.complete()["content"]
        for prompt in (tokens, {"prompt_string": ONCE}, [tokens[0], " upon", *tokens[2:]]):
            self.assertEqual(self.complete(prompt=prompt)["content"], content, prompt)
        several = self.complete(prompt=[ONCE, tokens, {"prompt_string": ONCE}])
        self.assertEqual([one["content"] for one in several], [content] * 3)
        for prompt in ({}, {"prompt_string": ONCE, "multimodal_data": ["x"]}, [[]], [], [True], [1, None], 7):
            status, body = self.server.post("/completion", {"prompt": prompt})
            self.assertEqual((status, body["error"]["type"]), (400, "invalid_request_error"), prompt)
            self.assertIn("prompt", body["error"]["message"])

    def test_an_answer_says_by_which_settings_it_came(self):
        settings = self.complete(ignore_eos=True, top_k=7, n_probs=2)["generation_settings"]
        self.assertEqual((settings["n_predict"], settings["top_k"], settings["n_probs"]), (4, 7, 2))
        self.assertIn(2, [one["token"] for one in settings["logit_bias"] if one["bias"] is None])
        self.assertEqual(self.complete()["generation_settings"]["logit_bias"], [])

    def test_an_answer_has_the_fields_that_were_asked_for(self):
        body = self.complete(response_fields=["content", "generation_settings/n_predict", "nothing/of/it"])
        self.assertEqual(sorted(body), ["content", "generation_settings/n_predict"])
        self.assertEqual(body["generation_settings/n_predict"], 4)
        self.assertEqual(self.server.post("/completion", {"prompt": ONCE, "response_fields": ["a~2"]})[0], 400)

    def test_each_piece_has_its_tokens_and_probabilities(self):
        events = self.streamed(prompt=ONCE, n_predict=4, n_probs=3, return_tokens=True)
        pieces, last = events[:-1], events[-1]
        self.assertEqual(sum((piece["tokens"] for piece in pieces), []), last["tokens"])
        sent = sum((piece["completion_probabilities"] for piece in pieces), [])
        self.assertEqual(sent, last["completion_probabilities"])
        self.assertEqual([one["id"] for one in sent], last["tokens"])
        self.assertTrue(all(len(one["top_logprobs"]) == 3 for one in sent))

    def test_probabilities_after_the_samplers_are_refused(self):
        status, body = self.server.post("/completion", {"prompt": ONCE, "n_probs": 2, "post_sampling_probs": True})
        self.assertEqual(status, 400)
        self.assertIn("post_sampling_probs", body["error"]["message"])

    def test_reading_and_writing_are_told_as_they_go(self):
        asked = {"return_progress": True, "timings_per_token": True}
        messages = [{"role": "user", "content": FABLE}]
        for path, body in (("/completion", {"prompt": FABLE, "n_predict": 3}),
                           ("/v1/chat/completions", {"messages": messages, "max_tokens": 3}),
                           ("/v1/responses", {"input": FABLE + "?", "max_output_tokens": 3})):
            events = self.streamed(path, **body, **asked)
            told = [event["prompt_progress"] for event in events if "prompt_progress" in event]
            self.assertEqual((told[0]["processed"], told[0]["cache"]), (0, 0), path)
            self.assertEqual(told[-1]["processed"], told[-1]["total"])
            read = [one["processed"] for one in told]
            self.assertEqual(read, sorted(set(read)))
            timings = [event["timings"] for event in events if "timings" in event]
            self.assertEqual([one["predicted_n"] for one in timings][-4:-1], [1, 2, 3], path)
            self.assertEqual(timings[-1]["prompt_n"], told[-1]["total"])

    def test_timings_count_steps_and_are_there_for_one_token_too(self):
        one, more = self.complete(n_predict=1)["timings"], self.complete(n_predict=4)["timings"]
        self.assertEqual((one["predicted_n"], one["predicted_ms"], one["predicted_per_second"]), (1, 0, 0))
        # The first token comes with the prompt.
        self.assertAlmostEqual(more["predicted_per_token_ms"], more["predicted_ms"] / 3)
        self.assertAlmostEqual(more["predicted_per_second"], 3e3 / more["predicted_ms"])

    def test_an_answer_goes_on_in_the_assistants_message(self):
        messages = [{"role": "user", "content": "Name a fruit."}, {"role": "assistant", "content": "A red"}]

        def prompt(**more):
            return self.server.chat(messages, n_new=2, **more)["__verbose"]["prompt"]

        for more in ({}, {"continue_final_message": True}, {"add_generation_prompt": False}):
            self.assertTrue(prompt(**more).endswith("<|im_start|>assistant\nA red"), more)
        opened = prompt(add_generation_prompt=True)
        self.assertTrue(opened.endswith("A red<|im_end|>\n<|im_start|>assistant\n"), opened)
        rendered = self.server.post("/apply-template", {"messages": messages})[1]["prompt"]
        self.assertTrue(rendered.endswith("A red"))
        self.assertNotIn("__verbose", self.server.chat(messages, n_new=2, verbose=False))
        for wrong in ({"continue_final_message": True, "add_generation_prompt": True},
                      {"messages": messages[:1], "continue_final_message": True}, {"messages": [*messages, messages[1]]}):
            status, body = self.server.post("/v1/chat/completions", {"messages": messages, **wrong})
            self.assertEqual(status, 400, wrong)
            self.assertRegex(body["error"]["message"], "^(continue_final_message|messages): expected")

    def test_tokens_are_counted_without_an_answer(self):
        messages = [{"role": "user", "content": "Name a fruit."}]
        n_tokens = self.server.chat(messages, n_new=1)["usage"]["prompt_tokens"]
        for path, body in (("/v1/chat/completions", {"messages": messages}), ("/v1/responses", {"input": "Name a fruit."})):
            self.assertEqual(self.server.post(path + "/input_tokens", body), (200, {"input_tokens": n_tokens}))

    def test_a_wish_to_think_is_no_fault_where_the_model_cannot(self):
        asked = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
        for thinking in ({"type": "enabled", "budget_tokens": 1024}, {"type": "disabled"}, {"type": "adaptive"}):
            self.assertEqual(self.server.post("/v1/messages", {**asked, "thinking": thinking})[0], 200, thinking)
        status, body = self.server.post("/v1/chat/completions", {**asked, "chat_template_kwargs": {"enable_thinking": True}})
        self.assertEqual(status, 400, body)

    def test_its_dashboards_find_their_metrics(self):
        before = self.server.metric("llamacpp:tokens_predicted_total")
        n_tokens = self.complete()["tokens_predicted"]
        self.assertEqual(self.server.metric("llamacpp:tokens_predicted_total"), before + n_tokens)
        self.assertGreater(self.server.metric("llamacpp:prompt_tokens_total"), 0)
        self.assertEqual(self.server.metric("llamacpp:requests_processing"), 0)


if __name__ == "__main__":
    unittest.main()
