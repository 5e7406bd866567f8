#include "parity/libllama.h"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "text/llama_log.h"

namespace lacake {

Libllama::Libllama(const std::string& path) {
  silence_llama_log();
  ggml_backend_load_all();
  llama_model_params params = llama_model_default_params();
  params.use_extra_bufts = false;  // as in models/libllama_logits.h
  model_.reset(llama_model_load_from_file(path.c_str(), params));
  if (!model_) throw std::runtime_error("libllama cannot open " + path);
}

void Libllama::run(std::span<const Token> tokens, const Settings& settings, const EachToken& each) const {
  llama_context_params params = llama_context_default_params();
  params.n_ctx = (std::uint32_t)tokens.size();
  params.n_batch = std::min(settings.batch, params.n_ctx);
  params.n_ubatch = std::min(settings.ubatch, params.n_batch);
  params.n_threads = params.n_threads_batch = settings.threads;
  params.flash_attn_type = settings.flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
  params.type_k = params.type_v = settings.cache;
  const llama_context_ptr context(llama_init_from_model(model_.get(), params));
  if (!context) throw std::runtime_error("libllama cannot make a context");
  const std::size_t n_vocab = (std::size_t)llama_vocab_n_tokens(llama_model_get_vocab(model_.get()));

  for (std::size_t from = 0; from < tokens.size(); from += params.n_batch) {
    const std::size_t n = std::min<std::size_t>(params.n_batch, tokens.size() - from);
    llama_batch batch = llama_batch_init((std::int32_t)n, 0, 1);
    batch.n_tokens = (std::int32_t)n;
    for (std::size_t i = 0; i < n; ++i) {
      batch.token[i] = tokens[from + i];
      batch.pos[i] = (llama_pos)(from + i);
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = true;
    }
    const bool decoded = llama_decode(context.get(), batch) == 0;
    llama_batch_free(batch);
    if (!decoded) throw std::runtime_error("llama_decode failed");
    for (std::size_t i = 0; i < n; ++i) {
      each(from + i, {llama_get_logits_ith(context.get(), (std::int32_t)i), n_vocab});
    }
  }
}

}  // namespace lacake
