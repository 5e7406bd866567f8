#include "policies/lacache/ladder.h"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <string>

#include "lacake/error.h"

namespace lacake::lacache {
namespace {

std::size_t ceil_div(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

std::vector<std::uint32_t> kept(const Walk& walk, std::size_t layer) {
  std::vector<std::uint32_t> list(walk.first);
  list.reserve(walk.length_after());
  std::iota(list.begin(), list.end(), 0u);
  const std::size_t start = walk.first + layer % (walk.removed + 1);
  for (std::size_t j = 0; j < walk.count; ++j) {
    for (std::size_t k = 0; k < walk.after; ++k) {
      list.push_back((std::uint32_t)(start + walk.before * j + walk.gap * k));
    }
  }
  for (std::size_t i = walk.first + walk.before * walk.count; i < walk.length; ++i) {
    list.push_back((std::uint32_t)i);
  }
  return list;
}

}  // namespace

void check(const Settings& settings) {
  const auto refuse = [](std::string expected, std::string found, std::string remedy) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "policy lacache",
                 .expected = std::move(expected),
                 .found = std::move(found),
                 .remedy = std::move(remedy)});
  };
  const std::string span = "span=" + std::to_string(settings.span);
  const std::string overlap = "overlap=" + std::to_string(settings.overlap);
  const std::string layers = std::to_string(settings.n_layer) + " layers";
  if (settings.overlap >= settings.span) {
    refuse("overlap below " + span, overlap, "take a smaller overlap or a larger span");
  }
  if (settings.span >= settings.n_layer) {
    refuse("span below the model's " + layers + ", or no ladder gives anything up", span, "take a smaller span");
  }
  if (ladder_of(settings).removed == 0) {
    refuse("a ladder that gives something up on " + layers, span + " with " + overlap,
           "take a smaller overlap or a smaller span");
  }
}

Ladder ladder_of(const Settings& settings) {
  const std::size_t stride = settings.span - settings.overlap;
  Ladder ladder;
  ladder.before = 1 + ceil_div(settings.n_layer - settings.span, stride);
  ladder.after = std::min(ceil_div(settings.span, stride), ladder.before);
  ladder.removed = ladder.before - ladder.after;
  return ladder;
}

std::size_t compensated(const Ladder& ladder, std::size_t cache_size) { return cache_size + ladder.removed / 2; }

std::size_t least_cache_size(const Settings& settings) {
  // Never negative: removed / 2 < n_layer.
  const Ladder ladder = ladder_of(settings);
  return settings.sinks + settings.n_layer + ladder.after - ladder.removed / 2;
}

std::size_t one_round(const Settings& settings, std::size_t cache_size) {
  const Ladder ladder = ladder_of(settings);
  return (cache_size - settings.sinks - settings.n_layer) / ladder.after * ladder.removed;
}

std::size_t Walk::length_after() const {
  const std::size_t walked = first + before * count;
  return first + after * count + (length > walked ? length - walked : 0);
}

std::uint32_t Walk::last_index(std::size_t layer) const {
  return (std::uint32_t)(first + layer % (removed + 1) + before * (count - 1) + gap * (after - 1));
}

Plan plan_compaction(const Settings& settings, std::size_t cache_size, std::size_t cursor, std::size_t n_entries) {
  const Ladder ladder = ladder_of(settings);
  // The cursor never passes cache_size - n_layer: each branch below moves it within that room.
  assert(n_entries > cache_size && cursor + settings.n_layer <= cache_size);
  const std::size_t excess = n_entries - cache_size;
  const std::size_t room = (cache_size - cursor - settings.n_layer) / ladder.after;
  const std::size_t available = room * ladder.removed;

  Plan plan;
  Walk onward{.first = cursor, .before = ladder.before, .after = ladder.after, .removed = ladder.removed};
  onward.length = n_entries;
  if (excess <= available) {
    onward.count = ceil_div(excess, ladder.removed);
    plan.walks = {onward};
    plan.cursor = cursor + ladder.after * onward.count;
    return plan;
  }

  onward.count = room;
  const std::size_t per_round = one_round(settings, cache_size);
  const std::size_t still = excess - available;
  const std::size_t rounds = ceil_div(still, per_round);  // T
  Walk over{.first = settings.sinks, .after = ladder.after, .gap = rounds};
  over.before = ladder.before + (rounds - 1) * (ladder.before - 1);
  over.removed = over.before - over.after;
  over.count = ceil_div(still, over.removed);
  over.length = onward.length_after();
  for (std::size_t layer = 0; layer < settings.n_layer; ++layer) {
    if (over.last_index(layer) < over.length) continue;
    throw Error({.kind = Error::Kind::kInput,
                 .subject = "policy lacache",
                 .expected = "a prompt that one compaction brings to cache size " + std::to_string(cache_size),
                 .found = std::to_string(n_entries) +
                          " entries, past whose end the ladder reaches when it is stretched " + std::to_string(rounds) +
                          " times",
                 .remedy = "take overlap=0, a larger cache, or streaming `prefill`"});
  }
  plan.walks = {onward, over};
  plan.cursor = settings.sinks + over.after * over.count;
  return plan;
}

std::vector<std::uint32_t> kept(const Plan& plan, std::size_t layer) {
  std::vector<std::uint32_t> list = kept(plan.walks.front(), layer);
  if (plan.walks.size() == 1) return list;
  std::vector<std::uint32_t> again = kept(plan.walks.back(), layer);
  for (std::uint32_t& index : again) index = list[index];
  return again;
}

std::optional<std::uint32_t> dropped(const Plan& plan, std::size_t layer) {
  const Walk& walk = plan.walks.front();
  if (plan.walks.size() > 1 || walk.count != 1 || walk.removed != 1 || walk.gap != 1) return std::nullopt;
  return (std::uint32_t)(layer % 2 == 0 ? walk.first + walk.after : walk.first);
}

}  // namespace lacake::lacache
