#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/synthetic.h"
#include "lacake/engine.h"
#include "terminal.h"

namespace lacake::cli {

// One combination of policy, budget and depth, and what is timed there.
struct BenchCase {
  SessionOptions session;
  std::size_t depth = 0;   // tokens before those that are timed
  bool synthetic = false;  // they are made up, not read
  std::size_t n_prompt = 0;
  std::size_t n_gen = 0;
  std::size_t repetitions = 1;
};

// What repetitions came to.
struct Spread {
  std::vector<double> values;

  bool empty() const { return values.empty(); }
  double median() const;
  double min() const;
  double max() const;
};

// A part of a streaming prefill.
struct PrefillPart {
  std::size_t from = 0;
  std::size_t to = 0;
  double ms_per_token = 0;
};

struct BenchResult {
  BenchCase what;
  SessionPlan plan;
  CacheUse use;                    // when the last token was timed
  Spread prefill_ms;               // a token
  Spread decode_ms;                // a token
  Spread prefill_policy_ms;        // of it, the policy: a token
  Spread decode_policy_ms;         // likewise
  double slowest_token_ms = 0;     // of those one by one
  std::vector<PrefillPart> parts;  // of the last repetition, 8,192 tokens each; streaming prefill only
  Spread fill_ms;                  // the whole depth
  std::uint64_t peak_bytes = 0;    // resident memory, the most while this was measured
  std::uint64_t sample_bytes = 0;  // of which is not the program's but this benchmark's: what entries are drawn from
};

// Measures cases with one engine.
class Bench {
 public:
  // text: tokens of a real text, which prompts repeat.
  Bench(const Model& model, Engine& engine, std::vector<Token> text, const Terminal& terminal, bool quiet);

  // The work that only the first prompt and the first token have: pages of weights, buffers. And where `synthetic`, the
  // short prompt that entries are drawn from. False at Ctrl-C.
  bool prepare(std::size_t n_prompt, bool synthetic);

  // Nothing at Ctrl-C. REQUIRES: prepare() before a case that is synthetic.
  std::optional<BenchResult> measure(const BenchCase& what);

 private:
  bool fill(Session& session, const BenchCase& what, BenchResult& result);
  bool prefill(Session& session, const BenchCase& what, BenchResult& result);
  void warm_up();
  bool decode(Session& session, const BenchCase& what, BenchResult& result);
  bool feed(Session& session, std::size_t n, const std::string& label,
            const std::function<void(std::size_t)>& on_progress = {});
  std::vector<Token> tokens(std::size_t from, std::size_t n) const;

  const Model& model_;
  Engine& engine_;
  std::vector<Token> text_;
  const Terminal& terminal_;
  bool quiet_;
  std::optional<EntrySample> sample_;
};

}  // namespace lacake::cli
