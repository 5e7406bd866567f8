#pragma once

// What tests of the engine share: tiny models opened, options in a line, logits compared.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "lacake/engine.h"
#include "lacake/error.h"
#include "models/tiny_calibration.h"
#include "models/tiny_model.h"

namespace lacake {

using models::ModelFile;
using models::random_tokens;
using models::TinyModel;

using Tokens = std::vector<Token>;
using Logits = std::vector<float>;

// Two sizes: with room for quantised rows, and as small as policies need.
inline TinyModel wide() {
  return {.n_layer = 3, .n_embd = 64, .n_head = 4, .n_head_kv = 2, .d_k = 32, .d_v = 32, .n_ff = 64};
}
inline TinyModel small() {
  return {.n_layer = 4, .n_embd = 16, .n_head = 4, .n_head_kv = 2, .d_k = 8, .d_v = 8, .n_ff = 16};
}

// With learned scores, so that every policy runs.
struct Loaded {
  explicit Loaded(const TinyModel& t, int threads = 1, const std::string& product = "auto")
      : tiny(t),
        file(tiny),
        calibration(file.path()),
        model(file.path(), {.product = product, .calibration = calibration.path()}),
        engine(model, {.threads = threads}) {}
  TinyModel tiny;
  ModelFile file;
  models::TinyCalibration calibration;
  Model model;
  Engine engine;
};

inline SessionOptions with(const std::string& policy, const std::string& budget = "", const std::string& types = "f32",
                           PrefillMode mode = PrefillMode::kExact, std::size_t prompt = 0, std::size_t answer = 100) {
  return {.policy = PolicySpec::parse(policy),
          .budget = budget.empty() ? Budget{} : Budget::parse(budget),
          .types = CacheTypes::parse(types),
          .prefill = mode,
          .prompt_tokens = prompt,
          .new_tokens = answer};
}

inline Logits logits_of(const Session& s) { return {s.logits().begin(), s.logits().end()}; }

// [n_vocab, n] of every token: the first `n_prompt` as a prompt, the others one by one.
inline Logits all_logits(Engine& engine, std::span<const Token> tokens, std::size_t n_prompt,
                         const SessionOptions& options) {
  const auto session = engine.open(options);
  Logits all;
  const auto add = [&](std::span<const float> row) { all.insert(all.end(), row.begin(), row.end()); };
  if (n_prompt > 0) {
    session->prefill(tokens.first(n_prompt),
                     {.all_logits = [&](std::size_t, std::span<const float> row) { add(row); }});
  }
  for (const Token token : tokens.subspan(n_prompt)) {
    session->step(token);
    add(session->logits());
  }
  return all;
}

// Bit for bit; -0 is not 0.
inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && !a.empty() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

inline float distance(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size() || a.empty()) return INFINITY;
  float most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    most = std::isfinite(a[i]) && std::isfinite(b[i]) ? std::max(most, std::abs(a[i] - b[i])) : INFINITY;
  }
  return most;
}

// The Error's message, its kind checked; "" if none was thrown.
inline std::string refusal(Error::Kind kind, const std::function<void()>& call) {
  try {
    call();
    return "";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), kind) << e.what();
    return e.what();
  }
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace lacake
