#include "lacake/scheduler.h"

#include <fmt/format.h>

#include <utility>

#include "serve/scheduler_state.h"

namespace lacake {

Error stopping() {
  return Error(
      {.kind = Error::Kind::kState, .subject = "server", .expected = "one that runs", .found = "one that stops"});
}

Error error_of(const std::exception& exception) {
  if (const auto* const error = dynamic_cast<const Error*>(&exception)) return *error;
  return Error({.kind = Error::Kind::kState, .subject = "server", .found = exception.what()});
}

Error cancelled() { return Error({.kind = Error::Kind::kState, .subject = "request", .found = "cancelled"}); }

Scheduler::Scheduler(const Model& model, Engine& engine, SchedulerOptions options)
    : state_(std::make_unique<State>(model, engine, std::move(options))) {
  state_->publish();
  state_->thread = std::thread([this] { state_->run(); });
}

Scheduler::~Scheduler() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->wake.notify_all();
  state_->thread.join();
}

Scheduler::Ticket Scheduler::submit(Request request, std::shared_ptr<RequestClient> client) {
  State& s = *state_;
  State::Job job{.request = std::move(request), .client = std::move(client)};
  const std::lock_guard lock(s.mutex);
  ++s.n_requests;
  const bool accepted_before = job.request.accepted_before;
  if (s.draining && !accepted_before) {
    ++s.n_refused;
    throw stopping();
  }
  if (s.n_waiting + s.submitted.size() >= s.options.most_waiting && !accepted_before) {
    ++s.n_refused;
    throw Error({.kind = Error::Kind::kCapacity,
                 .subject = "queue",
                 .expected = fmt::format("{} requests at most that wait", s.options.most_waiting),
                 .found = "one more"});
  }
  job.ticket = ++s.last_ticket;
  s.submitted.push_back(std::move(job));
  s.wake.notify_all();
  return s.last_ticket;
}

void Scheduler::cancel(Ticket ticket) {
  const std::lock_guard lock(state_->mutex);
  state_->cancels.insert(ticket);
  state_->wake.notify_all();
}

// The thread looks at the clock by itself as long as there is something to end.
void Scheduler::begin_drain(std::optional<std::chrono::milliseconds> deadline, Told<std::size_t> told) {
  State& s = *state_;
  {
    const std::lock_guard lock(s.mutex);
    s.draining = true;
    if (deadline) s.cancels_at = std::chrono::steady_clock::now() + *deadline;
  }
  s.give(std::move(told), [&s] {
    s.let_go_idle();
    const std::lock_guard lock(s.mutex);
    return s.n_left();
  });
}

void Scheduler::drain(std::chrono::milliseconds deadline) {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  s.draining = true;
  s.wake.notify_all();
  const auto done = [&] { return s.n_left() == 0; };
  if (s.idle.wait_for(lock, deadline, done)) return;
  s.cancels_all = true;
  s.wake.notify_all();
  s.idle.wait(lock, done);
}

void Scheduler::look(ConversationName name, Told<ConversationView> told) {
  State& s = *state_;
  s.give(std::move(told), [&s, name = std::move(name)] { return s.conversations.look(name); });
}

void Scheduler::snapshot(ConversationName name, Told<std::string> told) {
  State& s = *state_;
  s.give(std::move(told), [&s, name = std::move(name)] { return s.conversations.snapshot(name); });
}

void Scheduler::restore(std::string bytes, std::string key, std::string owner, Told<RestoredConversation> told) {
  state_->give_restore(key, owner, told, [bytes = std::move(bytes)] { return bytes; });
}

void Scheduler::fork(ConversationName name, std::string key, Told<RestoredConversation> told) {
  State& s = *state_;
  const std::string owner = name.owner;
  s.give_restore(key, owner, told,
                 [&s, name = std::move(name)] { return s.conversations.copy(name, s.promised_bytes()); });
}

void Scheduler::drop(ConversationName name, Told<std::monostate> told) {
  State& s = *state_;
  s.give(std::move(told), [&s, name = std::move(name)] {
    s.conversations.drop(name);
    return std::monostate();
  });
}

bool Scheduler::is_of(std::string_view id, std::string_view owner) { return is_conversation_of(id, owner); }

std::vector<StoredConversation> Scheduler::stored(std::string_view owner) const {
  if (!state_->options.store) return {};
  std::vector<StoredConversation> all = state_->options.store->conversations();
  std::erase_if(all, [&](const StoredConversation& c) { return !is_of(c.id, owner); });
  return all;
}

SchedulerStatus Scheduler::status() const {
  const std::lock_guard lock(state_->mutex);
  SchedulerStatus status = state_->published;
  status.n_requests = state_->n_requests;
  status.n_refused = state_->n_refused;
  status.n_waiting = state_->n_waiting + state_->submitted.size();
  return status;
}

}  // namespace lacake
