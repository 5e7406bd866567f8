#include "model/gguf_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "lacake/error.h"
#include "models/tiny_model.h"
#include "text/llama_log.h"
#include "tools/temporary_folder.h"

namespace lacake {
namespace {

using models::ModelFile;
using models::TinyModel;

// Small enough to be cut at every byte.
TinyModel smallest() {
  return {.n_layer = 1, .n_embd = 8, .n_head = 2, .n_head_kv = 1, .d_k = 4, .d_v = 4, .n_ff = 8, .n_vocab = 8};
}

// The message of the Error(kInput) that opening throws; "" if none.
std::string refusal(const std::string& path) {
  try {
    GgufFile file(path);
    return "";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), Error::Kind::kInput);
    return e.what();
  }
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
    return "";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), Error::Kind::kInput);
    return e.what();
  }
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::vector<char> bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(GgufFile, OpensWhatIsWhole) {
  const ModelFile model(smallest());
  const GgufFile file(model.path());
  EXPECT_EQ(file.string("general.architecture"), "llama");
  EXPECT_EQ(file.integer("llama.block_count"), 1);
  EXPECT_NEAR(file.number("llama.attention.layer_norm_rms_epsilon").value(), 1e-5, 1e-9);
  EXPECT_EQ(file.n_tensors(), file.tensor_names().size());
  const ggml_tensor* embedding = file.tensor("token_embd.weight");
  ASSERT_NE(embedding, nullptr);
  EXPECT_EQ(embedding->ne[1], 8);
  EXPECT_LE(file.data(embedding) + ggml_nbytes(embedding), file.mapping(0).data() + file.mapping(0).size());
  EXPECT_EQ(file.tensor("blk.7.attn_q.weight"), nullptr);
  EXPECT_FALSE(file.integer("llama.no_such_key").has_value());
}

TEST(GgufFile, NamesTheFileWhereverItIsCut) {
  silence_llama_log();
  const ModelFile model(smallest());
  const std::size_t whole = std::filesystem::file_size(model.path());
  const std::size_t data = whole - [&] {
    const GgufFile file(model.path());
    return file.mapping(0).size() - (std::size_t)(file.data(file.tensor("token_embd.weight")) - file.mapping(0).data());
  }();
  // Every byte of header, metadata and descriptions; then some of the data, the last byte among them.
  std::vector<std::size_t> cuts{whole - 1};
  for (std::size_t n = data + (whole - data) / 97 * 97; n > data + 97; n -= 97) cuts.push_back(n);
  for (std::size_t n = data + 1; n-- > 0;) cuts.push_back(n);
  for (const std::size_t n : cuts) {
    if (n >= whole) continue;
    std::filesystem::resize_file(model.path(), n);
    const std::string message = refusal(model.path());
    ASSERT_TRUE(contains(message, model.path())) << n << " of " << whole << " bytes: \"" << message << "\"";
    ASSERT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

TEST(GgufFile, ACutInTheDataNamesTheTensor) {
  const ModelFile model(smallest());
  const std::size_t whole = std::filesystem::file_size(model.path());
  std::filesystem::resize_file(model.path(), whole - 64);
  const std::string message = refusal(model.path());
  EXPECT_TRUE(contains(message, "tensor blk.0.ffn_down.weight: expected bytes ")) << message;
  EXPECT_TRUE(contains(message, "cut short")) << message;
}

// Counts, lengths and offsets that say more than there is must not be believed.
TEST(GgufFile, SurvivesEveryByteOfItsHeaderBeingWrong) {
  silence_llama_log();
  const ModelFile model(smallest());
  const std::vector<char> whole = bytes_of(model.path());
  std::size_t data = 0;
  {
    const GgufFile file(model.path());
    data = (std::size_t)(file.data(file.tensor("token_embd.weight")) - file.mapping(0).data());
  }
  const TemporaryFile damaged({whole.data(), whole.size()});
  std::fstream file(damaged.path(), std::ios::binary | std::ios::in | std::ios::out);
  const auto put = [&](std::size_t at, char byte) {
    file.seekp((std::streamoff)at);
    file.put(byte);
    file.flush();
  };
  std::size_t refused = 0;
  for (std::size_t at = 0; at < data; ++at) {
    for (const char byte : {(char)0, (char)0xFF, (char)(whole[at] ^ 0x80)}) {
      put(at, byte);
      const std::string message = refusal(damaged.path());  // an Error or nothing: no crash, no other exception
      if (message.empty()) continue;
      ++refused;
      ASSERT_TRUE(contains(message, damaged.path())) << message;
    }
    put(at, whole[at]);
  }
  EXPECT_GT(refused, 100u);
}

// What people give instead of a model is named for what it is.
TEST(GgufFile, RefusesWhatIsNoGguf) {
  const auto found = [](const std::string& bytes) {
    const TemporaryFile file(bytes);
    const std::string message = refusal(file.path()), begin = file.path() + ": expected a GGUF file, found ";
    EXPECT_EQ(message.rfind(begin, 0), 0u) << message;
    return message.substr(std::min(begin.size(), message.size()));
  };
  EXPECT_EQ(found("hello"), "another (its first four bytes are not \"GGUF\")");
  EXPECT_EQ(found(""), "an empty file");
  EXPECT_EQ(found(std::string(4096, '\0')), "a file that begins with zeros; was it downloaded to its end?");
  EXPECT_TRUE(
      found(std::string("\x60\x01\0\0\0\0\0\0", 8) + R"({"__metadata__":{}})").starts_with("a safetensors file; "));
  EXPECT_TRUE(found("PK\3\4....").starts_with("a zip archive"));
  EXPECT_TRUE(found("tjgg....").starts_with("a GGML file from before GGUF"));
  EXPECT_TRUE(found("version https://git-lfs.github.com/spec/v1\noid").starts_with("a Git LFS pointer"));
  EXPECT_EQ(found("<!DOCTYPE html><html>"), "a web page");

  EXPECT_EQ(refusal("/no/such/file.gguf"), "/no/such/file.gguf: cannot be opened: No such file or directory");
  const TemporaryFolder folder;
  EXPECT_EQ(refusal(folder.path()), folder.path() + ": expected a GGUF file, found a folder");
  const std::string pipe = folder.path("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(refusal(pipe), pipe + ": expected a GGUF file, found a pipe, which cannot be mapped into memory");
}

TEST(GgufFile, PrintsNothingItself) {
  const ModelFile model(smallest());
  std::filesystem::resize_file(model.path(), 200);
  testing::internal::CaptureStderr();
  refusal(model.path());
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(GgufFile, ReadsIntegersOfAnyWidth) {
  TinyModel tiny = smallest();
  tiny.edit = [](gguf_context* g) {
    gguf_set_val_u8(g, "u8", 200);
    gguf_set_val_i8(g, "i8", -7);
    gguf_set_val_u16(g, "u16", 60000);
    gguf_set_val_i16(g, "i16", -300);
    gguf_set_val_i32(g, "i32", -70000);
    gguf_set_val_u64(g, "u64", UINT64_MAX);
    gguf_set_val_i64(g, "i64", -5);
    gguf_set_val_f64(g, "f64", 0.25);
    gguf_set_val_bool(g, "bool", true);
    gguf_set_val_str(g, "text", "seven");
  };
  const ModelFile model(tiny);
  const GgufFile file(model.path());
  EXPECT_EQ(file.integer("u8"), 200);
  EXPECT_EQ(file.integer("i8"), -7);
  EXPECT_EQ(file.integer("u16"), 60000);
  EXPECT_EQ(file.integer("i16"), -300);
  EXPECT_EQ(file.integer("i32"), -70000);
  EXPECT_EQ(file.integer("u64"), INT64_MAX);  // as large as can be said
  EXPECT_EQ(file.integer("i64"), -5);
  EXPECT_EQ(file.number("f64"), 0.25);
  EXPECT_EQ(file.number("i8"), -7);
  EXPECT_EQ(message_of([&] { file.integer("text"); }), model.path() + ": text: expected an integer, found str");
  EXPECT_EQ(message_of([&] { file.integer("f64"); }), model.path() + ": f64: expected an integer, found f64");
  EXPECT_EQ(message_of([&] { file.number("bool"); }), model.path() + ": bool: expected an integer, found bool");
  EXPECT_EQ(message_of([&] { file.string("u8"); }), model.path() + ": u8: expected a string, found u8");
}

// --- several files -------------------------------------------------------------------------------------------------

TinyModel in_three() {
  TinyModel m = smallest();
  m.n_files = 3;
  return m;
}

std::string part(const ModelFile& model, const char* number) {
  std::string path = model.path();
  return path.replace(path.rfind("-00001-of-"), 6, number);
}

TEST(SplitFile, IsOneModel) {
  const ModelFile whole(smallest()), split(in_three());
  const GgufFile a(whole.path()), b(split.path());
  EXPECT_EQ(b.n_parts(), 3u);
  ASSERT_EQ(a.n_tensors(), b.n_tensors());
  for (const std::string& name : a.tensor_names()) {
    const ggml_tensor *x = a.tensor(name), *y = b.tensor(name);
    ASSERT_TRUE(y) << name;
    EXPECT_EQ(std::memcmp(a.data(x), b.data(y), ggml_nbytes(x)), 0) << name;
  }
}

TEST(SplitFile, NamesThePartThatIsMissingOrDamaged) {
  const ModelFile model(in_three());
  const std::string second = part(model, "-00002");
  EXPECT_TRUE(contains(refusal(second), "split.no: expected the first part (-00001-of-00003.gguf), found part 2 of 3"));
  std::filesystem::resize_file(second, std::filesystem::file_size(second) - 32);
  EXPECT_TRUE(contains(refusal(model.path()), second + ": tensor "));
  EXPECT_TRUE(contains(refusal(model.path()), "cut short"));
  std::filesystem::remove(second);
  EXPECT_EQ(refusal(model.path()),
            second + ": cannot be opened: No such file or directory; it is part 2 of the 3 of " + model.path());
}

TEST(SplitFile, OfAnotherNameIsRefused) {
  const ModelFile model(in_three());
  const std::string renamed = model.path() + ".other.gguf";
  std::filesystem::copy(model.path(), renamed);
  EXPECT_TRUE(contains(refusal(renamed), "expected a file name that ends in -00001-of-00003.gguf"));
  std::filesystem::remove(renamed);
}

TEST(SplitFile, PartsThatAreNotThoseOfTheirNamesAreRefused) {
  const ModelFile model(in_three());
  std::filesystem::copy(part(model, "-00003"), part(model, "-00002"),
                        std::filesystem::copy_options::overwrite_existing);
  EXPECT_NE(refusal(model.path()), "");
}

// --- overrides -----------------------------------------------------------------------------------------------------

TEST(Override, ReplacesOrAddsMetadata) {
  const ModelFile model(smallest());
  const std::vector<MetadataOverride> overrides = {
      MetadataOverride::parse("llama.context_length=int:99"), MetadataOverride::parse("llama.rope.freq_base=float:2.5"),
      MetadataOverride::parse("general.name=str:a=b:c"), MetadataOverride::parse("new.truth=bool:false")};
  const GgufFile file(model.path(), overrides);
  EXPECT_EQ(file.integer("llama.context_length"), 99);
  EXPECT_EQ(file.number("llama.rope.freq_base"), 2.5);
  EXPECT_EQ(file.string("general.name"), "a=b:c");
  EXPECT_EQ(file.boolean("new.truth"), false);
}

TEST(Override, OfHowTheFileIsLaidOutIsRefused) {
  const ModelFile model(smallest());
  const std::vector<MetadataOverride> overrides = {MetadataOverride::parse("general.alignment=int:32")};
  try {
    const GgufFile file(model.path(), overrides);
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(),
                 "general.alignment: expected a key that says something of the model, found how the file is laid out, "
                 "which it alone can say");
  }
}

TEST(Override, OfAnotherFormIsRefused) {
  for (const char* text : {"", "key", "key=7", "=int:7", "key=int:", "key=int:7.5", "key=bool:yes", "key=u8:7"}) {
    std::string message;
    try {
      MetadataOverride::parse(text);
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), Error::Kind::kUsage);
      message = e.what();
    }
    EXPECT_EQ(message, std::string("override_kv: expected KEY=TYPE:VALUE with TYPE int, float, bool or str, found \"") +
                           text + "\"");
  }
}

TEST(GgufFile, AModelsFilesAreKnownByTheNameOfTheFirst) {
  using Paths = std::vector<std::string>;
  EXPECT_EQ(model_files("a/m-00001-of-00003.gguf"),
            (Paths{"a/m-00001-of-00003.gguf", "a/m-00002-of-00003.gguf", "a/m-00003-of-00003.gguf"}));
  EXPECT_EQ(model_files("m-00001-of-00001.gguf"), Paths{"m-00001-of-00001.gguf"});
  for (const char* one :
       {"m.gguf", "", "-of-", "m-00002-of-00003.gguf", "m-00001-of-00000.gguf", "m-00001-of-0003.gguf",
        "m-00001-of--0003.gguf", "m-00001-of-00003.bin", "m-00001-of-00003.gguf.gguf"}) {
    EXPECT_EQ(model_files(one), Paths{one});
  }
}

TEST(GgufFile, RangesSayWhatWasExpectedAndFound) {
  TinyModel tiny = smallest();
  tiny.edit = [](gguf_context* g) {
    gguf_set_val_u32(g, "small", 3);
    gguf_set_val_f32(g, "half", 0.5f);
    gguf_set_val_f32(g, "nan", __builtin_nanf(""));
  };
  const ModelFile model(tiny);
  const GgufFile file(model.path());
  EXPECT_EQ(file.integer_in("small", 3, 3), 3);
  EXPECT_EQ(file.integer_in("absent", 1, 9, 4), 4);
  EXPECT_EQ(message_of([&] { file.integer_in("small", 4, 9, 5); }), model.path() + ": small: expected 4 to 9, found 3");
  EXPECT_EQ(message_of([&] { file.integer_in("absent", 1, 9); }),
            model.path() + ": absent: expected an integer, found none");
  EXPECT_EQ(message_of([&] { file.number_in("absent", 1, 9); }),
            model.path() + ": absent: expected a number, found none");
  EXPECT_EQ(message_of([&] { file.number_in("half", 1, 9); }), model.path() + ": half: expected 1 to 9, found 0.5");
  EXPECT_EQ(message_of([&] { file.number_in("nan", 0, 1); }), model.path() + ": nan: expected 0 to 1, found nan");
}

}  // namespace
}  // namespace lacake
