// lacake inspect: what a model is, what memory a run would take, and what its layers keep of a prompt.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/files.h"
#include "checks.h"
#include "commands.h"
#include "inspect_saved.h"
#include "interrupt.h"
#include "kept.h"
#include "kept_picture.h"
#include "lacake/error.h"
#include "library_options.h"
#include "named_files.h"
#include "output.h"
#include "picture.h"
#include "prompt.h"
#include "reading.h"
#include "report.h"
#include "sizing.h"

namespace lacake::cli {
namespace {

// What can be refused before the model is opened.
void check(const Options& options, bool has_prompt) {
  std::vector<NamedFile> written;
  const auto check_file = [&](const std::optional<std::string>& path, std::string_view flag) {
    if (!path) return;
    if (!has_prompt) {
      throw Error({.kind = Error::Kind::kUsage,
                   .subject = std::string(flag),
                   .expected = "a prompt beside it (-f FILE or -p TEXT)",
                   .found = "none"});
    }
    if (flag == "--plot") require_picture_name(*path, flag);
    require_writable(*path, flag);
    written.push_back({std::string(flag), *path});
  };
  check_file(options.plot, "--plot");
  check_file(options.kept, "--kept");
  require_apart(written, files_read(options, kInspect));
}

nlohmann::json session_plan_json(const SessionPlan& plan) {
  return {{"cache_size", plan.cache_size},           {"chunk", plan.chunk},
          {"budget_bytes", plan.budget_bytes},       {"entry_bytes", plan.entry_bytes},
          {"sliding_entries", plan.sliding_entries}, {"full_layer_entries", plan.full_layer_entries},
          {"memory", plan_json(plan.memory)}};
}

nlohmann::json layers_json(const Kept& kept) {
  nlohmann::json layers = nlohmann::json::array();
  for (std::size_t i = 0; i < kept.layers.size(); ++i) {
    nlohmann::json heads = nlohmann::json::array();
    for (const auto& positions : kept.layers[i]) heads.push_back(positions.size());
    layers.push_back({{"layer", i}, {"entries", mean_entries(kept.layers[i])}, {"heads", std::move(heads)}});
  }
  return layers;
}

}  // namespace

int inspect(const Options& given) {
  if (!given.words.empty()) return inspect_saved(given);
  Options options = given;
  // Without -n nothing is generated: it is the prompt's picture that is asked for.
  if (!options.predict) options.predict = 0;
  const auto text = prompt_text(options);
  check(options, text.has_value());
  const GenerationOptions generating = generation_options(options);
  const SessionOptions asked = session_options(options);
  const Terminal terminal(STDOUT_FILENO, options.color);
  const Terminal log(STDERR_FILENO, options.color);
  const bool makes_files = options.plot || options.kept;
  const Progress progress{log, options.quiet || options.json, /*stops_unread*/ !makes_files};
  watch_interrupt();

  const Model model(options.model, model_options(options));
  Engine engine(model, engine_options(options));
  Prompt prompt;
  if (text) prompt = make_prompt(model, *text, options);
  for (const std::string& line : prompt.notices) notice(options, line);

  const std::vector<Token>& tokens = prompt.chat.tokens;
  const auto length =
      (std::size_t)(options.prompt_tokens.value_or(options.ctx_size.value_or(model.facts().training_length)));
  const SessionOptions sized =
      sized_for_answer(engine, model.facts(), asked, text ? tokens.size() : length, generating.limits);
  const SessionPlan plan = engine.plan(sized);
  nlohmann::json json = {{"schema", 1},
                         {"model", model_json(model.facts())},
                         {"policy", sized.policy.text()},
                         {"prompt_tokens", sized.prompt_tokens},
                         {"plan", session_plan_json(plan)},
                         {"options", options_json(options, kInspect)}};
  // Where nothing can be written any more, files that were asked for are made even so, and a full disk is said then.
  bool shows = !options.json;
  std::optional<Error> unwritten;
  try {
    if (shows) write_output(model_text(model.facts(), terminal) + plan_text(plan, model.facts(), sized, terminal));
  } catch (const OutputClosed&) {
    if (!makes_files) throw;
    shows = false;
  } catch (const Error& error) {
    if (!makes_files) throw;
    shows = false;
    unwritten = error;
  }

  if (text) {
    const auto session = engine.open(sized);
    Session* const sessions[] = {session.get()};
    Generation generation(model, prompt.chat.format, generating);
    if (!feed(model, engine, sessions, prompt.chat, progress).finished) return kInterruptedStatus;
    generation.begin(*session);
    const Writing writing{&generation, session.get()};
    write_answers(engine, {&writing, 1});
    if (interrupted()) return kInterruptedStatus;

    const Kept kept = kept_entries(*session, model.facts(), sized);
    if (options.plot) replace_durably(*options.plot, picture(kept_drawing(kept), *options.plot));
    if (options.kept) replace_durably(*options.kept, json_line(kept_json(kept)));
    json["kv"] = cache_json(session->use(), sized);
    json["n_tokens"] = kept.n_tokens;
    json["layers"] = layers_json(kept);
    if (shows) {
      const bool blocks = utf8_locale() && options.color != "never";
      // A wider terminal shows more of a text than 80 columns can.
      const std::size_t columns = terminal.interactive() ? std::clamp<std::size_t>(terminal.columns(), 40, 200) : 80;
      write_output("\n" + kept_text(kept, terminal, columns, blocks ? draw::Glyphs::kBlocks : draw::Glyphs::kAscii));
    }
  }
  if (options.json) write_output(json_line(json));
  if (unwritten) throw Error(*unwritten);
  return 0;
}

}  // namespace lacake::cli
