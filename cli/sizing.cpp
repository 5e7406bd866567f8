#include "sizing.h"

#include <fmt/format.h>

#include "lacake/error.h"

namespace lacake::cli {

SessionOptions session_options(const Options& options) {
  SessionOptions session;
  session.policy = PolicySpec::parse(options.policy.value_or(options.kv_budget ? kPolicyOfABudget : "full"));
  if (options.kv_budget) session.budget = Budget::parse(*options.kv_budget);
  if (options.kv_type) session.types = CacheTypes::parse(*options.kv_type);
  session.prefill = options.prefill == "exact" ? PrefillMode::kExact : PrefillMode::kStreaming;
  session.chunk = (std::size_t)options.chunk.value_or(0);
  return session;
}

std::uint64_t bytes_option(const std::string& setting, const std::string& text) {
  try {
    const Budget size = Budget::parse(text);
    if (size.unit == Budget::Unit::kBytes) return (std::uint64_t)size.value;
  } catch (const Error&) {  // said below, of this setting
  }
  throw Error({.kind = Error::Kind::kUsage,
               .subject = setting,
               .expected = "bytes (4GiB)",
               .found = fmt::format("\"{}\"", text)});
}

LengthLimits length_limits(const Options& options) {
  LengthLimits limits;
  if (options.predict) {
    limits.answer = *options.predict < 0 ? LengthLimits::kEndless : (std::size_t)(*options.predict);
  }
  if (options.ctx_size) limits.conversation = (std::size_t)(*options.ctx_size);
  return limits;
}

}  // namespace lacake::cli
