#include "lacake/model.h"

#include <fmt/format.h>

#include <deque>
#include <filesystem>
#include <map>
#include <string_view>
#include <unordered_set>

#include "lacake/error.h"
#include "lacake/memory.h"
#include "lacake/sampler.h"
#include "model/device.h"
#include "model/fingerprint.h"
#include "model/loaded_model.h"
#include "text/make_sampler.h"

namespace lacake {
namespace {

std::string weight_types(const GgufFile& file) {
  std::map<std::string, int> counts;
  for (const std::string& name : file.tensor_names()) ++counts[ggml_type_name(file.tensor(name)->type)];
  std::string text;
  for (const auto& [type, count] : counts) text += fmt::format("{}{} x {}", text.empty() ? "" : ", ", type, count);
  return text;
}

// libllama aborts the process where two tokens have the same text. Empty ones get names from it.
void check_tokens(const GgufFile& file) {
  std::unordered_set<std::string_view> seen;
  std::deque<std::string> named;
  const std::vector<const char*> tokens = file.strings("tokenizer.ggml.tokens");
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    std::string_view token = tokens[i];
    if (token.empty()) token = named.emplace_back(fmt::format("[EMPTY_{}]", i));
    if (!seen.insert(token).second) {
      file.fail("tokenizer.ggml.tokens", "tokens that differ", fmt::format("\"{}\" twice", token));
    }
  }
}

// Opened after the metadata were checked: what libllama then refuses is in the vocabulary. `before`: resident memory
// when nothing was open, because the file's metadata, which hold the vocabulary too, count with it.
Vocabulary open_vocabulary(const GgufFile& file, std::span<const MetadataOverride> overrides, std::uint64_t before,
                           std::uint64_t& bytes) {
  check_tokens(file);
  Vocabulary vocabulary(file.path(), overrides);
  const std::uint64_t after = resident_bytes();
  bytes = after > before ? after - before : 0;
  return vocabulary;
}

}  // namespace

LoadedModel::LoadedModel(const std::string& path, const Model::Options& options)
    : product(matmul::parse_method(options.product)),
      resident_before(resident_bytes()),
      file(path, options.overrides),
      hyperparameters(read_hyperparameters(file, options.rope, options.context_length)),
      vocabulary(open_vocabulary(file, options.overrides, resident_before, vocabulary_bytes)),
      chat(vocabulary, ChatTemplate::of(vocabulary, options.chat_template)),
      weights(file, hyperparameters, cpu_device(), product, options.repack) {
  const Hyperparameters& h = hyperparameters;
  file.check_overrides_read();
  for (const Model::LoraFile& lora : options.loras) loras.emplace_back(lora.path, lora.scale, weights, h.architecture);
  if (vocabulary.n_tokens() != h.n_vocab) {
    file.fail("tensor token_embd.weight", fmt::format("a row for each of {} tokens", vocabulary.n_tokens()),
              fmt::format("{}", h.n_vocab));
  }
  facts.path = path;
  facts.calibration_path = calibration_in_use(path, options.calibration);
  if (!facts.calibration_path.empty()) {
    calibration = CalibrationFile::read(facts.calibration_path, h);
    facts.calibration = calibration->facts;
  }
  facts.architecture = h.architecture;
  facts.name = h.name;
  facts.weight_types = weight_types(file);
  facts.n_parameters = weights.n_parameters();
  facts.n_vocab = h.n_vocab;
  facts.n_embd = h.n_embd;
  facts.n_ff = h.n_ff;
  facts.n_expert = h.n_expert;
  facts.n_expert_used = h.n_expert_used;
  facts.attention = {h.n_layer, h.n_head, h.n_head_kv, calibration ? calibration->id() : 0};
  for (const LayerKind& layer : h.layers) {
    if (layer.window == 0) continue;
    ++facts.n_sliding_layers;
    facts.sliding_window = layer.window;
  }
  facts.head_size_k = h.d_k;
  facts.head_size_v = h.d_v;
  facts.training_length = h.n_ctx_train;
  facts.mapped_bytes = weights.mapped_bytes();
  facts.second_bytes = weights.second_bytes();
  facts.product = matmul::name(product);
}

const std::string& LoadedModel::fingerprint() const {
  std::call_once(fingerprinted_, [&] { fingerprint_ = lacake::fingerprint(*this); });
  return fingerprint_;
}

std::string LoadedModel::display_name() const {
  return facts.name.empty() ? std::filesystem::path(facts.path).filename().string() : facts.name;
}

void LoadedModel::check_calibration() const {
  if (!calibration || calibration->fingerprint == fingerprint()) return;
  throw Error({.subject = fmt::format("{}: model.fingerprint", facts.calibration_path),
               .expected = fmt::format("{} ({}, adapters and RoPE settings included)", fingerprint(), display_name()),
               .found = fmt::format("{} ({})", calibration->fingerprint, calibration->model_name),
               .remedy = "a calibration made for this model, or another policy would do"});
}

Model::Model(const std::string& path) : Model(path, Options{}) {}
Model::Model(const std::string& path, const Options& options) : loaded_(std::make_unique<LoadedModel>(path, options)) {}
Model::~Model() = default;

const ModelFacts& Model::facts() const { return loaded_->facts; }
const std::string& Model::fingerprint() const { return loaded_->fingerprint(); }

std::vector<Token> Model::tokenize(std::string_view text, bool parse_special, bool add_special) const {
  return loaded_->vocabulary.tokenize(text, {.parse = parse_special, .add = add_special});
}

std::vector<Token> Model::tokenize(const PromptText& text, bool add_special) const {
  return loaded_->chat.tokenizer().tokenize(text, add_special);
}

std::string Model::piece(Token token) const { return loaded_->vocabulary.piece(token); }

std::string Model::piece(Token token, bool show_control) const {
  return loaded_->vocabulary.piece(token, show_control ? ControlTokens::kShown : ControlTokens::kHidden);
}

std::optional<Token> Model::text_begin() const {
  return loaded_->vocabulary.add_bos() ? loaded_->vocabulary.bos() : std::nullopt;
}
bool Model::is_end(Token token) const { return loaded_->vocabulary.is_end(token); }
bool Model::has_chat_template() const { return !loaded_->chat.chat_template().empty(); }
std::string Model::chat_template() const { return loaded_->chat.chat_template().source(); }
std::string Model::chat_notice() const { return loaded_->chat.chat_template().notice(); }

ChatPrompt Model::chat(std::span<const Message> messages, const ChatOptions& options) const {
  return loaded_->chat.prompt(messages, options);
}

ChatPrompt Model::render_chat(std::span<const Message> messages, const ChatOptions& options) const {
  return loaded_->chat.rendered(messages, options);
}

std::string Model::chat_text(std::span<const Message> messages, bool add_generation_prompt) const {
  return loaded_->chat.chat_template().render(messages, {.add_generation_prompt = add_generation_prompt}).text;
}

// Here, so that src/text knows no model.
Sampler::Sampler(const Model& model, const SamplerOptions& options)
    : Sampler(make_sampler(model.loaded().vocabulary, options)) {}

}  // namespace lacake
