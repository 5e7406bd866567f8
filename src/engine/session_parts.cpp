#include "engine/session_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "attention/mix.h"
#include "lacake/error.h"
#include "snapshot/policy_parts.h"

namespace lacake {
namespace {

constexpr const char* kKind = "lacake.session";
constexpr const char* kKeysMixed = "cache.keys_mixed";
constexpr const char* kValuesMixed = "cache.values_mixed";
constexpr std::uint64_t kMany = INT32_MAX;
constexpr std::uint64_t kMostMoments = 10'000;

// A file has a session as it is now and at earlier moments. What begins the names of a moment's parts:
constexpr const char* kNow = "";
std::string moment_name(std::size_t moment) { return fmt::format("at.{}.", moment); }

std::string layer_part(const std::string& when, int layer, const char* what) {
  return fmt::format("{}blk.{}.{}", when, layer, what);
}

std::vector<std::int64_t> differences(std::span<const std::int32_t> values) {
  std::vector<std::int64_t> result(values.size());
  std::int64_t before = 0;
  for (std::size_t i = 0; i < values.size(); ++i) result[i] = values[i] - std::exchange(before, values[i]);
  return result;
}

// What differences() was made of.
std::vector<std::int64_t> sums(std::span<const std::int64_t> steps) {
  std::vector<std::int64_t> result;
  std::uint64_t sum = 0;  // whose overflow is defined, whatever a file says
  for (const std::int64_t step : steps) result.push_back((std::int64_t)(sum += (std::uint64_t)step));
  return result;
}

// Heads of a layer that hold entries of their own: all of them, or one that stands for all.
int n_lists(const Cache& cache) { return cache.per_head() ? cache.arena().shape().n_head_kv : 1; }

// A session as it is now, or as it was when a copy of it was made. Borrows both.
class Moment {
 public:
  Moment(const SessionState& session, const SessionCopy* copy) : session_(session), copy_(copy) {}

  const CacheShape& shape() const { return cache().arena().shape(); }
  int n_lists() const { return lacake::n_lists(cache()); }
  std::span<const float> logits() const { return copy_ ? copy_->logits : session_.logits(); }
  const Policy& policy() const { return copy_ ? *copy_->policy : session_.policy(); }
  // Else the layer's entries are the first of those that it has now.
  bool has_entries(int layer) const { return !copy_ || copy_->cache.has_rows(layer); }
  std::size_t length(int layer, int head) const {
    return copy_ ? cache().length(copy_->cache, layer, head) : cache().length(layer, head);
  }
  std::span<const std::uint32_t> slots(int layer, int head) const {
    return copy_ ? cache().slots(copy_->cache, layer, head) : cache().slots(layer, head);
  }
  std::span<const std::int32_t> positions(int layer, int head) const {
    return copy_ ? cache().positions(copy_->cache, layer, head) : cache().positions(layer, head);
  }
  void copy_rows_out(int layer, int head, bool keys, std::span<std::byte> to) const {
    copy_ ? cache().copy_rows_out(copy_->cache, layer, head, keys, to) : cache().copy_rows_out(layer, head, keys, to);
  }
  std::size_t policy_length(int layer, int head) const {
    return length(session_.engine().layers.model_layers()[(std::size_t)layer], head);
  }

 private:
  const Cache& cache() const { return session_.cache(); }
  const SessionState& session_;
  const SessionCopy* copy_;
};

void save_layer(const Moment& moment, const std::string& when, int layer, PartsWriter& file) {
  const CacheShape& shape = moment.shape();
  std::vector<std::int64_t> positions, slots;
  bool moved = false;
  for (int head = 0; head < moment.n_lists(); ++head) {
    const std::vector<std::int64_t> steps = differences(moment.positions(layer, head));
    positions.insert(positions.end(), steps.begin(), steps.end());
    for (std::size_t i = 0; i < moment.length(layer, head); ++i) {
      slots.push_back(moment.slots(layer, head)[i]);
      moved = moved || moment.slots(layer, head)[i] != i;
    }
  }
  if (positions.empty()) return;
  file.add_varints(layer_part(when, layer, "positions"), positions);
  if (moved) file.add_integers(layer_part(when, layer, "slots"), slots);

  std::int64_t n = 0;
  for (int head = 0; head < shape.n_head_kv; ++head) n += (std::int64_t)moment.length(layer, head);
  const auto add_rows = [&](const char* name, ggml_type type, std::int64_t size, bool keys) {
    file.add(layer_part(when, layer, name), type, std::array<std::int64_t, 2>{size, n},
             [moment, &shape, layer, keys](std::span<std::byte> to) {
               for (int head = 0; head < shape.n_head_kv; ++head) {
                 const std::size_t bytes = moment.length(layer, head) * (keys ? shape.k_row() : shape.v_row());
                 moment.copy_rows_out(layer, head, keys, to.first(bytes));
                 to = to.subspan(bytes);
               }
             });
  };
  add_rows("k", shape.type_k, shape.d_k, true);
  add_rows("v", shape.type_v, shape.d_v, false);
}

// All that changes while a session lives, but the tokens that it was fed.
void save_moment(const Moment& moment, const std::string& when, PartsWriter& file) {
  const std::span<const float> logits = moment.logits();
  file.add(when + "logits", std::vector<float>(logits.begin(), logits.end()));
  // What attention and policies count, of every layer and head: [n_head_kv * n_layer].
  std::vector<std::int64_t> lengths;
  for (int layer = 0; layer < moment.shape().n_layer; ++layer) {
    for (int head = 0; head < moment.shape().n_head_kv; ++head) {
      lengths.push_back((std::int64_t)moment.length(layer, head));
    }
  }
  file.add_integers(when + "lengths", lengths);
  for (int layer = 0; layer < moment.shape().n_layer; ++layer) {
    if (moment.has_entries(layer)) save_layer(moment, when, layer, file);
  }
  const EntryCount n_entries = [&](int layer, int head) { return moment.policy_length(layer, head); };
  save_policy(*moment.policy().clone(), n_entries, file, when);
}

constexpr std::array<const char*, 4> kBudgetUnits = {"none", "entries", "share", "bytes"};  // as Budget::Unit has them

void save_options(const SessionOptions& options, PartsWriter& file) {
  file.set("session.policy", options.policy.text());
  file.set("session.kv_budget.unit", kBudgetUnits[(std::size_t)options.budget.unit]);
  file.set("session.kv_budget.value", options.budget.value);
  file.set("session.kv_type", options.types.text());
  file.set("session.prefill", prefill_name(options.prefill));
  file.set("session.chunk", (std::uint64_t)options.chunk);
  file.set("session.prompt_tokens", (std::uint64_t)options.prompt_tokens);
  file.set("session.new_tokens", (std::uint64_t)options.new_tokens);
  file.set("session.single_turn", options.single_turn);
}

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
}

std::vector<std::size_t> saved_lengths(const PartsFile& file, const std::string& when, std::size_t n_lanes) {
  const std::vector<std::int64_t> lengths = file.integers(when + "lengths");
  if (lengths.size() != n_lanes) {
    file.fail("part " + when + "lengths", fmt::format("{} numbers", n_lanes), fmt::format("{}", lengths.size()));
  }
  for (const std::int64_t n : lengths) {
    if (n < 0 || n > INT32_MAX) file.fail("part " + when + "lengths", "numbers of entries", fmt::format("{}", n));
  }
  return {lengths.begin(), lengths.end()};
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
  const std::vector<Cache::Entries> entries((std::size_t)n_lists(cache), all);
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
    if (head < n_lists(cache)) n_listed += n;
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
  for (int head = 0; head < n_lists(cache); ++head) {
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

void save_session(const SessionState& session, std::span<const SessionCopy* const> moments, PartsWriter& file) {
  const LoadedModel& model = session.engine().model;
  const Cache& cache = session.cache();
  const CacheShape& shape = cache.arena().shape();
  file.set("general.type", kKind);
  file.set("snapshot.version", kSnapshotVersion);
  file.set("model.name", model.display_name());
  file.set("model.architecture", model.facts.architecture);
  file.set("model.fingerprint", model.fingerprint());
  save_options(session.options(), file);
  file.set("session.n_tokens", (std::uint64_t)session.n_past());
  file.set("session.cache_size", (std::uint64_t)session.plan().cache_size);
  file.set("session.budget_bytes", session.plan().budget_bytes);
  file.set("cache.n_layer", (std::uint64_t)shape.n_layer);
  file.set("cache.n_head_kv", (std::uint64_t)shape.n_head_kv);
  file.set("cache.head_size_k", (std::uint64_t)shape.d_k);
  file.set("cache.head_size_v", (std::uint64_t)shape.d_v);
  file.set("cache.per_head", cache.per_head());
  file.set("cache.keys_rotated", !session.cache_index());
  file.set(kKeysMixed, attention::is_mixed(shape.type_k));
  file.set(kValuesMixed, attention::is_mixed(shape.type_v));

  std::string text;
  std::vector<std::int64_t> text_lengths;
  for (const Token token : session.tokens()) {
    const std::string piece = model.vocabulary.piece(token, ControlTokens::kShown);
    text += piece;
    text_lengths.push_back((std::int64_t)piece.size());
  }
  file.add_integers("tokens", std::vector<std::int64_t>(session.tokens().begin(), session.tokens().end()));
  file.add_text("text", text);
  file.add_integers("text_lengths", text_lengths);
  save_moment({session, nullptr}, kNow, file);
  file.set("session.n_checkpoints", (std::uint64_t)moments.size());
  for (std::size_t i = 0; i < moments.size(); ++i) {
    file.set(moment_name(i) + "n_tokens", (std::uint64_t)moments[i]->n_tokens);
    file.set(moment_name(i) + "bytes", moments[i]->bytes());
    save_moment({session, moments[i]}, moment_name(i), file);
  }
}

void require_snapshot(const PartsFile& file) {
  if (!file.has("general.type") || file.text("general.type") != kKind) {
    file.fail("general.type", kKind, file.has("general.type") ? file.text("general.type") : "none");
  }
  file.number("snapshot.version", kOldestSnapshotVersion, kSnapshotVersion);
}

SessionOptions saved_options(const PartsFile& file) {
  SessionOptions options;
  try {
    options.policy = PolicySpec::parse(file.text("session.policy"));
    options.types = CacheTypes::parse(file.text("session.kv_type"));
  } catch (const Error& e) {
    throw Error({.subject = file.path(),
                 .found = fmt::format("made with a policy or setting that is not known here: {}", e.what())});
  }
  const std::string unit = file.text("session.kv_budget.unit");
  const auto known = std::find(kBudgetUnits.begin(), kBudgetUnits.end(), unit);
  if (known == kBudgetUnits.end()) file.fail("session.kv_budget.unit", "none, entries, share or bytes", unit);
  options.budget = {(Budget::Unit)(known - kBudgetUnits.begin()), file.real("session.kv_budget.value")};
  // What Budget::parse would have refused.
  constexpr std::array<double, 4> kMost = {0, 1e12, 1, 1e18};  // as kBudgetUnits
  const double value = options.budget.value, most = kMost[(std::size_t)options.budget.unit];
  const bool whole = options.budget.unit == Budget::Unit::kShare || value == std::floor(value);
  if (options.budget.given() ? value <= 0 || value > most || !whole : value != 0) {
    file.fail("session.kv_budget.value", fmt::format("above 0, {} at most", most), fmt::format("{}", value));
  }
  const std::string prefill = file.text("session.prefill");
  if (prefill != "exact" && prefill != "streaming") file.fail("session.prefill", "exact or streaming", prefill);
  options.prefill = prefill == "exact" ? PrefillMode::kExact : PrefillMode::kStreaming;
  options.chunk = file.number("session.chunk", 0, kMany);
  options.prompt_tokens = file.number("session.prompt_tokens", 0, kMany);
  options.new_tokens = file.number("session.new_tokens", 0, kMany);
  options.single_turn = file.flag("session.single_turn");
  return options;
}

std::vector<SavedCheckpoint> saved_checkpoints(const PartsFile& file) {
  const std::uint64_t n_tokens = file.number("session.n_tokens", 0, kMany);
  const std::uint64_t n = file.number("session.n_checkpoints", 0, kMostMoments);
  std::vector<SavedCheckpoint> all;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t least = all.empty() ? 0 : all.back().n_tokens;
    all.push_back({.n_tokens = file.number(moment_name(i) + "n_tokens", least, n_tokens),
                   .bytes = file.number(moment_name(i) + "bytes", 0, INT64_MAX)});
  }
  return all;
}

std::uint64_t saved_row_bytes(const PartsFile& file) {
  std::uint64_t bytes = 0;
  for (const std::string& name : file.part_names()) {
    const bool rows = name.starts_with("blk.") && (name.ends_with(".k") || name.ends_with(".v"));
    if (rows) bytes += file.part(name).bytes.size();
  }
  return bytes;
}

std::vector<std::int64_t> saved_positions(const PartsFile& file, int layer, int head) {
  const std::size_t n_layer = file.number("cache.n_layer", 1, kMany),
                    n_head_kv = file.number("cache.n_head_kv", 1, kMany);
  const std::vector<std::size_t> lengths = saved_lengths(file, kNow, n_layer * n_head_kv);
  const std::size_t first = (std::size_t)layer * n_head_kv;
  const std::size_t list = file.flag("cache.per_head") ? (std::size_t)head : 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < list; ++i) begin += lengths[first + i];
  if (lengths[first + list] == 0) return {};
  const std::string name = layer_part(kNow, layer, "positions");
  const std::vector<std::int64_t> steps = file.varints(name);
  if (begin + lengths[first + list] > steps.size()) {
    file.fail("part " + name, "as many numbers as `lengths` says", fmt::format("{}", steps.size()));
  }
  return sums(std::span(steps).subspan(begin, lengths[first + list]));
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
