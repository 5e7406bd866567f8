"""lacake serve, as clients meet it."""

import collections
import concurrent.futures
import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import threading
import time

from program import FABLE, ON_MODEL, PATIENCE, ProgramTest, answer, run, start

SMALL = ["--kv-budget", "96", "--policy", "keydiff", "--temp", "0"]


class Server:
    """A running server."""

    def __init__(self, *arguments):
        self.process = start("serve", *ON_MODEL, "--port", "0", *arguments)
        self.log = []
        while True:
            line = self.process.stderr.readline().decode()
            if not line:
                raise AssertionError("".join(self.log))
            self.log.append(line)
            if found := re.search(r"listening on https?://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                break
        self.reader = threading.Thread(target=lambda: self.log.extend(line.decode() for line in self.process.stderr))
        self.reader.start()

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60 * PATIENCE)

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, body)"""
        connection = self.connection()
        with contextlib.closing(connection):
            data = json.dumps(body) if isinstance(body, dict) else body
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def get(self, path, **headers):
        status, _, body = self.ask("GET", path, headers=headers)
        return status, json.loads(body)

    def post(self, path, body, **headers):
        status, _, answered = self.ask("POST", path, body, headers)
        return status, json.loads(answered)

    def chat(self, messages, n_new=12, **more):
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        status, body = self.post("/v1/chat/completions", {"messages": messages, "max_tokens": n_new, **more})
        if status != 200:
            raise AssertionError(body)
        return body

    def events(self, path, body):
        """The data of a stream of events."""
        _, headers, answered = self.ask("POST", path, {**body, "stream": True})
        assert headers["Content-Type"] == "text/event-stream", answered
        lines = [line[len("data: "):] for line in answered.decode().split("\n") if line.startswith("data: ")]
        return [json.loads(line) for line in lines if line != "[DONE]"], lines[-1]

    def metric(self, name, headers=None):
        _, _, text = self.ask("GET", "/metrics", headers=headers)
        return float(re.search(rf"^{name} (\S+)$", text.decode(), re.M)[1])

    def raw(self, data, wait=5):
        """What comes back of bytes that may be no HTTP at all."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait * PATIENCE) as connection:
            connection.sendall(data)
            received = b""
            with contextlib.suppress(TimeoutError):
                while part := connection.recv(65536):
                    received += part
            return received

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60 * PATIENCE)
        return self.closed()

    def kill(self):
        self.process.kill()
        self.process.wait()
        return self.closed()

    def closed(self):
        self.reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return self.process.returncode


class ServeTest(ProgramTest):
    def serve(self, *arguments):
        without = [word[1:] for word in arguments if str(word).startswith("!")]
        settings = SMALL[2:] if "--kv-budget" in without else SMALL
        server = Server(*settings, *[word for word in arguments if not str(word).startswith("!")])
        self.addCleanup(lambda: server.process.poll() is None and server.stop())
        return server


class Clients(ServeTest):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(*SMALL, "--parallel", "3", "--body-size", "1MiB", "--request-time", "1", "--cors", "http://a.b")

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def test_an_answer_is_that_of_run(self):
        expected = answer(*SMALL, "-p", "Name a fruit.", "-n", "12")["text"]
        self.assertEqual(self.server.chat("Name a fruit.")["choices"][0]["message"]["content"], expected)
        events, last = self.server.events("/v1/chat/completions",
                                          {"messages": [{"role": "user", "content": "Name a fruit."}], "max_tokens": 12,
                                           "stream_options": {"include_usage": True}})
        self.assertEqual("".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"]), expected)
        self.assertEqual(last, "[DONE]")
        self.assertEqual(events[-1]["usage"]["completion_tokens"], events[-2]["timings"]["predicted_n"])
        self.assertIn("held_bytes", events[-2]["lacake"])

    def test_completions_echo_the_prompts_own_probabilities(self):
        status, body = self.server.post("/v1/completions", {"prompt": ["Once upon a time", "a b"], "max_tokens": 0,
                                                            "echo": True, "logprobs": 1})
        self.assertEqual(status, 200, body)
        first = body["choices"][0]
        self.assertEqual(first["text"], "Once upon a time")
        self.assertEqual("".join(first["logprobs"]["tokens"]), first["text"])
        self.assertIsNone(first["logprobs"]["token_logprobs"][0])
        self.assertTrue(all(p < 0 for p in first["logprobs"]["token_logprobs"][1:]))
        self.assertEqual([len(c["logprobs"]["tokens"]) for c in body["choices"]], [4, 2])

    def test_the_one_token_of_an_answer_is_in_the_lists_also_where_it_ends_the_answer(self):
        asked = {"prompt": "Once upon a time", "max_tokens": 1, "echo": True, "logprobs": 1}
        lists = [self.server.post("/v1/completions", {**asked, **more})[1]["choices"][0]["logprobs"]
                 for more in ({}, {"logit_bias": {"2": 100}})]
        self.assertEqual([len(one["token_logprobs"]) for one in lists], [5, 5])
        self.assertEqual(lists[0]["token_logprobs"][:4], lists[1]["token_logprobs"][:4])
        self.assertEqual((lists[1]["tokens"][4], lists[1]["token_logprobs"][4]), ("", None))

    def test_completion_is_llama_servers(self):
        status, body = self.server.post("/completion", {"prompt": "Once upon a time", "n_predict": 5})
        self.assertEqual((status, body["stop_type"], body["tokens_predicted"], body["truncated"]), (200, "limit", 5, False))
        events, _ = self.server.events("/completion", {"prompt": "Once upon a time", "n_predict": 5})
        self.assertEqual("".join(e["content"] for e in events), body["content"])
        self.assertTrue(events[-1]["stop"])

    def test_messages_are_anthropics(self):
        asked = {"max_tokens": 12, "messages": [{"role": "user", "content": [{"type": "text", "text": "Name a fruit."}]}],
                 "thinking": {"type": "adaptive"}, "context_management": {}}
        status, body = self.server.post("/v1/messages", asked)
        self.assertEqual((status, body["type"], body["role"]), (200, "message", "assistant"))
        events, _ = self.server.events("/v1/messages", asked)
        self.assertEqual([e["type"] for e in events if e["type"] != "content_block_delta"],
                         ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"])
        text = "".join(e["delta"]["text"] for e in events if e["type"] == "content_block_delta")
        self.assertEqual(text, body["content"][0]["text"])
        status, counted = self.server.post("/v1/messages/count_tokens?beta=true", asked)
        usage = body["usage"]
        self.assertEqual(counted["input_tokens"], usage["input_tokens"] + usage["cache_read_input_tokens"])
        status, body = self.server.post("/v1/messages", {"messages": []})
        self.assertEqual((status, body["type"], body["error"]["type"]), (400, "error", "invalid_request_error"))

    def test_what_it_tells_of_itself(self):
        self.assertEqual(self.server.get("/health"), (200, {"status": "ok"}))
        self.assertEqual(self.server.get("/ready")[0], 200)
        name = self.server.get("/v1/models")[1]["data"][0]["id"]
        props = self.server.get("/props")[1]
        self.assertEqual(props["model_alias"], name)
        self.assertEqual((props["total_slots"], props["lacake"]["policy"]), (3, "keydiff"))
        self.assertEqual(props["default_generation_settings"]["params"]["temperature"], 0)
        tokens = self.server.post("/tokenize", {"content": "Hi there"})[1]["tokens"]
        self.assertEqual(self.server.post("/detokenize", {"tokens": tokens})[1]["content"], "Hi there")
        info = self.server.get("/tokenizer_info")[1]
        self.assertTrue(info["eos_token"] and "messages" in info["chat_template"])
        self.assertIn("user\nHi", self.server.post("/apply-template",
                                                   {"messages": [{"role": "user", "content": "Hi"}]})[1]["prompt"])
        self.assertGreaterEqual(len(self.server.get("/slots")[1]), 3)

    def test_wrong_fields_are_named_and_unknown_ones_ignored(self):
        def asked(**more):
            return self.server.post("/v1/chat/completions",
                                    {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, **more})
        self.assertEqual(asked(service_tier="auto", metadata={"a": 1})[0], 200)
        for field, value in {"temperature": "hot", "top_p": 2, "n": 0, "seed": 1.5, "stream": "yes", "messages": "Hi",
                             "tools": [{"type": "function"}], "logit_bias": [[1]], "stop": 7, "response_format": {"type": "x"},
                             "top_logprobs": 2, "tool_choice": "maybe", "lacake": {"policy": "nope"},
                             "prompt_cache_key": 7}.items():
            status, body = asked(**{field: value})
            self.assertEqual((status, body["error"]["type"]), (400, "invalid_request_error"), (field, body))
            self.assertIn(field.split(".")[0], body["error"]["message"])
            self.assertNotIn("\n", body["error"]["message"])
        status, body = asked(lacake={"polcy": "full"})
        self.assertEqual(status, 400)
        self.assertIn("lacake.polcy: expected policy, kv_budget or session", body["error"]["message"])
        for path, more in (("/completion", {"n": 2}), ("/v1/completions", {"lacake": {"session": "a"}}),
                           ("/v1/completions", {"suffix": "x"}), ("/v1/responses", {"previous_response_id": "x"}),
                           ("/v1/responses", {"text": {"format": {"type": "x"}}})):
            status, body = self.server.post(path, {"prompt": "Hi", "input": "Hi", **more})
            self.assertEqual(status, 400, (path, more, body))
            self.assertIn(next(iter(more)), body["error"]["message"])
        status, body = asked(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}])
        self.assertEqual(status, 400)
        self.assertIn("messages[0].content[0].type", body["error"]["message"])

    def test_requests_that_are_none_are_refused(self):
        server = self.server
        self.assertEqual(server.get("/nowhere")[0], 404)
        status, headers, _ = server.ask("GET", "/v1/chat/completions")
        self.assertEqual((status, headers["Allow"]), (405, "POST"))
        status, _, text = server.ask("GET", "/v1/messages")
        self.assertEqual((status, json.loads(text)["error"]["type"]), (405, "invalid_request_error"))
        for body in (b"{", b"", b"[]", b'{"messages": "\xff"}', b"[" * 100_000, b'{"a":' * 1000 + b"1" + b"}" * 1000):
            status, _, text = server.ask("POST", "/v1/chat/completions", body)
            self.assertEqual(status, 400, body[:20])
            self.assertIn("body", json.loads(text)["error"]["message"])
        self.assertTrue(server.raw(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 2000000\r\n\r\n").startswith(b"HTTP/1.1 413"))
        self.assertTrue(server.raw(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n").startswith(b"HTTP/1.1 431"))
        self.assertTrue(server.raw(b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400"))
        self.assertEqual(server.raw(b"POST /tokenize HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf"), b"")
        self.assertEqual(server.get("/health")[0], 200)

    def test_two_requests_at_once_on_one_connection_are_answered_in_order(self):
        one = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        last = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        received = self.server.raw(one + one + last)
        self.assertEqual(re.findall(rb"HTTP/1\.1 (\d+)", received), [b"200", b"200", b"404"])

    def test_a_client_that_drips_is_not_waited_for(self):
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=30) as connection:
            begun = time.monotonic()
            with contextlib.suppress(OSError):
                for byte in b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 100:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.05)
            self.assertLess(time.monotonic() - begun, 10 * PATIENCE)

    def test_pages_of_one_origin_may_ask(self):
        status, headers, _ = self.server.ask("OPTIONS", "/v1/chat/completions")
        self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (204, "http://a.b"))

    def test_no_page_of_others_makes_it_work(self):
        ask = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
        for origin, status in [("http://a.b", 200), (f"http://127.0.0.1:{self.server.port}", 200),
                               ("http://evil.example", 403), ("null", 403), ("http://127.0.0.1", 403)]:
            with self.subTest(origin=origin):
                answered, body = self.server.post("/v1/chat/completions", ask, Origin=origin)
                self.assertEqual(answered, status)
                if status == 403:
                    self.assertIn(f'found "{origin}"', body["error"]["message"])

    def test_many_clients_see_their_own(self):
        def canary(i):
            return f"Repeat: canary{chr(97 + i % 26) * 3} {i * 7}. " * (1 + i % 4)
        clients = range(64)
        alone = [self.server.chat(canary(i), n_new=3 + i % 5)["choices"][0]["message"]["content"] for i in clients]
        with concurrent.futures.ThreadPoolExecutor(len(clients)) as pool:
            together = list(pool.map(lambda i: self.server.chat(canary(i), n_new=3 + i % 5, seed=i), clients))
        self.assertEqual([t["choices"][0]["message"]["content"] for t in together], alone)

    def test_several_answers_and_probabilities(self):
        body = self.server.chat("Name a fruit.", n_new=6, temperature=1.5, seed=3, logprobs=True, top_logprobs=2, n=3)
        self.assertEqual([c["index"] for c in body["choices"]], [0, 1, 2])
        self.assertGreater(len({c["message"]["content"] for c in body["choices"]}), 1)
        for choice in body["choices"]:
            self.assertTrue(all(len(t["top_logprobs"]) == 2 for t in choice["logprobs"]["content"]))

    def test_an_answer_follows_a_schema(self):
        schema = {"type": "object", "properties": {"fruit": {"type": "string", "maxLength": 12}}, "required": ["fruit"],
                  "additionalProperties": False}
        body = self.server.chat("Name a fruit as JSON.", n_new=60, response_format={"type": "json_schema",
                                                                             "json_schema": {"name": "f", "schema": schema}})
        self.assertIn("fruit", json.loads(body["choices"][0]["message"]["content"]))

    def test_a_client_that_goes_stops_the_work(self):
        before = self.server.metric("lacake_requests_cancelled_total")
        for stream in (True, False):
            connection = self.server.connection()
            body = {"messages": [{"role": "user", "content": "Count to a thousand."}], "max_tokens": 100000,
                    "ignore_eos": True, "stream": stream}
            connection.request("POST", "/v1/chat/completions", json.dumps(body))
            if stream:
                connection.getresponse().read(10)
            else:
                time.sleep(0.2)
            connection.close()
        for _ in range(200 * PATIENCE):
            if self.server.metric("lacake_requests_cancelled_total") == before + 2:
                break
            time.sleep(0.05)
        self.assertEqual(self.server.metric("lacake_requests_cancelled_total"), before + 2)
        self.assertEqual(self.server.metric("lacake_requests_writing"), 0)


class Keeping(ServeTest):
    def talk(self, server, *questions, key=None):
        messages, answers = [], []
        for question in questions:
            messages.append({"role": "user", "content": question})
            more = {"prompt_cache_key": key} if key else {}
            body = server.chat(messages, **more)
            answers.append(body)
            messages.append({"role": "assistant", "content": body["choices"][0]["message"]["content"]})
        return messages, answers

    def test_a_conversation_goes_on_and_outlives_the_server(self):
        store = self.folder / "store"
        server = self.serve("--store", store, "--parallel", "2")
        messages, answers = self.talk(server, FABLE + "Who is sly?", "And who is proud?")
        self.assertEqual(answers[0]["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
        cached = answers[1]["usage"]["prompt_tokens_details"]["cached_tokens"]
        self.assertGreater(cached, 150)
        for i in range(3):  # more than fit
            self.talk(server, f"Name the number {i}.")
        self.assertEqual(server.stop(), 0)
        server = self.serve("--store", store, "--parallel", "2")
        messages.append({"role": "user", "content": "Name both."})
        body = server.chat(messages)
        self.assertGreater(body["usage"]["prompt_tokens_details"]["cached_tokens"], cached)
        self.assertEqual(server.metric("lacake_conversations_loaded_total"), 1)

    def test_killed_it_has_what_it_told_of(self):
        store = self.folder / "store"
        server = self.serve("--store", store)
        messages, _ = self.talk(server, FABLE + "Who is sly?", key="k")
        server.kill()
        server = self.serve("--store", store)
        body = server.chat([*messages, {"role": "user", "content": "And who is proud?"}], prompt_cache_key="k")
        self.assertGreater(body["usage"]["prompt_tokens_details"]["cached_tokens"], 150)

    def test_an_edited_question_is_read_alone(self):
        server = self.serve()
        messages, _ = self.talk(server, FABLE + "Who is sly?", "And who is proud?", "Name both.")
        messages[4]["content"] = "Name none."
        usage = server.chat(messages[:5])["usage"]
        self.assertLess(usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"], 40)

    def test_a_prompt_that_is_too_long_says_so_as_clients_know_it(self):
        server = self.serve("-c", "200")
        trained = self.serve("--policy", "full", "!--kv-budget")
        for server, n_ctx, path, more in (
                (server, 200, "/v1/chat/completions", {"messages": [{"role": "user", "content": FABLE * 3}]}),
                (server, 200, "/v1/completions", {"prompt": FABLE * 3}),
                (trained, 8192, "/v1/chat/completions", {"messages": [{"role": "user", "content": FABLE * 60}]}),
                # So long that nobody has to count.
                (trained, 8192, "/v1/chat/completions", {"messages": [{"role": "user", "content": "word " * 2_000_000}]}),
                (server, 200, "/v1/completions", {"prompt": "word " * 2_000_000})):
            status, body = server.post(path, {**more, "max_tokens": 5})
            error = body["error"]
            self.assertEqual((status, error["type"], error["code"], error["n_ctx"]),
                             (400, "exceed_context_size_error", "context_length_exceeded", n_ctx))
            self.assertIn(f"exceeds the available context size ({n_ctx} tokens)", error["message"])
            self.assertGreater(error["n_prompt_tokens"], n_ctx)

    def test_a_system_message_outlives_what_is_dropped(self):
        server = self.serve("!--kv-budget", "--kv-budget", "160")
        system = {"role": "system", "content": "The secret word is swordfish."}
        text = " ".join(f"The house number {i} is {i * 7 % 50} feet tall." for i in range(60))
        asked = [system, {"role": "user", "content": text + " Repeat the secret word."}]
        body = server.chat(asked, 24)
        self.assertGreater(body["lacake"]["dropped_bytes"], 0)
        self.assertIn("pinned=", body["lacake"]["policy"])
        self.assertIn("swordfish", body["choices"][0]["message"]["content"].lower())
        status, body = server.post("/v1/chat/completions", {"messages": [
            {"role": "system", "content": text}, {"role": "user", "content": "Hello"}]})
        error = body["error"]
        self.assertEqual((status, error["type"], error["code"]),
                         (400, "exceed_context_size_error", "context_length_exceeded"))
        self.assertRegex(error["message"], r"^request \(\d+ tokens\) exceeds the available context size \(120 tokens\): its "
                                           r"system message and tools alone")
        self.assertGreater(error["n_prompt_tokens"], 500)

    def test_keys_are_asked_for(self):
        server = self.serve("--api-key", "secret", "--api-key-file", self.file("keys", "other\n\n"))
        self.assertEqual(server.get("/health")[0], 200)
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        self.assertEqual(server.post("/v1/chat/completions", body)[0], 401)
        for wrong in ("secre", "secrets", "", "Secret"):
            self.assertEqual(server.post("/v1/chat/completions", body, Authorization=f"Bearer {wrong}")[0], 401)
        self.assertEqual(server.post("/v1/chat/completions", body, Authorization="Bearer secret")[0], 200)
        self.assertEqual(server.post("/v1/chat/completions", body, **{"X-Api-Key": "other"})[0], 200)
        # Of whom it does not know it reads no long body.
        body["messages"][0]["content"] = "Hi " * 40_000
        self.assertEqual(server.ask("POST", "/v1/chat/completions", body)[0], 413)
        self.assertEqual(server.ask("POST", "/v1/chat/completions", body, {"X-Api-Key": "other"})[0], 400)
        self.assertGreaterEqual(server.metric('lacake_http_requests_total\\{status="401"\\}', {"X-Api-Key": "other"}), 5)
        self.assertEqual(server.ask("GET", "/props", None, {"Host": "evil.example", "X-Api-Key": "other"})[0], 200)

    def test_a_key_that_is_none_is_refused(self):
        for flag in ("--api-key", "--admin-key"):
            done = run("serve", *ON_MODEL, "--port", "0", flag, "", timeout=20)
            self.assertEqual(done.returncode, 2)
            self.assertIn(f'{flag}: expected KEY, found ""'.encode(), done.stderr)

    def test_a_name_that_was_made_to_lead_here_opens_nothing(self):
        server = self.serve()
        for host, status in [("evil.example", 403), (f"evil.example:{server.port}", 403), ("127.0.0.1.evil.example", 403),
                             ("localhost", 200), (f"localhost:{server.port}", 200), ("[::1]:8080", 200), ("10.0.0.1", 200)]:
            with self.subTest(host=host):
                self.assertEqual(server.ask("GET", "/v1/sessions", None, {"Host": host})[0], status)

    def test_a_long_list_of_prompts_fills_no_queue(self):
        server = self.serve("--queue", "4")
        ask = {"prompt": [f"Number {i} is" for i in range(40)], "max_tokens": 2}
        status, body = server.post("/v1/completions", ask)
        self.assertEqual((status, len(body["choices"])), (200, 40))
        self.assertEqual([choice["index"] for choice in body["choices"]], list(range(40)))
        ask["prompt"][20] = "Hi " * 9000
        status, body = server.post("/v1/completions", ask)
        self.assertEqual((status, body["error"]["type"]), (400, "exceed_context_size_error"))
        self.assertEqual(server.post("/completion", {"prompt": "Hi", "n_predict": 1})[0], 200)

    def test_a_full_queue_says_when_to_come_back(self):
        server = self.serve("--parallel", "1", "--queue", "1")
        body = {"messages": [{"role": "user", "content": "Count."}], "max_tokens": 100000, "ignore_eos": True, "stream": True}
        connections = []
        statuses = []
        for _ in range(3):
            connections.append(server.connection())
            connections[-1].request("POST", "/v1/chat/completions", json.dumps(body))
            if len(connections) == 1:
                connections[0].getresponse().read(10)
            time.sleep(0.2)
        response = connections[2].getresponse()
        self.assertEqual((response.status, response.headers["Retry-After"]), (429, "5"))
        for connection in connections:
            connection.close()

    def test_sigterm_lets_answers_end(self):
        server = self.serve("--drain-time", "60")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            running = pool.submit(server.chat, "Count to a hundred.", 60, ignore_eos=True)
            while server.metric("lacake_requests_writing") == 0:
                time.sleep(0.02)
            self.assertEqual(server.stop(), 0)
            self.assertEqual(running.result()["usage"]["completion_tokens"], 60)


class Killed(ServeTest):
    """Killed under load at random moments. LACAKE_KILLS=100 for a long run."""

    N_KILLS = int(os.environ.get("LACAKE_KILLS", "3"))

    def talk(self, server, messages, key, over):
        """Asks until the server is gone. What is in `messages` was acknowledged."""
        for i in range(1000):
            asked = [*messages, {"role": "user", "content": f"Name the number {len(messages)} of {key}."}]
            try:
                body = server.chat(asked, n_new=4, prompt_cache_key=key)
            except (OSError, http.client.HTTPException, ValueError):
                if over.is_set():
                    return
                raise
            messages[:] = [*asked, {"role": "assistant", "content": body["choices"][0]["message"]["content"]}]
            if len(messages) > 20:
                messages.clear()
                key = f"{key}x"

    def test_every_acknowledged_conversation_is_there(self):
        choice = random.Random(5)
        store = self.folder / "store"
        talks = {f"talk{i}": [] for i in range(4)}
        for kill in range(self.N_KILLS):
            server = self.serve("--store", store, "--parallel", "3")
            over = threading.Event()
            with concurrent.futures.ThreadPoolExecutor(len(talks)) as pool:
                running = [pool.submit(self.talk, server, messages, f"{key}-{kill}", over)
                           for key, messages in talks.items()]
                time.sleep((0.3 + choice.random()) * PATIENCE)
                over.set()
                server.kill()
                for one in running:
                    one.result()
            server = self.serve("--store", store, "--parallel", "3")
            for key, messages in talks.items():
                if messages:
                    n_held = server.post("/v1/messages/count_tokens", {"messages": messages})[1]["input_tokens"]
                    name = f"{key}-{kill}"
                    usage = server.chat([*messages, {"role": "user", "content": "And then?"}], n_new=2,
                                        prompt_cache_key=self.names(messages, name))["usage"]
                    # All but the opening of another answer, which is counted too.
                    self.assertGreaterEqual(usage["prompt_tokens_details"]["cached_tokens"], n_held - 8, (kill, key))
                messages.clear()
            self.assertEqual(server.stop(), 0)

    @staticmethod
    def names(messages, name):
        """The key under which it was asked last."""
        return re.search(r"of (\S+)\.$", messages[-2]["content"])[1] if messages else name


class Load(ServeTest):
    """Many clients that ask, leave and send nonsense at random. LACAKE_LOAD_REQUESTS=10000 for a long run."""

    N_REQUESTS = int(os.environ.get("LACAKE_LOAD_REQUESTS", "100"))
    N_CLIENTS = 16 if N_REQUESTS < 1000 else 64

    def one(self, server, n):
        choice = random.Random(n)
        connection = server.connection()
        body = {"messages": [{"role": "user", "content": "word " * choice.randrange(1, 60) + str(n % 40)}],
                "max_tokens": choice.randrange(1, 12), "stream": choice.random() < 0.5, "n": choice.choice([1, 1, 1, 2])}
        if choice.random() < 0.3:
            body["prompt_cache_key"] = str(n % 7)
        data = json.dumps(body)
        kind = choice.random()
        try:
            if kind < 0.1:  # nonsense
                data = data[:choice.randrange(len(data))] + choice.choice(["", "}", "\xff", "[" * 100, '"'])
                connection.request("POST", "/v1/chat/completions", data.encode("latin-1"))
                return connection.getresponse().status
            connection.request("POST", "/v1/chat/completions", data)
            if kind < 0.3:  # leaves
                time.sleep(choice.random() * 0.05)
                return 0
            response = connection.getresponse()
            text = response.read()
            if response.status == 200 and body["stream"]:
                self.assertTrue(text.endswith(b"data: [DONE]\n\n"), text[-200:])
            return response.status
        finally:
            connection.close()

    def test_everybody_is_answered_and_memory_is_back(self):
        server = self.serve("--parallel", "4", "--store", self.folder / "store", "--store-size", "100MiB", "--queue", "1000")
        with concurrent.futures.ThreadPoolExecutor(self.N_CLIENTS) as pool:
            statuses = collections.Counter(pool.map(lambda n: self.one(server, n), range(self.N_REQUESTS)))
        self.assertLessEqual(set(statuses), {0, 200, 400}, statuses)
        self.assertGreater(statuses[200], self.N_REQUESTS / 2)
        for name in ("waiting", "reading", "writing"):
            for _ in range(100 * PATIENCE):
                if server.metric(f"lacake_requests_{name}") == 0:
                    break
                time.sleep(0.1)
            self.assertEqual(server.metric(f"lacake_requests_{name}"), 0)
        conversations = [c for c in server.get("/v1/sessions")[1]["data"] if c["state"] != "disk"]
        self.assertFalse(any(c["running"] for c in conversations))
        self.assertEqual(server.metric("lacake_kv_leased_bytes"), sum(c["budget_bytes"] for c in conversations))
        self.assertEqual(server.metric("lacake_store_failures_total"), 0)
        self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    import unittest

    unittest.main()
