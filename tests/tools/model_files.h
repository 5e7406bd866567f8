#pragma once

#include <string>

#include "tools/paths.h"

namespace lacake {

// SmolLM2-135M-Instruct as it comes, Q4_1, and the same weights in F32, made by the fixture f32_model.
inline std::string quantised_model() { return LACAKE_TEST_MODEL; }
inline std::string f32_model() { return LACAKE_TEST_MODEL_F32; }

// The ids of every wikitext2 file are the first tokens of one text; this one has the most.
inline std::string wikitext_file() { return default_golden_dir() + "/e2e_ppl_wikitext2_full.gguf"; }
// The ids of an item of LongBench's multi_news in the chat template.
inline std::string multinews_file() { return default_golden_dir() + "/e2e_full_multinews.gguf"; }

}  // namespace lacake
