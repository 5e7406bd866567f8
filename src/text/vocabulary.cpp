#include "text/vocabulary.h"

#include <llama.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <mutex>

#include "base/deep_stack.h"
#include "lacake/error.h"
#include "text/llama_log.h"
#include "text/llama_vocab.h"

namespace lacake {
namespace {

void require_readable(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path))
    throw Error({.subject = path.string(), .expected = "a GGUF file", .found = "a folder"});
  errno = 0;
  if (!std::ifstream(path, std::ios::binary)) {
    throw Error({.subject = path.string(), .found = std::string("cannot be opened: ") + std::strerror(errno)});
  }
}

std::optional<std::int32_t> if_any(llama_token token) {
  return token == LLAMA_TOKEN_NULL ? std::nullopt : std::optional<std::int32_t>(token);
}

// For some vocabularies libllama divides a text by std::regex, which calls itself for each character of a stretch of
// blanks or of letters without one: 31,000 letters took a stack of 8 MiB, 270 bytes each.
constexpr std::size_t kShortStretch = 4096, kLongestStretch = 4 << 20, kStackPerByte = 1024;

// Bytes of the longest stretch that is all blanks or has none, with the other kind before or behind it.
std::size_t longest_stretch(std::string_view text) {
  std::size_t before = 0, now = 0, longest = 0;
  bool blank = false;
  for (const char c : text) {
    const bool is_blank = c == ' ' || (c >= '\t' && c <= '\r');
    if (is_blank != blank) before = now, now = 0, blank = is_blank;
    longest = std::max(longest, before + ++now);
  }
  return longest;
}

// Calls write(buffer, size), which returns the bytes written or, negated, how many it needs.
template <typename Write>
std::string sized_by_callee(std::size_t guess, Write write) {
  std::string out(guess, '\0');
  int n = write(out.data(), (std::int32_t)out.size());
  if (n < 0) {
    out.resize((std::size_t)(-n));
    n = write(out.data(), (std::int32_t)out.size());
  }
  assert(n >= 0);
  out.resize((std::size_t)n);
  return out;
}

constexpr const char* kTemplateKey = "tokenizer.chat_template";
constexpr std::size_t kRoom = 127;  // bytes of a key or text that libllama's form of an override has room for

bool fits(const MetadataOverride& o) {
  const auto* text = std::get_if<std::string>(&o.value);
  return o.key.size() <= kRoom && (text == nullptr || text->size() <= kRoom);
}

// The tokenizer's own keys are libllama's to read; everything else, the chat template too, is read here.
bool of_tokenizer(const std::string& key) { return key.starts_with("tokenizer.") && !key.starts_with(kTemplateKey); }

// libllama's form of overrides, ended by an empty key.
std::vector<llama_model_kv_override> llama_overrides(std::span<const MetadataOverride> overrides) {
  std::vector<llama_model_kv_override> list;
  for (const MetadataOverride& o : overrides) {
    if (!fits(o)) {
      if (!of_tokenizer(o.key)) continue;
      throw Error({.kind = Error::Kind::kUsage,
                   .subject = "override_kv",
                   .expected = "at most 127 bytes for a key of the tokenizer and its text",
                   .found = "more for " + o.key.substr(0, kRoom)});
    }
    llama_model_kv_override to = {};
    std::memcpy(to.key, o.key.c_str(), o.key.size() + 1);
    if (const auto* truth = std::get_if<bool>(&o.value)) {
      to.tag = LLAMA_KV_OVERRIDE_TYPE_BOOL, to.val_bool = *truth;
    } else if (const auto* whole = std::get_if<std::int64_t>(&o.value)) {
      to.tag = LLAMA_KV_OVERRIDE_TYPE_INT, to.val_i64 = *whole;
    } else if (const auto* real = std::get_if<double>(&o.value)) {
      to.tag = LLAMA_KV_OVERRIDE_TYPE_FLOAT, to.val_f64 = *real;
    } else {
      const auto& text = std::get<std::string>(o.value);
      to.tag = LLAMA_KV_OVERRIDE_TYPE_STR;
      std::memcpy(to.val_str, text.c_str(), text.size() + 1);
    }
    list.push_back(to);
  }
  list.emplace_back();
  return list;
}

// The template of a file is text; one of another type in an override has no meaning.
std::optional<std::string> overridden_template(std::span<const MetadataOverride> overrides) {
  std::optional<std::string> source;
  for (const MetadataOverride& o : overrides) {
    if (o.key != kTemplateKey) continue;
    const auto* text = std::get_if<std::string>(&o.value);
    if (text == nullptr) {
      throw Error({.kind = Error::Kind::kUsage,
                   .subject = "override_kv",
                   .expected = std::string(kTemplateKey) + "=str:TEMPLATE",
                   .found = "another type"});
    }
    source = *text;
  }
  return source;
}

}  // namespace

void Vocabulary::Free::operator()(llama_model* model) const { llama_model_free(model); }

Vocabulary::Vocabulary(const std::filesystem::path& gguf, std::span<const MetadataOverride> overrides)
    : overridden_template_(overridden_template(overrides)) {
  require_readable(gguf);
  silence_llama_log();
  static std::once_flag once;
  std::call_once(once, llama_backend_init);

  ggml_backend_dev_t no_devices[] = {nullptr};  // otherwise every GPU is asked for its memory
  llama_model_params params = llama_model_default_params();
  params.vocab_only = true;
  params.devices = no_devices;
  const std::vector<llama_model_kv_override> replaced = llama_overrides(overrides);
  if (!overrides.empty()) params.kv_overrides = replaced.data();

  const LlamaErrors errors;
  model_.reset(llama_model_load_from_file(gguf.string().c_str(), params));
  if (!model_) {
    const std::string cause = errors.first();
    throw Error({.subject = gguf.string(),
                 .expected = "a GGUF model with a vocabulary",
                 .found = cause.empty() ? "something else" : cause});
  }
  vocab_ = llama_model_get_vocab(model_.get());
  if (llama_vocab_type(vocab_) == LLAMA_VOCAB_TYPE_NONE) {
    throw Error({.subject = gguf.string() + ": tokenizer.ggml.model", .expected = "a tokenizer", .found = "none"});
  }
}

std::vector<std::int32_t> llama_tokens(const llama_vocab* vocab, std::string_view text, SpecialTokens specials) {
  // A token is at least a byte of the text, so this room is enough but for tokenizers that normalise first.
  constexpr std::size_t kAdded = 8;
  if (text.size() > std::numeric_limits<std::int32_t>::max() - kAdded) {
    throw Error({.subject = "text", .expected = "less than 2 GiB", .found = std::to_string(text.size()) + " bytes"});
  }
  std::size_t room = text.size() + kAdded;
  // Not initialised: the pages that no token reaches are never resident.
  auto ids = std::make_unique_for_overwrite<llama_token[]>(room);
  const std::size_t stretch = longest_stretch(text);
  if (stretch > kLongestStretch) {
    throw Error({.subject = "text",
                 .expected = "a blank or the end of a line within 4 MiB",
                 .found = std::to_string(stretch) + " bytes without"});
  }
  const auto run = [&] {
    std::int32_t n = 0;
    const auto tokenize = [&] {
      n = llama_tokenize(vocab, text.data(), (std::int32_t)text.size(), ids.get(), (std::int32_t)room, specials.add,
                         specials.parse);
    };
    if (stretch > kShortStretch) {
      on_deep_stack(stretch * kStackPerByte, tokenize);
    } else {
      tokenize();
    }
    return n;
  };
  std::int32_t n = run();
  if (n < 0 && n != std::numeric_limits<std::int32_t>::min()) {
    room = (std::size_t)(-n);
    ids = std::make_unique_for_overwrite<llama_token[]>(room);
    n = run();
  }
  if (n < 0) throw Error({.subject = "text", .expected = "fewer than 2^31 tokens", .found = "more"});
  return {ids.get(), ids.get() + n};
}

std::string llama_piece(const llama_vocab* vocab, std::int32_t token, ControlTokens control) {
  return sized_by_callee(32, [&](char* out, std::int32_t size) {
    return llama_token_to_piece(vocab, token, out, size, 0, control == ControlTokens::kShown);
  });
}

std::vector<std::int32_t> Vocabulary::tokenize(std::string_view text, SpecialTokens specials) const {
  std::vector<std::int32_t> ids = llama_tokens(vocab_, text, specials);
  // A chat template that begins with BOS, for a model that wants BOS in front: one is meant.
  const bool twice = specials.add && ids.size() >= 2 && ids[0] == llama_vocab_bos(vocab_) && ids[1] == ids[0];
  if (twice) ids.erase(ids.begin());
  return ids;
}

std::vector<std::int32_t> Vocabulary::with_added(std::vector<std::int32_t> tokens) const {
  if (llama_vocab_get_add_bos(vocab_) && (tokens.empty() || tokens.front() != llama_vocab_bos(vocab_))) {
    tokens.insert(tokens.begin(), llama_vocab_bos(vocab_));
  }
  if (llama_vocab_get_add_eos(vocab_)) tokens.push_back(llama_vocab_eos(vocab_));
  return tokens;
}

std::string Vocabulary::piece(std::int32_t token, ControlTokens control) const {
  assert(token >= 0 && token < n_tokens());
  return llama_piece(vocab_, token, control);
}

std::string Vocabulary::text(std::span<const std::int32_t> tokens, ControlTokens control) const {
  return sized_by_callee(tokens.size() * 5, [&](char* out, std::int32_t size) {
    return llama_detokenize(vocab_, tokens.data(), (std::int32_t)tokens.size(), out, size, false,
                            control == ControlTokens::kShown);
  });
}

bool Vocabulary::is_end(std::int32_t token) const { return llama_vocab_is_eog(vocab_, token); }

int Vocabulary::n_tokens() const { return llama_vocab_n_tokens(vocab_); }

std::optional<std::int32_t> Vocabulary::bos() const { return if_any(llama_vocab_bos(vocab_)); }

std::optional<std::int32_t> Vocabulary::eos() const { return if_any(llama_vocab_eos(vocab_)); }

bool Vocabulary::add_bos() const { return llama_vocab_get_add_bos(vocab_); }

std::string Vocabulary::chat_template() const {
  if (overridden_template_) return *overridden_template_;
  const char* source = llama_model_chat_template(model_.get(), nullptr);
  return source == nullptr ? "" : source;
}

}  // namespace lacake
