#include "sizing.h"

namespace lacake::cli {

SessionOptions session_options(const Options& options) {
  SessionOptions session;
  session.policy = PolicySpec::parse(options.policy.value_or(options.kv_budget ? kPolicyOfABudget : "full"));
  if (options.kv_budget) session.budget = Budget::parse(*options.kv_budget);
  if (options.kv_type) session.types = CacheTypes::parse(*options.kv_type);
  session.prefill = options.prefill == "exact" ? PrefillMode::kExact : PrefillMode::kStreaming;
  session.chunk = static_cast<std::size_t>(options.chunk.value_or(0));
  return session;
}

LengthLimits length_limits(const Options& options) {
  LengthLimits limits;
  if (options.predict) {
    limits.answer = *options.predict < 0 ? LengthLimits::kEndless : static_cast<std::size_t>(*options.predict);
  }
  if (options.ctx_size) limits.conversation = static_cast<std::size_t>(*options.ctx_size);
  return limits;
}

}  // namespace lacake::cli
