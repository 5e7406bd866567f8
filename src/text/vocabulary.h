#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lacake/model.h"

struct llama_model;
struct llama_vocab;

namespace lacake {

// What the tokenizer does about special tokens (<|im_end|>, <s>, ...).
//   parse  those written out in the text become single tokens; otherwise they are ordinary text
//   add    those that the model wants around every text are put there (at most one BOS in front)
// A rendered chat template: {.parse = true, .add = true}, which adds what the template itself left out.
// A text to be measured or continued as it is: {.add = true}. Byte for byte what the text says: {}.
struct SpecialTokens {
  bool parse = false;
  bool add = false;
};

// Whether control tokens (end of turn, BOS, ...) are spelled out or left out when tokens become text.
enum class ControlTokens { kHidden, kShown };

// The tokens of a model: text to ids and back. Opens the GGUF file vocab-only through libllama, holds no weights.
// Immutable: any number of threads may use one at once.
class Vocabulary {
 public:
  // Throws Error(kInput) naming the file if it can't be read, is no GGUF, or has no tokenizer that libllama knows.
  // `overrides` replace the file's metadata (tokenizer.ggml.add_bos_token, ...).
  explicit Vocabulary(const std::filesystem::path& gguf, std::span<const MetadataOverride> overrides = {});

  // Bytes that are not UTF-8 are the caller's to refuse (invalid_utf8_offset); here they become whatever libllama makes
  // of them. Throws Error(kInput) for 2 GiB of text or more.
  std::vector<std::int32_t> tokenize(std::string_view text, SpecialTokens specials = {}) const;

  // With what the model wants around every text, where it is not there yet: tokenize's `add`.
  std::vector<std::int32_t> with_added(std::vector<std::int32_t> tokens) const;

  // The bytes of one token, as they are streamed: may be part of a UTF-8 character (see Utf8Stream).
  // REQUIRES: 0 <= token < n_tokens().
  std::string piece(std::int32_t token, ControlTokens control = ControlTokens::kHidden) const;

  // The text of a list of tokens; without the space that some tokenizers put in front of a text.
  std::string text(std::span<const std::int32_t> tokens, ControlTokens control = ControlTokens::kHidden) const;

  // Whether an answer ends with this token (end of text, of turn, of message).
  bool is_end(std::int32_t token) const;

  int n_tokens() const;
  std::optional<std::int32_t> bos() const;
  std::optional<std::int32_t> eos() const;
  bool add_bos() const;  // the model was trained with BOS in front of every text

  // The Jinja source in the file (tokenizer.chat_template), or of an override; "" if there is none.
  std::string chat_template() const;

  const llama_vocab* handle() const { return vocab_; }  // lives as long as this

 private:
  struct Free {
    void operator()(llama_model* model) const;
  };
  std::optional<std::string> overridden_template_;
  std::unique_ptr<llama_model, Free> model_;
  const llama_vocab* vocab_ = nullptr;
};

}  // namespace lacake
