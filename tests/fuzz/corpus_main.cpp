// Writes the corpus: lacake_snapshot_corpus FOLDER. Small files of every policy, and of types and models that differ in
// what a file holds.

#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "base/files.h"
#include "fuzz/world.h"
#include "lacake/conversation.h"

namespace lacake::fuzzing {
namespace {

struct Sample {
  const char* name;
  const char* policy;
  const char* budget = "";
  const char* types = "f16";
  bool streaming = false;
  bool sliding = false;
};

constexpr Sample kSamples[] = {
    {"full", "full"},
    {"full_compacted", "full:positions=compacted"},
    {"streaming_llm", "streaming-llm:sinks=1", "12"},
    {"lacache", "lacache:span=1,sinks=1", "14", "f16", true},
    {"lacache_script", "lacache:span=1,sinks=1,query=script", "14"},
    {"cake", "cake:window=2", "12"},
    {"cake_score", "cake:window=2,order=score,evict_fraction=0.2", "12"},
    {"snapkv", "snapkv:window=2", "10", "f32"},
    {"snapkv_adaptive", "snapkv:window=2,heads=adaptive", "10"},
    {"pyramidkv", "pyramidkv:window=2", "12"},
    {"h2o", "h2o", "10"},
    {"h2o_adaptive", "h2o:heads=adaptive", "10", "bf16"},
    {"tova", "tova", "8"},
    {"keydiff", "keydiff", "10"},
    {"trellis", "trellis:window=2,sinks=1", "12"},
    {"trellis_compacted", "trellis:window=2,rows=4,preference=0,positions=compacted,every=1", "12", "f16", true},
    {"random", "random:sinks=1,window=2", "10"},
    {"sliding_full", "full", "", "q8_0", false, true},
    {"sliding_cake", "cake:window=2", "12", "q4_0", false, true},
    {"sliding_trellis", "trellis:window=2", "10", "q8_0,f16", false, true},
};

void write(const std::string& path, const Sample& sample, const std::string& saved) {
  const char mode = (char)(kSealed | (sample.sliding ? kSliding : 0));
  replace_durably(path, mode + read_file(saved));
}

SessionOptions options_of(const Sample& sample) {
  return {.policy = PolicySpec::parse(sample.policy),
          .budget = *sample.budget ? Budget::parse(sample.budget) : Budget{},
          .types = CacheTypes::parse(sample.types),
          .prefill = sample.streaming ? PrefillMode::kStreaming : PrefillMode::kExact,
          .chunk = sample.streaming ? std::size_t{4} : 0,
          .prompt_tokens = 16,
          .new_tokens = 24};
}

void write_all(const std::string& folder) {
  World plain(false), sliding(true);
  const std::string saved = folder + "/saved.kv";
  for (const Sample& sample : kSamples) {
    World& w = sample.sliding ? sliding : plain;
    const auto session = w.engine.open(options_of(sample));
    session->prefill(models::random_tokens(w.tiny, 16, 3));
    const auto checkpoint = session->checkpoint();
    const SessionCheckpoint* const checkpoints[] = {checkpoint.get()};
    for (const Token token : models::random_tokens(w.tiny, 6, 4)) session->step(token);
    session->save(saved, {}, checkpoints);
    write(folder + "/" + sample.name, sample, saved);
  }
  for (const Sample sample : {Sample{"talk", "tova", "12"}, Sample{"talk_full", "full"}}) {
    ConversationOptions options{.session = options_of(sample), .opening = {{"system", "be a b c"}}, .raw = true};
    options.session.prompt_tokens = 100;
    options.checkpoint_bytes = options.saved_checkpoint_bytes = 1 << 14;
    options.generation.limits.answer = 3;
    Conversation conversation(plain.model, plain.engine, options);
    conversation.ask({"user", "why do a b c follow one another, and what comes behind d e f g h i j k?"});
    conversation.read_ahead("l m n");
    conversation.save(saved);
    write(folder + "/" + sample.name, sample, saved);
  }
  std::filesystem::remove(saved);
}

}  // namespace
}  // namespace lacake::fuzzing

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  try {
    lacake::fuzzing::write_all(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
