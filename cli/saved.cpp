#include "saved.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <thread>
#include <utility>

#include "lacake/error.h"
#include "sizing.h"

namespace lacake::cli {
namespace {

// The right to look at a file and to replace it: of those that save it one at a time. Its holder has it as long as a
// file takes to be written; whoever holds it for longer is no program of ours and is not waited for. Where there are no
// locks there is none.
OpenFile lock_of(const std::string& path) {
  using std::chrono::milliseconds;
  constexpr milliseconds kStep(10), kMost(60'000);
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  OpenFile file(path, O_RDONLY);
  if (file.get() < 0) file = OpenFile(folder.empty() ? "." : folder.string(), O_RDONLY | O_DIRECTORY);
  for (milliseconds waited(0); waited < kMost && file.try_lock() == EWOULDBLOCK; waited += kStep) {
    std::this_thread::sleep_for(kStep);
  }
  return file;
}

Error other_than_in(const Snapshot& snapshot, const std::string& flag, const std::string& of_file,
                    const std::string& of_options) {
  return Error({.kind = Error::Kind::kUsage,
                .subject = flag,
                .expected = fmt::format("{}, as {} was read", of_file, snapshot.path()),
                .found = of_options});
}

// Whether the file's policy may be what became of the one that was asked for when its session was opened.
bool may_be_settled(const PolicySpec& asked, const PolicySpec& of_file) {
  const auto has = [&](const auto& setting) {
    const auto at = of_file.settings.find(setting.first);
    return at != of_file.settings.end() && at->second == setting.second;
  };
  return asked.type->name == of_file.type->name && asked.cache_size == of_file.cache_size &&
         std::ranges::all_of(asked.settings, has);
}

}  // namespace

void require_same(const Options& options, Command command, const Snapshot& snapshot) {
  const SessionOptions& saved = snapshot.facts().options;
  const SessionOptions asked = session_options(options);
  const auto require = [&](const char* setting, const std::string& of_file, const std::string& of_options) {
    if (!is_given(options, setting) || of_file == of_options) return;
    throw other_than_in(snapshot, flag_of(command, setting), of_file, of_options);
  };
  if (!may_be_settled(asked.policy, saved.policy)) require("policy", saved.policy.text(), asked.policy.text());
  require("kv_budget", saved.budget.text(), asked.budget.text());
  require("kv_type", saved.types.text(), asked.types.text());
  require("prefill", prefill_name(saved.prefill), prefill_name(asked.prefill));
  require("chunk", fmt::format("{}", saved.chunk), fmt::format("{}", asked.chunk));
}

void require_same_policy(const Options& options, Command command, const Snapshot& snapshot, const Engine& engine) {
  SessionOptions asked = session_options(options);
  if (!is_given(options, "kv_budget")) asked.budget = snapshot.facts().options.budget;
  const PolicySpec& saved = snapshot.facts().options.policy;
  const std::string of_file = saved.text(), said = asked.policy.text();
  if (!is_given(options, "policy") || !may_be_settled(asked.policy, saved)) return;
  if (of_file == said || of_file == engine.settled(asked).policy.text()) return;
  throw other_than_in(snapshot, flag_of(command, "policy"), of_file, said);
}

SessionFile::SessionFile(std::string path, std::string otherwise)
    : path_(std::move(path)), otherwise_(std::move(otherwise)), known_(file_mark(path_)) {}

void SessionFile::save(const Conversation& conversation) {
  const OpenFile lock = lock_of(path_);
  const std::optional<FileMark> now = file_mark(path_);
  if (now && now != known_) {  // of one that is gone nothing can be lost
    throw Error({.subject = path_, .found = "another program changed it meanwhile", .remedy = otherwise_});
  }
  conversation.save(path_);
  known_ = file_mark(path_);
}

std::uint64_t usual_checkpoint_bytes(const SessionPlan& plan) { return 2 * plan.memory.turn_copy; }

std::string read_again_line(std::size_t n_tokens) {
  return fmt::format(
      "the conversation as the chat template writes it now is not what was read before: all {} tokens of it are read "
      "again",
      n_tokens);
}

namespace {

std::string saved_line(const std::string& path, std::size_t n_tokens, const PolicySpec& policy, std::uint64_t held,
                       std::uint64_t budget) {
  return fmt::format("{}: {} tokens, policy {}, KV {} held of {}", path, n_tokens, policy.text(), bytes_text(held),
                     bytes_text(budget));
}

}  // namespace

std::string saved_line(const Snapshot& snapshot) {
  const SnapshotFacts& facts = snapshot.facts();
  return saved_line(snapshot.path(), facts.n_tokens, facts.options.policy, facts.held_bytes, facts.budget_bytes);
}

std::string saved_line(const std::string& path, const Session& session) {
  const CacheUse use = session.use();
  return saved_line(path, session.tokens().size(), session.options().policy, use.held_bytes, use.budget_bytes);
}

}  // namespace lacake::cli
