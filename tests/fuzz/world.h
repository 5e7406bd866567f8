#pragma once

// What saved sessions of the corpus are opened with: two tiny models that live as long as the process.

#include <span>
#include <string>
#include <vector>

#include "lacake/engine.h"
#include "models/tiny_model.h"

namespace lacake::fuzzing {

// Small files: what is fuzzed is what stands around the rows. The first as small as policies need, the second with
// sliding windows and with heads that quantised rows fit.
inline models::TinyModel tiny_model(bool sliding) {
  models::TinyModel tiny{
      .n_layer = 3, .n_embd = 16, .n_head = 4, .n_head_kv = 2, .d_k = 8, .d_v = 8, .n_ff = 16, .n_vocab = 290};
  if (!sliding) return tiny;
  tiny.architecture = "gemma3";
  tiny.n_head = 2, tiny.n_head_kv = 1, tiny.d_k = 32, tiny.d_v = 32;
  tiny.window = 6;
  tiny.slides = {true, false, false};
  return tiny;
}

struct World {
  explicit World(bool sliding)
      : tiny(tiny_model(sliding)),
        file(tiny),
        model(file.path(), {.product = "f32"}),
        // Reserved, so that no file's budget becomes this machine's memory.
        engine(model, {.threads = 1, .kv_memory = 4 << 20}) {}
  models::TinyModel tiny;
  models::ModelFile file;
  Model model;
  Engine engine;
};

// The first byte of an input; a file's bytes come after it.
enum Mode : unsigned char {
  kSealed = 1,   // the checksums are made right, and the file is one of the model's
  kSliding = 2,  // opened with the second model
};

}  // namespace lacake::fuzzing
