#include "text/sampler_names.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <random>
#include <utility>

#include "base/nearest.h"
#include "lacake/error.h"
#include "lacake/sampler.h"

namespace lacake {
namespace {

struct Name {
  const char* name;
  char letter;
};

// llama.cpp's.
constexpr std::array<Name, 10> kNames = {{{"penalties", 'e'},
                                          {"dry", 'd'},
                                          {"top_n_sigma", 's'},
                                          {"top_k", 'k'},
                                          {"typ_p", 'y'},
                                          {"top_p", 'p'},
                                          {"min_p", 'm'},
                                          {"xtc", 'x'},
                                          {"temperature", 't'},
                                          {"infill", 'i'}}};

constexpr std::array<std::pair<const char*, const char*>, 3> kOtherNames = {
    {{"nucleus", "top_p"}, {"temp", "temperature"}, {"typ", "typ_p"}}};

std::vector<std::string> known_names() {
  std::vector<std::string> names;
  for (const Name& known : kNames) names.emplace_back(known.name);
  return names;
}

// Without what people write differently: "Top-K", "topk" and "top_k" are one.
std::string bare(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (c != '-' && c != '_' && c != ' ') out += (char)('A' <= c && c <= 'Z' ? c - 'A' + 'a' : c);
  }
  return out;
}

std::string sampler_named(std::string_view text) {
  const std::string wanted = bare(text);
  for (const Name& known : kNames) {
    if (bare(known.name) == wanted) return known.name;
  }
  for (const auto& [other, name] : kOtherNames) {
    if (other == wanted) return name;
  }
  const std::string like = nearest(std::string(text), known_names());
  throw Error({.kind = Error::Kind::kUsage,
               .subject = "samplers",
               .expected = fmt::format("some of {}", fmt::join(known_names(), ", ")),
               .found = fmt::format("\"{}\"", text),
               .remedy = like.empty() ? "" : fmt::format("did you mean {}?", like)});
}

// SplitMix64 (Steele, Lea and Flood 2014): neighbouring seeds give unrelated numbers.
std::uint64_t mixed(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

}  // namespace

bool reorders(std::string_view name) { return name == "penalties" || name == "dry"; }

std::vector<std::string> parse_samplers(std::string_view names) {
  std::vector<std::string> list;
  while (!names.empty()) {
    const std::size_t end = std::min(names.find_first_of(";,"), names.size());
    list.push_back(sampler_named(names.substr(0, end)));
    names.remove_prefix(std::min(end + 1, names.size()));
  }
  return list;
}

std::vector<std::string> parse_sampler_letters(std::string_view letters) {
  std::vector<std::string> list;
  for (const char letter : letters) {
    const auto known = std::find_if(kNames.begin(), kNames.end(), [&](const Name& n) { return n.letter == letter; });
    if (known == kNames.end()) {
      std::string all;
      for (const Name& n : kNames) all += n.letter;
      throw Error({.kind = Error::Kind::kUsage,
                   .subject = "sampling_seq",
                   .expected = "letters of " + all,
                   .found = fmt::format("\"{}\"", letters)});
    }
    list.emplace_back(known->name);
  }
  return list;
}

LogitBias parse_logit_bias(std::string_view text) {
  LogitBias result;
  const char* const end = text.data() + text.size();
  const char* bias = text.data();
  if (text.starts_with('"')) {
    const std::size_t close = text.rfind('"');
    result.text = text.substr(1, close == 0 ? 0 : close - 1);
    bias = text.data() + close + 1;
    if (result.text.empty()) bias = end;
  } else {
    const auto [rest, error] = std::from_chars(text.data(), end, result.token);
    bias = error == std::errc{} && result.token >= 0 ? rest : end;
  }
  const bool negative = bias != end && *bias == '-';
  if (negative || (bias != end && *bias == '+')) {
    const auto [rest, error] = std::from_chars(bias + 1, end, result.bias);
    if (error == std::errc{} && rest == end && result.bias >= 0 &&
        (negative || result.bias <= std::numeric_limits<float>::max())) {
      if (negative) result.bias = -result.bias;
      return result;
    }
  }
  throw Error({.kind = Error::Kind::kUsage,
               .subject = "logit_bias",
               .expected = "TOKEN+BIAS, TOKEN-BIAS, TOKEN-inf, or a text in double quotes instead of TOKEN",
               .found = fmt::format("\"{}\"", text)});
}

std::vector<std::uint32_t> answer_seeds(std::uint32_t seed, std::size_t n) {
  if (seed == SamplerOptions::kRandomSeed) {
    std::random_device device;
    do seed = (std::uint32_t)device();
    while (seed == SamplerOptions::kRandomSeed);
  }
  std::vector<std::uint32_t> seeds;
  for (std::uint64_t i = 0; seeds.size() < n; ++i) {
    const std::uint32_t next = i == 0 ? seed : (std::uint32_t)mixed((i << 32) + seed);
    const bool taken = std::find(seeds.begin(), seeds.end(), next) != seeds.end();
    if (next != SamplerOptions::kRandomSeed && !taken) seeds.push_back(next);
  }
  return seeds;
}

}  // namespace lacake
