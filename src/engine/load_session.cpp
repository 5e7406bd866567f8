#include "engine/load_session.h"

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "attention/mix.h"
#include "engine/saved_session.h"
#include "lacake/error.h"
#include "snapshot/policy_parts.h"

namespace lacake {
namespace {

void require_shape(const PartsFile& file, const SessionState& session) {
  const Cache& cache = session.cache();
  const CacheShape& shape = cache.arena().shape();
  const auto n_layer = (std::uint64_t)shape.n_layer;
  file.number("cache.n_layer", n_layer, n_layer);
  file.number("cache.n_head_kv", (std::uint64_t)shape.n_head_kv, (std::uint64_t)shape.n_head_kv);
  file.number("cache.head_size_k", (std::uint64_t)shape.d_k, (std::uint64_t)shape.d_k);
  file.number("cache.head_size_v", (std::uint64_t)shape.d_v, (std::uint64_t)shape.d_v);
  const std::pair<const char*, bool> flags[] = {{"cache.per_head", cache.per_head()},
                                                {"cache.keys_rotated", !session.cache_index()}};
  for (const auto& [key, value] : flags) {
    if (file.flag(key) != value) file.fail(key, "as its policy declares", "another");
  }
  const std::pair<const char*, ggml_type> mixed[] = {{kKeysMixed, shape.type_k}, {kValuesMixed, shape.type_v}};
  for (const auto& [key, type] : mixed) {
    const bool saved = file.has(key) && file.flag(key);  // version 1 has neither
    if (saved == attention::is_mixed(type)) continue;
    file.fail(key, fmt::format("{} for {}, since snapshot.version 2", !saved, ggml_type_name(type)),
              fmt::format("{}: its text has to be read again", saved));
  }
  const bool centers = session.centers_keys();
  // Versions 1 and 2 do not say: they centered what they mixed.
  const bool centered =
      file.has(kKeysCentered) ? file.flag(kKeysCentered) : centers && attention::is_mixed(shape.type_k);
  if (centered == centers) return;
  file.fail(kKeysCentered, fmt::format("{} for {}, since snapshot.version 3", centers, ggml_type_name(shape.type_k)),
            fmt::format("{}: its text has to be read again", centered));
}

// Heads and layers are alike where their policy treats them alike: attention, and policies that decide once for all of
// them, count on it. What was fed once is held once at most, and all of it where nothing is evicted.
void require_lengths(const SessionState& session, const PartsFile& file, const std::string& when,
                     std::span<const std::size_t> lengths) {
  const CacheShape& shape = session.cache().arena().shape();
  const PolicyTraits& traits = session.policy().traits();
  const LayerMap& layers = session.engine().layers;
  const std::size_t first_full = lengths[shape.lane(layers.model_layers().front(), 0)];
  for (int layer = 0; layer < shape.n_layer; ++layer) {
    const std::size_t first = lengths[shape.lane(layer, 0)];
    for (int head = 0; head < shape.n_head_kv; ++head) {
      const std::size_t n = lengths[shape.lane(layer, head)];
      bool fits = n <= session.n_past();
      if (layers.slides(layer)) {
        fits = fits && n == first;
      } else if (!session.options().policy.type->bounded) {
        fits = n == session.n_past();
      } else if (!traits.uneven_heads) {
        fits = fits && n == first && (traits.uneven_layers || n == first_full);
      }
      if (fits) continue;
      file.fail("part " + when + "lengths", fmt::format("what the policy lets head {} of layer {} hold", head, layer),
                fmt::format("{}", n));
    }
  }
}

// A layer that only grew, at an earlier moment. Its rows come with those that it has now.
void put_first(Cache& cache, int layer, std::size_t n) {
  Cache::Entries all;
  for (std::size_t i = 0; i < n; ++i) {
    all.slots.push_back((std::uint32_t)i);
    all.positions.push_back((std::int32_t)i);
  }
  const std::vector<Cache::Entries> entries((std::size_t)cache.n_lists(), all);
  cache.put(layer, entries, nullptr, nullptr);
}

void load_layer(SessionState& session, const std::string& when, int layer, const PartsFile& file,
                std::span<const std::size_t> lengths) {
  Cache& cache = session.cache();
  const CacheShape& shape = cache.arena().shape();
  std::size_t n_rows = 0, n_listed = 0;
  for (int head = 0; head < shape.n_head_kv; ++head) {
    const std::size_t n = lengths[shape.lane(layer, head)];
    if (n > cache.arena().capacity(shape.lane(layer, head))) {
      file.fail("part " + when + "lengths", fmt::format("what the policy allows layer {} to hold", layer),
                fmt::format("{}", n));
    }
    n_rows += n;
    if (head < cache.n_lists()) n_listed += n;
  }
  if (n_rows == 0) return;
  if (when != kNow && !session.loses(layer)) return put_first(cache, layer, lengths[shape.lane(layer, 0)]);

  const std::string positions_name = layer_part(when, layer, "positions"),
                    slots_name = layer_part(when, layer, "slots");
  const std::vector<std::int64_t> steps = file.varints(positions_name);
  if (steps.size() != n_listed) {
    file.fail("part " + positions_name, fmt::format("{} numbers", n_listed), fmt::format("{}", steps.size()));
  }
  std::vector<std::int64_t> slots;
  if (file.has_part(slots_name)) {
    if (!session.loses(layer)) file.fail("part " + slots_name, "none of a layer that only grows", "one");
    slots = file.integers(slots_name);
    if (slots.size() != n_listed) {
      file.fail("part " + slots_name, fmt::format("{} numbers", n_listed), fmt::format("{}", slots.size()));
    }
  }
  std::vector<Cache::Entries> entries;
  std::size_t at = 0;
  for (int head = 0; head < cache.n_lists(); ++head) {
    const std::size_t n = lengths[shape.lane(layer, head)];
    Cache::Entries& own = entries.emplace_back();
    std::vector<bool> taken(n);
    const std::vector<std::int64_t> positions = sums(std::span(steps).subspan(at, n));
    for (std::size_t i = 0; i < n; ++i, ++at) {
      const std::int64_t position = positions[i];
      if (position < 0 || position >= (std::int64_t)session.n_past()) {
        file.fail("part " + positions_name, fmt::format("0 to {}", session.n_past() - 1), fmt::format("{}", position));
      }
      const std::int64_t slot = slots.empty() ? (std::int64_t)i : slots[at];
      if (slot < 0 || slot >= (std::int64_t)n || taken[(std::size_t)slot]) {
        file.fail("part " + slots_name, fmt::format("each of 0 to {} once", n - 1), fmt::format("{}", slot));
      }
      taken[(std::size_t)slot] = true;
      own.slots.push_back((std::uint32_t)slot);
      own.positions.push_back((std::int32_t)position);
    }
  }
  const FilePart k = file.part(layer_part(when, layer, "k"), shape.type_k, n_rows * (std::size_t)shape.d_k);
  const FilePart v = file.part(layer_part(when, layer, "v"), shape.type_v, n_rows * (std::size_t)shape.d_v);
  cache.put(layer, entries, k.bytes.data(), v.bytes.data());
}

// Into a session that was fed nothing.
void load_moment(SessionState& session, const std::string& when, std::span<const Token> tokens, const PartsFile& file) {
  const EngineState& engine = session.engine();
  const CacheShape& shape = session.cache().arena().shape();
  const std::size_t n_logits = tokens.empty() ? 0 : (std::size_t)engine.model.hyperparameters.n_vocab;
  const std::vector<float> logits = file.list<float>(when + "logits");
  if (logits.size() != n_logits) {
    file.fail("part " + when + "logits", fmt::format("{} numbers", n_logits), fmt::format("{}", logits.size()));
  }
  session.load({tokens.begin(), tokens.end()}, logits);
  const std::vector<std::size_t> lengths = saved_lengths(file, when, shape.n_lanes());
  load_policy(
      session.policy(),
      [&](int layer, int head) { return lengths[shape.lane(engine.layers.model_layers()[(std::size_t)layer], head)]; },
      file, when);
  require_lengths(session, file, when, lengths);
  try {
    session.reserve_lanes();
  } catch (const Error& e) {
    throw Error({.subject = file.path(), .found = fmt::format("its policy holds more than its budget: {}", e.what())});
  }
  for (int layer = 0; layer < shape.n_layer; ++layer) load_layer(session, when, layer, file, lengths);
}

}  // namespace

void require_model(const PartsFile& file, const LoadedModel& model) {
  if (file.text("model.fingerprint") == model.fingerprint()) return;
  file.fail("model", fmt::format("{} with content {}", file.text("model.name"), file.text("model.fingerprint")),
            fmt::format("{} with content {}", model.display_name(), model.fingerprint()));
}

LoadedSession load_session(EngineState& engine, const PartsFile& file, std::span<const std::size_t> moments) {
  require_snapshot(file);
  require_model(file, engine.model);
  const SessionOptions options = saved_options(file);
  const std::vector<std::int64_t> saved_tokens = file.integers("tokens");
  file.number("session.n_tokens", saved_tokens.size(), saved_tokens.size());
  std::vector<Token> tokens;
  for (const std::int64_t token : saved_tokens) {
    if (token < 0 || token >= engine.model.hyperparameters.n_vocab) {
      file.fail("part tokens", "tokens of the model", fmt::format("{}", token));
    }
    tokens.push_back((Token)token);
  }
  LoadedSession loaded{.session = std::make_unique<SessionState>(engine, options)};
  SessionState* const session = loaded.session.get();
  require_shape(file, *session);
  // The plan follows from the options; another would mean other code.
  file.number("session.cache_size", session->plan().cache_size, session->plan().cache_size);
  file.number("session.budget_bytes", session->plan().budget_bytes, session->plan().budget_bytes);
  // One moment after the other is made in the session itself, and copied.
  const std::vector<SavedCheckpoint> saved = saved_checkpoints(file);
  for (const std::size_t i : moments) {
    load_moment(*session, moment_name(i), std::span(tokens).first(saved[i].n_tokens), file);
    loaded.checkpoints.push_back({session->copy(), session, session->mark()});
    session->clear();
  }
  load_moment(*session, kNow, tokens, file);
  return loaded;
}

}  // namespace lacake
