#include "text/llama_log.h"

#include <llama.h>

#include <cassert>
#include <mutex>
#include <string_view>

namespace lacake {
namespace {

thread_local std::string* collected_errors = nullptr;

void collect(ggml_log_level level, const char* text, void*) {
  if (collected_errors != nullptr && level == GGML_LOG_LEVEL_ERROR) *collected_errors += text;
}

// "llama_model_load: error loading model: cause" is reported as "error loading model: cause".
std::string_view without_function_name(std::string_view line) {
  const std::size_t colon = line.find(": ");
  const bool names_function =
      colon != std::string_view::npos && line.substr(0, colon).find(' ') == std::string_view::npos;
  return names_function ? line.substr(colon + 2) : line;
}

}  // namespace

void silence_llama_log() {
  static std::once_flag once;
  std::call_once(once, [] { llama_log_set(collect, nullptr); });
}

LlamaErrors::LlamaErrors() {
  assert(collected_errors == nullptr);
  silence_llama_log();
  collected_errors = &text_;
}

LlamaErrors::~LlamaErrors() { collected_errors = nullptr; }

std::string LlamaErrors::first() const {
  const std::string_view text = text_;
  const std::size_t start = text.find_first_not_of("\n ");
  if (start == std::string_view::npos) return "";
  return std::string(without_function_name(text.substr(start, text.find('\n', start) - start)));
}

}  // namespace lacake
