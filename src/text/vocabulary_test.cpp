#include "text/vocabulary.h"

#include <ggml.h>
#include <gguf.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <iterator>

#include "lacake/error.h"
#include "lacake/model.h"
#include "text/utf8.h"
#include "tools/paths.h"
#include "tools/temporary_folder.h"

namespace lacake {
namespace {

namespace fs = std::filesystem;

// Opened once: it takes longer than all tests of this file together.
const Vocabulary& smollm2() {
  static const Vocabulary vocabulary(LACAKE_TEST_MODEL);
  return vocabulary;
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::int32_t> golden_ids(const fs::path& path, const char* name) {
  ggml_context* tensors = nullptr;
  gguf_context* file = gguf_init_from_file(path.string().c_str(), {.no_alloc = false, .ctx = &tensors});
  if (file == nullptr) throw std::runtime_error("cannot read " + path.string());
  const ggml_tensor* tensor = ggml_get_tensor(tensors, name);
  const auto* data = static_cast<const std::int32_t*>(tensor->data);
  std::vector<std::int32_t> ids(data, data + ggml_nelements(tensor));
  ggml_free(tensors);
  gguf_free(file);
  return ids;
}

std::string refusal(const fs::path& path) {
  try {
    const Vocabulary vocabulary(path);
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), Error::Kind::kInput);
    const std::string message = e.what();
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_TRUE(message.starts_with(path.string() + ": ")) << message;
    return message.substr(path.string().size() + 2);
  }
  return "accepted";
}

TEST(Vocabulary, GivesTheIdsOfTheGoldenPrompt) {
  const fs::path golden = default_golden_dir();
  const std::string prompt = read(golden / "e2e_multinews_prompt.txt");
  const auto ids = golden_ids(golden / "e2e_full_multinews.gguf", "prompt_ids");
  ASSERT_GT(ids.size(), 1000U);
  EXPECT_EQ(smollm2().tokenize(prompt, {.parse = true, .add = true}), ids);
  EXPECT_EQ(smollm2().text(ids, ControlTokens::kShown), prompt);
}

TEST(Vocabulary, GivesTextBack) {
  for (const char* text :
       {"", "Hello", "  two  spaces\n\n\ttab ", "12345.678", "Grüße, 你好 🐯 e\u0301\u2028", "<|im_end|>"}) {
    const auto ids = smollm2().tokenize(text);
    EXPECT_EQ(smollm2().text(ids), text);
    Utf8Stream stream;
    std::string streamed;
    for (const std::int32_t id : ids) streamed += stream.push(smollm2().piece(id));
    EXPECT_EQ(streamed + stream.flush(), text);
  }
}

// Of these libllama asks std::regex, which calls itself for each character.
TEST(Vocabulary, TakesLongStretchesWithoutABreak) {
  for (const char* kind : {"gpt-4o", "tekken", "deepseek-llm"}) {
    SCOPED_TRACE(kind);
    const std::vector<MetadataOverride> overrides = {
        MetadataOverride::parse(std::string("tokenizer.ggml.pre=str:") + kind)};
    const Vocabulary vocabulary(LACAKE_TEST_MODEL, overrides);
    for (const std::string& text : {std::string(60000, 'a'), std::string(60000, '!'), std::string(60000, ' ')}) {
      std::string back;
      for (const std::int32_t token : vocabulary.tokenize(text)) back += vocabulary.piece(token);
      EXPECT_EQ(back, text) << text.front();
    }
  }
}

TEST(Vocabulary, RefusesMebibytesWithoutABreak) {
  try {
    smollm2().tokenize("one " + std::string(5 << 20, 'a'));
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "text: expected a blank or the end of a line within 4 MiB, found 5242881 bytes without");
  }
}

TEST(Vocabulary, ParsesSpecialTokensOnlyWhenAsked) {
  const std::string text = "<|im_end|>";
  EXPECT_EQ(smollm2().tokenize(text, {.parse = true}), std::vector{*smollm2().eos()});
  EXPECT_GT(smollm2().tokenize(text).size(), 1U);
}

TEST(Vocabulary, HidesControlTokensUnlessAsked) {
  const std::int32_t end = *smollm2().eos();
  EXPECT_EQ(smollm2().piece(end), "");
  EXPECT_EQ(smollm2().piece(end, ControlTokens::kShown), "<|im_end|>");
  EXPECT_EQ(smollm2().text(std::vector{end}), "");
}

TEST(Vocabulary, KnowsWhatTheFileSays) {
  EXPECT_EQ(smollm2().n_tokens(), 49152);
  EXPECT_TRUE(smollm2().is_end(*smollm2().eos()));
  EXPECT_FALSE(smollm2().is_end(smollm2().tokenize("a").front()));
  EXPECT_FALSE(smollm2().add_bos());
  EXPECT_NE(smollm2().chat_template().find("You are a helpful AI assistant named SmolLM"), std::string::npos);
}

// A SentencePiece vocabulary as Llama 2's, with three words, BOS in front of every text and no chat template.
void write_vocabulary_with_bos(const fs::path& path) {
  constexpr float kScore = 0;
  enum Type : std::int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6 };
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>", "\u2581", "a", "\u2581a"};
  std::vector<std::int32_t> types = {kUnknown, kControl, kControl, kNormal, kNormal, kNormal};
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    tokens.emplace_back(name);
    types.push_back(kByte);
  }
  std::vector<const char*> names;
  for (const std::string& token : tokens) names.push_back(token.c_str());
  const std::vector<float> scores(tokens.size(), kScore);

  gguf_context* file = gguf_init_empty();
  gguf_set_val_str(file, "general.architecture", "llama");
  for (const char* key :
       {"context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"}) {
    gguf_set_val_u32(file, (std::string("llama.") + key).c_str(), 32);
  }
  gguf_set_val_f32(file, "llama.attention.layer_norm_rms_epsilon", 1e-5F);
  gguf_set_val_str(file, "tokenizer.ggml.model", "llama");
  gguf_set_arr_str(file, "tokenizer.ggml.tokens", names.data(), names.size());
  gguf_set_arr_data(file, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, scores.data(), scores.size());
  gguf_set_arr_data(file, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types.data(), types.size());
  gguf_set_val_bool(file, "tokenizer.ggml.add_bos_token", true);
  EXPECT_TRUE(gguf_write_to_file(file, path.string().c_str(), true));
  gguf_free(file);
}

TEST(Vocabulary, PutsBosInFrontOnce) {
  const TemporaryFile file("");
  write_vocabulary_with_bos(file.path());
  const Vocabulary vocabulary(file.path());
  EXPECT_TRUE(vocabulary.add_bos());
  EXPECT_EQ(vocabulary.chat_template(), "");
  const std::vector<std::int32_t> expected = {1, 5};
  EXPECT_EQ(vocabulary.tokenize("a", {.add = true}), expected);
  EXPECT_EQ(vocabulary.tokenize("<s>a", {.parse = true, .add = true}), vocabulary.tokenize("<s>a", {.parse = true}));
  EXPECT_EQ(vocabulary.tokenize("<s>a", {.parse = true}).front(), 1);
  EXPECT_EQ(vocabulary.text(vocabulary.tokenize("a")), "a");
}

TEST(Vocabulary, RefusesWhatIsNoFile) {
  EXPECT_EQ(refusal(fs::path(testing::TempDir()) / "nothing-here.gguf"), "cannot be opened: No such file or directory");
  EXPECT_EQ(refusal(testing::TempDir()), "expected a GGUF file, found a folder");
}

TEST(Vocabulary, RefusesWhatIsNoGguf) {
  for (const std::string& content : {std::string(), std::string("GGU"), std::string(4096, 'x')}) {
    EXPECT_TRUE(refusal(TemporaryFile(content).path()).starts_with("expected a GGUF model with a vocabulary, found "));
  }
}

TEST(Vocabulary, RefusesAFileCutAnywhereInItsHeader) {
  std::string head(1U << 20, '\0');
  std::ifstream(LACAKE_TEST_MODEL, std::ios::binary).read(head.data(), (std::streamsize)head.size());
  for (const std::size_t length : {4, 5, 8, 20, 24, 30, 100, 257, 1000, 4097, 60001, 1 << 20}) {
    const std::string message = refusal(TemporaryFile(std::string_view(head).substr(0, length)).path());
    EXPECT_TRUE(message.starts_with("expected a GGUF model with a vocabulary, found ")) << length << ' ' << message;
  }
}

TEST(Vocabulary, OverridesOfAnyLengthWorkWhereLibllamaIsNotAsked) {
  const std::string longer(3000, 'x');
  const std::vector<MetadataOverride> overrides = {
      {"tokenizer.chat_template", "{{ '" + longer + "' }}"}, {"my." + longer, true}, {"general.name", longer}};
  const Vocabulary vocabulary(LACAKE_TEST_MODEL, overrides);
  EXPECT_EQ(vocabulary.chat_template(), "{{ '" + longer + "' }}");
}

TEST(Vocabulary, OverridesThatLibllamaHasNoRoomForAreRefused) {
  const auto message = [](const MetadataOverride& o) -> std::string {
    try {
      const Vocabulary vocabulary(LACAKE_TEST_MODEL, {&o, 1});
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), Error::Kind::kUsage);
      return e.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message({"tokenizer.ggml.pre", std::string(128, 'x')}),
            "override_kv: expected at most 127 bytes for a key of the tokenizer and its text, found more for "
            "tokenizer.ggml.pre");
  EXPECT_EQ(message({"tokenizer.chat_template", true}),
            "override_kv: expected tokenizer.chat_template=str:TEMPLATE, found another type");
}

TEST(Vocabulary, PrintsNothing) {
  testing::internal::CaptureStderr();
  testing::internal::CaptureStdout();
  const Vocabulary again(LACAKE_TEST_MODEL);
  refusal(fs::path(testing::TempDir()));
  refusal(TemporaryFile("GGUF but not really").path());
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace lacake
