// A round of the thread: a token of each answer, then some of the prompts; and how requests end.

#include "serve/scheduler_state.h"

#include <algorithm>
#include <exception>
#include <iterator>
#include <span>
#include <utility>

namespace lacake {
namespace {

// How long prompts are read between two tokens of those that write. A step takes as long as one layer of 512 tokens.
constexpr double kReadingMs = 20;

}  // namespace

void Scheduler::State::write() {
  const Stopwatch watch;
  std::vector<Engine::Next> batch;
  for (Job& job : jobs) {
    if (job.running->reading()) continue;
    const std::span<const Writing> writing = job.running->writing();
    for (std::size_t i = 0; i < writing.size(); ++i) {
      if (writing[i].generation->finished()) continue;
      try {
        const Generation::Step step = writing[i].generation->advance(writing[i].session->logits());
        counts.n_written_tokens += 1;
        job.client->written(i, step.text, *writing[i].generation);
        if (step.feed) batch.push_back({writing[i].session, *step.feed});
      } catch (const std::exception& error) {  // a grammar that allows nothing, say
        errors.emplace_back(job.ticket, error_of(error));
        break;
      }
    }
  }
  step(batch);
  if (!batch.empty()) {
    ++counts.n_steps;
    counts.write_seconds += watch.ms() / 1e3;
  }
  for (auto job = jobs.begin(); job != jobs.end();) {
    const auto error =
        std::find_if(errors.begin(), errors.end(), [&](const auto& e) { return e.first == job->ticket; });
    if (error != errors.end()) {
      job = failed(job, error->second);
    } else {
      job = is_written(*job) ? ended(job) : std::next(job);
    }
  }
  errors.clear();
}

void Scheduler::State::step(std::span<const Engine::Next> batch) {
  try {
    engine.step(batch);
  } catch (const std::exception&) {
    for (const Engine::Next& next : batch) {
      try {
        engine.step({&next, 1});
      } catch (const std::exception& error) {
        errors.emplace_back(owner_of(next.session), error_of(error));
      }
    }
  }
}

Scheduler::Ticket Scheduler::State::owner_of(const Session* session) const {
  for (const Job& job : jobs) {
    if (job.running->reading()) continue;
    for (const Writing& writing : job.running->writing()) {
      if (writing.session == session) return job.ticket;
    }
  }
  return 0;
}

bool Scheduler::State::is_written(const Job& job) {
  if (job.running->reading()) return false;
  const std::span<const Writing> writing = job.running->writing();
  return std::all_of(writing.begin(), writing.end(), [](const Writing& w) { return w.generation->finished(); });
}

bool Scheduler::State::has_written(const Job& job) {
  if (job.running->reading()) return false;
  const std::span<const Writing> writing = job.running->writing();
  return std::any_of(writing.begin(), writing.end(),
                     [](const Writing& w) { return !w.generation->answer().tokens.empty(); });
}

void Scheduler::State::read() {
  const Stopwatch watch;
  do {
    const auto job = next_to_read();
    if (job == jobs.end()) break;
    if (!read(job)) break;
  } while (somebody_writes() && watch.ms() < kReadingMs);
  counts.read_seconds += watch.ms() / 1e3;
}

bool Scheduler::State::somebody_writes() const {
  return std::any_of(jobs.begin(), jobs.end(), [](const Job& job) { return !job.running->reading(); });
}

bool Scheduler::State::read(std::deque<Job>::iterator job) {
  try {
    job->has_begun = true;
    const double before = job->running->n_read();
    const bool more = job->running->read();
    const double now = job->running->n_read();
    n_read_tokens += now - before;
    if (!more) job->promised = 0;
    const std::size_t total = job->running->n_to_read();
    job->client->progress(std::min((std::size_t)now, total), total);
    return more;
  } catch (const std::exception& error) {
    (void)failed(job, error_of(error));
    return false;
  }
}

std::deque<Scheduler::State::Job>::iterator Scheduler::State::next_to_read() {
  auto next = jobs.end();
  double least = 0;
  shortest_first = !shortest_first;
  const auto is_long = [](const Job& job) { return job.running->n_to_read() > kShortPrompt; };
  const bool more_may_begin = std::ranges::count_if(jobs, [&](const Job& job) {
                                return job.running->reading() && job.has_begun && is_long(job);
                              }) < (std::ptrdiff_t)kMostReading;
  for (auto job = jobs.begin(); job != jobs.end(); ++job) {
    if (!job->running->reading()) continue;
    if (!job->has_begun && is_long(*job) && !more_may_begin) continue;
    const double left = (double)job->running->n_to_read() - job->running->n_read();
    if (next != jobs.end() && !(shortest_first && left < least)) continue;
    next = job, least = left;
  }
  return next;
}

std::deque<Scheduler::State::Job>::iterator Scheduler::State::ended(std::deque<Job>::iterator job) {
  Served served;
  try {
    served = job->running->end();
  } catch (const std::exception& error) {
    return failed(job, error_of(error));
  }
  served.queue_ms = job->queue_ms;
  if (job->resident) served.cache.id = job->resident->id;
  job->running.reset();
  if (job->resident && save(*job, served)) return jobs.erase(job);
  if (job->resident) give_back(*job);
  publish();
  job->client->ended(served);
  return jobs.erase(job);
}

bool Scheduler::State::save(Job& job, Served& served) {
  Resident& resident = *job.resident;
  if (options.store) served.cache.stored = false;
  served.cache.store_failure = std::exchange(resident.store_failure, {});
  if (!resident.lease || !resident.conversation->session()) return false;
  try {
    saver.save(job.ticket, *resident.lease, resident.conversation->saved());
  } catch (const std::exception& error) {  // no memory for it
    served.cache.store_failure = error_of(error);
    conversations.count_saved(false);
    return false;
  }
  const auto tell = [client = job.client, served](const std::optional<Error>& failure) mutable {
    served.cache.stored = !failure;
    served.cache.store_failure = failure;
    client->ended(served);
  };
  saving.push_back({job.ticket, &resident, tell});
  return true;
}

void Scheduler::State::take_saved() {
  for (const Saver::Done& done : saver.take_done()) {
    const auto at =
        std::find_if(saving.begin(), saving.end(), [&](const Saving& s) { return s.ticket == done.number; });
    const Saving ended = std::move(*at);
    saving.erase(at);
    conversations.count_saved(!done.failure);
    conversations.give_back(*ended.resident);
    publish(1);
    ended.tell(done.failure);
  }
}

std::deque<Scheduler::State::Job>::iterator Scheduler::State::failed(std::deque<Job>::iterator job,
                                                                     const Error& error) {
  ++counts.n_failed;
  return dropped(job, error);
}

std::deque<Scheduler::State::Job>::iterator Scheduler::State::dropped(std::deque<Job>::iterator job,
                                                                      const Error& error) {
  job->running.reset();
  if (job->resident) give_back(*job);
  job->client->failed(error);
  return jobs.erase(job);
}

void Scheduler::State::give_back(Job& job) {
  conversations.give_back(*job.resident);
  job.resident = nullptr;
}

void Scheduler::State::fail(Job& job, const Error& error) {
  ++counts.n_failed;
  job.client->failed(error);
}

void Scheduler::State::count(std::size_t telling) {
  const std::lock_guard lock(mutex);
  n_waiting = waiting.size();
  n_running = jobs.size() + saving.size() + telling;
}

void Scheduler::State::publish(std::size_t telling) {
  since_publish = Stopwatch();
  SchedulerStatus now = counts;
  for (const auto& resident : conversations.all()) {
    const Session* const session = resident->conversation->session();
    const CacheUse use = session ? session->use() : CacheUse{};
    now.conversations.push_back({.id = resident->id,
                                 .running = resident->running,
                                 .n_tokens = session ? session->tokens().size() : 0,
                                 .held_bytes = use.held_bytes,
                                 .budget_bytes = use.budget_bytes,
                                 .n_turns = resident->conversation->n_turns()});
  }
  for (const Job& job : jobs) {
    if (job.running) ++(job.running->reading() ? now.n_reading : now.n_writing);
  }
  now.memory = engine.kv_memory();
  now.opening_bytes = conversations.opening_bytes();
  now.n_read_tokens = (std::uint64_t)n_read_tokens;
  now.n_shrunk = conversations.counts().n_shrunk;
  now.n_dropped = conversations.counts().n_dropped;
  now.n_stored = conversations.counts().n_stored;
  now.n_loaded = conversations.counts().n_loaded;
  now.n_store_failures = conversations.counts().n_store_failures;
  count(telling);
  const std::lock_guard lock(mutex);
  published = std::move(now);
  if (n_left() == 0) idle.notify_all();
}

}  // namespace lacake
