#include "text/stop_strings.h"

#include <algorithm>
#include <utility>

namespace lacake {
namespace {

// For each length of a match, the longest shorter one that ends at the same place.
std::vector<std::size_t> fallbacks(std::string_view stop) {
  std::vector<std::size_t> next(stop.size() + 1, 0);
  for (std::size_t i = 1; i < stop.size(); ++i) {
    std::size_t match = next[i];
    while (match > 0 && stop[match] != stop[i]) match = next[match];
    next[i + 1] = stop[match] == stop[i] ? match + 1 : 0;
  }
  return next;
}

}  // namespace

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase(stops_, "");
  for (const std::string& stop : stops_) fallback_.push_back(fallbacks(stop));
  reset();
}

void StopStrings::reset() {
  matched_.assign(stops_.size(), 0);
  held_.clear();
  found_.reset();
}

std::string StopStrings::push(std::string_view text) {
  if (found()) return "";
  for (const char c : text) {
    held_ += c;
    for (std::size_t i = 0; i < stops_.size(); ++i) {
      std::size_t& match = matched_[i];
      while (match > 0 && stops_[i][match] != c) match = fallback_[i][match];
      if (stops_[i][match] == c) ++match;
      // Of two that end here, the longer one began earlier.
      if (match == stops_[i].size() && (!found() || stops_[i].size() > which().size())) found_ = i;
    }
    if (found()) {
      held_.resize(held_.size() - which().size());
      return std::exchange(held_, "");
    }
  }
  const std::size_t held = matched_.empty() ? 0 : *std::max_element(matched_.begin(), matched_.end());
  std::string known = held_.substr(0, held_.size() - held);
  held_.erase(0, known.size());
  return known;
}

std::string StopStrings::flush() {
  std::string rest = std::exchange(held_, "");
  std::fill(matched_.begin(), matched_.end(), 0);
  return rest;
}

}  // namespace lacake
