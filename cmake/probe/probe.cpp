// Names the youngest functions of ggml and libllama that lacake calls: an older library does not compile or link here.
#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml.h>
#include <gguf.h>
#include <llama.h>

#include <cstdio>

int main() {
  const void* used[] = {
      reinterpret_cast<const void*>(&ggml_backend_load_all),
      reinterpret_cast<const void*>(&ggml_backend_dev_buffer_from_host_ptr),
      reinterpret_cast<const void*>(&ggml_backend_reg_get_proc_address),
      reinterpret_cast<const void*>(&ggml_custom_4d),
      reinterpret_cast<const void*>(&ggml_swiglu_split),
      reinterpret_cast<const void*>(&gguf_init_from_buffer),
      reinterpret_cast<const void*>(&llama_model_load_from_file),
      reinterpret_cast<const void*>(&llama_model_get_vocab),
      reinterpret_cast<const void*>(&llama_sampler_init_grammar),
      reinterpret_cast<const void*>(&llama_vocab_is_eog),
  };
  for (const void* function : used) std::printf("%p\n", function);
}
