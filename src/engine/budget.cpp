#include "lacake/budget.h"

#include <fmt/format.h>

#include <cassert>
#include <charconv>
#include <cmath>

#include "lacake/error.h"

namespace lacake {
namespace {

struct ByteUnit {
  const char* name;
  double bytes;
};
constexpr ByteUnit kByteUnits[] = {{"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}, {"TiB", 1099511627776.0},
                                   {"KB", 1e3},     {"MB", 1e6},        {"GB", 1e9},           {"TB", 1e12},
                                   {"B", 1.0}};

}  // namespace

Budget Budget::parse(std::string_view text) {
  const auto fail = [&](const char* expected = "entries a layer (1024), a share (3.2%) or bytes (256MiB)") {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "kv_budget",
                 .expected = expected,
                 .found = fmt::format("\"{}\"", text)});
  };
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || !std::isfinite(number) || number <= 0) fail();
  const std::string_view suffix(end, (std::size_t)(text.data() + text.size() - end));
  if (suffix == "%") {
    if (number > 100) fail("a share of at most 100%");
    return {Unit::kShare, number / 100};
  }
  if (suffix.empty()) {
    if (number != std::floor(number) || number > 1e12) fail();
    return {Unit::kEntries, number};
  }
  for (const ByteUnit& unit : kByteUnits) {
    if (suffix == unit.name && number * unit.bytes >= 1 && number * unit.bytes < 1e18) {
      return {Unit::kBytes, std::floor(number * unit.bytes)};
    }
  }
  fail();
  return {};
}

std::string Budget::text() const {
  switch (unit) {
    case Unit::kNone:
      return "none";
    case Unit::kEntries:
      return fmt::format("{:.0f}", value);
    case Unit::kShare:
      return fmt::format("{:g}%", value * 100);
    case Unit::kBytes:
      break;
  }
  const auto bytes = (std::uint64_t)value;
  for (const ByteUnit& u : {kByteUnits[3], kByteUnits[2], kByteUnits[1], kByteUnits[0]}) {
    if (bytes % (std::uint64_t)u.bytes == 0) return fmt::format("{}{}", bytes / (std::uint64_t)u.bytes, u.name);
  }
  return fmt::format("{}B", bytes);
}

std::uint64_t Budget::entries(std::size_t prompt_tokens) const {
  assert(unit == Unit::kEntries || unit == Unit::kShare);
  if (unit == Unit::kEntries) return (std::uint64_t)value;
  // 0.7% of 1000 are 7, though 0.7 / 100 is a little less than 0.007.
  return (std::uint64_t)(value * (double)prompt_tokens * (1 + 1e-12));
}

std::uint64_t Budget::bytes(std::uint64_t entry_bytes, int n_layer, std::size_t prompt_tokens) const {
  if (unit == Unit::kBytes) return (std::uint64_t)value;
  return entries(prompt_tokens) * entry_bytes * (std::uint64_t)n_layer;
}

}  // namespace lacake
