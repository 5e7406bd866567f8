#include "serve/underway.h"

#include <algorithm>

namespace lacake::cli {

using nlohmann::json;

namespace {

// llama-server's names. The first token of an answer comes with the prompt: the others are what writing takes time for.
json timings_json(std::size_t n_held, std::size_t n_read, double read_ms, std::size_t n_written, double write_ms) {
  const auto ms_each = [](double ms, std::size_t n) { return n > 0 ? ms / (double)n : 0; };
  const auto per_second = [](double ms, std::size_t n) { return ms > 0 ? 1e3 * (double)n / ms : 0; };
  const std::size_t n_steps = n_written > 0 ? n_written - 1 : 0;
  return {{"cache_n", n_held},
          {"prompt_n", n_read},
          {"prompt_ms", read_ms},
          {"prompt_per_token_ms", ms_each(read_ms, n_read)},
          {"prompt_per_second", per_second(read_ms, n_read)},
          {"predicted_n", n_written},
          {"predicted_ms", write_ms},
          {"predicted_per_token_ms", ms_each(write_ms, n_steps)},
          {"predicted_per_second", per_second(write_ms, n_steps)}};
}

}  // namespace

json timings_of(const Served& served) {
  const std::size_t n_read = served.cache.n_prompt - std::min(served.cache.n_held, served.cache.n_prompt);
  std::size_t n_written = 0;
  double write_ms = 0;
  if (!served.answers.empty()) {
    n_written = served.answers[0].tokens.size();
    if (n_written > 0) write_ms = served.answers[0].token_ms.value_or(0) * (double)(n_written - 1);
  }
  json timings = timings_json(served.cache.n_held, n_read, served.read_ms, n_written, write_ms);
  timings["queue_ms"] = served.queue_ms;
  return timings;
}

void Underway::started(const ServedCache& cache) {
  since_start_ = Stopwatch();
  n_prompt_ = cache.n_prompt;
  n_held_ = std::min(cache.n_held, cache.n_prompt);
}

void Underway::written(std::size_t n_tokens) {
  last_ms_ = since_start_.ms();
  if (n_written_ == 0) first_ms_ = last_ms_;
  n_written_ = n_tokens;
}

json Underway::progress(std::size_t done) {
  const std::size_t n = std::min(n_held_ + done, n_prompt_);
  if (n_told_ == n) return {};
  n_told_ = n;
  told_ms_ = n > n_held_ ? since_start_.ms() : 0;
  return {{"total", n_prompt_}, {"cache", n_held_}, {"processed", n}, {"time_ms", told_ms_}};
}

json Underway::timings() const {
  const bool writes = n_written_ > 0;
  const std::size_t n_read = writes ? n_prompt_ : n_told_.value_or(n_held_);
  return timings_json(n_held_, n_read - n_held_, writes ? first_ms_ : told_ms_, n_written_, last_ms_ - first_ms_);
}

News::News(const Fields& fields)
    : progress(fields.flag("return_progress").value_or(false)),
      timings(fields.flag("timings_per_token").value_or(false)) {}

}  // namespace lacake::cli
