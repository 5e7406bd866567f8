#include "eval/perplexity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "base/stopwatch.h"
#include "eval/distribution.h"
#include "lacake/error.h"
#include "lacake/generation.h"

namespace lacake::eval {
namespace {

// One stretch of text that is scored on its own.
struct Stretch {
  std::string name;
  std::vector<Token> tokens;  // those fed, then the last one to be scored
  std::size_t first = 1;      // index of the first scored token
};

// What a cell's tokens came to so far.
struct Score {
  std::vector<float> nll;
  double sum = 0;
  double kl = 0;
  std::size_t same = 0;
  std::size_t compared = 0;

  void add(const Distribution& own, Token next, const Distribution* truth) {
    const double surprise = own.surprise(next);
    nll.push_back((float)surprise);
    sum += surprise;
    if (!truth) return;
    kl += truth == &own ? 0 : divergence(*truth, own);
    same += truth->likeliest == own.likeliest;
    ++compared;
  }

  nlohmann::json record(const std::string& sample, const std::string& cell, std::size_t first) const {
    nlohmann::json values = nlohmann::json::array();
    for (const float x : nll) values.push_back(std::round((double)x * 1e4) / 1e4);
    nlohmann::json json = {{"sample", sample}, {"cell", cell}, {"first", first}, {"sum", sum}, {"nll", values}};
    if (compared > 0) {
      json["kl"] = kl / (double)compared;
      json["same"] = (double)same / (double)compared;
    }
    return json;
  }
};

std::vector<Stretch> stretches(const Model& model, const std::vector<Text>& texts, const PerplexityOptions& options) {
  const auto length = (std::size_t)model.facts().training_length;
  std::vector<Stretch> all;
  for (const Text& text : texts) {
    if (options.chunk == 0) {
      // N + 1 scored tokens need N + 2; the last is not fed.
      std::size_t n = std::min(text.tokens.size(), options.tokens > 0 ? options.tokens + 2 : length + 1);
      if (options.tokens > 0 && n < options.tokens + 2) {
        throw Error({.subject = text.name,
                     .expected = fmt::format("{} tokens or more for `tokens` {}", options.tokens + 2, options.tokens),
                     .found = fmt::format("{}", n)});
      }
      if (n < 2) {
        throw Error({.subject = text.name, .expected = "at least 2 tokens", .found = fmt::format("{}", n)});
      }
      all.push_back({text.name, {text.tokens.begin(), text.tokens.begin() + (std::ptrdiff_t)n}});
      continue;
    }
    const std::size_t n_chunks = text.tokens.size() / options.chunk;
    if (n_chunks == 0) {
      throw Error({.subject = text.name,
                   .expected = fmt::format("at least one chunk of {} tokens", options.chunk),
                   .found = fmt::format("{} tokens", text.tokens.size())});
    }
    for (std::size_t i = 0; i < n_chunks && (options.limit == 0 || all.size() < options.limit); ++i) {
      const auto begin = text.tokens.begin() + (std::ptrdiff_t)(i * options.chunk);
      Stretch stretch{
          fmt::format("{}#{}", text.name, i), {begin, begin + (std::ptrdiff_t)options.chunk}, options.chunk / 2 + 1};
      if (const auto begin_token = model.text_begin()) stretch.tokens[0] = *begin_token;
      all.push_back(std::move(stretch));
    }
  }
  return all;
}

class Run {
 public:
  Run(const Model& model, Engine& engine, const std::vector<Configuration>& grid, const PerplexityOptions& options,
      const RunControl& watch, Results& results)
      : model_(model), engine_(engine), grid_(grid), options_(options), watch_(watch), results_(results) {
    for (const nlohmann::json& record : results.records()) {
      done_.emplace(record.at("sample").get<std::string>(), record.at("cell").get<std::string>());
    }
    for (std::size_t i = 0; i < grid.size() && !reference_; ++i) {
      if (grid[i].full()) reference_ = i;
    }
  }

  bool all(const std::vector<Stretch>& stretches) {
    choose_cells(stretches);
    for (const Stretch& s : stretches) total_ += work(missing(s).size(), s);
    for (const Stretch& s : stretches) {
      if (!one(s)) return false;
    }
    return true;
  }

 private:
  SessionOptions session(std::size_t cell, const Stretch& s) const {
    const std::size_t fed = s.tokens.size() - 1, prompt = options_.chunk > 0 ? s.first : 0;
    SessionOptions o = cell_session(grid_[cell], options_.cells, prompt, fed - prompt, fed);
    // A chunk read at once.
    if (at_once(cell)) o.prompt_tokens = fed, o.new_tokens = 0, o.prefill = PrefillMode::kExact;
    return o;
  }
  bool at_once(std::size_t cell) const { return options_.chunk > 0 && grid_[cell].full(); }

  // Those that can run on the longest stretch, which may be longer than the model was trained for, and on the shortest,
  // of which a share may be less than a policy works with, can run on all.
  void choose_cells(const std::vector<Stretch>& stretches) {
    const auto [shortest, longest] =
        std::minmax_element(stretches.begin(), stretches.end(),
                            [](const auto& a, const auto& b) { return a.tokens.size() < b.tokens.size(); });
    std::string reasons;
    for (std::size_t i = 0; i < grid_.size(); ++i) {
      try {
        SessionOptions asked = session(i, *longest);
        const std::uint64_t bytes = engine_.plan(asked).budget_bytes;
        engine_.open(asked)->require_room(0, longest->tokens.size() - 1);
        (void)engine_.plan(session(i, *shortest));
        // Token by token nothing is read that could be repeated.
        if (options_.chunk == 0) asked.prefill = PrefillMode::kStreaming;
        require_exact_for_repeat(asked, model_.facts().policy_attention());
        bytes_.push_back(bytes);
        cells_.push_back(i);
      } catch (const Error& error) {
        bytes_.push_back(0);
        const std::string line = fmt::format("{} cannot run: {}", grid_[i].name(), watch_.words(error));
        watch_.notice(line);
        reasons += (reasons.empty() ? "" : "; ") + line;
      }
    }
    if (cells_.empty()) throw Error({.kind = Error::Kind::kUsage, .found = reasons});
    if (reference_ && std::find(cells_.begin(), cells_.end(), *reference_) == cells_.end()) reference_.reset();
  }

  std::vector<std::size_t> missing(const Stretch& s) const {
    std::vector<std::size_t> cells;
    for (const std::size_t cell : cells_) {
      if (!done_.contains({s.name, grid_[cell].name()})) cells.push_back(cell);
    }
    return cells;
  }
  static std::size_t work(std::size_t n_cells, const Stretch& s) { return n_cells * s.tokens.size(); }

  bool one(const Stretch& s) {
    const std::vector<std::size_t> cells = missing(s);
    if (cells.empty()) return true;
    truth_.clear();
    if (options_.chunk > 0) {
      // The reference's logits of one chunk are kept, so it runs once for all groups.
      std::vector<std::size_t> rest;
      for (const std::size_t cell : cells) {
        if (!at_once(cell)) rest.push_back(cell);
      }
      for (std::size_t cell = 0; cell < grid_.size(); ++cell) {
        const bool wanted = std::find(cells.begin(), cells.end(), cell) != cells.end();
        if (at_once(cell) && (wanted || (reference_ == cell && !rest.empty())) && !read_at_once(s, cell, wanted)) {
          return false;
        }
      }
      for (const auto& group : passes(bytes_, rest, nullptr, options_.most_cache_bytes)) {
        if (!step_together(s, group)) return false;
      }
      return true;
    }
    for (const auto& group : passes(bytes_, cells, reference_ ? &*reference_ : nullptr, options_.most_cache_bytes)) {
      if (!step_together(s, group)) return false;
    }
    return true;
  }

  bool read_at_once(const Stretch& s, std::size_t cell, bool wanted) {
    const auto session = engine_.open(this->session(cell, s));
    Score score;
    const bool keep = reference_ == cell && cells_.size() > 1;
    PrefillOptions hooks;
    hooks.progress = [&](std::size_t done, std::size_t) { return tell(done); };
    hooks.all_logits = [&](std::size_t index, std::span<const float> logits) {
      if (index + 1 < s.first) return;
      const Distribution own(logits);
      score.add(own, s.tokens[index + 1], reference_ == cell ? &own : nullptr);
      if (keep) truth_.emplace_back(logits.begin(), logits.end());
    };
    const Stopwatch clock;
    if (!session->prefill(std::span(s.tokens).first(s.tokens.size() - 1), hooks)) return false;
    const double seconds = clock.seconds();
    if (wanted) {
      nlohmann::json record = score.record(s.name, grid_[cell].name(), s.first);
      record["kv"] = cache_use_json(session->use());
      record["prefill_tokens_per_s"] = (double)(s.tokens.size() - 1) / seconds;
      finish(s, cell, record);
    }
    return true;
  }

  bool step_together(const Stretch& s, const std::vector<std::size_t>& group) {
    std::vector<std::unique_ptr<Session>> sessions;
    std::vector<Session*> open;
    for (const std::size_t cell : group) {
      sessions.push_back(engine_.open(session(cell, s)));
      open.push_back(sessions.back().get());
    }
    const std::size_t fed = s.tokens.size() - 1, prompt = options_.chunk > 0 ? s.first : 0;
    double prefill_s = 0;
    if (prompt > 0) {
      PrefillOptions hooks;
      hooks.progress = [&](std::size_t done, std::size_t total) {
        return tell(done * prompt / std::max<std::size_t>(total, 1) * group.size());
      };
      const Stopwatch clock;
      if (!prefill(open, std::span(s.tokens).first(prompt), hooks)) return false;
      prefill_s = clock.seconds();
    }
    std::vector<Score> scores(group.size());
    std::vector<Engine::Next> batch(group.size());
    const Stopwatch clock;
    for (std::size_t t = std::max<std::size_t>(prompt, 1) - 1; t < fed; ++t) {
      if (prompt == 0 || t >= prompt) {
        for (std::size_t i = 0; i < open.size(); ++i) batch[i] = {open[i], s.tokens[t]};
        engine_.step(batch);
      }
      if (!tell(t * group.size())) return false;
      std::optional<Distribution> truth;
      if (!truth_.empty()) truth.emplace(truth_[t + 1 - s.first]);
      for (std::size_t i = 0; i < open.size(); ++i) {
        const Distribution own(open[i]->logits());
        if (reference_ == group[i]) truth = own;
        scores[i].add(own, s.tokens[t + 1], truth ? &*truth : nullptr);
      }
    }
    const double step_s = clock.seconds() / (double)(fed - prompt);
    for (std::size_t i = 0; i < group.size(); ++i) {
      if (done_.contains({s.name, grid_[group[i]].name()})) continue;
      nlohmann::json record = scores[i].record(s.name, grid_[group[i]].name(), s.first);
      record["kv"] = cache_use_json(open[i]->use());
      record["step_ms"] = 1e3 * step_s;
      record["together"] = group.size();
      if (prompt > 0) record["prefill_tokens_per_s"] = (double)prompt / prefill_s;
      finish(s, group[i], record);
    }
    return true;
  }

  bool prefill(std::span<Session* const> sessions, std::span<const Token> tokens, const PrefillOptions& hooks) {
    if (options_.cells.prefill == PrefillMode::kExact) {
      PrefillOptions with_repeat = hooks;
      with_repeat.probes = repeat_probes(model_, sessions, tokens, {.first = 0, .last = tokens.size(), .chat = false});
      return engine_.prefill(sessions, tokens, with_repeat);
    }
    for (Session* session : sessions) {
      if (!session->prefill(tokens, hooks)) return false;
    }
    return true;
  }

  bool tell(std::size_t done_here) {
    return watch_.progress(finished_ + done_here, std::max(total_, finished_ + done_here));
  }

  void finish(const Stretch& s, std::size_t cell, const nlohmann::json& record) {
    results_.add(record);
    done_.insert({s.name, grid_[cell].name()});
    finished_ += work(1, s);
  }

  const Model& model_;
  Engine& engine_;
  const std::vector<Configuration>& grid_;
  const PerplexityOptions& options_;
  const RunControl& watch_;
  Results& results_;
  std::optional<std::size_t> reference_;
  std::vector<std::size_t> cells_;         // that can run
  std::vector<std::uint64_t> bytes_;       // of each cell's cache
  std::vector<std::vector<float>> truth_;  // the reference's logits of the scored tokens of this chunk
  std::set<std::pair<std::string, std::string>> done_;
  std::size_t finished_ = 0, total_ = 0;
};

}  // namespace

bool run_perplexity(const Model& model, Engine& engine, const std::vector<Configuration>& grid,
                    const std::vector<Text>& texts, const PerplexityOptions& options, const RunControl& watch,
                    Results& results) {
  return Run(model, engine, grid, options, watch, results).all(stretches(model, texts, options));
}

}  // namespace lacake::eval
