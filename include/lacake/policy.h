#pragma once

// A policy decides which entries of the KV cache stay. It sees numbers (lengths, attention statistics), never tensors,
// and moves no memory: it hands selections to the cache. It can be built and tested without a model.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lacake {

// What a policy may know of the model.
struct AttentionShape {
  int n_layer = 0;
  int n_head = 0;     // query heads
  int n_head_kv = 0;  // KV heads; query head h belongs to KV head h / (n_head / n_head_kv)
};

// Where a key stands for RoPE.
//   kTrue        at the index of its token in the conversation, for ever
//   kCacheIndex  at its index in the cache, anew at every step: entries close up when others go
enum class Positions { kTrue, kCacheIndex };

// Attention statistics that a policy asks for, per layer and segment. Nothing is measured unasked.
struct Measures {
  int window = 0;               // mean, variance and entropy over the last `window` queries; 1 = the last query's row
  bool accumulated = false;     // probabilities summed over all queries of the segment
  bool key_similarity = false;  // cosine of each key with the mean key of its head
  bool last_row = false;        // beside a window the last query's row
  bool group_mean = false;      // window and accumulated: one column a KV head, the mean over its query heads

  bool any() const { return window > 0 || accumulated || key_similarity; }
  bool operator==(const Measures&) const = default;
};

// A *segment* is a run of new tokens that meets the cache at once: a whole prompt (exact prefill), one chunk of it
// (streaming prefill) or one generated token (decode).
enum class Phase { kPrefill, kDecode };

// What one layer looked like when a segment had passed it and nothing was dropped yet. Entries are counted in stored
// order: the `n_entries - n_new` that were kept before, then the segment's own. The spans are empty unless asked for,
// and live for the call. Shapes in ggml order (fastest dimension first).
struct Observation {
  Phase phase = Phase::kPrefill;
  int layer = 0;
  std::size_t n_entries = 0;  // the longest head's, where heads are uneven
  std::size_t n_new = 0;
  std::int64_t n_past = 0;  // tokens of the conversation before this segment, kept or not
  std::size_t n_probe = 0;
  bool more_follows = false;

  int window = 0;                          // rows that were there: min(asked, n_new)
  std::span<const float> window_mean;      // [n_entries, n_head]  mean over the window's rows of a = softmax(q.k)
  std::span<const float> window_variance;  // [n_entries, n_head]  unbiased variance over the rows
  std::span<const float> last_row;         // [n_entries, n_head]  the last of the window's rows
  std::span<const double> window_entropy;  // [n_head]  - sum of a ln(a + 1e-10) over rows, columns < n_entries - window
  std::span<const float> accumulated;      // [n_entries, n_head]
  std::span<const float> key_similarity;   // [n_entries, n_head_kv]
  // Variance and entropy are empty for one row, and under Measures::group_mean; the latter also makes window_mean and
  // accumulated [n_entries, n_head_kv]. Where heads are uneven, a shorter head's columns end in zeros.
};

// The entries of one layer that stay: indices as counted by Observation, in their new stored order. One list for all KV
// heads, or one for each. Ascending and unique unless PolicyTraits::ordered is false.
struct Selection {
  std::vector<std::vector<std::uint32_t>> heads;
};

// Where a policy puts its decisions; the engine applies them when `update` returns. A layer that is not named keeps all
// that it has. A layer above the observed one still holds what it kept before the segment.
class CacheEdits {
 public:
  virtual ~CacheEdits() = default;
  virtual void keep(int layer, Selection selection) = 0;
  // Drops one entry of all KV heads alike, or one of each: [1] or [n_head_kv], kNoEntry for a head that drops none.
  // What stays keeps its order. What a generated token costs: no list of all that stays.
  virtual void drop(int layer, std::span<const std::uint32_t> entries) = 0;

  static constexpr std::uint32_t kNoEntry = UINT32_MAX;
};

// What a policy declares, so that nobody has to ask which policy it is.
struct PolicyTraits {
  Positions positions = Positions::kTrue;
  bool per_head = false;                 // the KV heads of a layer may keep different tokens
  bool uneven_layers = false;            // layers may keep different numbers of entries
  bool uneven_heads = false;             // so may the heads of one layer
  bool ordered = true;                   // selections are ascending and unique
  bool evicts_after_last_layer = false;  // a segment's entries are all held until its last layer was seen
  bool layers_independent =
      false;               // a token's updates of different layers share nothing: they may run at the same time
  std::size_t sinks = 0;   // first tokens of the conversation that always stay
  std::size_t window = 0;  // last entries that always stay
};

class Policy {
 public:
  virtual ~Policy() = default;

  virtual const PolicyTraits& traits() const = 0;

  // What `update` will need for this layer once the segment is in (`n_entries` includes it). Asked before attention
  // runs.
  virtual Measures measures(Phase, int layer, std::size_t n_entries, std::size_t n_new) const = 0;

  // RoPE index of the segment's first query under Positions::kCacheIndex in a layer that keeps `n_kept` entries, 0 if
  // none; the others follow one by one. The default, the index of the query's own key, is what the methods mean.
  virtual std::int64_t query_position(int layer, std::size_t n_kept) const {
    (void)layer;
    return (std::int64_t)n_kept;
  }

  // Called for layers 0 .. n_layer-1 in order (in decode under PolicyTraits::layers_independent in any), once a
  // segment, as soon as the layer's attention is known. Same calls, same answers.
  virtual void update(const Observation&, CacheEdits&) = 0;

  // The most entries that this head may hold from here on, one token of a running step included; asked between
  // segments, so that the arena's slices can be divided. Their sum over layers is at most n_layer *
  // PolicyType::max_entries_per_layer(C).
  virtual std::size_t reserve(int layer, int head) const = 0;

  virtual void resize(std::size_t, CacheEdits&) {}
  virtual std::unique_ptr<Policy> clone() const { return nullptr; }

  // Bytes of the policy's own memory (scores, cursors): not in the budget, but shown in the plan.
  virtual std::size_t metadata_bytes() const { return 0; }
};

// One `key=value` of a policy: what help texts show and what is checked.
struct PolicyParameter {
  std::string name;
  double default_value = 0;
  double min = 0;
  double max = 0;
  bool integer = false;
  std::vector<std::string> choices = {};  // not empty: the value is one of these words, held as its index
  std::string help;
  std::string default_text = {};  // shown instead of default_value where the default depends on the model
};

// Values by parameter name. Only those that the user gave.
using PolicySettings = std::map<std::string, double, std::less<>>;

// A kind of policy: a row of the registry. Holds how to make one, not one.
struct PolicyType {
  std::string name;     // as on the command line
  std::string summary;  // one line
  std::string paper;    // "" if none
  std::vector<PolicyParameter> parameters;
  bool bounded = true;  // false: keeps everything, so a budget below the conversation is refused

  // The most entries a layer (on average over layers) at any moment for cache size C, one token of a running step
  // included. Grows with C.
  std::size_t (*max_entries_per_layer)(const PolicySettings&, const AttentionShape&, std::size_t cache_size) = nullptr;

  // The least cache size that works. Throws Error(kUsage) that says what to change if no size does.
  std::size_t (*min_cache_size)(const PolicySettings&, const AttentionShape&) = nullptr;

  // REQUIRES: cache_size >= min_cache_size(...). Throws Error(kUsage) for settings that cannot run.
  std::unique_ptr<Policy> (*make)(const PolicySettings&, const AttentionShape&, std::size_t cache_size) = nullptr;
};

// All kinds, in the order of the help text. Add one: a folder in src/policies and a line in src/policies/policies.def.
const std::vector<PolicyType>& policy_types();

// `NAME[:key=value,...]` as given by a user. Throws Error(kUsage) naming what is unknown or out of range, with the
// nearest name. `cache_size=` (entries a layer, the papers' C) is understood for every bounded policy.
struct PolicySpec {
  const PolicyType* type = nullptr;  // never null after parse
  PolicySettings settings;
  std::size_t cache_size = 0;  // 0: from the budget

  static PolicySpec parse(std::string_view text);
  std::string text() const;  // canonical, parses to the same
};

}  // namespace lacake
