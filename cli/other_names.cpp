#include "other_names.h"

#include <fmt/format.h>

#include <algorithm>

namespace lacake::cli {
namespace {

// Whether `lacake serve` takes it all the same, and says so, because nothing that it promises is missing.
enum class Taken { kNo, kAlone, kWithValue };

struct OtherName {
  std::vector<std::string_view> theirs;
  std::string_view ours;       // what to write instead, or ""
  std::string_view else_says;  // where there is nothing to write instead
  Taken taken = Taken::kNo;
};

const std::vector<OtherName>& table() {
  static const std::vector<OtherName> names = {
      {{"-ctk", "-ctv", "--cache-type-k", "--cache-type-v"}, "--kv-type K,V", ""},
      {{"-tb", "--threads-batch", "--n-threads"}, "--threads", ""},
      {{"-sys", "--system-prompt"}, "--system", ""},
      {{"-sysf", "--system-prompt-file"}, "--system \"$(cat FILE)\"", ""},
      {{"--temperature"}, "--temp", ""},
      {{"-nr", "--no-repack"}, "--no-repack", ""},
      {{"-fa", "--flash-attn"}, "", "attention is always fused; --attention chooses its arithmetic"},
      {{"-cnv", "--conversation", "-i", "--interactive", "-if", "--interactive-first"}, "lacake chat", ""},
      {{"-no-cnv", "--no-conversation", "-st", "--single-turn"}, "lacake run", ""},
      {{"--keep", "--context-shift"}, "--policy streaming-llm:sinks=N", ""},
      {{"-np", "--parallel"}, "lacake serve --parallel", ""},
      {{"-cb", "--cont-batching", "--cache-prompt"},
       "",
       "lacake serve always batches, and goes on where it can",
       Taken::kAlone},
      {{"--cache-reuse"}, "", "lacake serve goes on where it can, and moves no entries to other positions"},
      {{"-kvu", "--kv-unified"}, "", "all conversations of lacake serve share one reservation", Taken::kAlone},
      {{"--prompt-cache", "--slot-save-path", "--cache-ram", "-cram"}, "lacake serve --store FOLDER", ""},
      {{"--metrics", "--slots"}, "", "lacake serve always has it", Taken::kAlone},
      {{"--no-slots"}, "lacake serve --no-slots", ""},
      {{"--props"}, "", "lacake serve always has GET /props; what it shows cannot be changed while it runs"},
      {{"--jinja", "--no-jinja"}, "", "chat templates are always rendered as Jinja", Taken::kAlone},
      {{"--no-context-shift"}, "", "nothing is ever shifted but by --policy streaming-llm", Taken::kAlone},
      {{"--ui", "--webui"}, "", "lacake serve always has its page, but for --no-ui", Taken::kAlone},
      {{"--no-webui"}, "lacake serve --no-ui", ""},
      {{"-b", "--batch-size", "-ub", "--ubatch-size"},
       "",
       "a prompt runs in pieces of 512 tokens; --chunk cuts a streaming prefill",
       Taken::kWithValue},
      {{"-ngl", "--gpu-layers", "--n-gpu-layers", "-dev", "--device", "-ts", "--tensor-split", "-sm", "--split-mode",
        "-mg", "--main-gpu", "-nkvo", "--no-kv-offload", "-ot", "--override-tensor", "-cmoe", "--cpu-moe", "-ncmoe",
        "--n-cpu-moe"},
       "",
       "lacake computes on the CPU"},
      {{"--mlock", "--no-mmap", "-mmp", "--mmap"}, "", "weights are always mapped; --no-repack keeps no other copies"},
      {{"-hf", "-hfr", "--hf-repo", "-hff", "--hf-file", "-mu", "--model-url"},
       "",
       "lacake downloads nothing: expected a file, -m FILE"},
      {{"-mm", "--mmproj", "--image"}, "", "lacake reads text only"},
      {{"-md", "--model-draft", "--draft-max", "--draft"}, "", "lacake has no speculative decoding"},
      {{"--cors-origins"}, "lacake serve --cors ORIGIN", ""},
      {{"-dt", "--defrag-thold"}, "", "a cache here has no holes"},
      {{"--log-file", "--log-timestamps", "--log-prefix", "--log-verbosity"}, "lacake serve --log-requests", ""},
      {{"--log-disable", "--no-display-prompt"}, "-q", ""},
      {{"-v", "--verbose"}, "", "there is no more to say than without -q; lacake serve has it"},
      {{"-lv", "--verbosity"}, "", "there is no more to say than without -q"},
      {{"-o", "--output"}, "--json", ""},
      {{"--ppl-stride"}, "lacake eval perplexity --chunk N", ""},
      {{"--escape", "-e"}, "", "texts are taken as they are; in bash $'...' has escapes"},
  };
  return names;
}

const OtherName* find(std::string_view flag) {
  for (const OtherName& name : table()) {
    if (std::ranges::find(name.theirs, flag) != name.theirs.end()) return &name;
  }
  return nullptr;
}

bool contains(const std::vector<std::string>& list, std::string_view word) {
  return std::ranges::find(list, word) != list.end();
}

}  // namespace

std::string of_llama_cpp(std::string_view flag) {
  const OtherName* name = find(flag);
  if (!name) return "";
  return name->ours.empty() ? fmt::format(": {}", name->else_says) : fmt::format(", did you mean {}?", name->ours);
}

std::string foreign_flag(const std::vector<std::string>& words, const std::vector<std::string>& known,
                         const std::vector<std::string>& with_value) {
  bool is_value = false;
  for (const std::string& word : words) {
    const std::string flag = word.substr(0, word.find('='));
    if (!is_value && !contains(known, flag) && find(flag)) return flag;
    is_value = !is_value && contains(with_value, word);
  }
  return "";
}

std::vector<std::string> take_flags_without_effect(std::vector<std::string>& words,
                                                   const std::vector<std::string>& with_value) {
  std::vector<std::string> kept, said;
  bool is_value = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string flag = words[i].substr(0, words[i].find('='));
    const OtherName* const name = is_value ? nullptr : find(flag);
    is_value = !is_value && contains(with_value, words[i]);
    if (!name || name->taken == Taken::kNo) {
      kept.push_back(words[i]);
      continue;
    }
    said.push_back(fmt::format("{}: has no effect: {}", flag, name->else_says));
    if (name->taken == Taken::kWithValue && flag == words[i]) ++i;
  }
  words = std::move(kept);
  return said;
}

}  // namespace lacake::cli
