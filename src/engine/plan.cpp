#include "engine/plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "cache/cache.h"
#include "engine/decode.h"
#include "engine/entry_measures.h"
#include "engine/prefill_pass.h"
#include "engine/reading_limits.h"
#include "lacake/error.h"

namespace lacake {
namespace {

constexpr std::size_t kMostEntries = 1'000'000'000'000;  // as in Budget: bytes computed from it do not overflow
constexpr std::size_t kLeastChunk = 32;                  // CAKE's window: a chunk should fill it

[[noreturn]] void refuse(Error::Fields fields) { throw Error(std::move(fields)); }

ggml_type cache_type(const std::string& name, const char* which, int d) {
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q5_1,
                               GGML_TYPE_Q5_0, GGML_TYPE_Q4_1, GGML_TYPE_Q4_0, GGML_TYPE_IQ4_NL}) {
    if (name == ggml_type_name(type)) {
      if (d % ggml_blck_size(type) == 0) return type;
      refuse({.kind = Error::Kind::kUsage,
              .subject = "kv_type " + name,
              .expected = fmt::format("a head size that is a multiple of {}", ggml_blck_size(type)),
              .found = fmt::format("{} for {}", d, which)});
    }
  }
  refuse({.kind = Error::Kind::kUsage,
          .subject = "kv_type",
          .expected = fmt::format("one of {} for {}", fmt::join(CacheTypes::kNames, ", "), which),
          .found = fmt::format("\"{}\"", name)});
}

// Tokens of a text that are not worth a repeat of their own.
constexpr std::size_t kLeastRepeat = 64;

// Of each layer what is asked for with and before its question. As if all entries were new: this policy has not seen
// what will be kept, and may ask for nothing before it is full.
std::vector<Measures> all_measures(const EngineState& engine, const Policy& policy, std::size_t n_entries) {
  std::vector<Measures> all;
  for (int l = 0; l < engine.layers.policy_shape().n_layer; ++l) {
    all.push_back(policy.measures(Phase::kPrefill, l, n_entries, n_entries));
    all.push_back(policy.measures_before_question(l, n_entries, n_entries));
  }
  return all;
}

class Planner {
 public:
  Planner(EngineState& engine, const SessionOptions& options)
      : engine_(engine),
        options_(options),
        h_(engine.model.hyperparameters),
        shape_(engine.layers.policy_shape()),
        cache_(cache_shape(h_, options.types)),
        type_(*options.policy.type) {}

  SessionPlan plan() {
    plan_.entry_bytes = cache_.entry_bytes();
    if (options_.budget.given()) {
      plan_.budget_bytes = options_.budget.bytes(cache_.entry_bytes(), h_.n_layer, options_.prompt_tokens);
    }
    if (!type_.bounded) {
      choose_unbounded();
    } else if (options_.policy.cache_size > 0) {
      choose_given();
    } else {
      choose_largest();
    }
    if (plan_.cache_size > kMostEntries) {
      refuse({.kind = Error::Kind::kUsage,
              .subject = "policy " + type_.name,
              .expected = fmt::format("a cache size of at most {} entries a layer", kMostEntries),
              .found = fmt::format("{}", plan_.cache_size)});
    }
    if (!options_.budget.given()) plan_.budget_bytes = layer_entries_bytes(max_entries(plan_.cache_size));
    // The arena holds whole entries.
    plan_.budget_bytes = plan_.budget_bytes / cache_.entry_bytes() * cache_.entry_bytes();
    plan_.n_sliding_layers = engine_.layers.n_sliding();
    plan_.sliding_entries = engine_.layers.sliding_entries(max_entries(plan_.cache_size));
    plan_.full_layer_entries = budget_entries();
    const auto policy = type_.make(options_.policy.settings, shape_, plan_.cache_size);
    choose_chunk(policy->traits());
    check_positions(engine_, options_, *policy, options_.prompt_tokens);
    check_peak(plan_, options_, *policy, 0, options_.prompt_tokens);
    check_learned(*policy);
    plan_memory(*policy);
    check_memory();
    return plan_;
  }

 private:
  std::size_t max_entries(std::size_t c) const {
    return type_.max_entries_per_layer(options_.policy.settings, shape_, c);
  }
  std::uint64_t layer_entries_bytes(std::size_t entries) const {
    return (std::uint64_t)engine_.layers.total(entries) * cache_.entry_bytes();
  }
  // Entries a layer on average; of those with full attention, where others slide.
  std::size_t budget_entries() const {
    return engine_.layers.full_entries((std::size_t)(plan_.budget_bytes / cache_.entry_bytes()));
  }

  void choose_unbounded() {
    std::size_t conversation = options_.prompt_tokens + options_.new_tokens;
    if (conversation == 0) conversation = (std::size_t)h_.n_ctx_train;
    plan_.cache_size = options_.policy.cache_size > 0 ? options_.policy.cache_size : conversation;
    if (!options_.budget.given()) return;
    const std::size_t fits = budget_entries();
    if (max_entries(plan_.cache_size) <= fits) {
      // Later turns may use all that was given.
      if (options_.policy.cache_size == 0) plan_.cache_size += fits - max_entries(plan_.cache_size);
      return;
    }
    const std::size_t answer = fits > options_.prompt_tokens ? fits - options_.prompt_tokens : 0;
    const std::string shorter =
        answer > 1 ? fmt::format("an answer of {} tokens (`predict` {}), ", answer - 1, answer - 1) : "";
    refuse({.kind = Error::Kind::kCapacity,
            .subject = fmt::format("kv_budget {}", options_.budget.text()),
            .expected = fmt::format(
                "{} entries a layer ({}) for a prompt of {} and an answer of {} tokens, of which policy "
                "{} evicts nothing",
                max_entries(plan_.cache_size), bytes_text(layer_entries_bytes(max_entries(plan_.cache_size))),
                options_.prompt_tokens, options_.new_tokens, type_.name),
            .found = fmt::format("{}", fits),
            .remedy = shorter + "a larger budget or a policy that evicts would do"});
  }

  void choose_given() {
    plan_.cache_size = options_.policy.cache_size;
    const std::size_t least = type_.min_cache_size(options_.policy.settings, shape_);
    if (plan_.cache_size < least) {
      refuse({.kind = Error::Kind::kUsage,
              .subject = fmt::format("policy {}: cache_size", type_.name),
              .expected = fmt::format("at least {}", least),
              .found = fmt::format("{}", plan_.cache_size)});
    }
    if (options_.budget.given() && max_entries(plan_.cache_size) > budget_entries()) {
      refuse({.kind = Error::Kind::kUsage,
              .subject = fmt::format("policy {}: cache_size={}", type_.name, plan_.cache_size),
              .expected = fmt::format("`kv_budget` for {} entries a layer", max_entries(plan_.cache_size)),
              .found = fmt::format("{}, which holds {}", options_.budget.text(), budget_entries())});
    }
  }

  void choose_largest() {
    if (!options_.budget.given()) {
      refuse({.kind = Error::Kind::kUsage,
              .subject = "policy " + type_.name,
              .expected = "a budget (`kv_budget` 1024, 3.2% or 256MiB)",
              .found = "none"});
    }
    const std::size_t fits = budget_entries(), least = type_.min_cache_size(options_.policy.settings, shape_);
    if (max_entries(least) > fits) {
      refuse({.kind = Error::Kind::kUsage,
              .subject = fmt::format("kv_budget {}", options_.budget.text()),
              .expected = fmt::format("at least {} entries a layer ({}), which policy {} needs", max_entries(least),
                                      bytes_text(layer_entries_bytes(max_entries(least))), type_.name),
              .found = fmt::format("{}", fits)});
    }
    // Positions that are cache indices must stay where the model was trained.
    std::size_t low = least, high = fits;
    const bool index = options_.policy.positions(shape_) == Positions::kCompacted;
    if (index) high = std::min(high, (std::size_t)h_.n_ctx_train);
    while (low < high) {
      const std::size_t middle = low + (high - low + 1) / 2;
      const bool trained = !index || max_entries(middle) + kLeastChunk <= (std::size_t)h_.n_ctx_train;
      if (max_entries(middle) <= fits && trained) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    plan_.cache_size = low;
  }

  void choose_chunk(const PolicyTraits& traits) {
    std::size_t wanted =
        options_.chunk > 0 ? options_.chunk : std::clamp(budget_entries() / 8, kLeastChunk, kComputeChunk);
    // Cache indices of a chunk follow those that are kept, one token of a step less than the largest.
    if (traits.positions == Positions::kCompacted) {
      const std::size_t kept = max_entries(plan_.cache_size) - 1, trained = (std::size_t)h_.n_ctx_train;
      wanted = std::min(wanted, trained > kept ? trained - kept : 1);
    }
    plan_.chunk = options_.prefill == PrefillMode::kExact ? options_.prompt_tokens : wanted;
  }

  void plan_memory(const Policy& policy) {
    const PolicyTraits& traits = policy.traits();
    const std::size_t per_layer = (std::size_t)budget_entries();
    MemoryPlan& m = plan_.memory;
    m.program = engine_.model.resident_before;
    m.vocabulary = engine_.model.vocabulary_bytes;
    m.mapped_weights = engine_.model.weights.mapped_bytes();
    for (const Lora& lora : engine_.model.loras) m.mapped_weights += lora.bytes();
    m.second_weights = engine_.model.weights.second_bytes();
    m.cache = plan_.budget_bytes;
    m.policy_metadata =
        policy.metadata_bytes() + Cache::metadata_bytes(cache_, traits, engine_.layers.total(per_layer));
    std::size_t n_new = std::max<std::size_t>(plan_.chunk, 1);
    if (options_.prompt_tokens > 0) n_new = std::min(n_new, options_.prompt_tokens);
    std::size_t n_kept = 0;
    if (options_.prefill == PrefillMode::kStreaming) {
      const std::size_t most = per_layer * (traits.uneven_layers ? engine_.layers.n_full() : 1);
      n_kept = std::min(most, std::max(options_.prompt_tokens, n_new) - n_new);
    }
    const RepeatSizes repeats = repeat_sizes(engine_, options_, policy, n_new);
    m.layer_workspace = workspace_shape(engine_, cache_, policy, n_kept, n_new, repeats.longest).total();
    m.hidden_states = (std::uint64_t)(n_new + repeats.all) * (std::uint64_t)h_.n_embd * sizeof(float);
    bool sees_queries = false;
    const std::uint64_t measures = measure_bytes(policy, n_kept + n_new, sees_queries);
    const std::uint64_t beside_graph =
        matmul::bytes_beside_graph(engine_.model.product, std::min(n_new, kComputeChunk), (std::size_t)h_.n_ff);
    m.compute = prefill_compute_bytes(engine_, cache_, n_kept, n_new + repeats.longest, sees_queries) + measures +
                decode_compute_bytes(engine_, cache_, per_layer) + beside_graph +
                (std::uint64_t)h_.n_vocab * sizeof(float);
    if (traits.positions == Positions::kCompacted) {
      m.compute += RopeTable::bytes_for(h_, std::max(per_layer, n_kept + n_new + repeats.longest));
    }
    m.turn_copy = turn_copy_bytes();
  }

  // Whose scores they are is asked here and not when the model is opened, because its weights are read for it.
  void check_learned(const Policy& policy) const {
    if (!policy.measures(Phase::kPrefill, 0, 1, 1).learned && !policy.measures(Phase::kDecode, 0, 1, 1).learned) return;
    if (!engine_.model.calibration) {
      refuse({.kind = Error::Kind::kUsage,
              .subject = "policy " + type_.name,
              .expected = "a model with learned scores (`calibration`)",
              .found = "none"});
    }
    engine_.model.check_calibration();
  }

  // What measuring takes beside the workspace: W_O's products with itself, which stay, and a table of rotations.
  std::uint64_t measure_bytes(const Policy& policy, std::size_t n_entries, bool& sees_queries) const {
    std::uint64_t rotations = 0;
    bool grams = false;
    for (const Measures& m : all_measures(engine_, policy, n_entries)) {
      grams = grams || m.value_norm == ValueNorm::kOutput;
      if (m.expected_positions == 0) continue;
      sees_queries = true;
      rotations = std::max(rotations, rotation_bytes(h_, (std::size_t)m.expected_positions));
    }
    return (grams ? engine_.layers.n_full() * OutputGrams::bytes_for(h_) : 0) + rotations;
  }

  // Of what a later turn may lose: everything, or the sliding-window layers of a policy that keeps the others whole.
  std::uint64_t turn_copy_bytes() const {
    if (options_.single_turn) return 0;
    const MemoryPlan& m = plan_.memory;
    const std::uint64_t sliding = plan_.n_sliding_layers * plan_.sliding_entries * cache_.entry_bytes();
    return (type_.bounded ? m.cache : sliding) + m.policy_metadata + (std::uint64_t)h_.n_vocab * sizeof(float);
  }

  // Reserved memory is there already; otherwise the cache has to be allocated with the rest.
  void check_memory() const {
    const MemoryPlan& m = plan_.memory;
    const KvPool& pool = engine_.kv_pool;
    if (pool.has_reservation() && m.cache > pool.reserved()) {
      refuse({.kind = Error::Kind::kCapacity,
              .subject = "KV cache of " + bytes_text(m.cache),
              .expected = fmt::format("at most the {} of `kv_memory`", bytes_text(pool.reserved())),
              .found = bytes_text(m.cache)});
    }
    const std::uint64_t cache = pool.has_reservation() ? 0 : m.cache;
    const std::uint64_t others = m.policy_metadata + m.layer_workspace + m.hidden_states + m.compute + m.turn_copy;
    const std::uint64_t available = engine_.place.free_bytes();
    if (cache + others <= available) return;
    // Metadata, tables and copies grow with the cache, so a smaller one would take less of them: all of it in
    // proportion.
    const std::uint64_t fixed = m.layer_workspace + m.hidden_states;
    const double for_cache = (double)m.cache / (double)(m.cache + m.policy_metadata + m.compute + m.turn_copy);
    const auto room = (std::uint64_t)(available > fixed ? (double)(available - fixed) * for_cache : 0);
    refuse({.kind = Error::Kind::kCapacity,
            .subject = "memory",
            .found = fmt::format("KV cache of {} and {} of other memory do not fit: {} are available",
                                 bytes_text(m.cache), bytes_text(others), bytes_text(available)),
            .remedy = fmt::format("at most `kv_budget` {} ({} entries a layer) would", budget_text(room),
                                  room / cache_.entry_bytes() / (std::uint64_t)h_.n_layer)});
  }

  static std::string budget_text(std::uint64_t bytes) { return fmt::format("{}MiB", bytes >> 20); }

  EngineState& engine_;
  const SessionOptions& options_;
  const Hyperparameters& h_;
  AttentionShape shape_;
  CacheShape cache_;
  const PolicyType& type_;
  SessionPlan plan_;
};

}  // namespace

CacheShape cache_shape(const Hyperparameters& h, const CacheTypes& types) {
  return {.n_layer = h.n_layer,
          .n_head_kv = h.n_head_kv,
          .d_k = h.d_k,
          .d_v = h.d_v,
          .type_k = cache_type(types.k, "K", h.d_k),
          .type_v = cache_type(types.v, "V", h.d_v)};
}

std::size_t repeat_chunk(const EngineState& engine, const SessionOptions& options, const Policy& policy,
                         std::size_t end) {
  const std::size_t own = policy.traits().repeat_chunk, trained = (std::size_t)engine.model.hyperparameters.n_ctx_train;
  const std::size_t taken = end + options.repeat_frame;
  if (engine.any_length || taken + kLeastRepeat > trained) return own;
  return std::min(own, trained - taken);
}

RepeatSizes repeat_sizes(const EngineState& engine, const SessionOptions& options, const Policy& policy,
                         std::size_t n) {
  // The longest text that can be repeated has the smallest chunks.
  const std::size_t trained = (std::size_t)engine.model.hyperparameters.n_ctx_train;
  const std::size_t beside = options.repeat_frame + kLeastRepeat;
  const std::size_t chunk = repeat_chunk(engine, options, policy, std::min(n, trained - std::min(trained, beside)));
  if (chunk == 0 || n == 0 || options.prefill != PrefillMode::kExact) return {};
  if (policy.measures(Phase::kPrefill, 0, n, n).repeat == RepeatScore::kNone &&
      policy.measures_before_question(0, n, n).repeat == RepeatScore::kNone) {
    return {};
  }
  return {std::min(chunk, n) + options.repeat_frame, n + (n + chunk - 1) / chunk * options.repeat_frame};
}

WorkspaceShape workspace_shape(const EngineState& engine, const CacheShape& cache, const Policy& policy,
                               std::size_t n_kept, std::size_t n_new, std::size_t n_repeat) {
  const Hyperparameters& h = engine.model.hyperparameters;
  const std::size_t n_rows = n_new + n_repeat, n_entries = n_kept + n_rows;
  std::size_t floats = 0;
  std::uint64_t inputs = 0;
  for (const Measures& m : all_measures(engine, policy, n_kept + n_new)) {
    const bool repeats = n_repeat > 0 && m.repeat != RepeatScore::kNone;
    const std::size_t rows = std::min((std::size_t)m.window, n_new) + (m.accumulated ? 1 : 0) + (repeats ? 1 : 0);
    const EntryMeasures beside(h, {&m, 1}, n_kept + n_new, n_kept > 0, engine.place.threads());
    floats = std::max(floats, n_entries * rows * (std::size_t)h.n_head + beside.floats());
    inputs = std::max(inputs, input_bytes(m.learned, m.inputs, n_new, h));
  }
  const std::uint64_t heads = (std::uint64_t)cache.n_head_kv, k = n_rows * heads * cache.k_row();
  // The first segment's keys are attended rotated, whatever the cache keeps.
  const bool both = policy.traits().positions == Positions::kCompacted;
  return {.k = k,
          .v = n_rows * heads * cache.v_row(),
          .record = (std::uint64_t)floats * sizeof(float),
          .k_plain = both ? k : 0,
          .inputs = inputs};
}

SessionOptions with_settings_at_opening(const EngineState& engine, SessionOptions options) {
  const PolicyType& type = *options.policy.type;
  if (!type.settings_at_opening) return options;
  double share = options.budget.unit == Budget::Unit::kShare ? options.budget.value : options.budget_share;
  if (options.policy.cache_size > 0) share = 0;  // the budget is not asked then
  options.policy.check();
  options.policy.settings.merge(
      type.settings_at_opening(options.policy.settings, engine.layers.policy_shape(), std::clamp(share, 0.0, 1.0)));
  return options;
}

SessionPlan plan_session(EngineState& engine, const SessionOptions& options) {
  options.policy.check();
  return Planner(engine, options).plan();
}

}  // namespace lacake
