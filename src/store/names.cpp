#include "store/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <system_error>

#include "lacake/error.h"
#include "lacake/store.h"

namespace lacake {
namespace {

constexpr std::string_view kDigits = "abcdefghijklmnopqrstuvwxyz234567";

bool is_letter_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

bool is_plain(std::string_view id) {
  return is_letter_or_digit(id.front()) &&
         std::all_of(id.begin(), id.end(), [](char c) { return is_letter_or_digit(c) || c == '-' || c == '_'; });
}

std::string base32(std::string_view bytes) {
  std::string text;
  unsigned bits = 0, n_bits = 0;
  for (const char byte : bytes) {
    bits = bits << 8 | (unsigned char)byte;
    for (n_bits += 8; n_bits >= 5; n_bits -= 5) text += kDigits[bits >> (n_bits - 5) & 31];
  }
  if (n_bits > 0) text += kDigits[bits << (5 - n_bits) & 31];
  return text;
}

// What bytes a text stands for, whether or not base32() would write it so.
std::string bytes_of_base32(std::string_view text) {
  std::string bytes;
  unsigned bits = 0, n_bits = 0;
  for (const char digit : text) {
    bits = bits << 5 | (unsigned)(kDigits.find(digit) & 31);
    n_bits += 5;
    if (n_bits >= 8) bytes += (char)(bits >> (n_bits -= 8) & 255);
  }
  return bytes;
}

bool is_id(std::string_view id) { return !id.empty() && id.size() <= Store::kLongestId; }

std::string name(std::string_view id) { return is_plain(id) ? std::string(id) : "=" + base32(id); }

// A whole number as we write it, without sign or leading zeros.
std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || fmt::format("{}", value) != text) return std::nullopt;
  return value;
}

// What stands before the next dot; the text goes on behind it.
std::string_view take_part(std::string_view& text) {
  const std::string_view part = text.substr(0, text.find('.'));
  text.remove_prefix(std::min(part.size() + 1, text.size()));
  return part;
}

}  // namespace

std::string name_of_id(std::string_view id) {
  if (!is_id(id)) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "conversation's id",
                 .expected = fmt::format("1 to {} bytes", Store::kLongestId),
                 .found = fmt::format("{}", id.size())});
  }
  return name(id);
}

std::optional<std::string> id_of_name(std::string_view text) {
  const std::string id = text.starts_with('=') ? bytes_of_base32(text.substr(1)) : std::string(text);
  // Names that no id has (another spelling of base32, a file that somebody put there) are told by the way back.
  if (!is_id(id) || name(id) != text) return std::nullopt;
  return id;
}

FileName parse_file_name(std::string_view file) {
  using Kind = FileName::Kind;
  std::string_view rest = file;
  const std::string_view name = take_part(rest);
  if (name == "epoch") {
    if (const auto epoch = number(rest)) return {.kind = Kind::kEpoch, .epoch = *epoch};
  }
  if (!id_of_name(name)) return {};
  if (rest == "saved") return {.kind = Kind::kSaved, .name = std::string(name)};
  const auto epoch = number(take_part(rest));
  if (!epoch) return {};
  if (rest.starts_with("new")) return {.kind = Kind::kNew, .name = std::string(name), .epoch = *epoch};
  const auto reserved = number(take_part(rest));
  if (!reserved || rest != "lease") return {};
  return {.kind = Kind::kLease, .name = std::string(name), .epoch = *epoch, .reserved = *reserved};
}

std::string epoch_file(std::uint64_t epoch) { return fmt::format("epoch.{}", epoch); }

std::string saved_file(std::string_view name) { return fmt::format("{}.saved", name); }

std::string lease_file(std::string_view name, std::uint64_t epoch, std::uint64_t reserved) {
  return fmt::format("{}.{}.{}.lease", name, epoch, reserved);
}

std::string new_file(std::string_view name, std::uint64_t epoch) { return fmt::format("{}.{}.new", name, epoch); }

}  // namespace lacake
