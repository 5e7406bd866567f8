"""Whatever cannot be used is refused in one clear line, before anything runs and without traces."""

import os
import struct
import unittest

from gguf_edit import Gguf, metadata_only
from program import FABLE, MODEL, MODEL_LENGTH, ON_MODEL, ProgramTest, run


class BadInput(ProgramTest):
    def refused(self, arguments, status, *says, command="run", model=MODEL, stdin=b""):
        files = sorted(self.folder.iterdir())
        done = run(command, *(["-m", model] if model else []), *arguments, stdin=stdin)
        line = done.stderr.decode()
        self.assertEqual(done.returncode, status, line)
        self.assertEqual(done.stdout, b"")
        self.assertEqual(line.count("\n"), 1, line)
        self.assertTrue(line.startswith("lacake: error: ") and line.endswith("\n"), line)
        for words in says:
            self.assertIn(words, line)
        self.assertEqual(sorted(self.folder.iterdir()), files)

    # --- command line -----------------------------------------------------------------------------------------------

    def test_misspelt_names_are_answered_with_the_nearest(self):
        self.refused(["-p", "hi", "--topk", 3], 2, "--topk", "--top-k", "lacake run --help")
        self.refused(["-p", "hi"], 2, "inspct", "did you mean inspect", command="inspct")
        self.refused(["-p", "hi", "--policy", "lacach"], 2, "lacach", "did you mean 'lacache'")

    def test_names_of_llama_cpp_lead_to_ours(self):
        for theirs, ours in (("-ctk", "--kv-type K,V"), ("-sys", "--system"), ("-tb", "--threads"), ("-nr", "--no-repack"),
                             ("--temperature", "--temp"), ("-ngl", "on the CPU"), ("-hf", "-m FILE"),
                             ("-cnv", "lacake chat"), ("-fa", "--attention"), ("--context-shift", "streaming-llm"),
                             ("-np", "lacake serve --parallel"), ("-ub", "--chunk")):
            with self.subTest(theirs=theirs):
                self.refused(["-p", "hi", theirs, "9"], 2, f"{theirs}: no such option", ours, "lacake run --help")
        # A value is never taken for an option.
        self.refused(["-p", "-ngl", "--topk", 3], 2, "--topk")

    def test_an_instruction_set_that_is_none(self):
        done = run("run", *ON_MODEL, "-p", "hi", LACAKE_TARGET="AVX9")
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr.decode(), r'^lacake: error: LACAKE_TARGET: expected one of .*, found "AVX9"\n$')

    def test_values_out_of_range_are_named_with_the_range(self):
        self.refused(["-p", "hi", "-n", "many"], 2, "--predict", "many")
        self.refused(["-p", "hi", "--top-p", "1.5"], 2, "--top-p", "0 to 1", "1.5")
        self.refused(["-p", "hi", "--prefill", "both"], 2, "--prefill", "exact or streaming", "both")
        self.refused(["-p", "hi", "--color", "blue"], 2, "--color", "blue")

    def test_a_missing_model_or_prompt_or_command_is_wrong_usage(self):
        self.refused(["-p", "hi"], 2, "-m FILE", model=None)
        self.refused([], 2, "-f FILE")
        done = run()
        self.assertEqual((done.returncode, done.stdout), (2, b""))

    def test_texts_of_the_command_line_are_utf_8(self):
        for name in ("--prompt", "--system", "--stop", "--grammar", "--json-schema", "--chat-template"):
            with self.subTest(name=name):
                self.refused(["-p", "hi", name, "caf\udce9"], 1, f"{name}: expected UTF-8 text, found byte 0xe9 at offset 3")
        self.refused(["--alias", "\udcff"], 1, "--alias: expected UTF-8 text", command="serve")
        # A file's name may be any bytes.
        self.assertIn(b"\xff: cannot be opened", run("run", *ON_MODEL, "-f", self.folder / "\udcff").stderr)

    def test_a_file_named_in_brackets_is_one_file(self):
        self.file("a.txt", "One."), self.file("b.txt", "Two.")
        self.refused([f"[{self.folder}/a.txt,{self.folder}/b.txt]", "-o", self.folder / "out.kv"], 1,
                     "a.txt,", "b.txt]: cannot be opened: No such file", command="ingest")
        self.refused(["[a.kv,b.kv]"], 1, "[a.kv,b.kv]: cannot be opened", command="inspect", model=None)

    def test_help_about_what_is_no_command_is_refused(self):
        nearest = '"inspct": no such command, did you mean inspect? (see lacake --help)'
        for words in (["--help", "inspct"], ["-h", "inspct"], ["help", "inspct"], ["inspct", "--help"]):
            with self.subTest(words=words):
                self.refused(words[1:], 2, nearest, command=words[0], model=None)
        self.refused(["bogus"], 2, '"bogus": no such command (see lacake --help)', command="--help", model=None)
        self.refused(["--help"], 2, "--bogus: no such option before a command", command="--bogus", model=None)
        self.refused(["run", "chat"], 2, '"chat": expected nothing after run', command="--help", model=None)

    def test_words_behind_what_takes_none_are_refused(self):
        for word in ("chat", "help", "bogus"):
            self.refused(["-p", "hi", word], 2, f'"{word}": expected an option, found a word')
        self.refused(["run", "chat"], 2, '"chat": expected nothing after run', command="help", model=None)
        self.refused(["bogus"], 2, '"bogus": expected nothing after --version', command="--version", model=None)

    # --- model ------------------------------------------------------------------------------------------------------

    def test_model_that_is_missing_or_no_gguf(self):
        self.refused(["-p", "hi"], 1, "missing.gguf", model=self.folder / "missing.gguf")
        self.refused(["-p", "hi"], 1, "letter.gguf", "GGUF", model=self.file("letter.gguf", FABLE))
        self.refused(["-p", "hi"], 1, "empty.gguf", model=self.file("empty.gguf", b""))
        self.refused(["-p", "hi"], 1, str(self.folder), model=self.folder)

    def test_what_is_given_instead_of_a_model_is_named_for_what_it_is(self):
        given = {
            "zeros.gguf": (b"\0" * 100_000, "begins with zeros"),
            "model.safetensors": (struct.pack("<Q", 20) + b'{"__metadata__":{}}', "safetensors", "convert_hf_to_gguf.py"),
            "pytorch_model.bin": (b"PK\x03\x04" + b"\1" * 60, "zip archive", "convert_hf_to_gguf.py"),
            "pointer.gguf": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "git lfs pull"),
            "page.gguf": (b"<!DOCTYPE html><html><body>404", "web page"),
        }
        for name, (content, *says) in given.items():
            with self.subTest(name=name):
                self.refused(["-p", "hi"], 1, f"{name}: expected a GGUF file, found", *says, model=self.file(name, content))
        self.refused(["-p", "hi"], 1, "expected a GGUF file, found a folder", model=self.folder)
        pipe = self.folder / "pipe.gguf"
        os.mkfifo(pipe)
        self.refused(["-p", "hi"], 1, "pipe.gguf: expected a GGUF file, found a pipe", model=pipe)

    def test_split_model_without_one_of_its_parts(self):
        first = self.file("big-00001-of-00003.gguf",
                          metadata_only(general__architecture="llama", split__count=3, split__no=0))
        self.refused(["-p", "hi"], 1, "big-00002-of-00003.gguf: cannot be opened: No such file", "part 2 of the 3",
                     model=first)
        renamed = self.file("big.gguf", first.read_bytes())
        self.refused(["-p", "hi"], 1, "split.count", "-00001-of-00003.gguf", model=renamed)

    def test_adapter_that_is_none_or_of_another_model(self):
        self.refused(["-p", "hi", "--lora", MODEL], 1, "general.type: expected adapter, found model")
        other = self.file("other.gguf", metadata_only(general__architecture="qwen2", general__type="adapter",
                                                      adapter__type="lora"))
        self.refused(["-p", "hi", "--lora", other], 1, "other.gguf: general.architecture: expected llama, found qwen2")
        self.refused(["-p", "hi", "--lora", self.folder / "no.gguf"], 1, "no.gguf", "No such file")
        self.refused(["-p", "hi", "--lora-scaled", other], 2, "--lora-scaled: expected FILE:SCALE")

    def test_model_cut_anywhere(self):
        whole = Gguf(MODEL)
        tokens = whole.values["tokenizer.ggml.tokens"]
        merges = whole.values["tokenizer.ggml.merges"]
        cuts = {
            "magic": [1, 3, 4],
            "header": [5, 8, 16, 23, 24],
            "metadata": [whole.values["general.architecture"] + k for k in (-20, 0, 9)],
            "vocabulary": [tokens + 2, tokens + 12, (tokens + merges) // 2, merges + 100],
            "tensor list": [whole.tensors_offset, whole.tensors_offset + 30, whole.data_offset - 40],
            "tensors": [whole.data_offset, whole.data_offset + 1, (whole.data_offset + whole.size) // 2, whole.size - 1],
        }
        for part, sizes in cuts.items():
            for size in sizes:
                with self.subTest(part=part, size=size):
                    model = self.folder / "cut.gguf"
                    whole.copy(model, size=size)
                    self.refused(["-p", "hi"], 1, "cut.gguf", model=model)

    def test_tensor_of_a_wrong_shape(self):
        whole = Gguf(MODEL)
        tensor = whole.tensors["blk.3.attn_k.weight"]
        turned = struct.pack("<QQ", *reversed(tensor.shape))
        model = whole.copy(self.folder / "turned.gguf", [(tensor.shape_offset, turned)])
        self.refused(["-p", "hi"], 1, "turned.gguf", "blk.3.attn_k.weight", "576", "192", model=model)

    def test_absurd_shape(self):
        whole = Gguf(MODEL)
        patch = [(whole.tensors["blk.3.attn_k.weight"].shape_offset, struct.pack("<QQ", 2**62, 2**62))]
        self.refused(["-p", "hi"], 1, "huge.gguf", model=whole.copy(self.folder / "huge.gguf", patch))

    def test_unsupported_architecture(self):
        whole = Gguf(MODEL)
        patch = [(whole.values["general.architecture"] + 8, b"llamb")]
        model = whole.copy(self.folder / "other.gguf", patch)
        self.refused(["-p", "hi"], 1, "other.gguf", "llamb", "llama", model=model)

    def test_overrides_that_cannot_be_used(self):
        self.refused(["-p", "hi", "--override-kv", "llama.block_count=7"], 2, "--override-kv", "KEY=TYPE:VALUE")
        self.refused(["-p", "hi", "--override-kv", "llama.block_count=int:0"], 1, "llama.block_count", "1 to 4096", "0")
        self.refused(["-p", "hi", "--override-kv", "llama.attention.head_count=int:7"], 1, "head_count_kv", "divisor of head_count 7")
        self.refused(["-p", "hi", "--override-kv", "llama.rope.freq_bse=float:7"], 2, "--override-kv", "llama.rope.freq_bse")
        self.refused(["-p", "hi", "--rope-scaling", "dynamic"], 2, "--rope-scaling", "yarn", "dynamic")
        self.refused(["-p", "hi", "--rope-freq-base", "0"], 2, "--rope-freq-base", "0")

    # --- policy and budget ------------------------------------------------------------------------------------------

    def test_policy_parameter_unknown_or_out_of_range(self):
        self.refused(["-p", "hi", "--policy", "lacache:spam=4"], 2, "spam", "did you mean 'span'")
        self.refused(["-p", "hi", "--policy", "lacache:span=-4"], 2, "span", "-4")
        self.refused(["-p", "hi", "--policy", "cake:tau1=warm"], 2, "tau1", "warm")
        self.refused(["-p", "hi", "--policy", "cake:tau1"], 2, "tau1")

    def test_budget_that_is_none(self):
        for budget in ("", "-5", "0", "12 apples", "nan", "1e999"):
            with self.subTest(budget=budget):
                self.refused(["-p", "hi", "--kv-budget", budget], 2, "--kv-budget")
        self.refused(["-p", "hi", "--kv-budget", "200%"], 2, "--kv-budget: expected a share of at most 100%",
                     '"200%"')

    def test_type_that_is_none(self):
        self.refused(["-p", "hi", "--kv-type", "f17"], 2, "--kv-type", "f17", "f16")

    def test_budget_too_small_for_what_always_stays(self):
        for policy in ("streaming-llm", "lacache", "cake"):
            with self.subTest(policy=policy):
                done = run("run", *ON_MODEL, "-p", FABLE, "-n", 4, "--policy", policy, "--kv-budget", 3)
                line = done.stderr.decode()
                self.assertIn(done.returncode, (1, 2), line)
                self.assertEqual((done.stdout, line.count("\n")), (b"", 1), line)
                self.assertRegex(line, r"at least|least")

    def test_everything_under_a_budget_below_prompt_and_answer(self):
        done = run("run", *ON_MODEL, "-p", FABLE, "-n", 40, "--policy", "full", "--kv-budget", 100)
        line = done.stderr.decode()
        self.assertIn(done.returncode, (1, 2), line)
        self.assertEqual((done.stdout, line.count("\n")), (b"", 1), line)
        self.assertRegex(line, r"\d")

    def test_more_memory_than_there_is(self):
        done = run("run", *ON_MODEL, "-p", FABLE, "-n", 4, "--policy", "lacache", "--kv-budget", "1TiB")
        line = done.stderr.decode()
        self.assertIn(done.returncode, (1, 2), line)
        self.assertEqual((done.stdout, line.count("\n")), (b"", 1), line)
        self.assertIn("iB", line)

    # --- prompt -----------------------------------------------------------------------------------------------------

    def test_prompt_that_is_empty(self):
        self.refused(["-p", ""], 1, "empty")
        self.refused(["-f", self.file("nothing.txt", b"")], 1, "nothing.txt", "empty")
        self.refused(["-f", "-"], 1, "empty")

    def test_neither_part_of_a_prompt_may_be_empty(self):
        text, question = self.file("fable.txt", FABLE), ["-p", "Summarize the text."]
        empty, white = self.file("empty.txt", ""), self.file("white.txt", " \n\t\r\n")
        for command in ("run", "inspect"):
            self.refused(["-f", "-", *question], 1, "standard input: expected some text, found an empty one", command=command)
            self.refused(["-f", empty, *question], 1, "empty.txt: expected some text, found an empty one", command=command)
            self.refused(["-f", white, *question], 1, "white.txt: expected some text, found none but white space",
                         command=command)
            self.refused(["-f", text, "-p", ""], 1, "--prompt: expected some text, found an empty one", command=command)

    def test_a_text_to_ingest_that_has_none_is_refused(self):
        asked = [self.file("white.txt", " \t\r\n"), "-o", self.folder / "out.kv"]
        self.refused(asked, 1, "white.txt: expected some text, found none but white space", command="ingest")

    def test_standard_input_is_read_for_one_file(self):
        says = 'standard input: expected "-" for one file, found it for two'
        self.refused(["-f", "-", "--grammar-file", "-"], 2, says, stdin=b'root ::= "yes"')
        self.refused(["-f", "-", "--continuation", "-"], 2, says, stdin=FABLE.encode())
        self.refused(["-", "-", "-o", self.folder / "out.kv"], 2, says, command="ingest", stdin=FABLE.encode())

    def test_a_grammar_or_template_that_is_empty_is_refused(self):
        empty, white = self.file("empty.txt", ""), self.file("white.txt", " \n")
        for name in ("--grammar", "--json-schema", "--chat-template"):
            with self.subTest(name=name):
                self.refused(["-p", "hi", name, ""], 2, f"{name}: expected ")
                self.refused(["-p", "hi", name, " \n"], 2, f"{name}: expected some text, found none but white space")
                self.refused(["-p", "hi", f"{name}-file", empty], 1, "empty.txt: expected some text, found an empty one")
                self.refused(["-p", "hi", f"{name}-file", white], 1, "white.txt: expected some text, found none but")
        self.refused(["-p", "hi", "--grammar-file", "-"], 1, "standard input: expected some text, found an empty one")

    def test_file_that_cannot_be_read(self):
        self.refused(["-f", self.folder / "missing.txt"], 1, "missing.txt", "No such file")
        self.refused(["-f", self.folder], 1, str(self.folder), "directory")
        self.refused(["-p", "hi", "--continuation", self.folder / "missing.txt"], 1, "missing.txt")
        self.refused(["-p", "hi", "--grammar-file", self.folder / "missing.gbnf"], 1, "missing.gbnf")

    def test_bytes_that_are_no_text_are_named_with_their_place(self):
        self.refused(["-f", self.file("a.txt", b"caf\xe9 au lait")], 1, "a.txt", "0xe9", "offset 3")
        self.refused(["-f", self.file("b.txt", b"cut off \xe2\x82")], 1, "b.txt", "offset 8")
        self.refused(["-f", "-"], 1, "standard input", "offset 0", stdin=b"\xff")

    def test_files_that_people_take_for_texts(self):
        given = {"book.pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "utf16.txt": "A crow".encode("utf-16"),
                 "book.epub": b"PK\x03\x04\x14\0\0\0\x08\0\xa5\xb1", "latin1.txt": "caf\xe9".encode("latin-1")}
        for name, content in given.items():
            with self.subTest(name=name):
                self.refused(["-f", self.file(name, content)], 1, name, "expected UTF-8 text", "offset")
        self.refused(["-f", MODEL], 1, MODEL, "expected UTF-8 text")

    def test_prompt_beyond_the_models_length(self):
        words = self.file("long.txt", "word " * (MODEL_LENGTH + 100))
        for policy in ("full", "streaming-llm:cache_size=256", "cake:cache_size=256"):
            with self.subTest(policy=policy):
                done = run("run", *ON_MODEL, "--raw", "-f", words, "-n", 1, "--policy", policy)
                line = done.stderr.decode()
                if policy.startswith("streaming-llm") and done.returncode == 0:
                    continue  # where its positions are cache indices
                self.assertIn(done.returncode, (1, 2), line)
                self.assertEqual((done.stdout, line.count("\n")), (b"", 1), line)
                self.assertIn(str(MODEL_LENGTH), line)

    # --- files to write ---------------------------------------------------------------------------------------------

    def test_places_that_cannot_be_written(self):
        prompt = ["-p", FABLE]
        self.refused([*prompt, "--plot", self.folder / "kept.jpg"], 2, "--plot", ".svg or .png", command="inspect")
        self.refused([*prompt, "--kept", self.folder / "no" / "kept.json"], 2, "--kept", "no", command="inspect")
        self.refused([*prompt, "--kept", self.folder], 2, "--kept", "regular file", command="inspect")
        self.refused(["--kept", self.folder / "kept.json"], 2, "--kept", "prompt", command="inspect")


if __name__ == "__main__":
    unittest.main()
