#include "engine/save_session.h"

#include <array>
#include <string>
#include <vector>

#include "attention/mix.h"
#include "engine/saved_session.h"
#include "snapshot/policy_parts.h"

namespace lacake {
namespace {

// A session as it is now, or as it was when a copy of it was made. Borrows both.
class Moment {
 public:
  Moment(const SessionState& session, const SessionCopy* copy) : session_(session), copy_(copy) {}

  const CacheShape& shape() const { return cache().arena().shape(); }
  int n_lists() const { return cache().n_lists(); }
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
  file.set("session.repeat_frame", (std::uint64_t)options.repeat_frame);
}

}  // namespace

void save_session(const SessionState& session, std::span<const SessionCopy* const> moments, PartsWriter& file) {
  const LoadedModel& model = session.engine().model;
  const Cache& cache = session.cache();
  const CacheShape& shape = cache.arena().shape();
  file.set("general.type", kSessionKind);
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
  file.set(kKeysCentered, session.centers_keys());

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

}  // namespace lacake
