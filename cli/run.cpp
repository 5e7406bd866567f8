// lacake run: one answer.

#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>

#include <cstdio>

#include "answer_report.h"
#include "base/stopwatch.h"
#include "checks.h"
#include "commands.h"
#include "interrupt.h"
#include "lacake/conversation.h"
#include "lacake/error.h"
#include "lacake/memory.h"
#include "library_options.h"
#include "output.h"
#include "prompt.h"
#include "reading.h"
#include "report.h"
#include "saved.h"
#include "sizing.h"

namespace lacake::cli {
namespace {

// What a run came to. Empty parts were not reached before Ctrl-C.
struct Result {
  std::size_t prompt_tokens = 0;
  double load_ms = 0;
  double prefill_ms = 0;
  SessionPlan plan;
  std::optional<CacheUse> use;
  std::optional<Answer> answer;
  std::uint64_t logits_hash = 0;  // 64-bit XXH3 of the f32 logits that chose the last token, the ending one included
  std::optional<Perplexity> continuation;
  std::optional<std::size_t> held_tokens;  // of a saved conversation that goes on: what it held already
  bool interrupted = false;
};

nlohmann::json result_json(const Result& result, const Model& model, const SessionOptions& session,
                           const Options& options) {
  const Answer answer = result.answer.value_or(Answer{});
  const auto reached = [&](const auto& value) { return result.answer ? nlohmann::json(value) : nlohmann::json(); };
  nlohmann::json kv = {{"budget_bytes", result.plan.budget_bytes}};
  if (result.use) kv = cache_json(*result.use, session);
  nlohmann::json json = {
      {"schema", 1},
      {"model", model.facts().name},
      {"text", answer.text},
      {"stopped", result.interrupted ? finish_name(Finish::kCancelled) : finish_name(answer.finish)},
      {"tokens", {{"prompt", result.prompt_tokens}, {"generated", answer.tokens.size()}, {"ids", answer.tokens}}},
      {"policy", session.policy.text()},
      {"kv", kv},
      {"time",
       {{"load_ms", result.load_ms},
        {"prefill_ms", reached(result.prefill_ms)},
        {"first_token_ms", reached(result.prefill_ms + answer.first_token_ms)},
        {"decode_ms_per_token", answer.token_ms ? nlohmann::json(*answer.token_ms) : nlohmann::json()}}},
      {"memory",
       {{"planned_bytes", result.plan.memory.total()},
        {"peak_rss_bytes", peak_resident_bytes()},
        {"plan", plan_json(result.plan.memory)}}},
      {"logits_hash", reached(fmt::format("{:016x}", result.logits_hash))},
      {"options", options_json(options, kRun)},
  };
  if (result.held_tokens) json["session"] = {{"path", *options.session}, {"held_tokens", *result.held_tokens}};
  if (result.answer) json.update(answer_json(answer, model));
  if (result.continuation) {
    json["continuation"] = {{"tokens", result.continuation->tokens}, {"perplexity", result.continuation->value}};
  }
  return json;
}

std::string closing_line(const Result& result) {
  std::string line = result.answer ? fmt::format("{} prompt tokens at {:.1f} tokens/s", result.prompt_tokens,
                                                 1e3 * (double)result.prompt_tokens / result.prefill_ms)
                                   : fmt::format("stopped while reading a prompt of {} tokens", result.prompt_tokens);
  if (result.answer && result.answer->token_ms) {
    line += fmt::format(", {} new at {:.1f} tokens/s", result.answer->tokens.size(), 1e3 / *result.answer->token_ms);
  }
  if (result.use) {
    line += fmt::format("; KV {} held of {} (full cache {})", bytes_text(result.use->held_bytes),
                        bytes_text(result.use->budget_bytes), bytes_text(result.use->full_bytes));
  }
  return line + fmt::format("; peak memory {} of {} planned", bytes_text(peak_resident_bytes()),
                            bytes_text(result.plan.memory.total()));
}

// The plan of a session beside which, in exact prefill, another one waits for the continuation.
MemoryPlan with_scored(MemoryPlan plan, const MemoryPlan& scored, const SessionOptions& sized) {
  if (sized.prefill == PrefillMode::kExact) {  // streaming runs the two one after the other
    plan.cache += scored.cache;
    plan.policy_metadata += scored.policy_metadata;
  }
  return plan;
}

std::vector<Token> continuation_tokens(const Model& model, const std::string& text, const std::string& file) {
  std::vector<Token> tokens = model.tokenize(text, false, false);
  if (tokens.empty()) {
    throw Error({.kind = Error::Kind::kInput, .subject = file, .expected = "some text", .found = "none"});
  }
  return tokens;
}

void show(const Result& result, const Model& model, const SessionOptions& session, const Options& options) {
  if (options.json) write_output(json_line(result_json(result, model, session, options)));
  if (result.continuation) {
    notice(options, fmt::format("continuation: {} tokens, perplexity {:.4f}", result.continuation->tokens,
                                result.continuation->value));
  }
  if (result.answer && !options.json) warn(length_notice(*result.answer, options));
  notice(options, closing_line(result));
}

std::uint64_t hash_of(std::span<const float> logits) { return XXH3_64bits(logits.data(), logits.size_bytes()); }

std::string required_prompt(const Options& options) {
  const auto text = prompt_text(options);
  if (!text) throw Error({.kind = Error::Kind::kUsage, .expected = "-f FILE, -p TEXT or both", .found = "no prompt"});
  return *text;
}

// One question to a conversation that was saved.
int run_saved(const Options& options) {
  const GenerationOptions generating = generation_options(options);
  const std::string text = required_prompt(options);
  const Terminal terminal(STDERR_FILENO, options.color);
  watch_interrupt();

  Result result;
  Stopwatch watch;
  if (options.save) require_writable(*options.session, "--session");
  SessionFile file(*options.session, "the answer was not saved");
  const Snapshot snapshot(*options.session);
  require_same(options, kRun, snapshot);
  require_template(options, kRun, snapshot);
  const Model model(options.model, model_options(options));
  Engine engine(model, engine_options(options));
  require_same_policy(options, kRun, snapshot, engine);
  ConversationOptions making;
  making.generation = generating;
  making.chat = chat_options(options);
  if (options.save) {
    making.checkpoint_bytes = usual_checkpoint_bytes(engine.plan(snapshot.facts().options));
    making.saved_checkpoint_bytes = making.checkpoint_bytes;
  }
  Conversation conversation(model, engine, making, snapshot);
  result.load_ms = watch.ms();
  const SessionOptions session = conversation.session()->options();
  result.plan = conversation.session()->plan();
  result.held_tokens = snapshot.facts().n_tokens;
  notice(options, saved_line(snapshot));

  PromptBar bar({terminal, options.quiet || options.json});
  const auto on_text = [&](std::string_view part) {
    if (!options.json) write_output(part);
  };
  const auto read_again = [](std::size_t n_tokens) { warn(read_again_line(n_tokens)); };
  Turn turn;
  try {
    turn = conversation.ask({.role = "user", .content = text},
                            {.prompt_progress = bar.hook(), .on_text = on_text, .read_again = read_again});
    bar.check_output();
    if (turn.answered() && !options.json) write_output("\n");
  } catch (const OutputClosed&) {
    if (options.save) warn(unread_line(*options.session));
    throw;
  }
  result.interrupted = interrupted();
  std::optional<Error> unsaved;
  result.prompt_tokens = turn.n_read;
  result.prefill_ms = turn.read_ms;
  if (turn.answered()) {
    result.answer = turn.answer;
    result.logits_hash = hash_of(conversation.session()->logits());
    result.use = conversation.session()->use();
    try {
      if (options.save) file.save(conversation);
      if (options.save && turn.answer.finish == Finish::kCancelled) {
        warn(fmt::format("stopped: {} keeps the answer as far as it went", file.path()));
      }
    } catch (const Error& error) {
      unsaved = error;
    }
  }
  show(result, model, session, options);  // the answer is there all the same
  if (unsaved) throw Error(*unsaved);
  return result.interrupted ? kInterruptedStatus : 0;
}

}  // namespace

int run(const Options& options) {
  if (options.session) return run_saved(options);
  // Everything that can be refused without the model comes first.
  const GenerationOptions generating = generation_options(options);
  const SessionOptions asked = session_options(options);
  const std::string text = required_prompt(options);
  const auto continued = options.continuation ? std::optional(read_text(*options.continuation)) : std::nullopt;
  const Terminal terminal(STDERR_FILENO, options.color);
  const Progress progress{terminal, options.quiet || options.json};
  watch_interrupt();

  Result result;
  Stopwatch watch;
  const Model model(options.model, model_options(options));
  Engine engine(model, engine_options(options));
  result.load_ms = watch.ms();

  const Prompt prompt = make_prompt(model, text, options);
  const std::vector<Token>& tokens = prompt.chat.tokens;
  result.prompt_tokens = tokens.size();
  for (const std::string& line : prompt.notices) notice(options, line);
  std::vector<Token> continuation;
  if (continued) continuation = continuation_tokens(model, *continued, *options.continuation);

  Generation generation(model, prompt.chat.format, generating);  // before the plan is shown: it refuses a wrong grammar
  const SessionOptions sized = sized_for_answer(engine, model.facts(), asked, tokens.size(), generating.limits);
  SessionOptions scored_sized = sized;
  scored_sized.new_tokens = continuation.size();
  const bool exact = sized.prefill == PrefillMode::kExact;
  result.plan = engine.plan(sized);
  if (continued) result.plan.memory = with_scored(result.plan.memory, engine.plan(scored_sized).memory, sized);
  if (!options.quiet) std::fputs(plan_text(result.plan, model.facts(), sized, terminal).c_str(), stderr);

  auto session = engine.open(sized);
  auto scored = continued && exact ? engine.open(scored_sized) : nullptr;
  Session* const both[] = {session.get(), scored.get()};
  const PromptRead read = feed(model, engine, std::span(both, scored ? 2 : 1), prompt.chat, progress);
  result.prefill_ms = read.ms;
  bool going = read.finished;

  if (going) {
    generation.begin(*session);
    const Writing writing{&generation, session.get()};
    write_answers(engine, {&writing, 1}, [&](std::size_t, std::string_view part) {
      if (!options.json) write_output(part);
    });
    if (!options.json) write_output("\n");
    result.answer = generation.answer();
    result.logits_hash = hash_of(session->logits());
    result.use = session->use();
    going = result.answer->finish != Finish::kCancelled;
  }
  if (going && continued) {
    session.reset();
    if (!scored) {
      scored = engine.open(scored_sized);
      Session* const alone[] = {scored.get()};
      going = feed(model, engine, alone, prompt.chat, progress).finished;
    }
    if (going) result.continuation = score(*scored, continuation, progress);
  }
  result.interrupted = interrupted();

  show(result, model, sized, options);
  return result.interrupted ? kInterruptedStatus : 0;
}

}  // namespace lacake::cli
