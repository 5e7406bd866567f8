#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lacake/calibration.h"
#include "lacake/chat.h"
#include "lacake/policy.h"
#include "lacake/token.h"

namespace lacake {

// The files of the model that is opened by this path: the path alone, or those that a model was split into, of which it
// is opened by the first (NAME-00001-of-00003.gguf). They follow from the name alone: no file is looked for.
std::vector<std::string> model_files(const std::string& path);

// What a GGUF file says of its model.
struct ModelFacts {
  std::string path;
  std::string architecture;  // general.architecture, e.g. "llama"
  std::string name;          // general.name, may be empty
  std::string weight_types;  // e.g. "q4_1 x 211, f32 x 61"
  std::uint64_t n_parameters = 0;
  int n_vocab = 0;
  int n_embd = 0;
  int n_ff = 0;  // of one expert, where there are experts
  int n_expert = 0;
  int n_expert_used = 0;
  AttentionShape attention;
  int n_sliding_layers = 0;  // layers that see no further than sliding_window
  int sliding_window = 0;
  int head_size_k = 0;
  int head_size_v = 0;
  std::int64_t training_length = 0;  // tokens; a policy with original positions cannot go beyond it
  std::uint64_t mapped_bytes = 0;    // weights read from the mapped file
  std::uint64_t second_bytes = 0;    // repacked copies
  std::string calibration_path;      // of its learned scores (lacake/calibration.h); "": it has none
  CalibrationFacts calibration;      // what that file says of itself
  std::string product;               // how its weights are multiplied: an Options::product, not "auto"

  // The layers that policies decide about: those with full attention.
  AttentionShape policy_attention() const {
    return {attention.n_layer - n_sliding_layers, attention.n_head, attention.n_head_kv, attention.calibration};
  }
};

// RoPE as the user wants it, where it shall not be as the file says. The names and meanings are llama.cpp's.
struct RopeOptions {
  std::optional<std::string> scaling;  // none, linear, yarn or longrope
  std::optional<double> freq_base;
  std::optional<double> freq_scale;  // 1 / stretch of positions
  std::optional<std::int64_t> original_length;
  std::optional<double> yarn_ext_factor;
  std::optional<double> yarn_attn_factor;
  std::optional<double> yarn_beta_slow;
  std::optional<double> yarn_beta_fast;
};

// A metadata value that replaces the file's, or is added to them.
struct MetadataOverride {
  std::string key;
  std::variant<bool, std::int64_t, double, std::string> value;

  // KEY=TYPE:VALUE, TYPE one of int, float, bool, str. Throws Error(kUsage) about override_kv.
  static MetadataOverride parse(std::string_view text);
};

// The families that can be run, by general.architecture.
std::vector<std::string> supported_architectures();

// The chat templates that can be chosen by name: "chatml", "llama3", ...
std::vector<std::string> chat_template_names();

struct LoadedModel;

// A GGUF model: weights (mapped), vocabulary and chat template. Immutable, shared by engines and threads.
// The constructor throws Error(kInput), one line that names the file and the key or tensor.
class Model {
 public:
  // A LoRA adapter in GGUF.
  struct LoraFile {
    std::string path;
    double scale = 1;

    // FILE:SCALE. Throws Error(kUsage) about lora_scaled.
    static LoraFile parse(std::string_view text);
  };

  struct Options {
    // How a prompt's products are computed: "ggml"; "f32", weights unpacked and nothing rounded; "int8", the prompt's
    // numbers rounded to 8 bits in blocks of 32 as ggml does; "bf16", prompt and quantised weights rounded to bf16;
    // "bf16x3", each number as the sum of two bf16, nearly f32; "auto", the fastest that this machine has.
    std::string product = "auto";
    bool repack = true;  // second forms of weights where they are multiplied faster
    RopeOptions rope = {};
    std::vector<MetadataOverride> overrides = {};
    std::vector<LoraFile> loras = {};  // all of them add up
    // The longest conversation that is meant: chooses between long and short RoPE factors where the file has both (Phi
    // 3.5). 0: the model's training length.
    std::int64_t context_length = 0;
    // Instead of the file's chat template: a Jinja template, or the name of one that libllama knows
    // (chat_template_names). "": the file's, or what an override of tokenizer.chat_template says.
    std::string chat_template = {};
    // The file of its learned scores (lacake/calibration.h). "": the one beside the model, if there is one. A file that
    // is there must be whole and of this model's sizes; that it was learned for this model and no other is checked when
    // a policy asks for its scores.
    std::string calibration = {};
    static constexpr const char* kNoCalibration = "none";
  };

  explicit Model(const std::string& path);
  Model(const std::string& path, const Options&);
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const ModelFacts& facts() const;

  // `parse_special`: "<|im_start|>" in the text is the token, not its letters. `add_special`: a beginning-of-text token
  // where the model wants one.
  std::vector<Token> tokenize(std::string_view text, bool parse_special, bool add_special) const;
  // Special tokens outside of the text's letters only. Without special tokens' texts in the letters: as the whole text
  // with parse_special.
  std::vector<Token> tokenize(const PromptText& text, bool add_special) const;
  std::string piece(Token token) const;  // bytes; may be part of a UTF-8 character; "" for control tokens
  std::string piece(Token token, bool show_control) const;
  bool is_end(Token token) const;  // end of text or of turn
  // What the model was trained to have in front of every text; none where it was not.
  std::optional<Token> text_begin() const;

  bool has_chat_template() const;
  std::string chat_template() const;  // its text; "" where there is none, and where it is one by name
  std::string chat_notice() const;  // one line for the user where there is no template or it may be rendered otherwise

  // The conversation as the model's own template writes it, and how to read the answer. What messages and tools say is
  // letters. REQUIRES: has_chat_template().
  // Throws Error(kInput) with the template's words where it refuses the conversation or cannot be run, Error(kUsage)
  // naming `tools`, `thinking`, `json_schema`, `template_arguments` or `messages` for what cannot be used.
  ChatPrompt chat(std::span<const Message> messages, const ChatOptions& options = {}) const;
  // The same without its tokens: for who has fed the beginning of the text already and needs those of the rest alone.
  ChatPrompt render_chat(std::span<const Message> messages, const ChatOptions& options = {}) const;
  // The text alone, to be looked at. As `chat` in what it requires and throws.
  std::string chat_text(std::span<const Message> messages, bool add_generation_prompt) const;

  // XXH3 of 128 bits, in hexadecimal, of what the model computes with: its tensors' content, adapters and RoPE
  // settings, not its path. Owned by the model. The first call reads all weights. Any thread.
  const std::string& fingerprint() const;

  const LoadedModel& loaded() const { return *loaded_; }  // for the library's own use

 private:
  std::unique_ptr<LoadedModel> loaded_;
};

}  // namespace lacake
