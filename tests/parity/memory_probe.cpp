// lacake_memory_probe MODEL POLICY BUDGET exact|streaming KV_TYPE IDS DECODE
//
// The process whose memory memory_test.cpp looks at: one model, one session, the prompt in the file IDS (raw int32),
// then DECODE tokens of the same again. Prints one JSON object: the plan, what the allocators count, what the system
// counts.

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "engine/prefill_job.h"
#include "lacake/engine.h"
#include "lacake/memory.h"

namespace lacake {
namespace {

std::vector<Token> read_ids(const char* path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  std::vector<Token> ids((std::size_t)in.tellg() / sizeof(Token));
  in.seekg(0);
  in.read((char*)ids.data(), (std::streamsize)(ids.size() * sizeof(Token)));
  return ids;
}

nlohmann::json as_json(const MemoryPlan& m) {
  return {{"program", m.program},
          {"vocabulary", m.vocabulary},
          {"mapped_weights", m.mapped_weights},
          {"second_weights", m.second_weights},
          {"cache", m.cache},
          {"policy_metadata", m.policy_metadata},
          {"layer_workspace", m.layer_workspace},
          {"hidden_states", m.hidden_states},
          {"compute", m.compute},
          {"total", m.total()}};
}

void probe(char** argument) {
  const std::vector<Token> prompt = read_ids(argument[5]);
  const std::size_t n_decode = std::strtoul(argument[6], nullptr, 10);
  const Model model(argument[0]);
  const std::uint64_t opened = resident_bytes();
  Engine engine(model, {.threads = 2});
  const auto session =
      engine.open({.policy = PolicySpec::parse(argument[1]),
                   .budget = Budget::parse(argument[2]),
                   .types = CacheTypes::parse(argument[4]),
                   .prefill = std::string(argument[3]) == "exact" ? PrefillMode::kExact : PrefillMode::kStreaming,
                   .prompt_tokens = prompt.size(),
                   .new_tokens = n_decode,
                   .single_turn = true});
  std::uint64_t most_held = 0;
  const PrefillOptions hooks{.progress = [&](std::size_t, std::size_t) {
    most_held = std::max(most_held, session->use().held_bytes);
    return true;
  }};
  std::uint64_t workspace = 0, hidden = 0;
  {
    Session* const reads[] = {session.get()};
    PrefillJob::State job(engine.state(), reads, prompt, hooks);
    while (job.advance()) {
      workspace = std::max(workspace, job.memory().workspace.bytes());
      hidden = std::max(hidden, job.memory().hidden.bytes());
    }
  }
  const std::uint64_t prefilled = resident_bytes();
  for (std::size_t i = 0; i < n_decode; ++i) {
    session->step(prompt[i % prompt.size()]);
    most_held = std::max(most_held, session->use().held_bytes);
  }
  const CacheUse use = session->use();
  const nlohmann::json report = {
      {"plan", as_json(session->plan().memory)},
      {"cache",
       {{"budget", use.budget_bytes}, {"peak", use.peak_bytes}, {"most_held", most_held}, {"full", use.full_bytes}}},
      {"workspace", workspace},
      {"hidden_states", hidden},
      {"compute", engine.state().place.graph_bytes()},
      {"rope_table", engine.state().rope_table.bytes()},
      {"policy_metadata", session->policy().metadata_bytes()},
      {"resident",
       {{"opened", opened}, {"prefilled", prefilled}, {"now", resident_bytes()}, {"peak", peak_resident_bytes()}}},
  };
  std::printf("%s\n", report.dump().c_str());
}

}  // namespace
}  // namespace lacake

int main(int argc, char** argv) {
  if (argc != 8) return 2;
  try {
    lacake::probe(argv + 1);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "lacake_memory_probe: %s\n", error.what());
    return 1;
  }
  return 0;
}
