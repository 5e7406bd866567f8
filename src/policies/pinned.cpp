#include "policies/pinned.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace lacake {
namespace {

// Of the tokens of a segment and before it.
struct Split {
  std::size_t before = 0;  // pinned ones that were held already
  std::size_t fresh = 0;   // of the segment's own, those that are pinned
  std::size_t all() const { return before + fresh; }
};

// Nothing is dropped before all that is pinned is there, so what is held are the first tokens until then.
Split split(std::size_t pinned, std::size_t n_held, std::size_t n_new) {
  const std::size_t before = std::min(pinned, n_held);
  return {before, std::min(pinned, n_held + n_new) - before};
}

// Columns of numbers without their first rows.
template <class Number>
class Columns {
 public:
  std::span<const Number> without(std::span<const Number> all, std::size_t n_rows, std::size_t n_first) {
    if (all.empty() || n_first == 0) return all;
    kept_.clear();
    for (std::size_t at = 0; at < all.size(); at += n_rows) {
      kept_.insert(kept_.end(), all.begin() + (std::ptrdiff_t)(at + n_first),
                   all.begin() + (std::ptrdiff_t)(at + n_rows));
    }
    return kept_;
  }

 private:
  std::vector<Number> kept_;
};

// What lies behind pinned entries, counted from 0, on the way to where all are counted.
class Behind final : public CacheEdits {
 public:
  // A layer above `layer` has not met the segment yet.
  Behind(CacheEdits& all, int layer, Split split) : all_(all), layer_(layer), split_(split) {}

  void keep(int layer, Selection selection) override {
    const auto n = (std::uint32_t)n_pinned(layer);
    for (std::vector<std::uint32_t>& head : selection.heads) {
      for (std::uint32_t& entry : head) entry += n;
      std::vector<std::uint32_t> pinned(n);
      for (std::uint32_t i = 0; i < n; ++i) pinned[i] = i;
      head.insert(head.begin(), pinned.begin(), pinned.end());
    }
    all_.keep(layer, std::move(selection));
  }

  void drop(int layer, std::span<const std::uint32_t> entries) override {
    std::vector<std::uint32_t> shifted(entries.begin(), entries.end());
    for (std::uint32_t& entry : shifted) {
      if (entry != kNoEntry) entry += (std::uint32_t)n_pinned(layer);
    }
    all_.drop(layer, shifted);
  }

 private:
  std::size_t n_pinned(int layer) const { return layer > layer_ ? split_.before : split_.all(); }

  CacheEdits& all_;
  int layer_;
  Split split_;
};

// The fields of the policy inside, to which pinned entries are none.
class FieldsBehind final : public PolicyFields {
 public:
  FieldsBehind(PolicyFields& all, std::size_t pinned) : all_(all), pinned_(pinned) {}

  std::size_t n_entries(int layer, int head) const override {
    const std::size_t n = all_.n_entries(layer, head);
    return n - std::min(n, pinned_);
  }
  void number(std::string_view name, std::int64_t& value, std::int64_t least, std::int64_t most) override {
    all_.number(name, value, least, most);
  }
  void real(std::string_view name, double& value) override { all_.real(name, value); }
  void reals(std::string_view name, std::vector<float>& values, std::size_t n, float least, float most) override {
    all_.reals(name, values, n, least, most);
  }
  void numbers(std::string_view name, std::vector<std::int64_t>& values, std::size_t n, std::int64_t least,
               std::int64_t most) override {
    all_.numbers(name, values, n, least, most);
  }

 private:
  PolicyFields& all_;
  std::size_t pinned_;
};

class Pinned final : public Policy {
 public:
  // `least`: the smallest cache size that works for both.
  Pinned(std::string name, std::size_t least, std::unique_ptr<Policy> behind, std::size_t pinned)
      : name_(std::move(name)), least_(least), behind_(std::move(behind)), pinned_(pinned) {
    take_traits();
  }

  const PolicyTraits& traits() const override { return traits_; }

  Measures measures(Phase phase, int layer, std::size_t n_entries, std::size_t n_new) const override {
    const Split s = split(pinned_, n_entries - n_new, n_new);
    if (s.fresh == n_new) return {};
    return behind_pinned(behind_->measures(phase, layer, n_entries - s.all(), n_new - s.fresh), s);
  }

  Measures measures_before_question(int layer, std::size_t n_entries, std::size_t n_new) const override {
    const Split s = split(pinned_, n_entries - n_new, n_new);
    if (s.fresh == n_new) return {};
    return behind_pinned(behind_->measures_before_question(layer, n_entries - s.all(), n_new - s.fresh), s);
  }

  void update(const Observation& all, CacheEdits& edits) override {
    const Split s = split(pinned_, all.n_entries - all.n_new, all.n_new);
    if (held_ != s.all()) held_ = s.all();
    if (s.fresh == all.n_new) return;  // and nothing behind them to be dropped
    Observation o = all;
    o.n_entries -= s.all();
    o.n_new -= s.fresh;
    o.n_past -= (std::int64_t)s.before;
    if (o.n_probe == 0) o.window = (int)std::min((std::size_t)o.window, o.n_new);
    Columns<float> mean, variance, last, accumulated, similarity, peak, norm, expected, repeat, learned;
    o.window_mean = mean.without(all.window_mean, all.n_entries, s.all());
    o.window_variance = variance.without(all.window_variance, all.n_entries, s.all());
    o.last_row = last.without(all.last_row, all.n_entries, s.all());
    o.accumulated = accumulated.without(all.accumulated, all.n_entries, s.all());
    o.key_similarity = similarity.without(all.key_similarity, all.n_entries, s.all());
    o.window_peak = peak.without(all.window_peak, all.n_entries, s.all());
    o.value_norm = norm.without(all.value_norm, all.n_entries, s.all());
    o.expected = expected.without(all.expected, all.n_entries, s.all());
    o.repeat_peak = repeat.without(all.repeat_peak, all.n_entries, s.all());
    o.learned = learned.without(all.learned, all.n_new, s.fresh);
    o.inputs = all.inputs.subspan(all.inputs.size() / all.n_new * s.fresh);
    Behind behind(edits, all.layer, s);
    behind_->update(o, behind);
  }

  std::size_t peak_entries(std::size_t n_held, std::size_t n_new) const override {
    const Split s = split(pinned_, n_held, n_new);
    const std::size_t held = n_held - s.before;
    return s.all() + (s.fresh == n_new ? held : behind_->peak_entries(held, n_new - s.fresh));
  }

  std::size_t reserve(int layer, int head) const override { return pinned_ + behind_->reserve(layer, head); }

  void resize(std::size_t cache_size, CacheEdits& edits) override {
    require_cache_size(name_, least_, cache_size);
    Behind behind(edits, INT32_MAX, {held_, 0});
    behind_->resize(cache_size - pinned_, behind);
    take_traits();
  }

  std::unique_ptr<Policy> clone() const override {
    auto copy = std::make_unique<Pinned>(name_, least_, behind_->clone(), pinned_);
    copy->held_ = held_.load();
    return copy;
  }

  void visit(PolicyFields& state) override {
    std::size_t held = held_;
    state.number("pinned", held, 0, pinned_);
    held_ = held;
    FieldsBehind behind(state, held);
    behind_->visit(behind);
  }

  std::size_t metadata_bytes() const override { return behind_->metadata_bytes(); }

 private:
  // To the policy inside the conversation begins behind what is pinned, sinks and all.
  static Measures behind_pinned(Measures asked, Split s) {
    if (asked.expected_positions > 0) asked.expected_sinks += (int)s.all();
    return asked;
  }
  void take_traits() {
    traits_ = behind_->traits();
    traits_.sinks += pinned_;
  }

  std::string name_;
  std::size_t least_;
  std::unique_ptr<Policy> behind_;
  std::size_t pinned_;
  PolicyTraits traits_;
  // Of these, those that are held. Layers of one step write the same, maybe on several threads.
  std::atomic<std::size_t> held_ = 0;
};

PolicyParameter pinned_parameter() {
  return {.name = kPinned,
          .kind = PolicyParameter::Kind::kWholeNumber,
          .default_value = 0,
          .min = 0,
          .max = 100000,
          .help = "first tokens of the conversation that always stay, whatever the policy does with the rest"};
}

}  // namespace

std::size_t pinned_tokens(const PolicySettings& settings) {
  const auto at = settings.find(kPinned);
  return at == settings.end() ? 0 : (std::size_t)at->second.number();
}

PolicyType with_pinned(PolicyType type) {
  const PolicyType inside = type;
  type.parameters.push_back(pinned_parameter());
  const auto own = [](PolicySettings settings) {
    settings.erase(kPinned);
    return settings;
  };
  type.max_entries_per_layer = [=](const PolicySettings& settings, const AttentionShape& shape, std::size_t size) {
    const std::size_t n = std::min(pinned_tokens(settings), size);
    return n + inside.max_entries_per_layer(own(settings), shape, size - n);
  };
  type.min_cache_size = [=](const PolicySettings& settings, const AttentionShape& shape) {
    return pinned_tokens(settings) + inside.min_cache_size(own(settings), shape);
  };
  type.make = [=](const PolicySettings& settings, const AttentionShape& shape,
                  std::size_t size) -> std::unique_ptr<Policy> {
    const std::size_t n = pinned_tokens(settings);
    if (n == 0) return inside.make(own(settings), shape, size);
    const std::size_t least = n + inside.min_cache_size(own(settings), shape);
    require_cache_size(inside.name, least, size);
    return std::make_unique<Pinned>(inside.name, least, inside.make(own(settings), shape, size - n), n);
  };
  if (inside.settings_at_opening) {
    type.settings_at_opening = [=](const PolicySettings& settings, const AttentionShape& shape, double share) {
      return inside.settings_at_opening(own(settings), shape, share);
    };
  }
  return type;
}

}  // namespace lacake
