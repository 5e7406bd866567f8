#include "inspect_saved.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>

#include "base/files.h"
#include "held_text.h"
#include "kept.h"
#include "kept_picture.h"
#include "lacake/error.h"
#include "lacake/snapshot.h"
#include "named_files.h"
#include "output.h"
#include "picture.h"
#include "report.h"
#include "terminal.h"

namespace lacake::cli {
namespace {

// Options that say something of a saved conversation; all others are about a model.
constexpr const char* kOfSaved[] = {"saved", "html", "show_text", "plot", "kept", "json", "quiet", "color"};

void check(const Options& options) {
  if (options.words.size() > 1) {
    throw Error({.kind = Error::Kind::kUsage, .subject = options.words[1], .expected = "one file", .found = "another"});
  }
  for (const std::string& name : options.given) {
    if (std::find(std::begin(kOfSaved), std::end(kOfSaved), name) != std::end(kOfSaved)) continue;
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = flag_of(kInspect, name),
                 .expected = "a model to look at (-m FILE alone)",
                 .found = "a saved conversation"});
  }
  if (options.json && options.show_text) {
    throw Error(
        {.kind = Error::Kind::kUsage, .subject = "--text", .expected = "one of --text and --json", .found = "both"});
  }
  if (options.plot) require_picture_name(*options.plot, "--plot");
  const std::pair<const std::optional<std::string>*, const char*> files[] = {
      {&options.plot, "--plot"}, {&options.kept, "--kept"}, {&options.html, "--html"}};
  std::vector<NamedFile> written;
  for (const auto& [path, flag] : files) {
    if (!*path) continue;
    require_writable(**path, flag);
    written.push_back({flag, **path});
  }
  require_apart(written, {{"the conversation", options.words.front()}});
}

// "2, to go back to after 480 and 512 tokens"
std::string checkpoints_text(const SnapshotFacts& facts) {
  if (facts.checkpoints.empty()) return "none to go back to";
  std::vector<std::size_t> places;
  for (const SavedCheckpoint& checkpoint : facts.checkpoints) places.push_back(checkpoint.n_tokens);
  return fmt::format("{}, to go back to after {} tokens", places.size(), fmt::join(places, ", "));
}

std::string facts_text(const Snapshot& snapshot) {
  const SnapshotFacts& facts = snapshot.facts();
  return fmt::format(
      "file     {}, {}\nmodel    {} ({}), content {}\npolicy   {}, entries in {}, {} prefill\n"
      "tokens   {} read\nKV       {} held of {}\ncopies   {}\n",
      snapshot.path(), bytes_text(facts.file_bytes), facts.model_name, facts.model_architecture,
      facts.model_fingerprint, facts.options.policy.text(), facts.options.types.text(),
      prefill_name(facts.options.prefill), facts.n_tokens, bytes_text(facts.held_bytes), bytes_text(facts.budget_bytes),
      checkpoints_text(facts));
}

nlohmann::json facts_json(const Snapshot& snapshot, const Kept& kept) {
  const SnapshotFacts& facts = snapshot.facts();
  nlohmann::json layers = nlohmann::json::array(), checkpoints = nlohmann::json::array();
  for (const SavedCheckpoint& c : facts.checkpoints) {
    checkpoints.push_back({{"n_tokens", c.n_tokens}, {"memory_bytes", c.bytes}});
  }
  for (std::size_t i = 0; i < kept.layers.size(); ++i) {
    layers.push_back({{"layer", i}, {"entries", mean_entries(kept.layers[i])}});
  }
  return {{"schema", 1},
          {"file", {{"path", snapshot.path()}, {"bytes", facts.file_bytes}}},
          {"model",
           {{"name", facts.model_name},
            {"architecture", facts.model_architecture},
            {"fingerprint", facts.model_fingerprint}}},
          {"policy", facts.options.policy.text()},
          {"kv_type", facts.options.types.text()},
          {"prefill", prefill_name(facts.options.prefill)},
          {"n_tokens", facts.n_tokens},
          {"kv", {{"held_bytes", facts.held_bytes}, {"budget_bytes", facts.budget_bytes}}},
          {"checkpoints", std::move(checkpoints)},
          {"layers", std::move(layers)}};
}

}  // namespace

int inspect_saved(const Options& options) {
  check(options);
  const Snapshot snapshot(options.words.front());
  const Kept kept = kept_entries(snapshot);
  if (options.plot) replace_durably(*options.plot, picture(kept_drawing(kept), *options.plot));
  if (options.kept) replace_durably(*options.kept, json_line(kept_json(kept)));
  const bool text = options.html || options.show_text;
  const std::vector<HeldToken> tokens = text ? held_tokens(kept, snapshot.pieces()) : std::vector<HeldToken>();
  if (options.html) replace_durably(*options.html, held_page(tokens, snapshot.path(), facts_text(snapshot)));
  if (options.json) {
    write_output(json_line(facts_json(snapshot, kept)));
    return 0;
  }
  const Terminal terminal(STDOUT_FILENO, options.color);
  const bool blocks = utf8_locale() && options.color != "never";
  const std::size_t columns = terminal.interactive() ? std::clamp<std::size_t>(terminal.columns(), 40, 200) : 80;
  write_output(facts_text(snapshot) + "\n");
  write_output(kept_text(kept, terminal, columns, blocks ? draw::Glyphs::kBlocks : draw::Glyphs::kAscii));
  if (options.show_text) write_output("\n" + held_text(tokens, terminal));
  return 0;
}

}  // namespace lacake::cli
