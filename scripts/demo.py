#!/usr/bin/env python3
"""Runs long texts under five policies and prints two tables: memory, speed and perplexity; and what each policy still
finds at the beginning, in the middle and at the end of a text. `make demo` calls this."""

import argparse
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import textwrap

# On every Debian and Ubuntu machine (package base-files). Another text: --text FILE.
DEFAULT_TEXT = pathlib.Path("/usr/share/common-licenses/GPL-3")
POLICIES = ("full", "streaming-llm", "lacache", "cake", "trellis")
# A story with a few facts, and sentences to go on with: where in the story the fact stands, and how it goes on there.
STORY = pathlib.Path(__file__).with_name("demo_island.txt")
STORY_BUDGET = "256"
SENTENCES = (("at the beginning", "The lighthouse of Varrin was built in", "1867"),
             ("in the middle", "The island's doctor is called", "Henrike Solberg"),
             ("in the middle", "The doctor rides on a white horse called", "Juniper"),
             ("at the end", "The boat is called", "the Halcyon"))
COLUMNS = "{:<14}{:>10}{:>9}{:>17}{:>17}{:>13}"
HEADER = ("policy", "KV held", "of full", "prefill tokens/s", "decode ms/token", "perplexity")
ASKED = "What is this text about? Answer in one sentence."
PROMPT_CHARS = 17500        # of English in about 4.7 characters a token: 3,000 to 4,000 tokens
CONTINUATION_CHARS = 1500   # about 300 tokens


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True, help="the built lacake")
    parser.add_argument("--model", required=True, help="GGUF file")
    parser.add_argument("--text", type=pathlib.Path, default=DEFAULT_TEXT, help="a text of 20,000 characters or more")
    parser.add_argument("--budget", default="512", help="--kv-budget of every policy but full (default 512)")
    parser.add_argument("--question", default=ASKED)
    return parser.parse_args()


def cut(path):
    """The text's beginning, and what follows it. Cut before white space, where the tokens of both would be cut too."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"demo: {path}: {error}; name another text: scripts/demo.py --text FILE")
    if len(text) < PROMPT_CHARS + CONTINUATION_CHARS:
        sys.exit(f"demo: {path}: expected {PROMPT_CHARS + CONTINUATION_CHARS} characters or more, found {len(text)}")
    begin = text.rfind("\n", 0, PROMPT_CHARS)
    begin = len(text[:begin].rstrip())
    end = text.rfind("\n", begin, begin + CONTINUATION_CHARS)
    return text[:begin], text[begin:end]


class Runs:
    def __init__(self, args, total):
        self.base = [args.program, "run", "-m", args.model, "--temp", "0", "--json", "-q"]
        self.total = total
        self.done = 0

    def run(self, policy, budget, what, *options):
        """The JSON object of one run of lacake."""
        self.done += 1
        if sys.stderr.isatty():
            print(f"\r\033[K{self.done}/{self.total}  {policy}: {what}", end="", file=sys.stderr, flush=True)
        kept_to = [] if policy == "full" else ["--kv-budget", budget]
        command = [*self.base, "--policy", policy, *kept_to, *options]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            sys.exit(f"\ndemo: {error}; `make build` builds the program")
        if done.returncode != 0:
            sys.exit(f"\ndemo: {' '.join(command)}\n{done.stderr}demo: exit status {done.returncode}")
        return json.loads(done.stdout)


def print_row(policy, answered, scored):
    kv, time = answered["kv"], answered["time"]
    decode = time["decode_ms_per_token"]  # null where the answer ended at once
    print(COLUMNS.format(policy, f"{kv['peak_bytes'] / 2**20:.1f} MiB", f"{kv['peak_bytes'] / kv['full_bytes']:.1%}",
                         f"{answered['tokens']['prompt'] * 1e3 / time['prefill_ms']:.0f}",
                         "-" if decode is None else f"{decode:.1f}", f"{scored['continuation']['perplexity']:.2f}"))
    print(first_line(answered["text"].strip() or "(nothing)"))


def first_line(answer):
    line = answer.splitlines()[0]
    return f'    "{line}"' if len(line) <= 74 else f'    "{line[:70]} ..."'


def said(answer, expected):
    """The answer's beginning, as long as what was expected, and whether it was that."""
    answer = " ".join(answer.split())
    return answer[:len(expected)] + (" +" if answer.startswith(expected) else " -")


def print_story(found, n_tokens):
    print(f"A story of {n_tokens:,} tokens, --kv-budget {STORY_BUDGET}: how the model goes on with sentences from it\n")
    print("{:<14}".format("") + "".join(f"{where:>18}" for where, _, _ in SENTENCES).rstrip())
    for policy, answers in found:
        print(f"{policy:<14}" + "".join(f"{answer:>18}" for answer in answers).rstrip())
    print()
    sentences = "; ".join(f'"{begun} {expected}"' for _, begun, expected in SENTENCES)
    print(textwrap.fill(
        f"+ as the story has it, - not. The sentences: {sentences}. A window of the newest tokens (streaming-llm) "
        "forgets what came early; only the first token of an answer still comes from the whole prompt. cake and "
        "trellis keep what the prompt's last tokens attend to.", 80))


def main():
    args = arguments()
    text, continuation = cut(args.text)
    runs = Runs(args, (2 + len(SENTENCES)) * len(POLICIES))
    results, found = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "text").write_text(text, encoding="utf-8")
        (folder / "continuation").write_text(continuation, encoding="utf-8")
        for policy in POLICIES:
            read = ["-f", str(folder / "text")]
            answered = runs.run(policy, args.budget, "answering", *read, "-n", "48", "-p", args.question)
            scored = runs.run(policy, args.budget, "scoring what follows", *read, "-n", "0", "--raw",
                              "--continuation", str(folder / "continuation"))
            results.append((policy, answered, scored))
    for policy in POLICIES:
        answers = []
        for where, begun, expected in SENTENCES:
            story = runs.run(policy, STORY_BUDGET, f"remembering what stands {where}", "-f", str(STORY), "--raw",
                             "-p", begun, "-n", "8")
            answers.append(said(story["text"], expected))
        found.append((policy, answers))
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    _, answered, scored = results[0]
    print(f"The first {scored['tokens']['prompt']:,} tokens of {args.text}, --kv-budget {args.budget}\n")
    print(COLUMNS.format(*HEADER))
    for row in results:
        print_row(*row)
    print()
    print(textwrap.fill(
        f"KV held: the most bytes of K and V at any moment; of full: as a share of what a cache without eviction holds "
        f"after the same tokens; policy full has no budget. Speeds and the answer's first line: a prompt of "
        f"{answered['tokens']['prompt']:,} tokens, the text and \"{args.question}\" in the model's chat template, "
        f"greedy, at most 48 new tokens. Perplexity, lower is better: a second run, without template, over the "
        f"{scored['continuation']['tokens']} tokens that follow in the text itself.", 80))
    print()
    print_story(found, story["tokens"]["prompt"])


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader that wants no more, `| head`, ends it without a traceback
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
