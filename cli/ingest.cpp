// lacake ingest: texts read once, and kept to be asked.

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "base/stopwatch.h"
#include "checks.h"
#include "commands.h"
#include "interrupt.h"
#include "lacake/conversation.h"
#include "lacake/error.h"
#include "lacake/memory.h"
#include "library_options.h"
#include "named_files.h"
#include "output.h"
#include "prompt.h"
#include "reading.h"
#include "report.h"
#include "saved.h"
#include "sizing.h"

namespace lacake::cli {
namespace {

// All texts, a blank line behind each, so that the next one or a question begins a paragraph of its own.
std::string read_all(const std::vector<std::string>& paths) {
  std::string all;
  for (const std::string& path : paths) {
    std::string text = read_some_text(path);
    text.erase(text.find_last_not_of('\n') + 1);
    all += text + "\n\n";
  }
  return all;
}

void require_files(const Options& options) {
  const auto refuse = [](const char* subject, const char* expected) {
    throw Error({.kind = Error::Kind::kUsage, .subject = subject, .expected = expected, .found = "none"});
  };
  if (options.words.empty()) refuse("text", "one file or more (lacake ingest FILE... -o OUT)");
  if (!options.output) refuse("--output", "a file (-o book.kv)");
  require_writable(*options.output, "--output");
  std::vector<NamedFile> read = files_read(options, kIngest);
  for (const std::string& path : options.words) read.push_back({"text", path});
  require_apart({{"--output", *options.output}}, read);
}

}  // namespace

int ingest(const Options& options) {
  require_files(options);
  SessionOptions asked = session_options(options);
  const std::string text = read_all(options.words);
  if (options.system) require_utf8(*options.system, "--system");
  const Terminal terminal(STDERR_FILENO, options.color);
  watch_interrupt();

  const Model model(options.model, model_options(options));
  Engine engine(model, engine_options(options));
  const bool raw = options.raw || !model.has_chat_template();
  if (!options.raw && !model.chat_notice().empty()) notice(options, model.chat_notice());
  if (!options.raw && raw) warn_without_template(options, kIngest);

  // What the template writes around the text is little beside it.
  const std::size_t n_tokens = model.tokenize(text, options.parse_special, true).size();
  const LengthLimits limits = length_limits(options);
  SessionOptions sized = sized_for_answer(engine, model.facts(), asked, n_tokens, limits);
  sized.single_turn = false;
  const SessionPlan plan = engine.plan(sized);
  if (!options.quiet) std::fputs(plan_text(plan, model.facts(), sized, terminal).c_str(), stderr);

  ConversationOptions making{.session = sized,
                             .generation = {.limits = limits, .cancel = interrupt_flag()},
                             .chat = chat_options(options),
                             .raw = raw,
                             .parse_special = options.parse_special};
  if (options.system) making.opening = {{.role = "system", .content = *options.system}};
  Conversation conversation(model, engine, making);
  PromptBar bar({terminal, options.quiet || options.json, /*stops_unread*/ false}, "reading");
  const Turn read = conversation.read_ahead(text, {.prompt_progress = bar.hook()});
  if (read.answer.finish == Finish::kCancelled) return kInterruptedStatus;
  const Stopwatch watch;
  conversation.save(*options.output);
  const double save_ms = watch.ms();

  // Not opened to be looked at: it would be in memory twice.
  const Session& session = *conversation.session();
  const std::uint64_t file_bytes = std::filesystem::file_size(*options.output);
  if (options.json) {
    write_output(json_line({{"schema", 1},
                            {"model", model.facts().name},
                            {"policy", sized.policy.text()},
                            {"tokens", session.tokens().size()},
                            {"kv", cache_json(session.use(), sized)},
                            {"file", {{"path", *options.output}, {"bytes", file_bytes}}},
                            {"time", {{"read_ms", read.read_ms}, {"save_ms", save_ms}}},
                            {"memory",
                             {{"planned_bytes", plan.memory.total()},
                              {"peak_rss_bytes", peak_resident_bytes()},
                              {"plan", plan_json(plan.memory)}}},
                            {"options", options_json(options, kIngest)}}));
  }
  notice(options,
         fmt::format("{} tokens read at {:.1f} tokens/s; {}; file {}; peak memory {} of {} planned", read.n_read,
                     1e3 * (double)read.n_read / read.read_ms, saved_line(*options.output, session),
                     bytes_text(file_bytes), bytes_text(peak_resident_bytes()), bytes_text(plan.memory.total())));
  return 0;
}

}  // namespace lacake::cli
