#include "model/architecture.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "lacake/error.h"
#include "lacake/model.h"
#include "models/tiny_model.h"

namespace lacake {
namespace {

using models::ModelFile;
using models::TinyModel;

using Edit = std::function<void(gguf_context*)>;

TinyModel tiny() { return {.n_layer = 2, .n_embd = 32, .n_head = 4, .n_head_kv = 2, .d_k = 8, .d_v = 8, .n_ff = 32}; }

Hyperparameters read(const Edit& edit) {
  TinyModel model = tiny();
  model.edit = edit;
  const ModelFile file(model);
  return read_hyperparameters(GgufFile(file.path()));
}

// What opening the whole model says against it, after "path: "; "" if nothing.
std::string refusal(const TinyModel& model) {
  const ModelFile file(model);
  try {
    Model opened(file.path());
    return "";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), Error::Kind::kInput);
    const std::string message = e.what(), start = file.path() + ": ";
    EXPECT_EQ(message.substr(0, start.size()), start) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message.substr(std::min(start.size(), message.size()));
  }
}

std::string refusal_of(const Edit& edit) {
  TinyModel model = tiny();
  model.edit = edit;
  return refusal(model);
}

Edit integer(const char* key, std::uint64_t value) {
  return [=](gguf_context* g) { gguf_set_val_u64(g, key, value); };
}
Edit number(const char* key, double value) {
  return [=](gguf_context* g) { gguf_set_val_f64(g, key, value); };
}
Edit word(const char* key, const char* value) {
  return [=](gguf_context* g) { gguf_set_val_str(g, key, value); };
}
Edit without(const char* key) {
  return [=](gguf_context* g) { gguf_remove_key(g, key); };
}
Edit both(const Edit& a, const Edit& b) {
  return [=](gguf_context* g) { a(g), b(g); };
}

TEST(Architecture, ReadsWhatTheFileSays) {
  const Hyperparameters h = read([](gguf_context*) {});
  EXPECT_EQ(h.architecture, "llama");
  EXPECT_EQ(h.name, "tiny random model");
  EXPECT_EQ(h.n_layer, 2);
  EXPECT_EQ(h.n_embd, 32);
  EXPECT_EQ(h.n_head, 4);
  EXPECT_EQ(h.n_head_kv, 2);
  EXPECT_EQ(h.group(), 2);
  EXPECT_EQ(h.d_k, 8);
  EXPECT_EQ(h.d_v, 8);
  EXPECT_EQ(h.n_rot, 8);
  EXPECT_EQ(h.n_ff, 32);
  EXPECT_EQ(h.n_vocab, 320);
  EXPECT_EQ(h.n_ctx_train, 2048);
  EXPECT_EQ(h.ropes[0].freq_base, 10000);
  EXPECT_EQ(h.ropes[0].freq_scale, 1);
  EXPECT_FLOAT_EQ(h.attention_scale, 0.35355339f);
}

TEST(Architecture, DefaultsAreThoseOfOldFiles) {
  const Hyperparameters h = read([](gguf_context* g) {
    for (const char* key : {"llama.attention.head_count_kv", "llama.attention.key_length",
                            "llama.attention.value_length", "llama.rope.dimension_count", "llama.rope.freq_base"}) {
      gguf_remove_key(g, key);
    }
  });
  EXPECT_EQ(h.n_head_kv, 4);
  EXPECT_EQ(h.d_k, 8);
  EXPECT_EQ(h.d_v, 8);
  EXPECT_EQ(h.n_rot, 8);
  EXPECT_EQ(h.ropes[0].freq_base, 10000);
}

TEST(Architecture, LinearScalingDividesPositions) {
  EXPECT_FLOAT_EQ(
      read(both(word("llama.rope.scaling.type", "linear"), number("llama.rope.scaling.factor", 4))).ropes[0].freq_scale,
      0.25f);
  EXPECT_FLOAT_EQ(read(number("llama.rope.scale_linear", 2)).ropes[0].freq_scale, 0.5f);
  EXPECT_FLOAT_EQ(
      read(both(word("llama.rope.scaling.type", "none"), number("llama.rope.scaling.factor", 4))).ropes[0].freq_scale,
      1.0f);
  EXPECT_EQ(refusal_of(word("llama.rope.scaling.type", "dynamic")),
            "llama.rope.scaling.type: expected none, linear, yarn or longrope, found \"dynamic\"");
}

// What the library refuses of RoPE options beside a file: those that would change nothing.
std::string without_effect(const RopeOptions& rope, const Edit& edit = {}) {
  TinyModel model = tiny();
  model.edit = edit;
  const ModelFile file(model);
  const GgufFile gguf(file.path());
  try {
    (void)read_hyperparameters(gguf, rope);
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::kUsage);
    return error.what();
  }
}

TEST(RopeOptions, WithoutEffectAreRefused) {
  EXPECT_EQ(without_effect({.yarn_beta_fast = 16}),
            "yarn_beta_fast: expected rope_scaling yarn, found rope_scaling linear");
  EXPECT_EQ(without_effect({.yarn_beta_slow = 2}),
            "yarn_beta_slow: expected rope_scaling yarn, found rope_scaling linear");
  EXPECT_NE(without_effect({.original_length = 128}), "");
  EXPECT_NE(without_effect({.scaling = "yarn", .freq_scale = 0.25, .yarn_attn_factor = 2}), "");
  EXPECT_NE(without_effect({.scaling = "none", .freq_scale = 0.25}), "");
  EXPECT_NE(without_effect({.scaling = "yarn"}), "");
  EXPECT_NE(without_effect({.scaling = "longrope"}), "");
  EXPECT_EQ(without_effect({.scaling = "dynamic"}),
            "rope_scaling: expected none, linear, yarn or longrope, found \"dynamic\"");

  EXPECT_EQ(without_effect({.scaling = "yarn", .freq_scale = 0.25, .yarn_beta_fast = 16}), "");
  EXPECT_EQ(without_effect({.freq_scale = 0.25, .yarn_attn_factor = 2}), "");
  EXPECT_EQ(without_effect({.scaling = "yarn"}, number("llama.rope.scaling.factor", 4)), "");
}

TEST(ModelOverrides, OfKeysThatNobodyReadsAreRefused) {
  const ModelFile file(tiny());
  const auto opened = [&](const char* text) {
    try {
      const Model model(file.path(), {.overrides = {MetadataOverride::parse(text)}});
      return std::string();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), Error::Kind::kUsage);
      return std::string(error.what());
    }
  };
  EXPECT_EQ(opened("llama.rope.freq_base=float:5000"), "");
  EXPECT_EQ(
      opened("llama.attention.clamp_kqv=float:8"),
      "override_kv: expected a key that is read of a model of this architecture, found llama.attention.clamp_kqv");
  EXPECT_NE(opened("qwen2.rope.freq_base=float:5000"), "");
}

TinyModel of(const char* name) {
  for (const models::Variant& v : models::variants()) {
    if (v.name == name) return v.model;
  }
  throw std::invalid_argument(name);
}

Hyperparameters read(const TinyModel& model, const RopeOptions& rope = {}, std::int64_t context_length = 0) {
  const ModelFile file(model);
  return read_hyperparameters(GgufFile(file.path()), rope, context_length);
}

TEST(Architecture, EveryVariantIsOfASupportedFamilyAndEveryFamilyHasOne) {
  std::set<std::string> seen;
  for (const models::Variant& v : models::variants()) seen.insert(v.model.architecture);
  const auto supported = supported_architectures();
  EXPECT_EQ(seen, std::set<std::string>(supported.begin(), supported.end()));
}

TEST(Architecture, LayersSlideByTheFamilysPatternOrTheFiles) {
  const auto slides = [](const Hyperparameters& h) {
    std::string text;
    for (const LayerKind& l : h.layers) text += l.window > 0 ? '~' : '#';
    return text;
  };
  TinyModel gemma = of("gemma3");
  EXPECT_EQ(slides(read(gemma)), "~~~~~#~~~~~#");
  EXPECT_EQ(slides(read(of("gemma2"))), "~#~#");
  EXPECT_EQ(slides(read(of("olmo3"))), "~~~#~~~#");
  EXPECT_EQ(slides(read(of("gemma3_scaled"))), "~#~#");
  gemma.edit = integer("gemma3.attention.sliding_window_pattern", 2);
  EXPECT_EQ(slides(read(gemma)), "~#~#~#~#~#~#");
  gemma.edit = integer("gemma3.attention.sliding_window", 0);
  EXPECT_EQ(slides(read(gemma)), "############");
}

TEST(Architecture, SlidingLayersTurnByTheirOwnBase) {
  const Hyperparameters gemma = read(of("gemma3_scaled")), oss = read(of("gpt_oss")), olmo = read(of("olmo3"));
  const auto rope = [](const Hyperparameters& h, int l) { return h.ropes[(std::size_t)h.layers[(std::size_t)l].rope]; };
  EXPECT_EQ(rope(gemma, 0).freq_base, 5000);
  EXPECT_EQ(rope(gemma, 0).freq_scale, 1);
  EXPECT_EQ(rope(gemma, 1).freq_base, 1000000);
  EXPECT_EQ(rope(gemma, 1).freq_scale, 0.125f);
  EXPECT_EQ(rope(oss, 0).ext_factor, 1);
  EXPECT_EQ(rope(olmo, 0).ext_factor, 0);
  EXPECT_EQ(rope(olmo, 3).ext_factor, 1);
}

TEST(Architecture, RopeOptionsOverrideTheFile) {
  const RopeParameters r = read(of("llama"), {.scaling = "yarn",
                                              .freq_base = 77,
                                              .freq_scale = 0.25,
                                              .original_length = 1000,
                                              .yarn_beta_slow = 2,
                                              .yarn_beta_fast = 16})
                               .ropes[0];
  EXPECT_EQ(r.freq_base, 77);
  EXPECT_EQ(r.freq_scale, 0.25f);
  EXPECT_EQ(r.n_ctx_orig, 1000);
  EXPECT_EQ(r.ext_factor, 1);
  EXPECT_EQ(r.beta_slow, 2);
  EXPECT_EQ(r.beta_fast, 16);
  EXPECT_EQ(read(of("llama_linear"), {.scaling = "none"}).ropes[0].freq_scale, 1);
}

TEST(Architecture, StretchedPositionsReachFurther) {
  EXPECT_EQ(read(of("llama"), {.freq_scale = 0.25}).n_ctx_train, 4 * 2048);
  EXPECT_EQ(read(of("llama"), {.scaling = "yarn", .freq_scale = 0.5, .original_length = 600}).n_ctx_train, 1200);
  EXPECT_EQ(read(of("llama_linear")).n_ctx_train, 2048);  // as the file says
}

TEST(Architecture, LongFactorsAreForConversationsBeyondTheFirstTraining) {
  EXPECT_TRUE(read(of("phi3_long")).long_factors);
  EXPECT_FALSE(read(of("phi3_long"), {}, 128).long_factors);
  EXPECT_TRUE(read(of("phi3_short"), {}, 1025).long_factors);
}

TEST(Architecture, NamesWhatIsAbsurdInEveryFamily) {
  struct Case {
    const char* variant;
    Edit edit;
    const char* message;
  };
  const Case cases[] = {
      {"gemma3", [](gguf_context* g) { gguf_set_val_i32(g, "gemma3.attention.sliding_window", -5); },
       "gemma3.attention.sliding_window: expected 0 to 2147483647, found -5"},
      {"gemma3", integer("gemma3.attention.sliding_window_pattern", 0),
       "gemma3.attention.sliding_window_pattern: expected a layer with full attention, found 12 that slide"},
      {"gemma3",
       [](gguf_context* g) {
         const std::int8_t one = 1;
         gguf_set_arr_data(g, "gemma3.attention.sliding_window_pattern", GGUF_TYPE_BOOL, &one, 1);
       },
       "gemma3.attention.sliding_window_pattern: expected one for each of 12 layers, found 1"},
      {"gemma2", number("gemma2.attn_logit_softcapping", -1),
       "gemma2.attn_logit_softcapping: expected 0 to 1000000, found -1"},
      {"qwen3moe", without("qwen3moe.expert_count"), "qwen3moe.expert_count: expected an integer, found none"},
      {"qwen3moe", integer("qwen3moe.expert_used_count", 8), "qwen3moe.expert_used_count: expected 1 to 7, found 8"},
      {"llama_experts", without("llama.expert_used_count"), "llama.expert_used_count: expected an integer, found none"},
      {"qwen3moe", integer("qwen3moe.expert_group_count", 2),
       "qwen3moe.expert_group_count: expected at most 1, because groups of experts are not supported, found more"},
      {"granite", without("granite.logit_scale"), "granite.logit_scale: expected a number, found none"},
      {"phi3", integer("phi3.block_count", 1ull << 40), "phi3.block_count: expected 1 to 4096, found 1099511627776"},
  };
  for (const Case& c : cases) {
    TinyModel model = of(c.variant);
    model.edit = c.edit;
    EXPECT_EQ(refusal(model), c.message);
  }
}

TEST(Architecture, AnUnsupportedOneListsThoseThatAre) {
  const std::string message = refusal_of(word("general.architecture", "mamba"));
  EXPECT_EQ(message.rfind("general.architecture: expected one of ", 0), 0u) << message;
  EXPECT_NE(message.find("found \"mamba\""), std::string::npos) << message;
  for (const std::string& name : supported_architectures()) EXPECT_NE(message.find(name), std::string::npos);
  EXPECT_NE(refusal_of(without("general.architecture"))
                .find("general.architecture: expected the name of a model family, found none"),
            std::string::npos);
}

TEST(Architecture, NamesEveryKeyThatIsMissing) {
  for (const char* key :
       {"llama.block_count", "llama.embedding_length", "llama.feed_forward_length", "llama.attention.head_count",
        "llama.context_length", "llama.attention.layer_norm_rms_epsilon"}) {
    const std::string message = refusal_of(without(key));
    EXPECT_EQ(message.rfind(std::string(key) + ": expected", 0), 0u) << message;
    EXPECT_NE(message.find(", found none"), std::string::npos) << message;
  }
}

TEST(Architecture, NamesEveryKeyOfAWrongType) {
  for (const char* key : {"llama.block_count", "llama.embedding_length", "llama.attention.head_count_kv",
                          "llama.rope.freq_base", "llama.context_length"}) {
    EXPECT_EQ(refusal_of(word(key, "many")), std::string(key) + ": expected an integer, found str");
  }
  EXPECT_EQ(refusal_of(integer("llama.rope.scaling.type", 1)), "llama.rope.scaling.type: expected a string, found u64");
  EXPECT_EQ(refusal_of(integer("general.architecture", 1)), "general.architecture: expected a string, found u64");
}

TEST(Architecture, NamesEveryAbsurdValue) {
  struct Case {
    Edit edit;
    const char* message;
  };
  const Case cases[] = {
      {integer("llama.attention.head_count", 0), "llama.attention.head_count: expected 1 to 1048576, found 0"},
      {integer("llama.attention.head_count_kv", 0), "llama.attention.head_count_kv: expected 1 to 1048576, found 0"},
      {integer("llama.attention.head_count_kv", 3),
       "llama.attention.head_count_kv: expected a divisor of head_count 4, found 3"},
      {integer("llama.block_count", 0), "llama.block_count: expected 1 to 4096, found 0"},
      {integer("llama.block_count", 1ull << 40), "llama.block_count: expected 1 to 4096, found 1099511627776"},
      {integer("llama.embedding_length", UINT64_MAX),
       "llama.embedding_length: expected 1 to 1048576, found 9223372036854775807"},
      {integer("llama.attention.key_length", 0), "llama.attention.key_length: expected 1 to 1048576, found 0"},
      {integer("llama.context_length", 0), "llama.context_length: expected 1 to 2147483647, found 0"},
      {both(integer("llama.attention.key_length", 7), integer("llama.rope.dimension_count", 6)),
       "llama.attention.key_length: expected an even number, found 7"},
      {integer("llama.rope.dimension_count", 10), "llama.rope.dimension_count: expected 2 to 8, found 10"},
      {integer("llama.rope.dimension_count", 7), "llama.rope.dimension_count: expected an even number, found 7"},
      {number("llama.rope.freq_base", 0), "llama.rope.freq_base: expected 0.001 to 1000000000000, found 0"},
      {number("llama.attention.layer_norm_rms_epsilon", 2),
       "llama.attention.layer_norm_rms_epsilon: expected 0 to 1, found 2"},
      {both(without("llama.attention.key_length"), integer("llama.embedding_length", 33)),
       "llama.embedding_length: expected a multiple of head_count 4, found 33"},
  };
  for (const Case& c : cases) EXPECT_EQ(refusal_of(c.edit), c.message);
}

// Each within its range, their products beyond an int.
TEST(Architecture, SizesWhoseProductOverflowsAreRefused) {
  const std::string message =
      refusal_of(both(integer("llama.attention.head_count", 1 << 20), integer("llama.attention.key_length", 1 << 20)));
  EXPECT_EQ(message, "tensor blk.0.attn_q.weight: expected shape [32, 1099511627776], found [32, 32]");
}

TEST(Architecture, MoreLayersThanTensorsNamesTheMissingOne) {
  EXPECT_EQ(refusal_of(integer("llama.block_count", 3)),
            "tensor blk.2.attn_norm.weight: expected shape [32], found no such tensor");
}

TEST(Weights, NameTheTensorThatIsMissing) {
  for (const std::string name : {"output_norm.weight", "blk.1.attn_v.weight", "blk.0.ffn_down.weight"}) {
    TinyModel model = tiny();
    model.shapes[name] = {};
    EXPECT_EQ(refusal(model).rfind("tensor " + name + ": expected shape [", 0), 0u) << refusal(model);
    EXPECT_NE(refusal(model).find("], found no such tensor"), std::string::npos) << refusal(model);
  }
  TinyModel model = tiny();
  model.shapes["token_embd.weight"] = {};
  EXPECT_EQ(refusal(model), "tensor token_embd.weight: expected a matrix, found none");
}

TEST(Weights, NameTheTensorOfAnotherShape) {
  struct Case {
    const char* name;
    std::vector<std::int64_t> shape;
    const char* message;
  };
  const Case cases[] = {
      {"blk.1.attn_k.weight", {32, 32}, "tensor blk.1.attn_k.weight: expected shape [32, 16], found [32, 32]"},
      {"blk.0.attn_norm.weight", {31}, "tensor blk.0.attn_norm.weight: expected shape [32], found [31]"},
      {"blk.0.ffn_up.weight", {32, 32, 2}, "tensor blk.0.ffn_up.weight: expected shape [32, 32], found [32, 32, 2]"},
      {"token_embd.weight", {16, 320}, "tensor token_embd.weight: expected shape [32, 320], found [16, 320]"},
      {"token_embd.weight", {32, 300}, "tensor token_embd.weight: expected a row for each of 320 tokens, found 300"},
      {"rope_freqs.weight", {9}, "tensor rope_freqs.weight: expected shape [4], found [9]"},
  };
  for (const Case& c : cases) {
    TinyModel model = tiny();
    model.rope_factors = true;
    model.shapes[c.name] = c.shape;
    EXPECT_EQ(refusal(model), c.message);
  }
}

// ggml would abort the process where it meets one of these.
TEST(Weights, NameTheTensorOfATypeThatCannotBeUsed) {
  struct Case {
    const char* name;
    ggml_type type;
  };
  for (const Case& c : {Case{"blk.0.attn_norm.weight", GGML_TYPE_F16}, Case{"blk.1.attn_q.bias", GGML_TYPE_F16},
                        Case{"rope_freqs.weight", GGML_TYPE_F16}, Case{"output_norm.weight", GGML_TYPE_I32},
                        Case{"blk.0.attn_q.weight", GGML_TYPE_I32}, Case{"token_embd.weight", GGML_TYPE_I16}}) {
    TinyModel model = tiny();
    model.rope_factors = true;
    model.biases = true;
    model.types[c.name] = c.type;
    const std::string message = refusal(model);
    EXPECT_EQ(message.rfind(std::string("tensor ") + c.name + ": expected ", 0), 0u)
        << c.name << ": \"" << message << "\"";
    EXPECT_NE(message.find(ggml_type_name(c.type)), std::string::npos) << message;
  }
}

TEST(Weights, QuantisedMatricesHaveASecondFormOnlyIfAsked) {
  TinyModel model{.n_layer = 2, .n_embd = 64, .d_k = 16, .d_v = 16, .n_ff = 64, .weights = GGML_TYPE_Q8_0};
  const ModelFile file(model);
  const Model repacked(file.path()), mapped(file.path(), {.repack = false});
  EXPECT_EQ(mapped.facts().second_bytes, 0u);
  EXPECT_EQ(mapped.facts().mapped_bytes, repacked.facts().mapped_bytes + repacked.facts().second_bytes);
  EXPECT_EQ(mapped.facts().weight_types, "f32 x 5, q8_0 x 15");
  EXPECT_EQ(mapped.facts().n_parameters, repacked.facts().n_parameters);
}

}  // namespace
}  // namespace lacake
