#pragma once

// For those who write a policy: the class to implement, what it is shown, and how it answers. A policy sees numbers
// (lengths, attention statistics), never tensors, and moves no memory: it hands lists of entries to the cache. So it
// can be built and tested without a model. src/policies/README.md is a recipe.
//
//     struct Newest : lacake::Policy { ... };
//     lacake::register_policy({.name = "newest", .summary = "...", .parameters = {...},
//                              .max_entries_per_layer = ..., .min_cache_size = ..., .make = ...});
//
// Threads: a policy belongs to one session, and is called by one thread at a time, not always the same. The exception
// is PolicyTraits::layers_independent. Policies of different sessions are called at the same time. Const members may be
// called by several threads at once.
//
// Errors: make, measures, resize and visit may throw Error; the first three must then leave everything as it was.
// Nothing else may throw.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lacake/policy.h"

namespace lacake {

// Norms of an entry's value: what it adds to the hidden state at most.
enum class ValueNorm {
  kNone,
  kPlain,   // |v|, Euclidean
  kOutput,  // |W_O,h v|, Euclidean, W_O,h the part of the output projection that query head h has (adapters included,
            // the bias not): head size squared operations a query head and entry
  kOutputSum,  // |W_O,h v|_1, the sum of absolute values: a whole product with W_O an entry
};

// The mean that keys are compared with.
enum class KeyMean {
  kPlain,       // of the keys
  kNormalised,  // of the keys brought to length 1 first, so that long ones count no more than others
};

// What entries get of a repeat.
enum class RepeatScore {
  kNone,
  kPeak,  // the largest probability that any query gave them, in any head of their group
  // The largest product, over queries and heads of the group, of that probability and |W_O,h v| / |x|, x the vector
  // that the query was projected from. REQUIRES: Measures::value_norm is kOutput, group_mean false.
  kPeakOfOutput,
};

// What a policy asks of the engine before a segment's attention runs in a layer. Nothing is measured unasked.
//
// Some measures are of prompts only, and empty in decode: window_peak, value_norm, expected_positions, repeat, and what
// belongs to them.
struct Measures {
  int window = 0;               // mean, variance and entropy over the last `window` queries; 1: the last query's row
  bool accumulated = false;     // probabilities summed over all queries of the segment
  bool key_similarity = false;  // cosine of each key with the mean key of its head
  KeyMean key_mean = KeyMean::kPlain;
  bool last_row = false;    // with a window of several queries also the last query's row
  bool group_mean = false;  // window, accumulated, norms of W_O v: one column a KV head, the mean over its query heads
  // With a window: for each entry the maximum over the window's queries of its attention, each query's row first
  // pooled over 5 neighbours (mean) and scaled back to its sum (DefensiveKV, arXiv 2510.13334).
  bool window_peak = false;
  // With a window: its mean, variance, entropy and last row. false where its peak is all that is looked at: they take
  // time, and Observation has none of them then.
  bool window_mean = true;
  ValueNorm value_norm = ValueNorm::kNone;
  // The attention that queries at the next so many positions are expected to give each entry, if they are distributed
  // like the segment's: Expected Attention (arXiv 2510.00636). 0: not asked for.
  int expected_positions = 0;
  // First tokens of the conversation that are left out of it: their queries are not used, their entries get 0.
  int expected_sinks = 4;
  // Of probes that repeat a part of the segment (lacake/engine.h). Each query's probabilities are taken over the first
  // `repeat_sinks` entries that stand before the part, the part, and what it sees of the probe.
  RepeatScore repeat = RepeatScore::kNone;
  std::size_t repeat_sinks = 0;
  bool learned = false;  // what a linear map that was learned for this model says of each new token's worth; REQUIRES:
                         // AttentionShape::calibration
  bool inputs = false;   // of a prompt's segment: the columns that its keys were projected from
  // Under Positions::kCompacted alone: the RoPE index of the segment's queries minus that of their own keys. 0 for all
  // methods but those that place queries elsewhere (LaCache with query=script). REQUIRES: index + shift >= 0.
  std::int64_t query_shift = 0;

  bool operator==(const Measures&) const = default;
};

// A *segment* is a run of new tokens that meets the cache at once: a whole prompt (exact prefill), one chunk of it
// (streaming prefill) or one generated token (decode).
enum class Phase { kPrefill, kDecode };

// What one layer looked like when a segment had passed it and nothing was evicted yet. Entries are counted in stored
// order: first the `n_entries - n_new` that were kept before, then the segment's own. The spans are empty unless asked
// for, and live for the call. Shapes are in ggml order (fastest dimension first).
struct Observation {
  Phase phase = Phase::kPrefill;
  int layer = 0;
  std::size_t n_entries = 0;  // of the longest head, where heads are uneven
  std::size_t n_new = 0;
  std::int64_t n_past = 0;  // tokens of the conversation before this segment, kept or not

  // Probe queries that repeat nothing: they see all entries, and nobody keeps their own keys and values. They come
  // after the segment's own queries. Where there are some, they alone are observed: the window's rows are the last ones
  // of the last probe, `accumulated` is the sum over all, and probabilities over entries sum to less than 1, because
  // the rest went to the probe's own keys. Probes that repeat something change nothing but `repeat_peak`. 0 in decode.
  std::size_t n_probe = 0;
  // More text follows this segment before the question that it will be asked: its last queries say little of what the
  // answer will need.
  bool more_follows = false;

  int window = 0;                          // rows that were there: min(asked, n_probe or else n_new)
  std::span<const float> window_mean;      // [n_entries, n_head]  mean over the window's rows of a = softmax(q.k)
  std::span<const float> window_variance;  // [n_entries, n_head]  unbiased variance over the rows
  std::span<const float> last_row;         // [n_entries, n_head]  the last of the window's rows
  std::span<const double> window_entropy;  // [n_head]  - sum of a ln(a + 1e-10) over rows, columns < n_entries - window
  std::span<const float> accumulated;      // [n_entries, n_head]
  std::span<const float> key_similarity;   // [n_entries, n_head_kv]

  // [n_entries, n_head_kv] the largest over the window's rows and the group's heads; 0 from the window's first entry
  // on. A row's neighbours are those of stored order, what lies outside counts as 0; its mass is what it gave to all
  // entries before the window.
  std::span<const float> window_peak;
  // [n_entries, n_head_kv] for ValueNorm::kPlain, else [n_entries, n_head]. Of values as they are stored.
  std::span<const float> value_norm;
  // [n_entries, n_head_kv] softmax over the head's entries behind Measures::expected_sinks, mean over the group's
  // heads; 0 for these. With mu, S the mean and covariance of the observed queries before RoPE, turned by the mean
  // rotation of the positions that follow: softmax(k.mu s + k'Sk s^2 / 2), s the scale of attention. Keys count as
  // attention reads them: at their token, or at their index. Neither a softcap nor a head's own sink is part of it.
  // Empty where there was no query to learn from: a conversation that begins with no more tokens than sinks.
  std::span<const float> expected;
  // [n_entries, n_head_kv] Measures::repeat, and -1 for an entry that no probe of this segment repeats. Empty where no
  // probe repeats anything.
  std::span<const float> repeat_peak;
  // Of the segment's own tokens alone. Both are given once a token and never change; a policy that needs them later
  // must store them.
  std::span<const float> learned;  // [n_new, n_head_kv]  higher: more is lost without it; comparable in all layers
  std::span<const float> inputs;   // [n_embd, n_new]  empty in decode, and where a benchmark makes up the entries
  // Variance and entropy are empty for one row, and under Measures::group_mean; the latter also makes window_mean,
  // accumulated and norms of W_O v [n_entries, n_head_kv]. Where heads are uneven, a shorter head's columns end in
  // zeros.
};

// The entries of one layer that stay: indices as counted by Observation, in their new stored order. One list for all KV
// heads, or one for each. Ascending and unique unless PolicyTraits::ordered is false.
struct Selection {
  std::vector<std::vector<std::uint32_t>> heads;
};

// Where a policy puts its decisions; the engine applies them when the call returns. A layer that is not named keeps all
// that it has. In `update`, a layer above the observed one still holds what it kept before the segment.
class CacheEdits {
 public:
  virtual ~CacheEdits() = default;
  // At most once a layer in one call.
  virtual void keep(int layer, Selection selection) = 0;
  // Evicts one entry of all KV heads alike, or one of each: [1] or [n_head_kv], kNoEntry for a head that evicts none.
  // What stays keeps its order. This is the cheap path for decoding: it names only the evicted entry.
  virtual void drop(int layer, std::span<const std::uint32_t> entries) = 0;

  static constexpr std::uint32_t kNoEntry = UINT32_MAX;
};

// What a policy declares, so that nobody has to ask which policy it is. `window` may change with the cache size
// (Policy::resize), nothing else ever does.
struct PolicyTraits {
  Positions positions = Positions::kOriginal;
  bool per_head = false;       // the KV heads of a layer may keep different tokens
  bool uneven_layers = false;  // layers may keep different numbers of entries
  bool uneven_heads = false;   // so may the heads of one layer
  bool ordered = true;         // selections are ascending and unique
  // The updates of different layers for one generated token share nothing: they may come in any order, on several
  // threads at the same time.
  bool layers_independent = false;
  std::size_t sinks = 0;  // first tokens of the conversation that always stay
  // Last tokens that always stay. After resize() has enlarged it: from the oldest token on that the smaller window
  // still protected.
  std::size_t window = 0;
  // It judges entries by Observation::repeat_peak: whoever feeds a text that will be cut lets the model repeat it, at
  // most so many tokens at a time (Session::repeat_chunk; repeat_probes() in lacake/generation.h). 0: it needs no
  // repeat.
  std::size_t repeat_chunk = 0;
};

// The fields of a policy's state on their way into a snapshot, or out of one. One function of the policy names them
// all, in the same order either way, so that what is saved and what is loaded cannot differ. Saving reads the values;
// loading replaces them, and throws Error(kInput) naming the field if the snapshot has none, has more or fewer numbers
// than asked for, or a number outside of what is allowed. Then nothing may be used of the policy any more.
//
// A field may be named several times: its values follow each other. What follows from the settings and the cache size
// is no field, because the policy is made with the same before it is loaded.
class PolicyFields {
 public:
  virtual ~PolicyFields() = default;

  // Entries that the cache holds of a KV head of a layer: what lists of entries must agree with.
  virtual std::size_t n_entries(int layer, int head) const = 0;

  // A whole number in [least, most].
  virtual void number(std::string_view name, std::int64_t& value, std::int64_t least, std::int64_t most) = 0;
  // Likewise; what is above 2^63 - 1 is saved as that.
  void number(std::string_view name, std::size_t& value, std::size_t least, std::size_t most);
  // A finite number.
  virtual void real(std::string_view name, double& value) = 0;
  // `n` numbers in [least, most]. Saving REQUIRES that the list has so many.
  virtual void reals(std::string_view name, std::vector<float>& values, std::size_t n, float least = -kMostReal,
                     float most = kMostReal) = 0;
  static constexpr float kMostReal = std::numeric_limits<float>::max() / 2;
  // `n` whole numbers in [least, most]. Likewise.
  virtual void numbers(std::string_view name, std::vector<std::int64_t>& values, std::size_t n, std::int64_t least,
                       std::int64_t most) = 0;
};

class Policy {
 public:
  virtual ~Policy() = default;

  virtual const PolicyTraits& traits() const = 0;

  // What it asks for in this layer once the segment is in (`n_entries` includes it). Asked before attention runs, layer
  // 0 before anything else of the segment: a segment that the policy cannot take is refused here by an Error. The plan
  // asks too, of a policy that was fed nothing, as if all entries were new.
  virtual Measures measures(Phase, int layer, std::size_t n_entries, std::size_t n_new) const = 0;
  // The same for a prompt's segment that more text follows before its question (Observation::more_follows): for
  // policies that then look at something else. The plan has room for either.
  virtual Measures measures_before_question(int layer, std::size_t n_entries, std::size_t n_new) const {
    return measures(Phase::kPrefill, layer, n_entries, n_new);
  }

  // Called for layers 0 .. n_layer-1 in order (in decode under PolicyTraits::layers_independent in any order), once a
  // segment, as soon as the layer's attention is known. Must be deterministic.
  virtual void update(const Observation&, CacheEdits&) = 0;

  // The most entries a layer, on average over layers and rounded up, that are kept at any moment while a prompt's
  // segment of `n_new` tokens runs, where `n_held` are kept before it (on average, rounded up). Entries of a layer
  // count as kept once its update returned. The engine refuses a segment for which this is more than the budget, before
  // anything runs. An upper bound on what is kept then, and at most n_held + n_new.
  virtual std::size_t peak_entries(std::size_t n_held, std::size_t n_new) const = 0;

  // The most entries that this head may hold from here on, one token of a running step included; asked between
  // segments, so that the session's memory can be divided among heads. Their sum over layers is at most n_layer *
  // PolicyType::max_entries_per_layer(C).
  virtual std::size_t reserve(int layer, int head) const = 0;

  // Changes C between two segments. If the cache holds more than the new size allows, the policy evicts at once, by
  // what it knows without new measures; if the size grows, nothing changes but that later entries find room. From there
  // on it behaves as one of the new size, with what it has learnt. Entries are counted in stored order, none is new.
  // Throws Error(kUsage) if `cache_size` is below PolicyType::min_cache_size, Error(kCapacity) if a policy that evicts
  // nothing holds more; nothing has changed then.
  virtual void resize(std::size_t cache_size, CacheEdits&) = 0;

  // A copy with all of its state: given the same calls, both decide alike from here on, and neither sees the other's.
  virtual std::unique_ptr<Policy> clone() const = 0;

  // Names all of its state between two segments. One that is made with the same settings and cache size and loaded with
  // it decides alike from here on.
  virtual void visit(PolicyFields& state) = 0;

  // Bytes of the policy's own memory (scores, cursors): not in the budget, but shown in the plan.
  virtual std::size_t metadata_bytes() const { return 0; }
};

// The value of a parameter that these settings give, or its default. REQUIRES: `parameters` has it, and the settings
// were checked.
PolicyValue setting(std::span<const PolicyParameter> parameters, const PolicySettings& settings, std::string_view name);
double number_setting(std::span<const PolicyParameter>, const PolicySettings&, std::string_view name);
std::size_t size_setting(std::span<const PolicyParameter>, const PolicySettings&, std::string_view name);
std::string text_setting(std::span<const PolicyParameter>, const PolicySettings&, std::string_view name);

// Throws Error(kUsage) if `cache_size` is below `least`: what `make` and `resize` owe their callers.
void require_cache_size(std::string_view policy, std::size_t least, std::size_t cache_size);

}  // namespace lacake
