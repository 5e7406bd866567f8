// LoRA adapters: beside libllama's, and what is refused.

#include "model/lora.h"

#include "engine/test_session.h"
#include "models/libllama_logits.h"
#include "models/tiny_adapter.h"

namespace lacake {
namespace {

using models::AdapterFile;
using models::variant;
using models::Variant;

// [n_vocab, n]: most of the tokens as a prompt, the last four one by one.
Logits run(const Model& model, const Tokens& tokens) {
  Engine engine(model, {.threads = 1});
  const std::size_t n_prompt = tokens.size() - 4;
  return all_logits(engine, tokens, n_prompt, with("full", "", "f32", PrefillMode::kExact, n_prompt, 4));
}

class LoraOf : public testing::TestWithParam<const char*> {};

TEST_P(LoraOf, TwoAdaptersAddUpAsInLibllama) {
  const Variant v = variant(GetParam());
  const ModelFile file(v.model);
  const AdapterFile first(file.path()), second(file.path(), 3, /*alpha*/ 0, 2);
  const Tokens tokens = random_tokens(v.model, 48, 1);
  const Logits truth = models::libllama_logits(file, tokens, {{first.path(), 0.5f}, {second.path(), 0.25f}});
  const Model plain(file.path());
  const Model adapted(file.path(), {.loras = {{first.path(), 0.5}, {second.path(), 0.25}}});
  EXPECT_LT(distance(run(adapted, tokens), truth), 1e-3f);
  EXPECT_GT(distance(run(plain, tokens), truth), 0.1f);
}

INSTANTIATE_TEST_SUITE_P(, LoraOf, testing::Values("llama", "qwen2", "llama_experts", "phi3", "granite", "olmo2"),
                         [](const auto& i) { return std::string(i.param); });

TEST(Lora, SessionsStepTogetherAsEachAlone) {
  for (const char* product : {"auto", "ggml"}) {
    SCOPED_TRACE(product);
    const ModelFile file(small());
    const AdapterFile adapter(file.path());
    const Model model(file.path(), {.product = product, .loras = {{adapter.path(), 1}}});
    Engine engine(model, {.threads = 1});
    std::vector<std::unique_ptr<Session>> sessions;
    for (int i = 0; i < 3; ++i) {
      sessions.push_back(engine.open(with("full", "", "f32", PrefillMode::kExact, 8)));
      ASSERT_TRUE(sessions.back()->prefill(random_tokens(small(), 8, 3)));
    }
    const Engine::Next batch[] = {{sessions[0].get(), 5}, {sessions[1].get(), 5}};
    engine.step(batch);
    sessions[2]->step(5);
    for (const auto& session : sessions) EXPECT_TRUE(same_bits(session->logits(), sessions[2]->logits()));
  }
}

std::string refused(const std::function<void(gguf_context*)>& edit) {
  const ModelFile file(small());
  const AdapterFile adapter(file.path(), 4, 6, 1, edit);
  const std::string message = refusal(Error::Kind::kInput, [&] {
    const Model model(file.path(), {.loras = {{adapter.path(), 1}}});
  });
  EXPECT_EQ(message.rfind(adapter.path() + ": ", 0), 0u) << message;
  return message.substr(std::min(message.size(), adapter.path().size() + 2));
}

TEST(Lora, OfAnotherModelOrKindIsRefusedByKeyOrTensor) {
  EXPECT_EQ(refused([](gguf_context* g) { gguf_set_val_str(g, "general.architecture", "qwen2"); }),
            "general.architecture: expected llama, found qwen2");
  EXPECT_EQ(refused([](gguf_context* g) { gguf_remove_key(g, "general.type"); }),
            "general.type: expected adapter (a LoRA adapter in GGUF), found none");
  EXPECT_EQ(refused([](gguf_context* g) { gguf_set_val_str(g, "adapter.type", "control_vector"); }),
            "adapter.type: expected lora, found control_vector");
  const ModelFile file(small()), other(wide());
  const AdapterFile adapter(other.path());
  const std::string message = refusal(Error::Kind::kInput, [&] {
    const Model model(file.path(), {.loras = {{adapter.path(), 1}}});
  });
  EXPECT_NE(message.find("tensor blk.0.attn_k.weight.lora_a: expected shape [16, 4], found [64, 4]"), std::string::npos)
      << message;
}

TEST(LoraFile, IsANameAndAScale) {
  const auto file = Model::LoraFile::parse("a:b.gguf:-0.5");
  EXPECT_EQ(file.path, "a:b.gguf");
  EXPECT_EQ(file.scale, -0.5);
  for (const char* text : {"", "a.gguf", "a.gguf:", ":1", "a.gguf:1x", "a.gguf:inf"}) {
    EXPECT_EQ(refusal(Error::Kind::kUsage, [&] { Model::LoraFile::parse(text); }),
              std::string("lora_scaled: expected FILE:SCALE, found \"") + text + "\"");
  }
}

}  // namespace
}  // namespace lacake
