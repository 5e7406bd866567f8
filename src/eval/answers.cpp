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

// A text and all that is asked about it: one sample, or several that come later than it.
struct Asked {
  std::span<const Sample> samples;
  std::vector<Prompt> prompts;  // of each; they have the context in common
  std::size_t longest = 0;      // tokens of a question
  std::size_t most_new = 0;
  bool several() const { return samples.size() > 1; }
  const std::vector<Token>& context() const { return prompts.front().context; }
};

// What one cell makes of one sample.
struct Column {
  std::size_t cell;
  std::unique_ptr<Session> session;
  std::unique_ptr<SessionCheckpoint> read = {};  // the text, before a question of several
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
    if (samples.empty()) throw Error({.subject = "samples", .expected = "one or more", .found = "none"});
    // Tokens are counted before anything runs, so that the time left means something.
    const std::vector<std::span<const Sample>> texts = by_text(samples);
    std::vector<std::size_t> sizes;
    for (const std::span<const Sample> text : texts) {
      const bool some = std::ranges::any_of(text, [&](const Sample& sample) { return !missing(sample).empty(); });
      sizes.push_back(some ? work(asked(text)) : 0);
      total_ += sizes.back();
    }
    for (std::size_t i = 0; i < texts.size(); ++i) {
      if (sizes[i] == 0) continue;
      if (!one(asked(texts[i]), sizes[i])) return false;
      finished_ += sizes[i];
    }
    const auto has_some = [&](const Sample& sample) { return missing(sample).size() < grid_.size(); };
    if (std::ranges::none_of(samples, has_some)) throw Error({.kind = Error::Kind::kUsage, .found = left_out_});
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

  // Samples that are answered from one reading of their text.
  std::vector<std::span<const Sample>> by_text(std::span<const Sample> samples) const {
    std::vector<std::span<const Sample>> texts;
    for (std::size_t i = 0; i < samples.size();) {
      std::size_t n = 1;
      if (options_.question == Question::kLater && !samples[i].text.empty()) {
        while (i + n < samples.size() && samples[i + n].text == samples[i].text) ++n;
      }
      texts.push_back(samples.subspan(i, n));
      i += n;
    }
    return texts;
  }

  Asked asked(std::span<const Sample> samples) const {
    Asked all{.samples = samples};
    for (const Sample& sample : samples) {
      all.prompts.push_back(prompt(sample));
      all.longest = std::max(all.longest, all.prompts.back().question.size());
      all.most_new = std::max(all.most_new, sample.most_new);
    }
    return all;
  }

  static std::size_t work(const Asked& text) {
    std::size_t n = text.context().size();
    for (std::size_t q = 0; q < text.samples.size(); ++q) {
      n += text.prompts[q].question.size() + text.samples[q].most_new;
    }
    return n;
  }

  std::vector<std::size_t> missing(const Sample& sample) const {
    std::vector<std::size_t> cells;
    for (std::size_t i = 0; i < grid_.size(); ++i) {
      if (!done_.contains({sample.id, grid_[i].name()})) cells.push_back(i);
    }
    return cells;
  }

  // The same for every question of a text, whichever of them are still missing.
  SessionOptions session(std::size_t cell, const Asked& text) const {
    return cell_session(grid_[cell], options_.cells, text.context().size(), text.longest + text.most_new + kTimedTokens,
                        text.context().size() + text.longest);
  }

  // Cache bytes of the cells that can run this text; 0 for the others.
  std::vector<std::uint64_t> cache_bytes(const Asked& text) {
    std::vector<std::uint64_t> bytes(grid_.size(), 0);
    for (std::size_t i = 0; i < grid_.size(); ++i) {
      try {
        const SessionOptions options = session(i, text);
        require_exact_for_repeat(options, model_.facts().policy_attention());
        const SessionPlan plan = engine_.plan(options);
        // The last token of an answer is not fed.
        engine_.open(options)->require_room(text.context().size(), text.longest + text.most_new - 1);
        const bool copied = text.several() && !grid_[i].full();  // by its checkpoint
        bytes[i] = (plan.memory.cache + plan.memory.policy_metadata) * (copied ? 2 : 1);
      } catch (const Error& error) {
        const std::string line = fmt::format("{} left out at {} tokens: {}", grid_[i].name(),
                                             text.context().size() + text.longest, watch_.words(error));
        if (!noticed_.insert({grid_[i].name(), length(text.samples.front().tags)}).second) continue;
        watch_.notice(line);
        left_out_ += (left_out_.empty() ? "" : "; ") + line;
      }
    }
    return bytes;
  }

  bool one(const Asked& text, std::size_t size) {
    const std::vector<std::uint64_t> bytes = cache_bytes(text);
    std::vector<std::size_t> cells;
    for (std::size_t cell = 0; cell < grid_.size(); ++cell) {
      const bool some = std::ranges::any_of(text.samples, [&](const Sample& sample) {
        return !done_.contains({sample.id, grid_[cell].name()});
      });
      if (some && bytes[cell] > 0) cells.push_back(cell);
    }
    if (cells.empty()) return true;
    truth_ = {};
    // The reference comes first, once: its answer is kept for the cells of later passes. Of several questions that
    // would be much to keep, and the reference is in every pass.
    const bool compared = reference_ && bytes[*reference_] > 0;
    if (compared) {
      std::erase(cells, *reference_);
      cells.insert(cells.begin(), *reference_);
    }
    const std::size_t* in_all = compared && text.several() ? &*reference_ : nullptr;
    const auto groups = passes(bytes, cells, in_all, options_.most_cache_bytes);
    for (std::size_t g = 0; g < groups.size(); ++g) {
      const auto progress = [&](double share) {
        const double passed = ((double)g + share) / (double)groups.size();
        return watch_.progress(finished_ + (std::size_t)((double)size * passed), total_);
      };
      if (!pass(text, groups[g], groups.size(), progress)) return false;
    }
    return true;
  }

  bool pass(const Asked& text, const std::vector<std::size_t>& cells, std::size_t n_passes,
            const std::function<bool(double)>& progress) {
    std::vector<Column> columns;
    for (const std::size_t cell : cells) {
      columns.push_back({.cell = cell, .session = engine_.open(session(cell, text))});
    }
    const double for_reading = text.several() ? 0.5 : 0.9;
    const Stopwatch clock;
    if (!read(columns, text.prompts.front(), [&](double share) { return progress(for_reading / 0.9 * share); }))
      return false;
    const double read_ms = clock.ms();
    if (text.several()) {
      for (Column& column : columns) column.read = column.session->checkpoint();
    }
    for (std::size_t q = 0; q < text.samples.size(); ++q) {
      const Sample& sample = text.samples[q];
      const auto wanted = [&](const Column& column) { return !done_.contains({sample.id, grid_[column.cell].name()}); };
      // Of one question the reference is asked in any case, for later passes.
      if (text.several() && std::ranges::none_of(columns, wanted)) continue;
      const auto asking = [&](double share) {
        return progress(for_reading + (1 - for_reading) * ((double)q + share) / (double)text.samples.size());
      };
      if (text.several()) truth_ = {};
      for (Column& column : columns) begin(column, wanted(column) || reference_ == column.cell);
      const Stopwatch asked_clock;
      if (!ask(columns, text.prompts[q], asking)) return false;
      const double prefill_ms = read_ms + asked_clock.ms();
      if (!decode(columns, sample, asking)) return false;
      for (Column& column : columns) {
        if (!wanted(column)) continue;
        nlohmann::json json = record(sample, text.prompts[q], column);
        json["pass"] = {{"cells", columns.size()}, {"prefill_ms", prefill_ms}, {"passes", n_passes}};
        const std::pair cell_and_length(grid_[column.cell].name(), length(sample.tags));
        if (!timed_.contains(cell_and_length)) {
          if (const auto ms = decode_ms(column)) {
            json["decode_ms"] = *ms;
            timed_.insert(cell_and_length);
          }
        }
        results_.add(json);
        done_.insert({sample.id, grid_[column.cell].name()});
      }
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

  // Before a question: of several, each finds the cache as it was when the text had been read.
  static void begin(Column& column, bool answers) {
    if (column.read) column.session->go_back(*column.read);
    column.answer.clear();
    column.text.clear();
    column.ended = !answers;
    column.kl = 0;
    column.compared = column.equal = 0;
    column.agrees = true;
  }

  bool read(std::vector<Column>& columns, const Prompt& prompt, const std::function<bool(double)>& progress) {
    PrefillOptions hooks;
    hooks.more_follows = !prompt.question.empty();
    hooks.progress = [&](std::size_t done, std::size_t total) { return progress(0.9 * (double)done / (double)total); };
    if (options_.cells.prefill == PrefillMode::kExact) {
      const std::vector<std::vector<Session*>> groups = by_repeat(columns);
      for (std::size_t i = 0; i < groups.size(); ++i) {
        hooks.probes = repeat_probes(model_, groups[i], prompt.context, prompt.text, prompt.chat, hooks.more_follows);
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
    return true;
  }

  static bool ask(std::vector<Column>& columns, const Prompt& prompt, const std::function<bool(double)>& progress) {
    if (prompt.question.empty()) return true;
    for (const Column& column : columns) {
      if (column.ended) continue;
      if (!progress(0) || !column.session->prefill(prompt.question)) return false;
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
      if (!progress((double)(t + 1) / (double)most_new)) return false;
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
    if (!sample.text.empty()) json["text"] = sample.text, json["question"] = sample.number;
    if (!truth_.tokens.empty()) {
      if (column.compared > 0) json["kl"] = column.kl / (double)column.compared;
      json["same"] = (double)column.equal / (double)truth_.tokens.size();
    }
    return json;
  }

  // None where the model's length ends before that many more tokens.
  std::optional<double> decode_ms(Column& column) const {
    try {
      column.session->require_room(column.session->tokens().size(), kTimedTokens);
    } catch (const Error&) {
      return {};
    }
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
  std::set<std::pair<std::string, std::string>> noticed_;  // that a cell is left out at a length
  std::string left_out_;                                   // what was noticed
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
