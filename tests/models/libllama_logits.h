#pragma once

// What libllama computes, for tests that hold ours to it.

#include <llama.h>

#include <memory>
#include <string>
#include <vector>

#include "lacake/model.h"
#include "models/tiny_model.h"
#include "text/llama_log.h"

namespace lacake::models {

struct ScaledAdapter {
  std::string path;
  float scale;
};

// [n_vocab, n] from libllama, with an f32 cache and plain attention.
inline std::vector<float> libllama_logits(const ModelFile& file, std::vector<Token> tokens,
                                          const std::vector<ScaledAdapter>& adapters = {}) {
  silence_llama_log();
  llama_backend_init();
  ggml_backend_dev_t no_devices[] = {nullptr};
  llama_model_params model_params = llama_model_default_params();
  model_params.devices = no_devices;
  // Weights as the file has them: repacked ones round differently from machine to machine, and with those for AMX ggml
  // crashes where GCC 12 has compiled it (its _tile_loadconfig says that it reads 8 of 64 bytes).
  model_params.use_extra_bufts = false;
  const std::unique_ptr<llama_model, void (*)(llama_model*)> model(
      llama_model_load_from_file(file.path().c_str(), model_params), llama_model_free);
  if (!model) return {};
  llama_context_params params = llama_context_default_params();
  params.n_ctx = 256;
  params.n_batch = params.n_ubatch = 256;
  params.n_threads = params.n_threads_batch = 1;
  params.type_k = params.type_v = GGML_TYPE_F32;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  const std::unique_ptr<llama_context, void (*)(llama_context*)> context(llama_init_from_model(model.get(), params),
                                                                         llama_free);
  std::vector<llama_adapter_lora*> loaded;  // the model's
  std::vector<float> scales;
  for (const ScaledAdapter& a : adapters) {
    loaded.push_back(llama_adapter_lora_init(model.get(), a.path.c_str()));
    scales.push_back(a.scale);
    if (!loaded.back()) return {};
  }
  if (!loaded.empty()) llama_set_adapters_lora(context.get(), loaded.data(), loaded.size(), scales.data());
  llama_batch batch = llama_batch_get_one(tokens.data(), (std::int32_t)tokens.size());
  std::vector<std::int8_t> wanted(tokens.size(), 1);
  batch.logits = wanted.data();
  if (!context || llama_decode(context.get(), batch) != 0) return {};
  const std::size_t n_vocab = (std::size_t)llama_vocab_n_tokens(llama_model_get_vocab(model.get()));
  const float* logits = llama_get_logits(context.get());
  return {logits, logits + n_vocab * tokens.size()};
}

}  // namespace lacake::models
