#pragma once

#include <llama-cpp.h>

#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "lacake/model.h"

namespace lacake {

// The reference: libllama on a model, as its own programs run it.
class Libllama {
 public:
  struct Settings {
    ggml_type cache = GGML_TYPE_F16;  // K and V
    bool flash_attention = false;
    std::uint32_t batch = 512;   // tokens a llama_decode: the logits of so many stand in memory
    std::uint32_t ubatch = 512;  // tokens a graph; libllama's default
    int threads = 2;
  };

  explicit Libllama(const std::string& path);

  using EachToken = std::function<void(std::size_t index, std::span<const float> logits)>;
  void run(std::span<const Token> tokens, const Settings& settings, const EachToken& each) const;

 private:
  llama_model_ptr model_;
};

}  // namespace lacake
