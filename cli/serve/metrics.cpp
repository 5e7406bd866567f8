#include "serve/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <mutex>

namespace lacake::cli {

struct ServerMetrics::State {
  using Buckets = prometheus::Histogram::BucketBoundaries;

  prometheus::Gauge& gauge(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
  }
  prometheus::Histogram& histogram(const char* name, const char* help, const Buckets& buckets) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add({}, buckets);
  }
  // The scheduler counts itself: the counter follows.
  struct Followed {
    prometheus::Counter& counter;
    double last = 0;
    void set(double now) {
      if (now > last) counter.Increment(now - last);
      last = now;
    }
  };
  Followed followed(const char* name, const char* help) {
    return {prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({})};
  }

  prometheus::Registry registry;
  std::mutex mutex;  // of what follows
  prometheus::Family<prometheus::Counter>& requests =
      prometheus::BuildCounter().Name("lacake_http_requests_total").Help("Answers by status").Register(registry);
  prometheus::Histogram& first = histogram("lacake_time_to_first_token_seconds", "From request to first token",
                                           Buckets{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300});
  prometheus::Histogram& between = histogram("lacake_time_between_tokens_seconds", "Between two tokens of an answer",
                                             Buckets{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5});
  prometheus::Gauge& waiting = gauge("lacake_requests_waiting", "Requests in the queue");
  prometheus::Gauge& reading = gauge("lacake_requests_reading", "Requests whose prompt is being read");
  prometheus::Gauge& writing = gauge("lacake_requests_writing", "Requests whose answer is being written");
  prometheus::Gauge& conversations = gauge("lacake_conversations", "Conversations in memory");
  prometheus::Gauge& idle = gauge("lacake_conversations_idle", "Of these, those that do not run");
  prometheus::Gauge& reserved = gauge("lacake_kv_reserved_bytes", "KV memory reserved for all conversations");
  prometheus::Gauge& leased = gauge("lacake_kv_leased_bytes", "KV memory that conversations have: their budgets");
  prometheus::Gauge& held = gauge("lacake_kv_held_bytes", "KV memory that entries take");
  prometheus::Gauge& free = gauge("lacake_kv_free_bytes", "KV memory that nobody has");
  prometheus::Gauge& shared = gauge("lacake_shared_bytes", "Memory of beginnings that conversations share");
  prometheus::Gauge& usage = gauge("lacake_kv_cache_usage_ratio", "Leased of reserved");
  Followed prompt = followed("lacake_prompt_tokens_total", "Tokens of prompts");
  Followed read = followed("lacake_prompt_tokens_read_total", "Of these, computed: not held already");
  Followed written = followed("lacake_generated_tokens_total", "Tokens of answers");
  Followed steps = followed("lacake_decode_steps_total", "Steps of one token for all answers");
  Followed read_seconds = followed("lacake_read_seconds_total", "Time of computing prompts");
  Followed write_seconds = followed("lacake_write_seconds_total", "Time of computing answers");
  Followed refused = followed("lacake_requests_refused_total", "Requests for which the queue was full");
  Followed cancelled = followed("lacake_requests_cancelled_total", "Requests whose client went");
  Followed failed = followed("lacake_requests_failed_total", "Requests that ended in an error");
  Followed dropped = followed("lacake_conversations_dropped_total", "Conversations that gave way to others");
  Followed shrunk = followed("lacake_conversations_shrunk_total", "Times that one gave half of its budget up");
  Followed stored = followed("lacake_conversations_stored_total", "Conversations written to the store");
  Followed loaded = followed("lacake_conversations_loaded_total", "Conversations taken from the store");
  Followed store_failures = followed("lacake_store_failures_total", "Conversations that could not be kept or taken");
  // What llama-server counts too, by its names, so that its dashboards show it.
  Followed their_read = followed("llamacpp:prompt_tokens_total", "Tokens of prompts that were computed");
  Followed their_read_seconds = followed("llamacpp:prompt_seconds_total", "Time of computing prompts");
  Followed their_written = followed("llamacpp:tokens_predicted_total", "Tokens of answers");
  Followed their_write_seconds = followed("llamacpp:tokens_predicted_seconds_total", "Time of computing answers");
  Followed their_steps = followed("llamacpp:n_decode_total", "Steps of one token for all answers");
  prometheus::Gauge& their_running = gauge("llamacpp:requests_processing", "Requests that are read or written");
  prometheus::Gauge& their_waiting = gauge("llamacpp:requests_deferred", "Requests in the queue");
};

ServerMetrics::ServerMetrics() : state_(std::make_unique<State>()) {}
ServerMetrics::~ServerMetrics() = default;

void ServerMetrics::first_token(double seconds) { state_->first.Observe(seconds); }
void ServerMetrics::between_tokens(double seconds) { state_->between.Observe(seconds); }
void ServerMetrics::request(int status) { state_->requests.Add({{"status", std::to_string(status)}}).Increment(); }

std::string ServerMetrics::text(const SchedulerStatus& status) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  std::size_t n_idle = 0;
  for (const SchedulerStatus::Conversation& conversation : status.conversations) n_idle += conversation.running ? 0 : 1;
  s.waiting.Set((double)status.n_waiting);
  s.reading.Set((double)status.n_reading);
  s.writing.Set((double)status.n_writing);
  s.conversations.Set((double)status.conversations.size());
  s.idle.Set((double)n_idle);
  s.reserved.Set((double)status.memory.reserved);
  s.leased.Set((double)status.memory.leased);
  s.held.Set((double)status.memory.held);
  s.free.Set((double)status.memory.free);
  s.shared.Set((double)status.opening_bytes);
  s.usage.Set(status.memory.reserved ? (double)status.memory.leased / (double)status.memory.reserved : 0);
  s.prompt.set((double)status.n_prompt_tokens);
  s.read.set((double)status.n_read_tokens);
  s.written.set((double)status.n_written_tokens);
  s.steps.set((double)status.n_steps);
  s.read_seconds.set(status.read_seconds);
  s.write_seconds.set(status.write_seconds);
  s.refused.set((double)status.n_refused);
  s.cancelled.set((double)status.n_cancelled);
  s.failed.set((double)status.n_failed);
  s.dropped.set((double)status.n_dropped);
  s.shrunk.set((double)status.n_shrunk);
  s.stored.set((double)status.n_stored);
  s.loaded.set((double)status.n_loaded);
  s.store_failures.set((double)status.n_store_failures);
  s.their_read.set((double)status.n_read_tokens);
  s.their_read_seconds.set(status.read_seconds);
  s.their_written.set((double)status.n_written_tokens);
  s.their_write_seconds.set(status.write_seconds);
  s.their_steps.set((double)status.n_steps);
  s.their_running.Set((double)(status.n_reading + status.n_writing));
  s.their_waiting.Set((double)status.n_waiting);
  return prometheus::TextSerializer().Serialize(s.registry.Collect());
}

}  // namespace lacake::cli
