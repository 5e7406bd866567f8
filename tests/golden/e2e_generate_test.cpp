// Greedy generation from a prompt of 3,090 tokens on the real model, against the official code: every golden file with
// `generated_ids`. F32 weights and cache. Files of one prompt share an exact prefill and step together, each with its
// own policy. After the prompt a file's own tokens are fed, whatever ours would have been, so that positions stay
// comparable to the end.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <set>

#include "engine/session_state.h"
#include "golden/golden_files.h"
#include "lacake/engine.h"
#include "policies/cake/cake.h"
#include "tools/divergence.h"
#include "tools/model_files.h"

namespace lacake {
namespace {

using PositionList = std::vector<std::int64_t>;
using nlohmann::json;

constexpr int kThreads = 2;

bool is_case(const golden::Archive& file) {
  return file.architecture() == "golden" && file.has("prompt_ids") && file.has("generated_ids");
}

struct Case {
  std::string name;
  golden::Archive file;

  bool is_cake() const { return file.has_key("cake.cache_size"); }
  bool is_lacache() const { return file.has_key("lacache.cache_size"); }
  std::vector<Token> prompt() const {
    const auto ids = file.i32("prompt_ids");
    return {ids.begin(), ids.end()};
  }
  std::size_t n_generated() const { return file.i32("generated_ids").size(); }

  PolicySpec policy() const {
    PolicySpec spec = PolicySpec::parse(is_cake() ? "cake:evict_fraction=0" : is_lacache() ? "lacache" : "full");
    if (is_cake()) {
      spec.cache_size = file.size("cake.cache_size");
      for (const char* key : {"window", "gamma", "tau1", "tau2"}) {
        spec.settings[key] = file.number("cake." + std::string(key));
      }
      spec = PolicySpec::parse(spec.text() + (file.number("cake.cascading") != 0 ? ",cascade=on" : ",cascade=off"));
    } else if (is_lacache()) {
      spec.cache_size = file.size("lacache.cache_size");
      for (const char* key : {"span", "overlap"}) spec.settings[key] = file.number("lacache." + std::string(key));
      spec.settings["sinks"] = file.number("lacache.start_size");
    }
    return spec;
  }
};

// Tolerances of the golden data's README, which calls them estimates.
constexpr double kPromptLogits = 1e-2, kLaterLogits = 0.1;
constexpr double kClearMargin = 0.05;
constexpr double kClearCut = 1e-3;
constexpr double kKeptShare = 0.995;

// CAKE's decode amplifies rounding: it averages over neighbours in stored order, entries beside a dominant one have
// equal scores up to the last bit, and which of them comes first decides what is kept later. Our own engine differs
// from itself by 14 % of the entries after 63 steps if one layer's norm weights move by one unit in the last place. So
// where the estimate is missed after further steps, the bar is a twin: the same session put into the official stored
// order after the prompt. Ours may be this much farther from the official run than from its twin.
constexpr double kTwinFactor = 1.5;

// Positions of one list that the other lacks.
std::size_t n_missing(const PositionList& list, const PositionList& other) {
  const std::set<std::int64_t> have(other.begin(), other.end());
  return (std::size_t)std::count_if(list.begin(), list.end(), [&](std::int64_t p) { return !have.contains(p); });
}

// One file's session, held against the file.
class Generation {
 public:
  Generation(Engine& engine, const AttentionShape& shape, Case c) : case_(std::move(c)), shape_(shape) {
    const SessionOptions options{.policy = case_.policy(),
                                 .types = CacheTypes::parse("f32"),
                                 .prompt_tokens = case_.prompt().size(),
                                 .new_tokens = case_.n_generated()};
    session_ = engine.open(options);
    if (case_.is_cake()) twin_ = engine.open(options);
  }

  const Case& file_case() const { return case_; }
  std::vector<Session*> sessions() {
    if (twin_) return {session_.get(), twin_.get()};
    return {session_.get()};
  }

  // After the prompt (s = 0), or after the token before the s-th generated one.
  void expect_state(std::size_t s) {
    SCOPED_TRACE(case_.name);
    if (s == 0 && case_.is_cake()) {
      expect_division();
      order_twin();
    }
    expect_kept(s);
    expect_logits(s);
    expect_choice(s);
  }

  void print() const {
    std::printf("%s: %zu of %zu tokens as generated, logits within %.2g, %zu of %zu entries kept alike\n",
                case_.name.c_str(), same_choice_, case_.n_generated(), worst_logit_, same_kept_, n_kept_);
  }

 private:
  void expect_choice(std::size_t s) {
    const Token official = case_.file.i32("generated_ids")[s];
    const auto ours = (Token)likeliest(session_->logits());
    same_choice_ += ours == official;
    const bool clear = !case_.file.has("top1_margin") || case_.file.f32("top1_margin")[s] > kClearMargin;
    if (clear) {
      EXPECT_EQ(ours, official) << "generated token " << s;
    }
  }

  void expect_logits(std::size_t s) {
    const auto steps = case_.file.i32("logits.steps");
    for (std::size_t i = 0; i < steps.size(); ++i) {
      if ((std::size_t)steps[i] != s) continue;
      const std::size_t n_vocab = case_.file.row_size("logits");
      Divergence d;
      d.add(case_.file.f32("logits").subspan(i * n_vocab, n_vocab), session_->logits());
      worst_logit_ = std::max(worst_logit_, d.max_abs());
      // Other entries give other logits: then the kept sets are what is held to a bar, and the chosen token.
      if (!kept_alike_) continue;
      EXPECT_LE(d.max_abs(), s == 0 ? kPromptLogits : kLaterLogits) << "logits that choose token " << s;
    }
  }

  // CAKE: what each layer was worth and was given.
  void expect_division() {
    const auto* cake = dynamic_cast<const cake::Cake*>(&session_->policy());
    ASSERT_NE(cake, nullptr);
    for (int l = 0; l < shape_.n_layer; ++l) {
      EXPECT_NEAR(cake->preference(l) / case_.file.f32("pref")[(std::size_t)l], 1, 1e-3) << "layer " << l;
      EXPECT_NEAR((double)cake->budget(l), case_.file.i32("layer_budget")[(std::size_t)l], 1) << "layer " << l;
    }
  }

  // The state after `fed` generated tokens, where the data has it.
  void expect_kept(std::size_t fed) {
    if (case_.is_cake()) {
      const std::size_t last = case_.n_generated() - 1;
      if (fed == 0) expect_kept_in("kept");
      if (fed == 1) expect_kept_in("kept_step1");
      if (fed == 8) expect_kept_in("kept_step8");
      if (fed == last) expect_kept_in("kept_end");
    } else if (case_.is_lacache()) {
      expect_dump((std::int64_t)fed - 1);
    }
  }

  PositionList official_list(const std::string& state, int layer, int head) const {
    const std::string tensor = state + ".l" + std::to_string(layer);
    const std::size_t length = case_.file.row_size(tensor);
    const auto row = case_.file.i32(tensor).subspan((std::size_t)head * length, length);
    return {row.begin(), row.end()};
  }

  // The twin's entries in the official order; where it keeps others, as they are.
  void order_twin() {
    Cache& cache = twin_->state().cache();
    for (int l = 0; l < shape_.n_layer; ++l) {
      Selection selection;
      for (int h = 0; h < shape_.n_head_kv; ++h) {
        const PositionList held = twin_->kept(l, h), official = official_list("kept", l, h);
        std::vector<std::uint32_t>& order = selection.heads.emplace_back(held.size());
        std::iota(order.begin(), order.end(), 0u);
        if (!std::is_permutation(held.begin(), held.end(), official.begin(), official.end())) continue;
        for (std::size_t i = 0; i < held.size(); ++i) {
          order[i] = (std::uint32_t)(std::find(held.begin(), held.end(), official[i]) - held.begin());
        }
      }
      cache.compact(l, selection);
    }
  }

  void expect_kept_in(const std::string& state) {
    std::size_t official = 0, missing = 0, missing_in_twin = 0;
    for (int l = 0; l < shape_.n_layer; ++l) {
      for (int h = 0; h < shape_.n_head_kv; ++h) {
        const PositionList theirs = official_list(state, l, h), ours = session_->kept(l, h);
        const std::size_t differ = n_missing(theirs, ours);
        official += theirs.size();
        missing += differ;
        missing_in_twin += n_missing(twin_->kept(l, h), ours);
        // Budgets may be one off; then so is the set. A clear cut of the same size is the same cut.
        const bool clear = state == "kept" && ours.size() == theirs.size() &&
                           case_.file.f32("cut_gap")[(std::size_t)(l * shape_.n_head_kv + h)] > kClearCut;
        if (clear) {
          EXPECT_EQ(differ, 0u) << state << ", layer " << l << ", KV head " << h;
        }
      }
    }
    same_kept_ += official - missing;
    n_kept_ += official;
    std::printf("%s, %s: %zu of %zu entries are not the official ones, %zu not the twin's\n", case_.name.c_str(),
                state.c_str(), missing, official, missing_in_twin);
    const double estimate = (1 - kKeptShare) * (double)official;
    kept_alike_ = (double)missing <= estimate;
    const bool later = state != "kept" && state != "kept_step1";
    EXPECT_LE((double)missing, later ? std::max(estimate, kTwinFactor * (double)missing_in_twin) : estimate) << state;
  }

  // LaCache: the lists of a JSON file with the same settings, exactly. `step`: decode steps before, less one.
  void expect_dump(std::int64_t step) {
    const json* data = dumps();
    if (!data) return;
    for (const json& dump : data->at("checkpoints")) {
      if (dump.at("step").get<std::int64_t>() != step) continue;
      for (int l = 0; l < shape_.n_layer; ++l) {
        PositionList official;
        for (const json& run : dump.at("patterns")[dump.at("layer_pattern")[(std::size_t)l].get<std::size_t>()]) {
          for (std::int64_t i = 0; i < run[1].get<std::int64_t>(); ++i)
            official.push_back(run[0].get<std::int64_t>() + i);
        }
        EXPECT_EQ(session_->kept(l, 0), official) << "layer " << l << " after decode step " << step;
        n_kept_ += official.size();
        same_kept_ += official.size();
      }
    }
  }

  // The case of these settings among all JSON files' prompts.
  const json* dumps() {
    if (looked_) return dumps_ ? &*dumps_ : nullptr;
    looked_ = true;
    for (const auto& path : golden::files(".json")) {
      const json file = golden::read_json(path);
      if (!file.is_object() || !file.contains("prefill")) continue;
      for (const json& data : file.at("prefill")) {
        const bool same = data.at("layers") == shape_.n_layer && data.at("n_prompt") == case_.prompt().size() &&
                          data.at("cache_size") == case_.file.size("lacache.cache_size") &&
                          data.at("start_size") == case_.file.size("lacache.start_size") &&
                          data.at("span") == case_.file.size("lacache.span") &&
                          data.at("overlap") == case_.file.size("lacache.overlap");
        if (same) dumps_ = data;
      }
    }
    return dumps_ ? &*dumps_ : nullptr;
  }

  Case case_;
  AttentionShape shape_;
  std::unique_ptr<Session> session_, twin_;
  bool kept_alike_ = true;  // in the last state that was compared
  bool looked_ = false;
  std::optional<json> dumps_;
  std::size_t same_choice_ = 0, same_kept_ = 0, n_kept_ = 0;
  double worst_logit_ = 0;
};

// The files of the folder, those with the same prompt together.
std::map<std::vector<Token>, std::vector<Case>> cases_by_prompt() {
  std::map<std::vector<Token>, std::vector<Case>> cases;
  for (const auto& path : golden::files(".gguf")) {
    golden::Archive file(path);
    if (!is_case(file)) continue;
    Case c{path.filename().string(), std::move(file)};
    cases[c.prompt()].push_back(std::move(c));
  }
  return cases;
}

TEST(EndToEndGeneration, ChoosesKeepsAndPredictsAsTheOfficialCode) {
  auto cases = cases_by_prompt();
  ASSERT_FALSE(cases.empty()) << "no file with generated_ids in " << golden::folder();
  const Model model(f32_model());
  Engine engine(model, {.threads = kThreads});
  for (auto& [prompt, files] : cases) {
    std::vector<std::unique_ptr<Generation>> generations;
    std::vector<Session*> sessions;
    std::size_t n_generated = 0;
    for (Case& c : files) {
      n_generated = std::max(n_generated, c.n_generated());
      generations.push_back(std::make_unique<Generation>(engine, model.facts().attention, std::move(c)));
      for (Session* session : generations.back()->sessions()) sessions.push_back(session);
    }
    engine.prefill(sessions, prompt);
    for (const auto& g : generations) g->expect_state(0);
    for (std::size_t s = 1; s < n_generated; ++s) {
      std::vector<Engine::Next> batch;
      for (const auto& g : generations) {
        if (s >= g->file_case().n_generated()) continue;
        for (Session* session : g->sessions()) {
          batch.push_back({session, g->file_case().file.i32("generated_ids")[s - 1]});
        }
      }
      engine.step(batch);
      for (const auto& g : generations) {
        if (s < g->file_case().n_generated()) g->expect_state(s);
      }
    }
    for (const auto& g : generations) g->print();
  }
}

}  // namespace
}  // namespace lacake
