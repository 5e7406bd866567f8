"""Every option does something.

The program's own table (`lacake help --json`) is gone through: each option of each command is set to an unusual value,
and then either something that can be seen must differ from the same command without it, or the program must refuse it in
one line. What an option echoes in "options" does not count, nor does what a clock says.

A new option is tried with a value made from its range; it needs an entry below only where it wants a value of its own, or
another command to show itself in.
"""

import json
import re
import shutil
import unittest

from program import FABLE, MODEL, ON_MODEL, ProgramTest, run

TEXT = "A crow sat on a branch with a piece of cheese in her beak when a fox came by. What did the fox say to her?"
DROPS = ["--policy", "streaming-llm", "--kv-budget", "24"]
COMPARED = ["--policy", "full,streaming-llm", "--kv-budget", "24"]  # records then say how far one is from the other
# A list that a model without DRY goes on with.
DRY = ["!-p", "-p", "cat dog cow cat dog cow cat dog cow cat dog cow cat dog", "--raw", "!--temp", "--temp", "0"]
YARN = ["--rope-scaling", "yarn", "--rope-scale", "4"]

# Ends by itself after a few tokens.
SHORT_ANSWER = ["-p", "What is 2+2? Answer with one number.", "--temp", "0", "-n", "48"]

BASE = {
    "run": ["-p", TEXT, "-n", "6", "-s", "7", "--temp", "1.2", "--json"],
    "chat": ["-n", "6", "-s", "7", "--temp", "1.2"],
    "ingest": ["{short}", "-o", "{out}", "--json"],
    "calibrate": ["-f", "{long}", "-o", "{out}", "--chunk", "96", "--json"],
    "inspect": ["-p", TEXT, "--json"],
    "policies": [],
    "bench": ["-p", "16", "-n", "1", "-r", "1", "--json"],
    "perplexity": ["-f", "{fable}", "--chunk", "32", "--limit", "2", "--json"],
    "needle": ["-f", "{long}", "--lengths", "160", "--depths", "2", "--seeds", "1", "--json"],
    "ruler": ["--lengths", "400", "--samples", "1", "--tasks", "niah_single_1", "--json"],
    "longbench": ["{trec}", "--json"],
}

# Beside that: what of the values an option is set to, where the program's table does not tell, and in which company.
# A tuple: (company, setting); the company stands in both of the commands that are compared.
COMMON = {
    "model": ["-m", "{none}"],
    "threads": ["-t", "2"],
    "product": ["--product", "f32"],
    "attention": ["--attention", "ggml"],
    "rope_scaling": (["--rope-scale", "4"], ["--rope-scaling", "yarn"]),
    "rope_scale": ["--rope-scale", "3"],
    "rope_freq_base": ["--rope-freq-base", "1000"],
    "rope_freq_scale": ["--rope-freq-scale", "0.5"],
    "yarn_orig_ctx": (YARN, ["--yarn-orig-ctx", "64"]),
    "yarn_ext_factor": (YARN, ["--yarn-ext-factor", "0.5"]),
    "yarn_attn_factor": ["--yarn-attn-factor", "0.5"],
    "yarn_beta_slow": (YARN, ["--yarn-beta-slow", "8"]),
    "yarn_beta_fast": (YARN, ["--yarn-beta-fast", "2"]),
    "override_kv": ["--override-kv", "llama.rope.freq_base=float:1000"],
    "lora": ["--lora", MODEL],
    "lora_scaled": ["--lora-scaled", MODEL + ":2"],
    "calibration": ["--calibration", "{none}"],
    "kv_type": ["--kv-type", "q8_0"],
    "policy": ["--policy", "streaming-llm:cache_size=24"],
    "kv_budget": ["--kv-budget", "24"],
    "prefill": (DROPS, ["--prefill", "streaming"]),
    "chunk": ([*DROPS, "--prefill", "streaming"], ["--chunk", "8"]),
    "color": ["--color", "always"],
    "system": ["--system", "Answer in French."],
    "seed": ["-s", "8"],
    "temp": ["--temp", "0"],
    "repeat_penalty": ["--repeat-penalty", "3"],
    "grammar_file": ["--grammar-file", "{grammar}"],
    "grammar": ["--grammar", 'root ::= "yes" | "no"'],
    "json_schema": ["--json-schema", '{"type": "integer"}'],
    "json_schema_file": ["--json-schema-file", "{schema}"],
    "typical_p": ["--typical", "0.05"],
    "top_n_sigma": ["--top-nsigma", "0.1"],
    "xtc_probability": ["--xtc-probability", "1"],
    "xtc_threshold": (["--xtc-probability", "1"], ["--xtc-threshold", "0.02"]),
    "min_keep": (["--top-p", "0.01"], ["--min-keep", "8"]),
    "dynatemp_range": ["--dynatemp-range", "60"],
    "dynatemp_exponent": (["--dynatemp-range", "60"], ["--dynatemp-exp", "9"]),
    "repeat_last_n": (["--repeat-penalty", "3"], ["--repeat-last-n", "1"]),
    "presence_penalty": ["--presence-penalty", "9"],
    "frequency_penalty": ["--frequency-penalty", "9"],
    "dry_multiplier": [*DRY, "--dry-multiplier", "30"],
    "dry_base": ([*DRY, "--dry-multiplier", "0.1"], ["--dry-base", "30"]),
    "dry_allowed_length": ([*DRY, "--dry-multiplier", "30"], ["--dry-allowed-length", "60"]),
    "dry_penalty_last_n": ([*DRY, "--dry-multiplier", "30"], ["--dry-penalty-last-n", "0"]),
    "dry_sequence_breakers": ([*DRY, "--dry-multiplier", "30"], ["--dry-sequence-breaker", " dog"]),
    "mirostat": ["--mirostat", "2"],
    "mirostat_eta": (["--mirostat", "2", "--mirostat-ent", "0.5"], ["--mirostat-lr", "9"]),
    "mirostat_tau": (["--mirostat", "2"], ["--mirostat-ent", "0.1"]),
    "logit_bias": ["--logit-bias", '" the"+30'],
    "samplers": ["--samplers", "top_k;temperature"],
    "sampling_seq": ["--sampling-seq", "t"],
    "chat_template": ["--chat-template", "llama3"],
    "chat_template_file": ["--chat-template-file", "{template}"],
    "chat_template_kwargs": (["--chat-template-file", "{template}"], ["--chat-template-kwargs", '{"x": "Sing."}']),
    "reasoning": ["--reasoning", "on"],  # refused: the model's template knows no thinking
    "stop": ["--stop", "e"],
    "tools": ["--tools-file", "{none}"],
    "parse_special": (["--system", "Be brief.<|im_end|>"], ["--parse-special"]),
}
DRY_OPTIONS = ("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers")

OWN = {
    "run": {
        "file": ["-f", "{fable}"],
        "prompt": ["-p", "Sing."],
        "continuation": ["--continuation", "{fable}"],
        "ignore_eos": (SHORT_ANSWER, ["--ignore-eos"]),
        "parse_special": (["-p", "<|im_end|> hi"], ["--parse-special"]),
        "color": (["!--json"], ["--color", "always"]),
        "quiet": ["-q"],
        "json": (["!--json"], ["--json"]),
        "session": ["--session", "{saved}"],
        "save": (["--session", "{copy}"], ["--save"]),
    },
    "ingest": {
        "output": ["-o", "{none}/no"],
        "kv_budget": ["--kv-budget", "240"],
        "policy": ["--policy", "tova:cache_size=24"],
        "prefill": (["--policy", "tova:cache_size=24,positions=compacted", "--chunk", "8", "!--chunk"],
                    ["--prefill", "streaming"]),
        "parse_special": (["!{short}", "{marked}"], ["--parse-special"]),
        "color": (["!--json"], ["--color", "always"]),
        "json": (["!--json"], ["--json"]),
    },
    "chat": {"session": ["--session", "{talk}"],
             "checkpoints": ["--checkpoints", "12345B"],
             "ignore_eos": (["--temp", "0", "-n", "24"], ["--ignore-eos"]),
             "stop": (["--temp", "0", "-n", "24"], ["--stop", "e"])},
    "inspect": {
        "file": ["-f", "{fable}"],
        "prompt": ["-p", "Sing."],
        "ctx_size": (["!-p"], ["-c", "100"]),
        "prompt_tokens": (["!-p"], ["--prompt-tokens", "500"]),
        "predict": (["--kept", "{kept}"], ["-n", "3"]),
        "plot": ["--plot", "{plot}"],
        "kept": ["--kept", "{kept}"],
        "ignore_eos": ["--ignore-eos"],  # refused: nothing is answered without -n
        "color": (["!--json"], ["--color", "always"]),
        "json": (["!--json"], ["--json"]),
        "html": ["--html", "{plot}"],  # refused: of a saved conversation
    },
    "calibrate": {
        "files": ["-f", "{fable}"],
        "output": ["-o", "{none}/no"],
        "tokens": ["--tokens", "300"],
        "learned_chunk": ["--chunk", "64"],
        "color": ["--color", "always"],
        "json": (["!--json"], ["--json"]),
    },
    "policies": {"color": ["--color", "always"]},
    "bench": {
        "depth": ["-d", "24"],
        "fill": (["-d", "24"], ["--fill", "synthetic"]),
        "file": ["-f", "{short}"],
        "n_prompt": ["-p", "24"],
        "n_gen": ["-n", "2"],
        "beyond_training": (["-p", "0", "-d", "100000"], ["--beyond-training", "--kv-budget", "24", "--policy", "tova"]),
        "color": (["!--json"], ["--color", "always"]),
        "json": (["!--json"], ["--json"]),
    },
    "perplexity": {
        "files": (["!--limit"], ["-f", "{long}"]),
        "prefill": (["--chunk", "64", "--policy", "full,streaming-llm", "--kv-budget", "16"], ["--prefill", "streaming"]),
        "score_chunk": ["--chunk", "40"],
        "tokens": (["!--chunk"], ["--tokens", "20"]),
        "window": ["--window", "8"],
        "limit": ["--limit", "1"],
    },
    "needle": {"files": ["-f", "{fable}"], "lengths": ["--lengths", "200"], "n_depths": ["--depths", "3"],
               "question": (COMPARED, ["--question", "later"]), "needles": ["--needles", "2"],
               "key": ["--key", "words:2"],
               "questions": (["!--depths", "--question", "later"], ["--questions", "2"]),
               "limit": ["--limit", "1"]},
    "ruler": {"files": ["-f", "{long}"], "tasks": ["--tasks", "vt"], "lengths": ["--lengths", "500"],
              "question": (COMPARED, ["--question", "later"]), "qa": ["--qa", "{squad}", "--tasks", "qa"],
              "questions": (["--question", "later"], ["--questions", "2"]),
              "data": ["--data", "{none}"], "skip_broken": (["!--lengths", "!--samples", "--data", "{niah}"], ["--skip-broken"]),
              "raw": ["--raw"], "limit": (["--samples", "2"], ["--limit", "1"])},
    # Tasks of few shots, such as trec, have no chat template to begin with.
    "longbench": {"files": ["-f", "{none}"], "tasks": ["--tasks", "lcc"], "max_length": ["--max-length", "40"],
                  "question": (COMPARED, ["--question", "later"]), "skip_broken": (["{broken}"], ["--skip-broken"]),
                  "raw": (["!{trec}", "{count}"], ["--raw"]), "limit": ["--limit", "1"]},
}
OWN_OF_EVAL = {"results": ["--results", "{fable}/no"], "prefill": (COMPARED, ["--prefill", "streaming"]),
               "cache_memory": ["--cache-memory", "12%"], "beside": (COMPARED, ["--beside", "full"]),
               "color": (["!--json"], ["--color", "always"]), "json": (["!--json"], ["--json"]), "quiet": ["-q"]}

# What rightly changes nothing that can be seen from here, and why.
SILENT = {
    ("chat", "quiet"): None,
    ("inspect", "quiet"): "hides only progress on a terminal",
    ("calibrate", "threads"): "the numbers are the same bits whatever the number of threads",
    ("calibrate", "no_repack"): "only memory and speed differ",
    ("perplexity", "threads"): "the numbers are the same bits whatever the number of threads",
    ("perplexity", "no_repack"): "only memory and speed differ",
    ("bench", "quiet"): "hides only progress on a terminal",
    ("bench", "no_repack"): "shows in planned_bytes, which also has what the process held before",
    **{("bench", json_name): "bench shows no numbers that a model computes, only how fast it does"
       for json_name in ("rope_scale", "override_kv")},
    **{("inspect", json_name): "inspect shows what is kept, which positions do not change under these policies"
       for json_name in ("override_kv", "attention")},
}

# What is refused without the option, and so shows what it does.
REFUSED_WITHOUT = {("bench", "beyond_training"), ("ruler", "skip_broken"), ("longbench", "skip_broken"),
                   ("ingest", "prefill")}  # beside --chunk

VOLATILE = re.compile(r"(^|_)(ms|per_s|rss_bytes|read|share|time|options|program|vocabulary|total|planned_bytes|"
                      r"prefill_ms|pass|together|step_ms|seconds|bytes_per_s|values|median|fill_ms)($|_)|tokens_per_s")
MODEL_GROUPS = ("Model", "RoPE")
# What these say reaches the library in one way each (model_options, sampler_options, chat_options): `run` tries all of
# them, and of the other commands one option shows that they hand the group on.
ONE_OF_GROUP = {"RoPE": "rope_scale", "Sampling": "temp", "Chat template": "chat_template"}
TRIES_WHOLE_GROUPS = ("run", "serve")
WRITTEN = ("kept", "plot", "out", "talk", "copy")  # files that a command may leave


def table():
    listed = json.loads(run("help", "--json").stdout)
    return {command["name"]: command["options"] for command in listed["commands"]}


def settled(value):
    """What does not depend on a clock."""
    if isinstance(value, dict):
        return {k: settled(v) for k, v in value.items() if not VOLATILE.search(k)}
    return [settled(v) for v in value] if isinstance(value, list) else value


def settled_text(content):
    text = content.decode()
    try:
        return settled(json.loads(text))
    except ValueError:
        text = re.sub(r"[\d.]+ (tokens/s|GB/s|ms)", r"N \1", text)
        return re.sub(r"peak memory .*|program +\S+ \S+|vocabulary +\S+ \S+|total +\S+ \S+", "", text)


def unusual(option):
    """A value that is hardly anyone's default, made from the table."""
    flag = option["flags"][-1]
    if option["kind"] == "switch":
        return [flag]
    if option["kind"] == "choice":
        return [flag, option["words"][-1]]
    if option["kind"] == "whole":
        return [flag, str(min(max(option["min"], 3), option["max"]))]
    if option["kind"] == "real":
        return [flag, str(min(max(option["min"], 0.31), option["max"]))]
    return None


class Everything(ProgramTest):
    def setUp(self):
        super().setUp()
        line = {"input": "What did the fox want?", "context": FABLE, "language": "en", "length": 180, "_id": "0",
                "dataset": "trec", "answers": ["Food"], "all_classes": ["Food", "Animal"]}
        lines = json.dumps(line) + "\n" + json.dumps({**line, "_id": "1"}) + "\n"
        niah = {"index": 0, "input": "A special magic number is hidden.\n" + FABLE +
                "\nWhat is the special magic number for old-fox mentioned in the provided text?", "outputs": ["1234567"],
                "answer_prefix": " The special magic number is"}
        self.places = {
            "none": self.folder / "none.gguf",
            "fable": self.file("fable.txt", FABLE),
            "long": self.file("long.txt", FABLE * 3),
            "short": self.file("short.txt", "Hi."),
            "grammar": self.file("yes.gbnf", 'root ::= "yes" | "no"'),
            "schema": self.file("schema.json", '{"type": "integer"}'),
            "template": self.file("template.jinja", "{{ x }} {{ messages[-1]['content'] }}"),
            "trec": self.file("trec.jsonl", lines),
            "count": self.file("count.jsonl", json.dumps({**line, "dataset": "passage_count", "answers": ["5"]}) + "\n"),
            "broken": self.file("broken.jsonl", lines.replace('"1"', '"2"') + "broken\n"),
            "niah": self.file("niah_single_1.jsonl", json.dumps(niah) + "\nbroken\n"),
            "squad": self.file("squad.json", json.dumps({"data": [{"paragraphs": [
                {"context": FABLE, "qas": [{"question": "Who sang?", "answers": [{"text": "the crow"}]}]}]}]})),
            "marked": self.file("marked.txt", "No <|im_end|> yet."),
            "kept": self.folder / "kept.json",
            "plot": self.folder / "kept.svg",
            "out": self.folder / "out.kv",
            "talk": self.folder / "talk.kv",
            "copy": self.folder / "copy.kv",
            "saved": self.folder / "saved.kv",
        }
        done = run("ingest", self.places["short"], *ON_MODEL, "-o", self.places["saved"])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.seen = {}

    def filled(self, words):
        """Words with the places that stand in braces; JSON has braces too."""
        return [re.sub(r"\{(\w+)\}", lambda m: str(self.places[m[1]]), str(word)) for word in words]

    def command_line(self, command, task, company):
        """The base, without what the company takes out of it ("!--json")."""
        words, out = list(BASE[task or command]), {word[1:] for word in company if word.startswith("!")}
        kept = []
        while words:
            word = words.pop(0)
            if word not in out:
                kept.append(word)
            elif words and not words[0].startswith("-"):
                words.pop(0)
        start = [command, *([task] if task else []), *([] if command == "policies" else ON_MODEL)]
        return self.filled([*start, *kept, *[word for word in company if not word.startswith("!")]])

    def observed(self, arguments, command):
        for name in WRITTEN:
            self.places[name].unlink(missing_ok=True)
        shutil.copy(self.places["saved"], self.places["copy"])
        results = self.folder / f"results{len(self.seen)}-{len(arguments)}-{abs(hash(tuple(arguments)))}"
        if command == "eval":
            arguments = [*arguments[:2], "--results", str(results), *arguments[2:]]
        if command == "serve":
            return self.served(arguments)
        stdin = b"What is 2+2? Answer with one number.\n/stats\n" if command == "chat" else b""
        done = run(*arguments, stdin=stdin)
        records = results / "predictions.jsonl"
        left = [settled(json.loads(line)) for line in records.read_text().splitlines()] if records.exists() else None
        files = [(place.name, place.read_bytes()) for name in WRITTEN if (place := self.places[name]).is_file()]
        log = settled_text(done.stderr).replace(results.name, "") if done.stderr else ""
        return {"status": done.returncode, "stdout": settled_text(done.stdout), "stderr": log, "records": left,
                "files": files}

    def served(self, arguments):
        """What a server says and answers."""
        raise NotImplementedError  # serve_options_test.py

    def base(self, command, task, company):
        key = (command, task, tuple(company))
        if key not in self.seen:
            self.seen[key] = self.observed(self.command_line(command, task, company), command)
        return self.seen[key]

    def tried(self, option, command, task=None):
        name = option["json"]
        own = OWN.get(task or command, {})
        case = own.get(name) or (OWN_OF_EVAL.get(name) if task else None) or COMMON.get(name) or unusual(option)
        self.assertIsNotNone(case, f"{command} {name}: a text, which needs an entry in this test")
        company, setting = case if isinstance(case, tuple) else ([], case)
        without = self.base(command, task, company)
        self.assertEqual(without["status"] != 0, (task or command, name) in REFUSED_WITHOUT, without["stderr"])
        with_it = self.observed([*self.command_line(command, task, company), *self.filled(setting)], command)
        if with_it["status"] in (1, 2):
            # These have shown their plan by then.
            lines = with_it["stderr"].splitlines()
            self.assertTrue(lines[-1].startswith("lacake: error: "), lines)
            self.assertTrue(len(lines) == 1 or command in ("chat", "ingest"), lines)
        differs = with_it != without
        reason = SILENT.get((task or command, name))
        if reason:
            self.assertFalse(differs, f"{command} {name} is listed as silent ({reason}), but is not")
        else:
            self.assertTrue(differs, f"{command} {task or ''} {setting} changes nothing beside {company}")

    def all_of(self, command, task=None, only=lambda option: True):
        for option in table()[command]:
            one_of_group = ONE_OF_GROUP.get(option["group"], option["json"])
            if command not in TRIES_WHOLE_GROUPS and option["json"] != one_of_group:
                continue
            if only(option) and option["flags"][-1].startswith("-"):
                with self.subTest(command=command, task=task, option=option["flags"][-1]):
                    self.tried(option, command, task)

    def test_run(self):
        self.all_of("run")

    def test_ingest(self):
        self.all_of("ingest")

    def test_calibrate(self):
        self.all_of("calibrate")

    def test_chat(self):
        self.all_of("chat")

    def test_inspect(self):
        self.all_of("inspect")

    def test_bench(self):
        self.all_of("bench")

    def test_policies(self):
        self.all_of("policies")

    def test_eval_perplexity(self):
        self.all_of("eval", "perplexity", lambda option: "perplexity" in option["tasks"])

    # What concerns the model is the same code in all tasks, and was tried above.
    def test_eval_needle(self):
        self.all_of("eval", "needle", lambda o: "needle" in o["tasks"] and o["group"] not in MODEL_GROUPS)

    def test_eval_ruler(self):
        self.all_of("eval", "ruler", lambda o: "ruler" in o["tasks"] and o["group"] not in MODEL_GROUPS)

    def test_eval_longbench(self):
        self.all_of("eval", "longbench", lambda o: "longbench" in o["tasks"] and o["group"] not in MODEL_GROUPS)

    def test_tasks_refuse_the_options_of_others(self):
        tasks = ("perplexity", "needle", "ruler", "longbench", "compare", "report")
        for option in table()["eval"]:
            flag = option["flags"][-1]
            value = unusual(option) or [flag, "x"]
            for task in tasks if flag.startswith("-") else ():
                if task in option["tasks"]:
                    continue
                with self.subTest(task=task, option=flag):
                    done = run("eval", task, *(["-m", MODEL] if task not in ("compare", "report") else []), *value)
                    line = done.stderr.decode()
                    self.assertEqual((done.returncode, done.stdout), (2, b""), line)
                    self.assertTrue(line.startswith(f"lacake: error: {flag}: expected task "), line)


class Empty(ProgramTest):
    """A value that a shell's unset variable leaves is no value, and none that is not given."""

    # No text of the template's own; no samplers; refused with the file beside it (bad_input_test.py).
    MAY_BE_EMPTY = ("system", "samplers", "sampling_seq", "prompt")

    def test_a_text_that_is_empty_is_refused_by_name(self):
        for command, options in table().items():
            for option in options:
                flag = option["flags"][-1]
                if option["kind"] != "text" or option["json"] in self.MAY_BE_EMPTY or not flag.startswith("-"):
                    continue
                for words in ([flag, ""], [f"{flag}="]):
                    with self.subTest(command=command, words=words):
                        done = run(command, *words, *(["-q"] if command != "policies" else []))
                        self.assertEqual((done.returncode, done.stdout), (2, b""), done.stderr)
                        self.assertEqual(done.stderr.decode(),
                                         f'lacake: error: {flag}: expected {option["value"]}, found ""\n')

    def test_what_may_be_empty_is_not_taken_from_the_next_word(self):
        done = run("run", "-m", self.folder / "no.gguf", "--system=", "-p", "--host=")
        self.assertIn("no.gguf: cannot be opened", done.stderr.decode())


class Together(ProgramTest):
    """Options that have no effect beside others are refused by name."""

    def refused(self, arguments, *says):
        done = run(*arguments)
        line = done.stderr.decode()
        self.assertEqual((done.returncode, done.stdout, line.count("\n")), (2, b"", 1), line)
        for words in says:
            self.assertIn(words, line)

    def test_options_of_a_sampler_that_is_off(self):
        dry, with_dry = "--dry-multiplier above 0 beside it, found none", ["--dry-multiplier", "1"]
        cases = (("--xtc-threshold", "0.2", "--xtc-probability above 0 beside it", ["--xtc-probability", "0.5"]),
                 ("--dynatemp-exp", "2", "--dynatemp-range above 0 beside it", ["--dynatemp-range", "0.5"]),
                 ("--repeat-last-n", "32", "--repeat-penalty, --presence-penalty or --frequency-penalty beside it",
                  ["--frequency-penalty", "0.5"]),
                 ("--dry-base", "2", dry, with_dry), ("--dry-allowed-length", "3", dry, with_dry),
                 ("--dry-penalty-last-n", "32", dry, with_dry), ("--dry-sequence-breaker", "x", dry, with_dry),
                 ("--mirostat-lr", "0.2", "--mirostat 1 or 2 beside it", ["--mirostat", "1"]),
                 ("--mirostat-ent", "4", "--mirostat 1 or 2 beside it", ["--mirostat", "2"]))
        # None of them needs the model for that.
        none = ["-m", self.folder / "none.gguf", "-n", "3"]
        for flag, value, expected, switch in cases:
            for command in (["run", *none, "-p", TEXT], ["chat", *none], ["inspect", *none, "-p", TEXT]):
                with self.subTest(flag=flag, command=command[0]):
                    self.refused([*command, flag, value], f"{flag}: expected {expected}")
                    self.assertIn(b"none.gguf: cannot be opened", run(*command, flag, value, *switch).stderr)
        self.refused(["run", *none, "-p", TEXT, "--dry-base", "2", "--dry-multiplier", "0"], "--dry-base: expected --dry-multiplier")
        # What a server is started with are defaults of its clients, who may turn the sampler on.
        self.assertIn(b"none.gguf: cannot be opened", run("serve", *none, "--dry-base", "2").stderr)

    def test_options_of_a_sampler_that_does_not_run_are_said(self):
        # Said and not refused: scripts write them beside --temp 0. None of them needs the model for that.
        none = ["-m", self.folder / "none.gguf", "-n", "3", "-p", TEXT]
        greedy = "no effect beside --temp 0, which takes the likeliest token"
        mirostat = "no effect beside --mirostat, which runs in place of all other samplers"
        cases = ((["--temp", "0", "--top-k", "40"], f"--top-k has {greedy}"),
                 (["--temp", "0", "--top-k", "40", "--min-keep", "2"], f"--top-k, --min-keep have {greedy}"),
                 (["--temp", "0", "--mirostat", "1"], f"--mirostat has {greedy}"),
                 (["--mirostat", "2", "--top-k", "3", "--temp", "1"], f"--top-k has {mirostat}"),
                 (["--mirostat", "2", "--samplers", "top_k"], f"--samplers has {mirostat}"),
                 (["--samplers", "top_k", "--top-p", "0.5"], "--top-p has no effect because --samplers leaves its sampler out"),
                 (["--sampler-seq", "k", "--top-p", "0.5", "--temp", "2"],
                  "--top-p, --temp have no effect because --sampler-seq leaves their samplers out"),
                 (["--samplers", "top_k", "--dry-multiplier", "1"], "--dry-multiplier has no effect"),
                 (["--temp", "0", "--samplers", "top_k", "--repeat-penalty", "2"], "--repeat-penalty has no effect because"))
        for options, says in cases:
            for command in ("run", "inspect"):
                with self.subTest(options=options, command=command):
                    lines = run(command, *none, "-q", *options).stderr.decode().splitlines()
                    self.assertEqual(len(lines), 2, lines)
                    self.assertIn(says, lines[0])
                    self.assertIn("none.gguf: cannot be opened", lines[1])
        for options in (["--temp", "0", "--seed", "1"], ["--temp", "0", "--repeat-penalty", "2"], ["--mirostat", "1", "--temp", "1"],
                        ["--samplers", "min_p", "--min-keep", "2"], ["--samplers", "top_k", "--temp", "0"], ["--top-k", "3"]):
            with self.subTest(options=options):
                self.assertEqual(run("run", *none, *options).stderr.decode().count("\n"), 1)

    def test_by_name(self):
        text = self.file("fable.txt", FABLE)
        text = self.file("fable.txt", FABLE)
        asked = ["run", *ON_MODEL, "-p", TEXT, "-n", "1"]
        self.refused([*asked, "--chunk", "8"], "--chunk: expected --prefill streaming")
        self.refused([*asked, "--rope-scale", "2", "--rope-freq-scale", "0.5"], "--rope-freq-scale", "both")
        ingested = ["ingest", *ON_MODEL, text, "-o", self.folder / "out.kv"]
        self.refused([*ingested, "--chunk", "8"], "--chunk: expected --prefill streaming")
        self.refused([*ingested, "--rope-scale", "2", "--rope-freq-scale", "0.5"], "--rope-freq-scale", "both")
        self.refused([*ingested, "--raw", "--system", "Be brief."], "--system: expected a chat template", "--raw")
        self.refused([*asked, "--raw", "--system", "Be brief."], "--system", "--raw")
        self.refused([*asked, "--raw", "--chat-template", "chatml"], "--chat-template: expected a chat template", "--raw")
        self.refused([*asked, "--raw", "--chat-template-file", text], "--chat-template-file", "--raw")
        self.refused([*asked, "--raw", "--chat-template-kwargs", "{}"], "--chat-template-kwargs", "--raw")
        self.refused([*asked, "--raw", "--reasoning", "on"], "--reasoning", "--raw")
        self.refused([*asked, "--raw", "--chat-template", "chatml"], "--chat-template: expected a chat template", "--raw")
        self.refused([*asked, "--raw", "--chat-template-file", text], "--chat-template-file", "--raw")
        self.refused([*asked, "--raw", "--chat-template-kwargs", "{}"], "--chat-template-kwargs", "--raw")
        self.refused([*asked, "--raw", "--reasoning", "on"], "--reasoning", "--raw")
        self.refused([*asked, "--yarn-beta-fast", "16"], "--yarn-beta-fast: expected --rope-scaling yarn")
        self.refused([*asked, "--rope-scaling", "yarn"], "--rope-scaling", "--rope-scale 4")
        self.refused([*asked, "--rope-scaling", "longrope"], "--rope-scaling", "one without")
        self.refused([*asked, "--kv-budget", "200%"], "--kv-budget", "at most 100%", "200%")
        self.refused(["inspect", *ON_MODEL, "--raw"], "--raw", "a prompt")
        self.refused(["inspect", *ON_MODEL, "-p", TEXT, "--top-k", "3"], "--top-k", "-n N")
        self.refused(["bench", *ON_MODEL, "--fill", "real"], "--fill", "a depth")
        self.refused(["bench", *ON_MODEL, "--policy", "full", "--kv-budget", "64"], "--kv-budget", "full alone")
        scored = ["eval", "perplexity", *ON_MODEL, "-f", text]
        self.refused([*scored, "--depths", "3"], "--depths: expected task needle, found perplexity")
        self.refused([*scored, "--prefill", "streaming"], "--prefill", "--chunk N")
        self.refused(["eval", "needle", *ON_MODEL, "--depths", "3"], "--depths", "haystack")
        self.refused(["eval", "ruler", *ON_MODEL, "--skip-broken"], "--skip-broken", "--data FILE")
        self.refused(["eval", "ruler", *ON_MODEL, "--data", text, "--seed", "3"], "--data", "found --seed")


if __name__ == "__main__":
    unittest.main()
