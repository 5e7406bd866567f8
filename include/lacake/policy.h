#pragma once

// Which entries of the KV cache stay is a policy's decision. This header is for those who choose a policy: the kinds
// there are, their parameters, and `NAME[:key=value,...]` as a user says it. How to write one: policy_author.h.
//
// Threads: everything here may be called from any thread at any time; the list of kinds has a lock of its own. A value
// of these types may be read by several threads at once, and changed by one.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace lacake {

class Policy;  // policy_author.h

// What a policy may know of the model: layers with full attention, counted from 0, and their heads.
struct AttentionShape {
  int n_layer = 0;
  int n_head = 0;     // query heads
  int n_head_kv = 0;  // KV heads; query head h belongs to KV head h / (n_head / n_head_kv)
  // Identifies the model's learned scores (lacake/calibration.h): where it is not 0 there are some, so that policies
  // may ask for Measures::learned.
  std::int64_t calibration = 0;
};

// Where a key stands for RoPE.
//   kOriginal   at the index of its token in the conversation, for ever
//   kCompacted  at its index in the cache, anew at every step: the entries that stay close up when others are evicted,
//                so that a conversation may outgrow the length that the model was trained for
enum class Positions { kOriginal, kCompacted };

// The value of a parameter: a number, or a text (a word of a list, the path of a file).
class PolicyValue {
 public:
  PolicyValue() = default;  // 0
  template <class Number>
  requires(std::is_arithmetic_v<Number> && !std::is_same_v<Number, bool>) PolicyValue(Number number)
      : value_((double)number) {}
  PolicyValue(std::string text) : value_(std::move(text)) {}
  PolicyValue(std::string_view text) : value_(std::string(text)) {}
  PolicyValue(const char* text) : value_(std::string(text)) {}

  bool is_number() const { return std::holds_alternative<double>(value_); }
  double number() const { return std::get<double>(value_); }                 // REQUIRES: is_number()
  const std::string& text() const { return std::get<std::string>(value_); }  // REQUIRES: !is_number()

  bool operator==(const PolicyValue&) const = default;

 private:
  std::variant<double, std::string> value_ = 0.0;
};

// Values by the names of parameters. Only those that were given; what is absent has its default.
using PolicySettings = std::map<std::string, PolicyValue, std::less<>>;

// One `key=value` of a policy: what help texts show and what is checked.
struct PolicyParameter {
  enum class Kind {
    kNumber,       // from `min` to `max`
    kWholeNumber,  // the same, without fractions
    kWord,         // one of `words`
    kFile,         // the path of a file, which the policy reads when it is made
  };

  std::string name;  // letters, digits, '_' and '-'
  Kind kind = Kind::kNumber;
  PolicyValue default_value = 0;  // kFile: "" is none
  double min = 0;
  double max = 0;
  std::vector<std::string> words = {};
  std::string help;
  std::string default_text = {};  // shown instead of default_value where the default depends on the model
};

// A kind of policy. It holds how to make one, not one.
struct PolicyType {
  std::string name;     // as a user says it: letters, digits, '_' and '-'
  std::string summary;  // one line
  std::string paper;    // "" if none
  std::vector<PolicyParameter> parameters;
  bool bounded = true;             // false: it keeps everything, so a budget below the conversation is refused
  bool needs_calibration = false;  // it runs only where AttentionShape::calibration is not 0

  // The functions below may hold a state of their own; it is shared by all policies of the kind. They are called from
  // any thread, several at once. The settings were checked against `parameters`, as PolicySpec::check does.

  // The most entries of a layer, on average over layers, at any moment for cache size C, one token of a running step
  // included. Grows with C.
  std::function<std::size_t(const PolicySettings&, const AttentionShape&, std::size_t cache_size)>
      max_entries_per_layer;

  // The least cache size that works. Throws Error(kUsage) that says what to change if no size does.
  std::function<std::size_t(const PolicySettings&, const AttentionShape&)> min_cache_size;

  // Makes a policy for one session. Throws Error(kUsage) for settings that cannot run and for a cache size below
  // min_cache_size(...), Error(kInput) naming a file that cannot be used.
  std::function<std::unique_ptr<Policy>(const PolicySettings&, const AttentionShape&, std::size_t cache_size)> make;

  // What settings follow, when a session is opened, from the model and from a budget that is a share of the text (0 to
  // 1; 0: it is none), beside those that are given: only such as are not given. They are the session's from then on, in
  // its saved file too. Empty: none do. Must not throw; what it says is checked with the rest.
  std::function<PolicySettings(const PolicySettings& given, const AttentionShape&, double share)> settings_at_opening =
      {};
};

// The parameter that every kind has which drops entries, also those that are registered: so many first tokens of the
// conversation always stay, a system message say, and the kind decides about the rest.
inline constexpr const char* kPinned = "pinned";
// Its value; 0 where it was not given. REQUIRES: the settings were checked.
std::size_t pinned_tokens(const PolicySettings& settings);

// All kinds: those of the library, in the order of the help text, then those that were registered, in that order. The
// kinds themselves live as long as the process.
std::vector<std::reference_wrapper<const PolicyType>> policy_types();

// The kind of this name, null if there is none.
std::shared_ptr<const PolicyType> find_policy_type(std::string_view name);

// Adds a kind from outside of the library; from then on it is known to everything that takes a policy. Throws
// Error(kUsage) if its name is taken or anything about it is not as PolicyType says.
void register_policy(PolicyType type);

// A kind of policy with settings.
//
// As text: `NAME[:key=value,...]`. The name ends at the first colon, a key at its first '='. A value that begins with a
// double quote ends at the next one, and holds everything between them, commas too; a quote inside it is written twice:
// `learned:weights="a,b ""c"".bin",window=8`. Values without quotes end at the next comma.
// `cache_size=` (entries a layer, the papers' C) is understood for every kind that is bounded.
struct PolicySpec {
  std::shared_ptr<const PolicyType> type;  // never null after parse; need not be a registered one
  PolicySettings settings;
  std::size_t cache_size = 0;  // 0: from the budget

  // Throws Error(kUsage) naming what is unknown or out of range, with the nearest name.
  static PolicySpec parse(std::string_view text);
  // Canonical: parses to the same, and two ways to say the same give the same.
  std::string text() const;
  // For settings that did not come through parse: throws the same errors. REQUIRES: type.
  void check() const;

  // Where keys stand under these settings. Throws what PolicyType::make throws.
  Positions positions(const AttentionShape&) const;

  // `NAME[:key=value,...],NAME...` cut into its policies, none of them looked at further. An item with '=' before any
  // ':' belongs to the policy before it; commas in quotes cut nothing.
  static std::vector<std::string> split(std::string_view list);
};

}  // namespace lacake
