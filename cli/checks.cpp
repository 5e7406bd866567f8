#include "checks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "chat_input.h"
#include "lacake/error.h"
#include "output.h"
#include "sampler_checks.h"

namespace lacake::cli {
namespace {

bool has_prompt(const Options& options) { return options.file || options.prompt; }
bool samples(const Options& options) { return has_prompt(options) && options.predict.value_or(0) != 0; }

// An option and what it needs to change anything.
struct Rule {
  unsigned commands;
  const char* json;
  bool (*has_effect)(const Options&);
  const char* expected;
  const char* found;
};

constexpr Rule kRules[] = {
    {kRun | kChat | kInspect | kBench | kIngest | kServe, "chunk",
     [](const Options& o) { return o.prefill == "streaming"; }, "--prefill streaming beside it", "an exact prefill"},
    {kRun | kChat | kInspect | kBench | kEval | kIngest | kServe | kCalibrate, "rope_freq_scale",
     [](const Options& o) { return !o.rope_scale; }, "one of --rope-scale and --rope-freq-scale", "both"},
    {kRun, "logprobs", [](const Options& o) { return o.json; }, "--json, whose result they are part of", "none"},
    {kInspect, "system", has_prompt, "a prompt (-f FILE or -p TEXT)", "none"},
    {kInspect, "parse_special", has_prompt, "a prompt (-f FILE or -p TEXT)", "none"},
    {kInspect, "raw", has_prompt, "a prompt (-f FILE or -p TEXT)", "none"},
    {kInspect, "prompt_tokens", [](const Options& o) { return !has_prompt(o); }, "no prompt, whose length would count",
     "one"},
    {kInspect, "ignore_eos", samples, "a prompt and the length of an answer (-n N)", "none"},
    {kRun, "save", [](const Options& o) { return o.session.has_value(); }, "a saved conversation (--session FILE)",
     "none"},
    {kInspect, "html", [](const Options& o) { return !o.words.empty(); }, "a saved conversation (lacake inspect FILE)",
     "none"},
    {kInspect, "show_text", [](const Options& o) { return !o.words.empty(); },
     "a saved conversation (lacake inspect FILE)", "none"},
    {kRun, "system", [](const Options& o) { return !o.session; }, "a conversation that begins", "--session"},
    {kRun, "raw", [](const Options& o) { return !o.session; }, "a conversation that begins", "--session"},
    {kRun, "parse_special", [](const Options& o) { return !o.session; }, "a conversation that begins", "--session"},
    {kRun, "continuation", [](const Options& o) { return !o.session; }, "a prompt of its own", "--session"},
    {kChat, "no_history", [](const Options&) { return ChatInput::edits(); }, "a terminal at which lines are typed",
     "none"},
    {kServe, "store_size", [](const Options& o) { return o.store.has_value(); }, "a store (--store FOLDER)", "none"},
    {kServe, "ssl_key_file", [](const Options& o) { return o.ssl_cert_file.has_value(); },
     "its certificate beside it (--ssl-cert-file FILE)", "none"},
    {kServe, "ssl_cert_file", [](const Options& o) { return o.ssl_key_file.has_value(); },
     "its key beside it (--ssl-key-file FILE)", "none"},
    {kServe, "log_file", [](const Options& o) { return o.log_requests; }, "--log-requests, whose lines it is for",
     "none"},
    {kServe, "log_prompts", [](const Options& o) { return o.log_requests; }, "--log-requests, whose lines have them",
     "none"},
    {kServe, "parallel", [](const Options& o) { return !o.kv_memory; }, "one of --parallel and --kv-memory", "both"},
    {kBench, "fill", [](const Options& o) { return std::ranges::any_of(o.depths, [](auto d) { return d > 0; }); },
     "a depth (-d N)", "none"},
};

// What nothing but a chat template looks at.
constexpr const char* kOfTemplate[] = {
    "system", "tools", "chat_template", "chat_template_file", "chat_template_kwargs", "reasoning"};

// A text that begins the conversation with or without a template.
bool is_opening(Command command, std::string_view json) { return command == kChat && json == "system"; }

// Whether a saved conversation has no template around its texts.
bool is_raw(const Snapshot& saved) {
  const nlohmann::json note = nlohmann::json::parse(saved.note("conversation").value_or(""), nullptr, false);
  return note.is_object() && note.value("raw", false);
}

struct TaskRule {
  const char* task;
  const char* json;
  bool (*has_effect)(const Options&);
  const char* expected;
  const char* found;
};

bool one_question(const Options& o) { return o.n_questions.value_or(1) == 1; }
bool later(const Options& o) { return one_question(o) || o.question == "later"; }

constexpr TaskRule kTaskRules[] = {
    {"needle", "n_depths", [](const Options& o) { return !o.files.empty(); },
     "a haystack (-f FILE), because the passkey test has depths of its own", "none"},
    {"needle", "needles", [](const Options& o) { return !o.files.empty(); },
     "a haystack (-f FILE), because the passkey test has one", "none"},
    {"needle", "questions", [](const Options& o) { return o.n_questions == 1 || !o.files.empty(); },
     "a haystack (-f FILE), because the passkey test has one fact to ask about", "none"},
    {"needle", "questions", later, "--question later, because only then a text is read without its question", "seen"},
    {"needle", "n_depths", one_question, "one question about a text, because several are at all depths", "--questions"},
    {"needle", "needles", one_question, "one question about a text, because each of several has a fact of its own",
     "--questions"},
    {"ruler", "questions", later, "--question later, because only then a text is read without its question", "seen"},
    {"ruler", "skip_broken", [](const Options& o) { return !o.data.empty(); }, "a file of samples (--data FILE)",
     "none"},
    {"perplexity", "prefill", [](const Options& o) { return o.prefill == "exact" || o.score_chunk; },
     "chunks (--chunk N), because token by token nothing is prefilled", "none"},
};

// Samples of RULER's own are what they are.
constexpr const char* kMakesSamples[] = {"files", "qa", "lengths", "n_samples", "questions", "seed"};

[[noreturn]] void refuse(const std::string& flag, const std::string& expected, const std::string& found) {
  throw Error({.kind = Error::Kind::kUsage, .subject = flag, .expected = expected, .found = found});
}

}  // namespace

void check_effects(const Options& options, Command command) {
  for (const Rule& rule : kRules) {
    if (!(rule.commands & command) || !is_given(options, rule.json) || rule.has_effect(options)) continue;
    refuse(flag_of(command, rule.json), rule.expected, rule.found);
  }
  for (const char* json : kOfTemplate) {
    if (options.raw && is_given(options, json)) refuse(flag_of(command, json), "a chat template", "--raw");
  }
  if (command == kInspect && !samples(options)) {
    for (const OptionFacts& option : option_facts(command)) {
      if (option.group == "Sampling" && is_given(options, option.json)) {
        refuse(option.name(), "a prompt and the length of an answer (-n N)", "none");
      }
    }
  }
  if (command != kServe) check_samplers(options, command);
}

void require_template(const Options& options, Command command, const Snapshot& saved) {
  if (!is_raw(saved)) return;
  for (const char* json : kOfTemplate) {
    if (is_opening(command, json) || !is_given(options, json)) continue;
    refuse(flag_of(command, json), "a conversation in a chat template",
           fmt::format("{}, which was read without one", saved.path()));
  }
}

void warn_without_template(const Options& options, Command command) {
  for (const char* json : kOfTemplate) {
    if (is_opening(command, json) || !is_given(options, json)) continue;
    warn(fmt::format("{} has no effect: the model has no chat template", flag_of(command, json)));
  }
}

void check_effects_of_task(const Options& options, std::string_view task) {
  for (const OptionFacts& option : option_facts(kEval)) {
    if (!is_given(options, option.json) || std::ranges::find(option.tasks, task) != option.tasks.end()) continue;
    refuse(option.name(), fmt::format("task {}", fmt::join(option.tasks, " or ")), std::string(task));
  }
  for (const TaskRule& rule : kTaskRules) {
    if (task != rule.task || !is_given(options, rule.json) || rule.has_effect(options)) continue;
    refuse(flag_of(kEval, rule.json), rule.expected, rule.found);
  }
  if (task != "ruler" || options.data.empty()) return;
  for (const char* json : kMakesSamples) {
    if (is_given(options, json)) refuse("--data", "samples of its own alone", flag_of(kEval, json));
  }
}

void check_budgets(const Options& options, std::span<const eval::Configuration> grid) {
  if (options.kv_budgets.empty()) return;
  if (std::ranges::any_of(grid, [](const eval::Configuration& cell) { return cell.budget.given(); })) return;
  refuse("--kv-budget", "a policy that it bounds", fmt::format("{} alone", grid.front().policy.text()));
}

}  // namespace lacake::cli
