#pragma once

// How long a request takes, told at its end and on its way.

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/stopwatch.h"
#include "lacake/scheduler.h"
#include "serve/fields.h"

namespace lacake::cli {

// `timings` of an answer, by llama-server's names.
nlohmann::json timings_of(const Served& served);

// One prompt and its answer on their way, for clients that ask for it as they go. Times are by the clock, so they have
// what was computed for others meanwhile; timings_of() has them without it, once all has ended.
class Underway {
 public:
  // Called as those of a RequestClient; written() for the first answer.
  void started(const ServedCache& cache);
  void written(std::size_t n_tokens);

  // {"total", "cache", "processed", "time_ms"} in tokens of the whole prompt, those that were held among them. Null
  // where no token was read since it was asked last.
  nlohmann::json progress(std::size_t done);
  nlohmann::json timings() const;

 private:
  Stopwatch since_start_;
  std::size_t n_prompt_ = 0, n_held_ = 0, n_written_ = 0;
  std::optional<std::size_t> n_told_;  // tokens of the prompt
  double told_ms_ = 0;                 // when they were told
  double first_ms_ = 0, last_ms_ = 0;  // when the first and the last token came
};

// What a client wants to know while a request is on its way: `return_progress`, `timings_per_token`.
struct News {
  explicit News(const Fields& fields);
  bool progress, timings;
};

}  // namespace lacake::cli
