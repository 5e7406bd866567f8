"""The page of lacake serve: what is sent, and what a person sees of it in a browser."""

import contextlib
import json
import re
import unittest

from browser import CHROMIUM, Browser
from program import FABLE, ProgramTest
from serve_test import SMALL, Server, ServeTest

TYPES = {"html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8",
         "svg": "image/svg+xml"}


def references(name, text):
    """The files that a file of the page names."""
    if name.endswith(".html"):
        return re.findall(r'(?:src|href)="([^#"][^"]*)"', text)
    return [f"page/{one}" for one in re.findall(r"^import .*?from '\./([^']+)';$", text, re.M)]


class Files(ServeTest):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(*SMALL, "--api-key", "secret")

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def test_everything_that_the_page_names_is_there_without_a_key_and_with_its_type(self):
        seen, left = {"": "html"}, [""]
        while left:
            name = left.pop()
            status, headers, body = self.server.ask("GET", f"/{name}")
            self.assertEqual((status, headers["Content-Type"]), (200, TYPES[seen[name]]), name)
            self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
            for one in references(name or "index.html", body.decode()):
                self.assertRegex(one, r"^page/[a-z_]+\.[a-z]+$")
                if one not in seen:
                    seen[one] = one.rsplit(".", 1)[1]
                    left.append(one)
        self.assertGreater(len(seen), 20)
        self.assertEqual(self.server.get("/props")[0], 401)

    def test_only_this_server_is_asked_and_no_text_becomes_markup(self):
        policy = self.server.ask("GET", "/")[1]["Content-Security-Policy"]
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        self.assertEqual(rules.pop("default-src"), "'none'")
        self.assertEqual(rules.pop("require-trusted-types-for"), "'script'")
        self.assertLessEqual(set(rules.values()), {"'self'", "'none'"})

    def test_a_browser_that_has_a_file_is_not_sent_it_again(self):
        _, headers, body = self.server.ask("GET", "/page/main.js")
        self.assertEqual(headers["Cache-Control"], "no-cache")
        status, again, nothing = self.server.ask("GET", "/page/main.js", headers={"If-None-Match": f"\"x\", {headers['ETag']}"})
        self.assertEqual((status, again["ETag"], nothing), (304, headers["ETag"], b""))
        status, _, whole = self.server.ask("GET", "/page/main.js", headers={"If-None-Match": '"other"'})
        self.assertEqual((status, whole), (200, body))
        self.assertNotEqual(self.server.ask("GET", "/page/tree.js")[1]["ETag"], headers["ETag"])

    def test_no_path_leads_out_of_the_page(self):
        for path in ("/page", "/page/", "/page/index.html", "/page//main.js", "/page/../main.js", "/page/./main.js", "/main.js",
                     "/page/..%2fmain.js", "/page/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/page/main.js/", "/page/MAIN.JS",
                     "/page/main.js%00"):
            received = self.server.raw(f"GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
            self.assertTrue(received.startswith(b"HTTP/1.1 404"), (path, received[:80]))

    def test_the_page_is_only_to_be_read(self):
        for path in ("/", "/page/main.js"):
            status, headers, _ = self.server.ask("POST", path, {})
            self.assertEqual((status, headers["Allow"]), (405, "GET, HEAD"))

    def test_without_it_nothing_is_there(self):
        server = self.serve("--no-ui")
        for method, path in (("GET", "/"), ("GET", "/page/main.js"), ("POST", "/")):
            self.assertEqual(server.ask(method, path)[0], 404)
        self.assertEqual(server.get("/props")[1]["lacake"]["ui"], False)


# Answers of /v1/chat/completions and /v1/sessions/{id}/cache that a test says itself.
SAY = """
window.said = {};
const ask = window.fetch;
window.fetch = async (path, options) => {
  const answer = window.said[path];
  if (answer === undefined) return ask(path, options);
  const ends = answer instanceof ReadableStream && {signal: options.signal};
  return new Response(ends ? answer.pipeThrough(new TransformStream(), ends) : answer);
};
"""


@unittest.skipIf(CHROMIUM is None, "no Chromium is installed (scripts/setup --tests)")
class InBrowser(ProgramTest):
    @classmethod
    def setUpClass(cls):
        with contextlib.ExitStack() as stack:
            # Answers never end by themselves.
            cls.server = Server(*SMALL, "--parallel", "3", "--ignore-eos")
            stack.callback(lambda: cls.server.stop())
            cls.browser = Browser()
            stack.callback(lambda: cls.browser.close())
            cls.browser.call("Emulation.setDeviceMetricsOverride", width=1280, height=800, deviceScaleFactor=1, mobile=False)
            cls.browser.call("Page.addScriptToEvaluateOnNewDocument", source=SAY)
            cls.addClassCleanup(stack.pop_all().close)

    def setUp(self):
        super().setUp()
        self.browser.events.clear()
        self.show({"max_tokens": 12})

    def tearDown(self):
        self.assertEqual(self.browser.complaints(), [])

    def show(self, settings, server=None):
        """The page as it is for somebody new, but for the settings."""
        address = f"http://127.0.0.1:{(server or self.server).port}/"
        self.browser.open(address)
        self.browser.evaluate(f"""(() => {{
            window.onpagehide = (event) => event.stopImmediatePropagation();
            localStorage.clear();
            sessionStorage.clear();
            localStorage.setItem('lacake.settings', {json.dumps(json.dumps(settings))});
        }})()""")
        self.browser.open("about:blank")
        self.browser.open(address)
        self.browser.wait("document.getElementById('send')?.firstChild")

    def reload(self):
        address = self.browser.evaluate("location.href")
        self.browser.open("about:blank")
        self.browser.open(address)
        self.browser.wait("document.getElementById('send')?.firstChild")

    def say(self, text):
        self.browser.click("#message")
        self.browser.type(text)
        self.browser.enter()

    def answered(self, n=1):
        """Waits for the n-th answer that is shown; what can be read in the messages."""
        self.browser.wait(f"document.querySelectorAll('.message.assistant .facts').length === {n} && "
                          "!document.querySelector('.message.running')")
        return self.shown()

    def shown(self):
        return self.browser.evaluate("[...document.querySelectorAll('.message .body')].map((one) => one.innerText.trim())")

    def test_a_message_gets_its_answer(self):
        expected = self.server.chat("Name a fruit.", n_new=12)["choices"][0]["message"]["content"]
        self.say("Name a fruit.")
        question, answer = self.answered()
        self.assertEqual(question, "Name a fruit.")
        self.assertEqual(answer.split(), expected.split())
        facts = self.browser.evaluate("document.querySelector('.facts').innerText")
        for fact in ("tokens/s", "12 tokens", "keydiff", "entries held", "budget", "dropped"):
            self.assertIn(fact, facts)

    def test_a_conversation_goes_on_and_outlives_the_page(self):
        self.say("Name a fruit.")
        self.answered()
        self.say("And another one.")
        said = self.answered(2)
        self.browser.click("#message")
        self.browser.type("Not sent y")
        self.browser.call("Input.insertText", text="et")
        self.reload()
        self.assertEqual(self.shown(), said)
        self.assertEqual(self.browser.evaluate("document.getElementById('message').value"), "Not sent yet")
        cached = self.browser.evaluate("[...document.querySelectorAll('.facts')].at(-1).innerText")
        self.assertNotRegex(cached.replace("\n", " "), r"cached 0 tokens")

    def test_stop_ends_the_servers_work_and_keeps_what_was_written(self):
        self.show({})
        for stop in (lambda: self.browser.click("#stop"), lambda: self.browser.press("Escape", number=27)):
            before = self.server.metric("lacake_requests_cancelled_total")
            self.browser.click("#new")  # what follows an answer that was stopped somewhere could be anything
            self.say("Count to a thousand.")
            self.browser.wait("[...document.querySelectorAll('.message.running .markdown')].at(-1)?.innerText.length > 20")
            stop()
            self.browser.wait("!document.querySelector('.message.running') && !document.getElementById('send').hidden")
            self.browser.wait("document.querySelector('.message:last-child .facts').innerText.includes('stopped by you')")
            self.assertGreater(len(self.shown()[-1]), 20)
            while self.server.metric("lacake_requests_cancelled_total") == before:
                pass
            self.assertEqual(self.server.metric("lacake_requests_writing"), 0)

    def test_markup_stays_letters(self):
        evil = "<img src=x onerror=window.broken=1><b>fat</b>"
        piece = {"choices": [{"index": 0, "delta": {"content": evil + "\n\n`" + evil + "`"}, "finish_reason": "stop"}],
                 "lacake": {"policy": evil, "budget_bytes": 1, "held_bytes": 1, "dropped_bytes": 0, "entries_held": 1}}
        stream = json.dumps(f"data: {json.dumps(piece)}\n\ndata: [DONE]\n\n")
        self.browser.evaluate(f"window.said['v1/chat/completions'] = {stream}")
        self.say(evil)
        question, answer = self.answered()
        self.assertEqual(question, evil)
        self.assertEqual(answer, f"{evil}\n\n{evil}")
        self.assertEqual(self.browser.evaluate("document.querySelectorAll('main img, main b').length"), 0)
        self.assertEqual(self.browser.evaluate("typeof window.broken"), "undefined")

    def test_an_edited_message_is_a_branch_and_the_old_one_stays(self):
        self.say("Name a fruit.")
        old = self.answered()
        self.browser.click(".message.user [aria-label=Edit]")
        self.browser.evaluate("document.querySelector('.editing textarea').select()")
        self.browser.type("Name a colour.")
        self.browser.enter()
        new = self.answered()
        self.assertEqual(new[0], "Name a colour.")
        self.assertEqual(self.browser.evaluate("document.querySelector('.branches').innerText"), "2/2")
        self.browser.click("[aria-label='Earlier branch']")
        self.assertEqual(self.shown(), old)
        self.browser.click("[aria-label='Answer again']")
        self.browser.wait("document.querySelectorAll('.branches').length === 2")
        self.answered()
        self.reload()
        self.assertEqual(self.browser.evaluate("[...document.querySelectorAll('.branches')].map((one) => one.innerText)"),
                         ["1/2", "2/2"])

    def test_what_goes_wrong_is_one_line_and_can_be_tried_again(self):
        self.show({"max_tokens": 12, "kv_budget": "lots"})
        self.say("Name a fruit.")
        line = self.browser.wait("document.querySelector('.message .error')?.textContent")
        self.assertIn("kv_budget", line)
        self.assertNotIn("\n", line)
        self.browser.click("#settings-open")
        self.browser.evaluate("document.querySelector('[name=kv_budget]').select()")
        self.browser.type("64")
        self.browser.click("#settings .main")
        self.browser.click("[aria-label='Try again']")
        self.assertEqual(self.answered()[0], "Name a fruit.")
        self.assertEqual(self.browser.evaluate("document.querySelectorAll('.branches').length"), 0)

    def test_an_answer_that_breaks_off_says_so(self):
        piece = {"choices": [{"index": 0, "delta": {"content": "Half an"}}]}
        for rest, line in (("", "ended before"), ('data: {"error": {"code": 503, "message": "too bad"}}\n\n', "too bad"),
                           ("data: {nonsense\n\n", "broke")):
            stream = json.dumps(f"data: {json.dumps(piece)}\n\n{rest}")
            self.browser.evaluate(f"window.said['v1/chat/completions'] = {stream}")
            self.say("Hi")
            said = self.browser.wait("document.querySelector('.message:last-child .error')?.textContent")
            self.assertIn(line, said)
            self.assertIn("Half an", self.shown()[-1])
            self.browser.click("#new")

    def test_a_key_is_asked_for_and_kept_for_the_tab_alone(self):
        server = Server(*SMALL, "--api-key", "secret")
        self.addCleanup(server.stop)
        self.show({"max_tokens": 12}, server)
        self.browser.wait("document.getElementById('key').open")
        self.browser.type("secret")
        self.browser.enter()
        self.browser.wait("document.getElementById('model').textContent")
        self.say("Name a fruit.")
        self.answered()
        self.assertNotIn("secret", self.browser.evaluate("JSON.stringify(localStorage)"))
        self.browser.evaluate("sessionStorage.clear()")
        self.say("Not lost.")
        self.browser.wait("document.getElementById('key').open")
        self.browser.type("secret")
        self.browser.enter()
        self.assertEqual(self.answered(2)[2], "Not lost.")
        # A status of 401 is told in the console.
        self.browser.events.clear()

    def test_text_files_become_part_of_the_message(self):
        text, binary = self.file("fable.txt", FABLE), self.file("picture.png", b"\x89PNG\0\xff")
        root = self.browser.call("DOM.getDocument")["root"]["nodeId"]
        node = self.browser.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        self.browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(text), str(binary)])
        self.assertIn("picture.png", self.browser.wait("document.querySelector('#notice p')?.textContent"))
        self.assertEqual(self.browser.evaluate("document.querySelector('#files').innerText.split('\\n')"),
                         ["fable.txt", f"{len(FABLE)} B"])
        self.say("Who is sly?")
        self.assertTrue(self.answered()[0].startswith("fable.txt"))
        read = self.browser.evaluate("JSON.parse(Object.entries(localStorage).find(([key]) => "
                                     "key.startsWith('lacake.chat.'))[1]).tree.messages[1].facts.usage.prompt_tokens")
        self.assertGreater(read, 200)

    def test_conversations_are_found_renamed_deleted_and_brought_back(self):
        def names():
            return self.browser.evaluate("[...document.querySelectorAll('#conversations .open')].map((one) => one.textContent)")
        self.say("Name a fruit.")
        self.answered()
        self.browser.press("O", code="KeyO", number=79, modifiers=10)
        self.say("Name a colour.")
        self.answered()
        self.assertEqual(names(), ["Name a colour.", "Name a fruit."])
        self.browser.press("k", code="KeyK", number=75, modifiers=2)
        self.browser.type("FRUIT")
        self.assertEqual(names(), ["Name a fruit."])
        self.browser.click("#conversations .open")
        self.browser.click("[aria-label='Rename Name a fruit.']")
        self.browser.evaluate("document.querySelector('#conversations input').select()")
        self.browser.type("Fruits")
        self.browser.enter()
        self.assertEqual(names(), ["Fruits"])
        self.browser.click("[aria-label='Delete Fruits']")
        self.assertEqual(names(), [])
        self.browser.click("#notice button")
        self.assertEqual(names(), ["Fruits"])

    def test_what_is_exported_can_be_imported_and_nothing_else(self):
        self.say("Name a fruit.")
        self.answered()
        self.assertEqual(self.browser.evaluate("""(async () => {
            const store = await import('/page/store.js');
            const {conversations} = store.load();
            const again = store.imported(store.exported(conversations));
            return JSON.stringify(again) === JSON.stringify(conversations) && again.length === 1;
        })()"""), True)
        for damage, line in (("'{'", "JSON"), ("'[]'", "format"), ("file.replace('\"version\": 1', '\"version\": 2')", "version"),
                             ("file.replace('\"role\": \"user\"', '\"role\": \"root\"')", "role"),
                             ("file.replace('\"parent\": \"1\"', '\"parent\": \"9\"')", "parent"),
                             ("file.replace('\"id\": \"1\"', '\"id\": 1')", "id")):
            self.assertIn(line, self.browser.evaluate(f"""(async () => {{
                const store = await import('/page/store.js');
                const file = store.exported(store.load().conversations);
                try {{ store.imported({damage}); return 'taken'; }} catch (error) {{ return error.message; }}
            }})()"""), damage)

    def show_cache(self, n_tokens, n_layers=4):
        """Layer i holds every (i + 1)-th position, with two heads of two; the last layer with one."""
        layers = [{"layer": i, "n_heads": 2, "positions": (at := list(range(0, n_tokens, i + 1))),
                   "heads": [1 if i + 1 == n_layers else 2] * len(at)} for i in range(n_layers)]
        cache = {"id": "s", "policy": "trellis", "n_tokens": n_tokens, "tokens": [f" w{i}" for i in range(n_tokens)],
                 "layers": layers}
        piece = {"choices": [{"index": 0, "delta": {"content": "Yes."}, "finish_reason": "stop"}],
                 "lacake": {"id": "s/1", "policy": "trellis", "budget_bytes": 1, "held_bytes": 1, "dropped_bytes": 0,
                            "entries_held": 1}}
        said = {"v1/sessions/s%2F1/cache": json.dumps(cache),
                "v1/chat/completions": f"data: {json.dumps(piece)}\n\ndata: [DONE]\n\n"}
        self.browser.evaluate(f"window.said = {json.dumps(said)}")
        self.say("Hi")
        self.answered()
        self.browser.click("#cache-toggle")
        self.browser.wait("document.querySelector('.held-text').childNodes.length")

    def test_the_cache_is_shown_as_picture_text_and_table(self):
        self.show_cache(24)
        self.assertIn("24 tokens · 47 of 96 entries", self.browser.evaluate("document.querySelector('.cache-column .quiet').textContent"))
        box = self.browser.evaluate("(() => { const box = document.querySelector('canvas').getBoundingClientRect(); "
                                    "return [box.x, box.y, box.width, box.height]; })()")
        self.browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + box[2] * 12.5 / 24, y=box[1] + box[3] - 2)
        self.browser.wait("document.querySelector('.hint').textContent === "
                          "'“␣w12” at position 12: held by 4 of 4 layers, in layer 3 by 1 of 2 heads'")
        runs = self.browser.evaluate("[...document.querySelectorAll('.held-text .piece span')].slice(0, 4).map((one) => "
                                     "[one.className, one.textContent])")
        self.assertEqual(runs, [["held-8", " w0"], ["held-2", " w1"], ["held-4", " w2 w3"], ["held-6", " w4"]])
        self.browser.click("#cache summary")
        rows = self.browser.evaluate("[...document.querySelectorAll('#cache tbody tr')].map((one) => one.innerText.split(/\\s+/))")
        self.assertEqual(rows[2], ["2", "8", "33", "%", "0", "21"])
        self.browser.press("Escape", number=27)
        self.assertEqual(self.browser.evaluate("document.getElementById('cache').hidden"), True)

    def test_a_long_cache_is_shown_whole(self):
        self.show_cache(10_000, 32)
        text = self.browser.evaluate("document.querySelector('.held-text').textContent")
        self.assertEqual(text, "".join(f" w{i}" for i in range(10_000)))

    def test_two_caches_stand_side_by_side(self):
        self.show_cache(24)
        self.browser.click("#new")
        self.browser.wait("document.querySelector('.cache-column .quiet').textContent.includes('first answer')")
        self.browser.evaluate("(() => { const other = document.getElementById('compare'); other.selectedIndex = 1; "
                              "other.dispatchEvent(new Event('change')); })()")
        self.browser.wait("document.querySelectorAll('.cache-column')[1]?.innerText.includes('47 of 96')")

    def test_the_cache_is_the_servers_own(self):
        self.say(FABLE + "Who is sly?")
        self.answered()
        facts = self.browser.evaluate("document.querySelector('.facts').innerText.replaceAll('\\n', ' ')")
        held = re.search(r"entries held ([\d,]+)", facts)[1]
        self.assertNotIn("dropped nothing", facts)
        self.browser.click("#cache-toggle")
        self.browser.wait("document.querySelector('.held-text').textContent.includes('Down came the cheese')")
        line = self.browser.evaluate("document.querySelector('.cache-column .quiet').textContent")
        self.assertRegex(line, rf"^keydiff\S* · \d+ tokens · {held} of ")
        self.browser.wait("document.querySelector('#memory li[aria-current] .state')?.textContent.startsWith('idle')")
        session = self.server.get("/v1/sessions")[1]["data"][-1]
        self.browser.click("#conversations [aria-current] ~ [aria-label^='Delete ']")
        self.browser.wait(f"fetch('v1/sessions/{session['id']}/cache').then((answer) => answer.status === 404)")
        self.browser.events.clear()  # a status of 404 is told in the console

    def test_a_stopped_answers_cache_is_shown_too(self):
        self.show({})
        self.say("Count to a thousand.")
        self.browser.wait("document.querySelector('.message.running .markdown')")
        self.browser.click("#cache-toggle")
        self.browser.wait("document.querySelector('.cache-column .quiet').textContent.includes('is being written')")
        self.browser.click("#stop")
        self.browser.wait("document.querySelector('.held-text').textContent.includes('Count to a thousand.')")
        self.browser.events.clear()  # a status of 409 is told in the console

    def test_what_happens_is_shown_while_it_does(self):
        self.browser.evaluate("""window.said['v1/chat/completions'] = new ReadableStream({start(control) {
            window.feed = (piece) => control.enqueue(new TextEncoder().encode(`data: ${JSON.stringify(piece)}\\n\\n`));
        }})""")
        self.say("Hi")
        self.browser.evaluate("feed({choices: [], prompt_progress: {total: 4000, processed: 1000}})")
        self.browser.wait("document.querySelector('.state')?.textContent === 'Reading 1,000 of 4,000 tokens'")
        self.assertEqual(self.browser.evaluate("document.querySelector('progress').position"), 0.25)
        self.browser.evaluate("feed({choices: [{index: 0, delta: {reasoning_content: 'Hmm.'}}]})")
        self.browser.wait("document.querySelector('.reasoning summary')?.textContent === 'Reasoning …'")
        self.assertEqual(self.browser.evaluate("document.querySelector('.state')"), None)
        self.browser.evaluate("feed({choices: [{index: 0, delta: {tool_calls: [{index: 0, id: 'c', function: "
                              "{name: 'look', arguments: '{\"where\":'}}]}}]})")
        self.browser.wait("document.querySelector('.calls')?.innerText.includes('look')")
        self.browser.evaluate("feed({choices: [{index: 0, delta: {tool_calls: [{index: 0, function: {arguments: '1}'}}]}}]})")
        self.browser.wait("document.querySelector('.calls pre').textContent === '{\\n  \"where\": 1\\n}'")
        # Another conversation can be looked at meanwhile.
        self.browser.click("#new")
        self.assertEqual(self.shown(), [])
        self.assertFalse(self.browser.evaluate("document.getElementById('send').hidden"))
        self.browser.click("#conversations .running .open")
        self.browser.press("Escape", number=27)
        self.browser.wait("!document.querySelector('.message.running')")
        self.assertIn("Calls look", self.shown()[-1].replace("\n", " "))

    def test_it_fits_a_telephone_and_everything_has_a_name(self):
        size = {"height": 740, "deviceScaleFactor": 1, "mobile": False}
        self.browser.call("Emulation.setDeviceMetricsOverride", width=360, **size)
        self.addCleanup(self.browser.call, "Emulation.setDeviceMetricsOverride", width=1280, **{**size, "height": 800})
        self.browser.wait("!document.getElementById('list').checkVisibility({visibilityProperty: true})")
        self.show_cache(2000)
        # Nothing stands over the right edge but what scrolls.
        wide = """['body', '#scroller', '.cache-scroller'].filter((one) => {
            const {scrollWidth, clientWidth} = document.querySelector(one);
            return scrollWidth > clientWidth;
        })"""
        self.assertEqual(self.browser.evaluate(wide), [])
        self.assertEqual(self.browser.evaluate("""[...document.querySelectorAll('button, input, select, textarea, canvas')]
            .filter((one) => one.checkVisibility({visibilityProperty: true}) && !one.innerText?.trim() && !one.ariaLabel && !one.labels?.length)
            .map((one) => one.outerHTML)"""), [])

    def test_what_another_tab_has_kept_is_shown_here_and_what_is_typed_stays(self):
        self.say("Name a fruit.")
        self.answered()
        self.browser.click("#message")
        self.browser.type("Mine")
        self.browser.evaluate("""new Promise((done) => setTimeout(done, 1500)).then(() => {
            const [key, kept] = Object.entries(localStorage).find(([key]) => key.startsWith('lacake.chat.'));
            const other = {...JSON.parse(kept), title: 'Renamed there', draft: {text: 'Theirs', files: []}};
            const id = key.slice(-32).replace(/^./, (digit) => digit === 'f' ? '0' : 'f');
            for (const one of [other, {...other, id, title: 'Made there'}]) {
              dispatchEvent(new StorageEvent('storage', {key: `lacake.chat.${one.id}`, newValue: JSON.stringify(one)}));
            }
        })""")
        self.assertEqual(self.browser.evaluate("[...document.querySelectorAll('#conversations .open')].map((one) => "
                                               "one.textContent).sort()"), ["Made there", "Renamed there"])
        self.assertEqual(self.browser.evaluate("document.getElementById('message').value"), "Mine")

    # --- parts that know nothing of the page ---------------------------------------------------------------------------

    def test_markdown_is_read_as_models_write_it(self):
        for text, expected in {
            "a *b* **c** `d*`": [{"type": "paragraph", "text": "a *b* **c** `d*`", "source": "a *b* **c** `d*`"}],
            "## Hi ##": [{"type": "heading", "level": 2, "text": "Hi", "source": "## Hi ##"}],
            "```py\nx\n": [{"type": "code", "language": "py", "text": "x\n", "source": "```py\nx\n"}],
            "````\n```\n````\n---": [{"type": "code", "language": "", "text": "```", "source": "````\n```\n````"},
                                    {"type": "rule", "source": "---"}],
            "|a|b|\n|-|:-:|\n|1|`x|y`|": [{"type": "table", "head": ["a", "b"], "align": ["left", "center"],
                                          "rows": [["1", "`x|y`"]], "source": "|a|b|\n|-|:-:|\n|1|`x|y`|"}],
        }.items():
            self.assertEqual(self.markdown("blocks", text), expected)
        outer = self.markdown("blocks", "3. a\n   - b\n   - c\n\n4. d\n\nend")
        self.assertEqual([block["type"] for block in outer], ["list", "paragraph"])
        self.assertEqual((outer[0]["start"], len(outer[0]["items"])), (3, 2))
        self.assertEqual([block["type"] for block in outer[0]["items"][0]], ["paragraph", "list"])
        for text, expected in {
            "a*b*": ["a", {"type": "emphasis", "nodes": ["b"]}],
            "2 * 3 * 4 snake_case_name": ["2 * 3 * 4 snake_case_name"],
            "***x***": [{"type": "strong", "nodes": [{"type": "emphasis", "nodes": ["x"]}]}],
            "**open `a` \\*": ["**open ", {"type": "code", "text": "a"}, " *"],
            "``a`b`` ~~c~~": [{"type": "code", "text": "a`b"}, " ", {"type": "struck", "nodes": ["c"]}],
            "a\nb": ["a", {"type": "break"}, "b"],
            "[x](https://a.b/c_(d)) see https://a.b.": [{"type": "link", "nodes": ["x"], "href": "https://a.b/c_(d)"}, " see ",
                                                      {"type": "link", "nodes": ["https://a.b"], "href": "https://a.b"}, "."],
            "[x](javascript:alert(1)) [y](data:text/html,z) [z](//a.b)":
                ["[x](javascript:alert(1)) [y](data:text/html,z) [z](//a.b)"],
        }.items():
            self.assertEqual(self.markdown("inline", text), expected)

    def test_markdown_ends_whatever_it_reads(self):
        n = 50_000
        for text in ("[" * n, "*a " * n, "**a _b ~~c " * n, "`" * n, "".join("`" * i + " " for i in range(300)), ">" * n,
                     "- " * n, "[a](" * n, "http://" * n, "<http://" * n, "http://a" + ")" * n, "# " + " " * n + "x",
                     "|" * n + "\n" + "|-" * n, "\n".join(" " * i + "- a" for i in range(500)), "![" * n + "](x)" * n):
            letters = self.browser.evaluate(f"""(async () => {{
                const {{MarkdownView}} = await import('/page/markdown_view.js');
                const view = new MarkdownView();
                view.show({json.dumps(text)});
                return view.element.textContent.length;
            }})()""")
            self.assertGreaterEqual(letters, 0)

    def test_a_growing_text_looks_as_if_it_had_come_whole(self):
        text = "# A\n\n- b\n- c **d**\n\n```\ne\n```\n\n|f|\n|-|\n|g|\n\nlast *one*"
        self.assertEqual(self.browser.evaluate(f"""(async () => {{
            const {{MarkdownView}} = await import('/page/markdown_view.js');
            const text = {json.dumps(text)}, grown = new MarkdownView(), whole = new MarkdownView();
            for (let n = 0; n <= text.length; ++n) grown.show(text.slice(0, n));
            whole.show(text);
            return grown.element.isEqualNode(whole.element);
        }})()"""), True)

    def markdown(self, function, text):
        return self.browser.evaluate(f"import('/page/markdown.js').then((markdown) => markdown.{function}({json.dumps(text)}))")


if __name__ == "__main__":
    unittest.main()
