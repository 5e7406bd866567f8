// lacake run: one answer.

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>

#include "checks.h"
#include "commands.h"
#include "generate.h"
#include "interrupt.h"
#include "lacake/error.h"
#include "lacake/memory.h"
#include "output.h"
#include "prompt.h"
#include "report.h"
#include "sizing.h"

namespace lacake::cli {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

// What a run came to. Empty parts were not reached before Ctrl-C.
struct Result {
  std::size_t prompt_tokens = 0;
  double load_ms = 0;
  double prefill_ms = 0;
  SessionPlan plan;
  std::optional<CacheUse> use;
  std::optional<Answer> answer;
  std::optional<Perplexity> continuation;
  bool interrupted = false;
};

nlohmann::json result_json(const Result& result, const ModelFacts& facts, const SessionOptions& session,
                           const Options& options) {
  const Answer answer = result.answer.value_or(Answer{});
  const auto reached = [&](const auto& value) { return result.answer ? nlohmann::json(value) : nlohmann::json(); };
  nlohmann::json kv = {{"budget_bytes", result.plan.budget_bytes}};
  if (result.use) kv = cache_json(*result.use, session);
  nlohmann::json json = {
      {"schema", 1},
      {"model", facts.name},
      {"text", answer.text},
      {"stopped", result.interrupted ? "interrupt" : answer.stopped},
      {"tokens", {{"prompt", result.prompt_tokens}, {"generated", answer.ids.size()}, {"ids", answer.ids}}},
      {"policy", session.policy.text()},
      {"kv", kv},
      {"time",
       {{"load_ms", result.load_ms},
        {"prefill_ms", reached(result.prefill_ms)},
        {"first_token_ms", reached(result.prefill_ms + answer.first_token_ms)},
        {"decode_ms_per_token", answer.decode_ms ? nlohmann::json(*answer.decode_ms) : nlohmann::json()}}},
      {"memory",
       {{"planned_bytes", result.plan.memory.total()},
        {"peak_rss_bytes", peak_resident_bytes()},
        {"plan", plan_json(result.plan.memory)}}},
      {"logits_hash", reached(fmt::format("{:016x}", answer.logits_hash))},
      {"options", options_json(options, kRun)},
  };
  if (result.continuation) {
    json["continuation"] = {{"tokens", result.continuation->tokens}, {"perplexity", result.continuation->value}};
  }
  return json;
}

std::string closing_line(const Result& result) {
  std::string line = result.answer ? fmt::format("{} prompt tokens at {:.1f} tokens/s", result.prompt_tokens,
                                                 1e3 * static_cast<double>(result.prompt_tokens) / result.prefill_ms)
                                   : fmt::format("stopped while reading a prompt of {} tokens", result.prompt_tokens);
  if (result.answer && result.answer->decode_ms) {
    line += fmt::format(", {} new at {:.1f} tokens/s", result.answer->ids.size(), 1e3 / *result.answer->decode_ms);
  }
  if (result.use) {
    line += fmt::format("; KV {} held of {} (full cache {})", bytes_text(result.use->held_bytes),
                        bytes_text(result.use->budget_bytes), bytes_text(result.use->full_bytes));
  }
  return line + fmt::format("; peak memory {} of {} planned", bytes_text(peak_resident_bytes()),
                            bytes_text(result.plan.memory.total()));
}

// The prompt for the answer's session and, where asked, the one whose continuation is scored.
bool feed_all(Engine& engine, Session& session, Session* scored, std::span<const Token> tokens,
              const Progress& progress) {
  Session* both[] = {&session, scored};
  return feed(engine, std::span(both, scored != nullptr ? 2 : 1), tokens, progress);
}

}  // namespace

int run(const Options& options) {
  // Everything that can be refused without the model comes first.
  const SamplerOptions sampling = sampler_options(options);
  (void)session_options(options);
  const auto text = prompt_text(options);
  if (!text) throw Error(Error::Kind::kUsage, "no prompt: expected -f FILE, -p TEXT or both");
  const auto continued = options.continuation ? std::optional(read_text(*options.continuation)) : std::nullopt;
  const Terminal terminal(STDERR_FILENO, options.color);
  const Progress progress{terminal, options.quiet || options.json};
  watch_interrupt();

  Result result;
  const auto load_begin = Clock::now();
  const Model model(options.model, model_options(options));
  Engine engine(model, engine_options(options));
  warn(kv_type_warning(model.facts(), options));
  result.load_ms = ms_since(load_begin);

  const Prompt prompt = make_prompt(model, *text, options);
  result.prompt_tokens = prompt.tokens.size();
  for (const std::string& line : prompt.notices) notice(options, line);
  std::vector<Token> continuation;
  if (continued) continuation = model.tokenize(*continued, false, false);
  if (continued && continuation.empty()) {
    throw Error(Error::Kind::kInput, *options.continuation + ": the continuation is empty, expected some text");
  }

  Sampler sampler(model, sampling);  // before the plan is shown: it refuses a grammar that cannot be read
  const SessionOptions sized = sized_session(engine, model, options, prompt.tokens.size());
  SessionOptions scored_sized = sized;
  scored_sized.new_tokens = continuation.size();
  const bool exact = sized.prefill == PrefillMode::kExact;
  result.plan = engine.plan(sized);
  if (continued) {
    const MemoryPlan scored = engine.plan(scored_sized).memory;
    // Streaming runs the two one after the other.
    if (exact) result.plan.memory.cache += scored.cache;
    if (exact) result.plan.memory.policy_metadata += scored.policy_metadata;
  }
  if (!options.quiet) std::fputs(plan_text(result.plan, model.facts(), sized, terminal).c_str(), stderr);

  auto session = engine.open(sized);
  auto scored = continued && exact ? engine.open(scored_sized) : nullptr;
  const auto prefill_begin = Clock::now();
  bool going = feed_all(engine, *session, scored.get(), prompt.tokens, progress);
  result.prefill_ms = ms_since(prefill_begin);

  if (going) {
    sampler.observe(prompt.tokens);
    AnswerOptions answering{.most = longest_answer(options, *session, sized), .ignore_eos = options.ignore_eos};
    if (!options.json) answering.on_text = write_output;
    result.answer = generate(model, *session, sampler, answering);
    if (!options.json) write_output("\n");
    result.use = session->use();
    going = result.answer->stopped != "interrupt";
  }
  if (going && continued) {
    session.reset();
    if (!scored) {
      scored = engine.open(scored_sized);
      going = feed_all(engine, *scored, nullptr, prompt.tokens, progress);
    }
    if (going) result.continuation = score(*scored, continuation, progress);
  }
  result.interrupted = interrupted();

  if (options.json) write_output(json_line(result_json(result, model.facts(), sized, options)));
  if (result.continuation) {
    notice(options, fmt::format("continuation: {} tokens, perplexity {:.4f}", result.continuation->tokens,
                                result.continuation->value));
  }
  notice(options, closing_line(result));
  return result.interrupted ? kInterruptedStatus : 0;
}

}  // namespace lacake::cli
