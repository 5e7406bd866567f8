"""What lacake serve refuses or says before it listens, so that no request has to fail for it."""

import subprocess

from program import ON_MODEL, run
from serve_test import Server, ServeTest

# A template that knows thinking.
THINKS = """{%- for m in messages %}
    {{- '<|im_start|>' + m.role + '\\n' }}
    {%- if m.reasoning_content %}{{- '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}{%- endif %}
    {{- m.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}"""


class Start(ServeTest):
    def refused(self, *arguments):
        """The line, without what all of them begin with."""
        try:
            done = run("serve", *ON_MODEL, "--port", "0", "-q", *arguments, timeout=20)
        except subprocess.TimeoutExpired:
            self.fail(f"{arguments}: a server that runs")
        line = done.stderr.decode()
        self.assertEqual((done.returncode, done.stdout, line.count("\n")), (2, b"", 1), line)
        self.assertTrue(line.startswith("lacake: error: "), line)
        return line.removeprefix("lacake: error: ").rstrip()

    def test_a_bound_on_reasoning_is_none_of_texts_without_a_template(self):
        template = self.folder / "thinks.jinja"
        template.write_text(THINKS)
        server = self.serve("--chat-template-file", template, "--reasoning-budget", "5")
        for path in ("/v1/completions", "/completion"):
            status, answer = server.post(path, {"prompt": "The sky is", "max_tokens": 2})
            self.assertEqual(status, 200, (path, answer))

    def test_flags_for_which_every_request_would_fail_are_refused(self):
        for arguments, expected in (
                (["-l", "999999+1"], "--logit-bias: expected a token from 0 to 49151, found 999999"),
                (["--reasoning", "on"], "--reasoning: the model's chat template knows no thinking"),
                (["--reasoning-budget", "5"],
                 "--reasoning-budget: cannot be used: the model's chat template knows no reasoning")):
            with self.subTest(arguments=arguments):
                self.assertEqual(self.refused(*arguments), expected)
        # What comes to the same, or what the template knows, is none of these.
        template = self.file("thinks.jinja", THINKS)
        for arguments in (["--reasoning", "off"], ["-l", "5+1"],
                          ["--chat-template-file", template, "--reasoning", "on", "--reasoning-budget", "5"]):
            with self.subTest(arguments=arguments):
                self.assertTrue(self.serve(*arguments).chat("Hi", 1)["choices"])

    def test_an_origin_that_no_browser_sends_is_refused(self):
        for none in ("x y", "example.org", "http://", "http://a.b/", "http://A.b", "http://a.b,http://c.d", "://a"):
            with self.subTest(none=none):
                self.assertEqual(self.refused("--cors", none), "--cors: expected * or an origin as browsers send it "
                                 f'(https://example.org), found "{none}"')
        for origin in ("*", "null", "http://a.b", "https://[::1]:8080", "chrome-extension://abc"):
            with self.subTest(origin=origin):
                server = self.serve("--cors", origin)
                self.assertEqual(server.ask("OPTIONS", "/props")[1]["Access-Control-Allow-Origin"], origin)
                server.stop()

    def test_slots_that_are_wanted_and_not_wanted_are_refused(self):
        for both in (["--slots", "--no-slots"], ["--no-slots", "--slots"]):
            self.assertEqual(self.refused(*both), "--slots: expected one of --slots and --no-slots, found both")

    def test_a_length_that_cannot_be_is_refused_by_its_flag(self):
        self.assertTrue(self.refused("-c", "99999999").startswith(
            "--ctx-size: expected at most the model's training length 8192, found 99999999 tokens"))

    def test_what_cannot_give_memory_up_is_said(self):
        server = Server("--kv-elastic")
        self.addCleanup(server.stop)
        self.assertTrue(any("--kv-elastic has no effect on conversations of policy full" in line for line in server.log))
        server = self.serve("--kv-elastic")
        self.assertFalse(any("--kv-elastic" in line for line in server.log), server.log)

    def test_the_length_that_is_told_is_the_one_that_fits(self):
        for arguments, n_ctx in ((["--kv-budget", "512"], 511), (["--kv-budget", "512", "-c", "400"], 400), ([], 8192)):
            with self.subTest(arguments=arguments):
                server = Server("--policy", "full", *arguments)
                self.addCleanup(server.stop)
                self.assertEqual(server.get("/props")[1]["default_generation_settings"]["n_ctx"], n_ctx)
                self.assertEqual({slot["n_ctx"] for slot in server.get("/slots")[1]}, {n_ctx})
                self.assertEqual(server.get("/v1/models")[1]["data"][0]["max_model_len"], n_ctx)
                if n_ctx == 8192:
                    continue
                ask = {"messages": [{"role": "user", "content": "a " * 600}], "max_tokens": 1}
                status, body = server.post("/v1/chat/completions", ask)
                self.assertEqual((status, body["error"]["code"], body["error"]["n_ctx"]),
                                 (400, "context_length_exceeded", n_ctx))
                self.assertIn(f"exceeds the available context size ({n_ctx} tokens)", body["error"]["message"])


if __name__ == "__main__":
    import unittest

    unittest.main()
