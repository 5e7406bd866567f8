#include "eval/answers.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "base/stopwatch.h"
#include "eval/distribution.h"
#include "lacake/error.h"
#include "lacake/generation.h"
#include "lacake/policy_author.h"

namespace lacake::eval {
namespace {

constexpr std::size_t kTimedTokens = 4;  // after an answer, for decode_ms

struct Prompt {
  std::vector<Token> context;  // with the question where it is seen
  PromptText text;             // of that
  bool chat = false;           // a template wrote around it
  std::vector<Token> question;
  std::size_t size() const { return context.size() + question.size(); }
};

// What one cell makes of one sample.
struct Column {
  std::size_t cell;
  std::unique_ptr<Session> session;
  std::vector<Token> answer = {};
  std::string text = {};  // of the answer
  bool ended = false;
  double kl = 0;
  std::size_t compared = 0;
  std::size_t equal = 0;  // tokens before the first that differs
  bool agrees = true;     // so far
};

// The full cache's answer to the sample at hand, token by token.
struct ReferenceAnswer {
  std::vector<std::vector<float>> logits;
  std::vector<Token> tokens;  // the ending one included
};

class Run {
 public:
  Run(const Model& model, Engine& engine, const std::vector<Configuration>& grid, const AnswerOptions& options,
      const RunControl& watch, Results& results)
      : model_(model), engine_(engine), grid_(grid), options_(options), watch_(watch), results_(results) {
    for (const nlohmann::json& record : results.records()) {
      done_.emplace(record.at("sample").get<std::string>(), record.at("cell").get<std::string>());
      if (record.contains("decode_ms")) timed_.emplace(record.at("cell").get<std::string>(), length(record.at("tags")));
    }
    for (std::size_t i = 0; i < grid.size() && !reference_; ++i) {
      if (grid[i].full()) reference_ = i;
    }
  }

  bool all(const std::vector<Sample>& samples) {
    // Tokens are counted before anything runs, so that the time left means something.
    std::vector<std::size_t> sizes;
    for (const Sample& sample : samples) {
      sizes.push_back(missing(sample).empty() ? 0 : prompt(sample).size() + sample.most_new);
      total_ += sizes.back();
    }
    for (std::size_t i = 0; i < samples.size(); ++i) {
      if (sizes[i] == 0) continue;
      if (!one(samples[i], sizes[i])) return false;
      finished_ += sizes[i];
    }
    return true;
  }

 private:
  static std::string length(const nlohmann::json& tags) { return tags.contains("length") ? tags["length"].dump() : ""; }

  Prompt prompt(const Sample& sample) const {
    const PromptText text = prompt_text(sample);
    const bool seen = options_.question == Question::kSeen;
    const std::size_t cut = seen ? text.text.size() : sample.context.size();
    const bool chat = sample.template_before + sample.template_after > 0;
    Prompt prompt{.context = model_.tokenize(text.first(cut), true), .text = text.first(cut), .chat = chat};
    if (!seen) prompt.question = model_.tokenize(text.from(cut), false);
    return prompt;
  }

  std::vector<std::size_t> missing(const Sample& sample) const {
    std::vector<std::size_t> cells;
    for (std::size_t i = 0; i < grid_.size(); ++i) {
      if (!done_.contains({sample.id, grid_[i].name()})) cells.push_back(i);
    }
    return cells;
  }

  SessionOptions session(std::size_t cell, const Prompt& prompt, std::size_t most_new) const {
    return cell_session(grid_[cell], options_.cells, prompt.context.size(),
                        prompt.question.size() + most_new + kTimedTokens, prompt.size());
  }

  // Cache bytes of the cells that can run this prompt; 0 for the others.
  std::vector<std::uint64_t> cache_bytes(const Prompt& prompt, std::size_t most_new) {
    std::vector<std::uint64_t> bytes(grid_.size(), 0);
    for (std::size_t i = 0; i < grid_.size(); ++i) {
      try {
        const SessionOptions options = session(i, prompt, most_new);
        require_exact_for_repeat(options, model_.facts().policy_attention());
        const SessionPlan plan = engine_.plan(options);
        bytes[i] = plan.memory.cache + plan.memory.policy_metadata;
      } catch (const Error& error) {
        const std::string line =
            fmt::format("{} left out at {} tokens: {}", grid_[i].name(), prompt.size(), watch_.words(error));
        if (noticed_.insert(grid_[i].name()).second) watch_.notice(line);
      }
    }
    return bytes;
  }

  bool one(const Sample& sample, std::size_t size) {
    const Prompt tokens = prompt(sample);
    const std::vector<std::uint64_t> bytes = cache_bytes(tokens, sample.most_new);
    std::vector<std::size_t> cells;
    for (const std::size_t cell : missing(sample)) {
      if (bytes[cell] > 0) cells.push_back(cell);
    }
    if (cells.empty()) return true;
    truth_ = {};
    // The reference comes first, once: its answer is kept for the cells of later passes.
    const bool compared = reference_ && bytes[*reference_] > 0;
    if (compared) {
      std::erase(cells, *reference_);
      cells.insert(cells.begin(), *reference_);
    }
    const auto groups = passes(bytes, cells, nullptr, options_.most_cache_bytes);
    for (std::size_t g = 0; g < groups.size(); ++g) {
      const auto progress = [&](double share) {
        const double passed = ((double)g + share) / (double)groups.size();
        return watch_.progress(finished_ + (std::size_t)((double)size * passed), total_);
      };
      if (!pass(sample, tokens, groups[g], groups.size(), progress)) return false;
    }
    return true;
  }

  bool pass(const Sample& sample, const Prompt& prompt, const std::vector<std::size_t>& cells, std::size_t n_passes,
            const std::function<bool(double)>& progress) {
    std::vector<Column> columns;
    for (const std::size_t cell : cells) {
      columns.push_back({.cell = cell, .session = engine_.open(session(cell, prompt, sample.most_new))});
    }
    const Stopwatch clock;
    if (!read(columns, prompt, progress)) return false;
    const double prefill_ms = clock.ms();
    if (!decode(columns, sample, progress)) return false;
    for (Column& column : columns) {
      if (done_.contains({sample.id, grid_[column.cell].name()})) continue;
      nlohmann::json json = record(sample, prompt, column);
      json["pass"] = {{"cells", columns.size()}, {"prefill_ms", prefill_ms}, {"passes", n_passes}};
      if (timed_.insert({grid_[column.cell].name(), length(sample.tags)}).second) json["decode_ms"] = decode_ms(column);
      results_.add(json);
      done_.insert({sample.id, grid_[column.cell].name()});
    }
    return true;
  }

  // Sessions that can watch one pass: those whose policies want the text repeated in chunks of one size, and with the
  // first of them all that want no repeat, to whom it changes nothing.
  static std::vector<std::vector<Session*>> by_repeat(const std::vector<Column>& columns) {
    std::map<std::size_t, std::vector<Session*>> by_chunk;
    for (const Column& column : columns) {
      by_chunk[column.session->policy().traits().repeat_chunk].push_back(column.session.get());
    }
    std::vector<std::vector<Session*>> groups;
    for (auto& [chunk, sessions] : by_chunk) groups.push_back(std::move(sessions));
    if (groups.size() < 2 || by_chunk.begin()->first > 0) return groups;
    groups[1].insert(groups[1].begin(), groups[0].begin(), groups[0].end());
    groups.erase(groups.begin());
    return groups;
  }

  bool read(std::vector<Column>& columns, const Prompt& prompt, const std::function<bool(double)>& progress) {
    PrefillOptions hooks;
    hooks.more_follows = !prompt.question.empty();
    hooks.progress = [&](std::size_t done, std::size_t total) { return progress(0.9 * (double)done / (double)total); };
    if (options_.cells.prefill == PrefillMode::kExact) {
      const std::vector<std::vector<Session*>> groups = by_repeat(columns);
      for (std::size_t i = 0; i < groups.size(); ++i) {
        hooks.probes = repeat_probes(model_, groups[i], prompt.context, prompt.text, prompt.chat);
        hooks.progress = [&, i](std::size_t done, std::size_t total) {
          return progress(0.9 * ((double)i + (double)done / (double)total) / (double)groups.size());
        };
        if (!engine_.prefill(groups[i], prompt.context, hooks)) return false;
      }
    } else {
      for (const Column& column : columns) {
        if (!column.session->prefill(prompt.context, hooks)) return false;
      }
    }
    for (const Column& column : columns) {
      if (prompt.question.empty()) break;
      if (!progress(0.9) || !column.session->prefill(prompt.question)) return false;
    }
    return true;
  }

  bool decode(std::vector<Column>& columns, const Sample& sample, const std::function<bool(double)>& progress) {
    const std::size_t most_new = sample.most_new;
    // Until the first eviction is looked through, an exact prefill's logits are the full cache's.
    const bool first_is_full = options_.question == Question::kSeen && options_.cells.prefill == PrefillMode::kExact;
    for (std::size_t t = 0; t < most_new; ++t) {
      std::vector<Engine::Next> batch;
      for (Column& column : columns) {
        if (column.ended) continue;
        const Distribution own(column.session->logits());
        if (reference_ == column.cell) {
          if (truth_.tokens.size() == t) {
            truth_.logits.emplace_back(own.logits.begin(), own.logits.end());
            truth_.tokens.push_back(own.likeliest);
          }
        }
        if (column.agrees && t < truth_.tokens.size()) {
          if (t > 0 || !first_is_full) {
            column.kl += reference_ == column.cell ? 0 : divergence(Distribution(truth_.logits[t]), own);
            ++column.compared;
          }
          column.agrees = own.likeliest == truth_.tokens[t];
          column.equal += column.agrees;
        }
        column.ended = model_.is_end(own.likeliest);
        if (column.ended) continue;
        column.answer.push_back(own.likeliest);
        column.text += model_.piece(own.likeliest);
        column.ended = sample.one_line && has_line(column.text);
        if (t + 1 < most_new && !column.ended) batch.push_back({column.session.get(), own.likeliest});
      }
      if (batch.empty()) break;
      engine_.step(batch);
      if (!progress(0.9 + 0.1 * (double)(t + 1) / (double)most_new)) return false;
    }
    return true;
  }

  nlohmann::json record(const Sample& sample, const Prompt& prompt, const Column& column) const {
    nlohmann::json json = {{"sample", sample.id},
                           {"cell", grid_[column.cell].name()},
                           {"tags", sample.tags},
                           {"answer", column.text},
                           {"references", sample.references},
                           {"score", sample.score(column.text)},
                           {"tokens", {{"prompt", prompt.size()}, {"new", column.answer.size()}}},
                           {"kv", cache_use_json(column.session->use())}};
    if (!truth_.tokens.empty()) {
      if (column.compared > 0) json["kl"] = column.kl / (double)column.compared;
      json["same"] = (double)column.equal / (double)truth_.tokens.size();
    }
    return json;
  }

  double decode_ms(Column& column) const {
    const Token token = column.answer.empty() ? 0 : column.answer.back();
    column.session->step(token);
    const Stopwatch clock;
    for (std::size_t i = 1; i < kTimedTokens; ++i) column.session->step(token);
    return clock.ms() / (double)(kTimedTokens - 1);
  }

  const Model& model_;
  Engine& engine_;
  const std::vector<Configuration>& grid_;
  const AnswerOptions& options_;
  const RunControl& watch_;
  Results& results_;
  std::optional<std::size_t> reference_;
  ReferenceAnswer truth_;
  std::set<std::pair<std::string, std::string>> done_, timed_;
  std::set<std::string> noticed_;
  std::size_t finished_ = 0, total_ = 0;
};

}  // namespace

PromptText prompt_text(const Sample& sample) {
  PromptText prompt = {sample.context + sample.question, {}};
  const std::size_t end = prompt.text.size() - sample.template_after;
  if (sample.template_before < end) prompt.letters.push_back({sample.template_before, end});
  return prompt;
}

bool has_line(std::string_view text) {
  const std::size_t begin = text.find_first_not_of('\n');
  return begin != std::string_view::npos && text.find('\n', begin) != std::string_view::npos;
}

bool run_answers(const Model& model, Engine& engine, const std::vector<Configuration>& grid,
                 const std::vector<Sample>& samples, const AnswerOptions& options, const RunControl& watch,
                 Results& results) {
  return Run(model, engine, grid, options, watch, results).all(samples);
}

}  // namespace lacake::eval
