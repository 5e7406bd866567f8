#include "serve/scheduler_state.h"

#include <fmt/format.h>

#include <exception>
#include <utility>

namespace lacake {
namespace {

// How old the status may be while requests run. Ends are published before their clients are told.
constexpr double kPublishMs = 20;

}  // namespace

Scheduler::State::State(const Model& m, Engine& e, SchedulerOptions o)
    : model(m), engine(e), options(std::move(o)), conversations(m, e, options), saver([this] { wake_up(); }) {
  const std::uint64_t reserved = engine.kv_memory().reserved;
  const std::uint64_t one = engine.plan(options.session).budget_bytes;
  if (one > reserved) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "kv_memory",
                 .expected = fmt::format("room for one conversation, {} bytes", one),
                 .found = fmt::format("{} bytes", reserved)});
  }
}

void Scheduler::State::wake_up() {
  const std::lock_guard lock(mutex);
  saved = true;
  wake.notify_all();
}

void Scheduler::State::run() {
  while (take_orders()) {
    take_saved();
    admit();
    // Nobody will ask here again: another program that has the store may go on with them.
    if (leaves) let_go_idle();
    write();
    read();
    if (jobs.empty() || since_publish.ms() > kPublishMs) publish();
  }
  for (Job& job : jobs) job.running.reset();
  saver.finish();
  take_saved();
  for (Job& job : jobs) fail(job, stopping());
  for (Job& job : waiting) fail(job, stopping());
  jobs.clear();
  waiting.clear();
  publish();
}

bool Scheduler::State::take_orders() {
  std::unique_lock lock(mutex);
  wake.wait(lock, [&] {
    // Those that wait beside a conversation that is being saved may wait for it.
    const bool can_admit = !waiting.empty() && saving.empty();
    return stop || saved || cancels_all || leaves != draining || !submitted.empty() || !cancels.empty() ||
           !orders.empty() || !jobs.empty() || can_admit;
  });
  saved = false;
  if (stop) {
    const std::deque<Order> given = std::exchange(orders, {});
    for (Job& job : submitted) waiting.push_back(std::move(job));
    submitted.clear();
    lock.unlock();
    for (const Order& order : given) order.refuse(stopping());
    return false;
  }
  // One a round: each may copy a whole session, and answers wait meanwhile.
  std::optional<Order> order;
  if (!orders.empty()) {
    order = std::move(orders.front());
    orders.pop_front();
  }
  for (Job& job : submitted) waiting.push_back(std::move(job));
  submitted.clear();
  n_waiting = waiting.size();
  leaves = draining;
  std::set<Ticket> gone = std::exchange(cancels, {});
  const bool all = std::exchange(cancels_all, false) || (cancels_at && std::chrono::steady_clock::now() >= *cancels_at);
  lock.unlock();
  for (const Job& job : waiting) {
    if (all) gone.insert(job.ticket);
  }
  for (const Job& job : jobs) {
    if (all) gone.insert(job.ticket);
  }
  if (!gone.empty()) cancel(gone);
  if (order) order->carry_out();
  return true;
}

void Scheduler::State::let_go_idle() {
  if (waiting.empty()) conversations.let_go_all();
}

void Scheduler::State::give_restore(const std::string& key, const std::string& owner,
                                    const Told<RestoredConversation>& told, std::function<std::string()> snapshot) {
  order<RestoredConversation>(told, [this, key, owner, told, snapshot = std::move(snapshot)] {
    Resident* resident = nullptr;
    try {
      std::string bytes = snapshot();
      resident = conversations.restore(bytes, key, owner, promised_bytes());
      const SessionOptions& session = resident->conversation->session()->options();
      const RestoredConversation restored{resident->id, session.policy.text(), session.budget.text(),
                                          session.types.text()};
      const auto end = [told, restored](const std::optional<Error>& failure) {
        if (!failure) return tell<RestoredConversation>(told, restored);
        // Without the path: where the store lies is no client's business.
        Error::Fields fields = failure->fields();
        fields.kind = Error::Kind::kState;
        fields.subject = "store";
        fields.remedy = "the conversation is in memory alone";
        tell<RestoredConversation>(told, Error(std::move(fields)));
      };
      if (!resident->lease) {
        conversations.give_back(*resident);
        publish();
        return end({});
      }
      const Ticket ticket = next_ticket();
      saver.save(ticket, *resident->lease, std::move(bytes));
      saving.push_back({ticket, resident, end});
    } catch (const std::exception& error) {
      if (resident) conversations.give_back(*resident);
      publish();
      tell<RestoredConversation>(told, error_of(error));
    }
  });
}

Scheduler::Ticket Scheduler::State::next_ticket() {
  const std::lock_guard lock(mutex);
  return ++last_ticket;
}

std::uint64_t Scheduler::State::promised_bytes() const {
  std::uint64_t promised = 0;
  for (const Job& job : jobs) promised += job.promised;
  return promised;
}

void Scheduler::State::cancel(const std::set<Ticket>& gone) {
  for (auto job = waiting.begin(); job != waiting.end();) {
    if (!gone.contains(job->ticket)) {
      ++job;
      continue;
    }
    ++counts.n_cancelled;
    Job gone_job = std::move(*job);
    job = waiting.erase(job);
    count(1);
    gone_job.client->failed(cancelled());
  }
  for (auto job = jobs.begin(); job != jobs.end();) {
    if (!gone.contains(job->ticket)) {
      ++job;
      continue;
    }
    ++counts.n_cancelled;
    job = has_written(*job) ? ended(job) : dropped(job, cancelled());
  }
}

}  // namespace lacake
