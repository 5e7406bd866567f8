#include "lacake/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "base/stopwatch.h"
#include "lacake/error.h"
#include "serve/conversations.h"
#include "serve/running.h"
#include "serve/saver.h"

namespace lacake {
namespace {

// How long prompts are read between two tokens of those that write. A step takes as long as one layer of 512 tokens.
constexpr double kReadingMs = 20;
// How old the status may be while requests run. Ends are published before their clients are told.
constexpr double kPublishMs = 20;

Error stopping() {
  return Error(
      {.kind = Error::Kind::kState, .subject = "server", .expected = "one that runs", .found = "one that stops"});
}

// Whatever ends one request ends no other. Where it is no Error, a machine without memory say, it is told as one.
Error error_of(const std::exception& exception) {
  if (const auto* const error = dynamic_cast<const Error*>(&exception)) return *error;
  return Error({.kind = Error::Kind::kState, .subject = "server", .found = exception.what()});
}

Error cancelled() { return Error({.kind = Error::Kind::kState, .subject = "request", .found = "cancelled"}); }

struct Job {
  Scheduler::Ticket ticket = 0;
  Request request;
  std::shared_ptr<RequestClient> client;
  SessionOptions session;
  std::uint64_t bytes = 0;  // of KV memory that one of its sessions takes
  bool planned = false;
  std::string name;                    // of its conversation (Conversations::name_of)
  std::optional<std::string> opening;  // what its prompt begins with, once somebody reads such a thing
  Stopwatch since_submit;
  double queue_ms = 0;
  // Once it is admitted:
  Resident* resident = nullptr;  // of a chat
  std::unique_ptr<Running> running;
  std::uint64_t promised = 0;  // KV memory of sessions that it will open when it writes

  std::size_t n_answers() const { return std::max<std::size_t>(request.asking.n_answers, 1); }
};

}  // namespace

struct Scheduler::State {
  // A conversation on its way to the store. Whoever waits for that is told then.
  struct Saving {
    Ticket ticket;
    Resident* resident;
    std::function<void(bool kept)> tell;
  };

  State(const Model& m, Engine& e, SchedulerOptions o)
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

  // --- the thread ----------------------------------------------------------------------------------------------

  void wake_up() {
    const std::lock_guard lock(mutex);
    saved = true;
    wake.notify_all();
  }

  void run() {
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

  // New requests and cancelled ones. Waits where there is nothing to do. False: it is over.
  bool take_orders() {
    std::unique_lock lock(mutex);
    wake.wait(lock, [&] {
      // Those that wait beside a conversation that is being saved may wait for it.
      const bool can_admit = !waiting.empty() && saving.empty();
      return stop || saved || cancels_all || leaves != draining || !submitted.empty() || !cancels.empty() ||
             !orders.empty() || !jobs.empty() || can_admit;
    });
    saved = false;
    std::vector<Order> given = std::exchange(orders, {});
    if (stop) {
      for (Job& job : submitted) waiting.push_back(std::move(job));
      submitted.clear();
      lock.unlock();
      for (const Order& order : given) order.refuse(stopping());
      return false;
    }
    for (Job& job : submitted) waiting.push_back(std::move(job));
    submitted.clear();
    n_waiting = waiting.size();
    leaves = draining;
    std::set<Ticket> gone = std::exchange(cancels, {});
    const bool all =
        std::exchange(cancels_all, false) || (cancels_at && std::chrono::steady_clock::now() >= *cancels_at);
    lock.unlock();
    for (const Job& job : waiting) {
      if (all) gone.insert(job.ticket);
    }
    for (const Job& job : jobs) {
      if (all) gone.insert(job.ticket);
    }
    if (!gone.empty()) cancel(gone);
    for (const Order& order : given) order.carry_out();
    return true;
  }

  // Another process may take them from the store then. Those that wait may still want one of them.
  void let_go_idle() {
    if (waiting.empty()) conversations.let_go_all();
  }

  // Something to do with the conversations, between two rounds.
  struct Order {
    std::function<void()> carry_out;
    std::function<void(const Error&)> refuse;
  };

  template <class Result, class Work>
  void give(Told<Result> told, Work work) {
    order<Result>(told, [this, told, work = std::move(work)] {
      std::optional<std::variant<Result, Error>> result;
      try {
        result.emplace(work());
      } catch (const std::exception& error) {
        result.emplace(error_of(error));
      }
      publish();
      tell<Result>(told, std::move(*result));
    });
  }

  template <class Result>
  void order(const Told<Result>& told, std::function<void()> carry_out) {
    {
      const std::lock_guard lock(mutex);
      orders.push_back({std::move(carry_out), [told](const Error& error) { tell<Result>(told, error); }});
    }
    wake.notify_all();
  }

  // Whoever has no memory to be told in waits until he gives up; the others go on.
  template <class Result>
  static void tell(const Told<Result>& told, std::variant<Result, Error> result) {
    try {
      told(std::move(result));
    } catch (const std::exception&) {
    }
  }

  // Told when it is in the store too.
  void give_restore(const std::string& key, const std::string& owner, const Told<RestoredConversation>& told,
                    std::function<std::string()> snapshot) {
    order<RestoredConversation>(told, [this, key, owner, told, snapshot = std::move(snapshot)] {
      Resident* resident = nullptr;
      try {
        std::string bytes = snapshot();
        resident = conversations.restore(bytes, key, owner, promised_bytes());
        const SessionOptions& session = resident->conversation->session()->options();
        const RestoredConversation restored{resident->id, session.policy.text(), session.budget.text(),
                                            session.types.text()};
        const auto end = [told, restored](bool kept) {
          if (kept) return tell<RestoredConversation>(told, restored);
          tell<RestoredConversation>(told,
                                     Error({.kind = Error::Kind::kState,
                                            .subject = "store",
                                            .found = "no room, or an error: the conversation is in memory alone"}));
        };
        if (!resident->lease) {
          conversations.give_back(*resident);
          publish();
          return end(true);
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

  Ticket next_ticket() {
    const std::lock_guard lock(mutex);
    return ++last_ticket;
  }

  std::uint64_t promised_bytes() const {
    std::uint64_t promised = 0;
    for (const Job& job : jobs) promised += job.promised;
    return promised;
  }

  void cancel(const std::set<Ticket>& gone) {
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
      job = job->running->reading() ? dropped(job, cancelled()) : ended(job);
    }
  }

  // --- admission -----------------------------------------------------------------------------------------------

  void admit() {
    while (!waiting.empty()) {
      // A conversation that runs for somebody else holds up nobody but who asks for it too.
      bool admitted = false;
      for (auto job = waiting.begin(); job != waiting.end(); ++job) {
        const Admission admission = admit(*job);
        if (admission == Admission::kBusy) continue;
        if (admission == Admission::kNoRoom) return;
        if (admission == Admission::kAdmitted) jobs.push_back(std::move(*job));
        waiting.erase(job);
        count();
        admitted = true;
        break;
      }
      if (!admitted) return;
    }
  }

  enum class Admission { kAdmitted, kRefused, kBusy, kNoRoom };

  Admission admit(Job& job) {
    try {
      if (!job.planned) plan(job);
      while (true) {
        const Admission admission = place(job);
        if (admission != Admission::kNoRoom || !conversations.let_go_one()) {
          if (admission == Admission::kAdmitted) begin(job);
          return admission;
        }
      }
    } catch (const std::exception& error) {
      job.running.reset();
      if (job.resident) give_back(job);
      fail(job, error_of(error));
      return Admission::kRefused;
    }
  }

  void plan(Job& job) {
    const ChatRequest* const chat = std::get_if<ChatRequest>(&job.request.what);
    job.request.asking.generation.limits.conversation = options.limits.conversation;
    job.session = job.request.session.value_or(options.session);
    if (chat) {
      job.session.prompt_tokens = options.session.prompt_tokens;
      job.session.new_tokens = options.session.new_tokens;
      job.session.single_turn = false;
    } else {
      job.session = sized_for_answer(engine, model.facts(), job.session,
                                     std::get<TextRequest>(job.request.what).prompt.tokens.size(),
                                     job.request.asking.generation.limits);
    }
    job.bytes = engine.plan(job.session).budget_bytes;
    const std::uint64_t reserved = engine.kv_memory().reserved;
    if (job.n_answers() > reserved / job.bytes) {
      throw Error({.kind = Error::Kind::kCapacity,
                   .subject = "kv_memory",
                   .expected = fmt::format("{} bytes at most", reserved),
                   .found = fmt::format("a request for {} times {}", job.n_answers(), job.bytes)});
    }
    if (chat) job.name = Conversations::name_of(*chat, job.session);
    job.planned = true;
  }

  std::uint64_t free_bytes() const {
    const std::uint64_t promised = promised_bytes();
    const std::uint64_t free = engine.kv_memory().free;
    return free > promised ? free - promised : 0;
  }

  // Gives it a conversation, or room for its sessions.
  Admission place(Job& job) {
    const std::uint64_t others = job.bytes * (job.n_answers() - 1);
    const std::uint64_t promised = engine.kv_memory().free - free_bytes();
    const ChatRequest* const chat = std::get_if<ChatRequest>(&job.request.what);
    conversations.want(job.name);
    if (!chat) return free_bytes() < job.bytes + others ? Admission::kNoRoom : Admission::kAdmitted;
    if (free_bytes() < others) return Admission::kNoRoom;
    if (somebody_reads_opening_of(job)) return Admission::kBusy;
    const Conversations::Taken taken =
        conversations.take(*chat, job.name, job.request.asking.chat, job.session, promised + job.bytes + others);
    if (taken.found == Conversations::Found::kBusy) return Admission::kBusy;
    if (taken.found == Conversations::Found::kNoRoom) return Admission::kNoRoom;
    job.resident = taken.resident;
    return Admission::kAdmitted;
  }

  // What it begins with is being read by another now, and need not be read twice.
  bool somebody_reads_opening_of(Job& job) const {
    const ChatRequest& own = std::get<ChatRequest>(job.request.what);
    return std::any_of(jobs.begin(), jobs.end(), [&](const Job& other) {
      const std::string_view text = other.running->reading_opening();
      if (text.empty()) return false;
      const std::string& owner = std::get<ChatRequest>(other.request.what).owner;
      if (opening_group(owner, other.session) != opening_group(own.owner, job.session)) return false;
      if (!job.opening) job.opening = opening_of(model, own.messages, job.request.asking.chat).text;
      return text == *job.opening;
    });
  }

  void begin(Job& job) {
    job.queue_ms = job.since_submit.ms();
    if (const ChatRequest* const chat = std::get_if<ChatRequest>(&job.request.what)) {
      job.running = run_chat(*job.resident->conversation, *chat, job.request.asking);
    } else {
      job.running = run_text(model, engine, job.session, std::get<TextRequest>(job.request.what), job.request.asking);
    }
    if (job.running->reading()) job.promised = job.bytes * (job.n_answers() - 1);
    const Session& session = job.running->session();
    const std::size_t n_held = session.tokens().size();
    ServedCache cache = cache_of(session, n_held + job.running->n_to_feed(), n_held);
    if (job.resident) cache.id = job.resident->id;
    counts.n_prompt_tokens += cache.n_prompt;
    job.client->started(cache);
  }

  // --- rounds --------------------------------------------------------------------------------------------------

  // One token of every answer.
  void write() {
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

  // Where one cannot go on, the others do.
  void step(std::span<const Engine::Next> batch) {
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

  Ticket owner_of(const Session* session) const {
    for (const Job& job : jobs) {
      if (job.running->reading()) continue;
      for (const Writing& writing : job.running->writing()) {
        if (writing.session == session) return job.ticket;
      }
    }
    return 0;
  }

  static bool is_written(const Job& job) {
    if (job.running->reading()) return false;
    const std::span<const Writing> writing = job.running->writing();
    return std::all_of(writing.begin(), writing.end(), [](const Writing& w) { return w.generation->finished(); });
  }

  // Steps of prompts: one, or as many as fit between two tokens of those that write. A prompt that was read to its end
  // gets its first token at once.
  void read() {
    const Stopwatch watch;
    do {
      const auto job = next_to_read();
      if (job == jobs.end()) break;
      if (!read(job)) break;
    } while (somebody_writes() && watch.ms() < kReadingMs);
    counts.read_seconds += watch.ms() / 1e3;
  }

  bool somebody_writes() const {
    return std::any_of(jobs.begin(), jobs.end(), [](const Job& job) { return !job.running->reading(); });
  }

  // False: it was read to its end, or failed.
  bool read(std::deque<Job>::iterator job) {
    try {
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

  // The one that has least left and the one that came first take turns.
  std::deque<Job>::iterator next_to_read() {
    auto next = jobs.end();
    double least = 0;
    shortest_first = !shortest_first;
    for (auto job = jobs.begin(); job != jobs.end(); ++job) {
      if (!job->running->reading()) continue;
      const double left = (double)job->running->n_to_read() - job->running->n_read();
      if (next != jobs.end() && !(shortest_first && left < least)) continue;
      next = job, least = left;
    }
    return next;
  }

  // --- how they end --------------------------------------------------------------------------------------------

  std::deque<Job>::iterator ended(std::deque<Job>::iterator job) {
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

  // What a client is told has ended is kept, where there is a store. False: there is none, or it is another's.
  bool save(Job& job, Served& served) {
    Resident& resident = *job.resident;
    if (options.store) served.cache.stored = false;
    if (!resident.lease || !resident.conversation->session()) return false;
    try {
      saver.save(job.ticket, *resident.lease, resident.conversation->saved());
    } catch (const std::exception&) {  // no memory for it
      conversations.count_saved(false);
      return false;
    }
    const auto tell = [client = job.client, served](bool kept) mutable {
      served.cache.stored = kept;
      client->ended(served);
    };
    saving.push_back({job.ticket, &resident, tell});
    return true;
  }

  void take_saved() {
    for (const Saver::Done& done : saver.take_done()) {
      const auto at =
          std::find_if(saving.begin(), saving.end(), [&](const Saving& s) { return s.ticket == done.number; });
      const Saving ended = std::move(*at);
      saving.erase(at);
      conversations.count_saved(done.kept);
      conversations.give_back(*ended.resident);
      publish(1);
      ended.tell(done.kept);
    }
  }

  std::deque<Job>::iterator failed(std::deque<Job>::iterator job, const Error& error) {
    ++counts.n_failed;
    return dropped(job, error);
  }

  std::deque<Job>::iterator dropped(std::deque<Job>::iterator job, const Error& error) {
    job->running.reset();
    if (job->resident) give_back(*job);
    job->client->failed(error);
    return jobs.erase(job);
  }

  // What ran in it is gone already.
  void give_back(Job& job) {
    conversations.give_back(*job.resident);
    job.resident = nullptr;
  }

  void fail(Job& job, const Error& error) {
    ++counts.n_failed;
    job.client->failed(error);
  }

  // How many there are. `telling`: whose clients are still to be told.
  void count(std::size_t telling = 0) {
    const std::lock_guard lock(mutex);
    n_waiting = waiting.size();
    n_running = jobs.size() + saving.size() + telling;
  }

  void publish(std::size_t telling = 0) {
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

  // REQUIRES the mutex.
  std::size_t n_left() const { return n_running + n_waiting + submitted.size(); }

  const Model& model;
  Engine& engine;
  const SchedulerOptions options;
  // Of the thread alone:
  Conversations conversations;
  std::deque<Job> jobs;     // that run, in the order of their admission
  std::deque<Job> waiting;  // in the order in which they came
  std::vector<Saving> saving;
  std::vector<std::pair<Ticket, Error>> errors;  // of this round
  SchedulerStatus counts;
  double n_read_tokens = 0;
  bool shortest_first = false;
  bool leaves = false;  // it has seen that it drains
  Stopwatch since_publish;
  // Of all threads, under the mutex:
  mutable std::mutex mutex;
  std::condition_variable wake, idle;
  std::deque<Job> submitted;
  std::set<Ticket> cancels;
  std::vector<Order> orders;
  SchedulerStatus published;
  std::size_t n_waiting = 0, n_running = 0;
  std::uint64_t n_requests = 0, n_refused = 0;
  Ticket last_ticket = 0;
  bool cancels_all = false, draining = false, stop = false, saved = false;
  std::optional<std::chrono::steady_clock::time_point> cancels_at;  // whatever is there then
  Saver saver;                                                      // borrows what stands above
  std::thread thread;
};

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
  Job job{.request = std::move(request), .client = std::move(client)};
  const std::lock_guard lock(s.mutex);
  ++s.n_requests;
  if (s.draining) {
    ++s.n_refused;
    throw stopping();
  }
  if (s.n_waiting + s.submitted.size() >= s.options.most_waiting) {
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
  s.give_restore(key, owner, told, [&s, name = std::move(name)] { return s.conversations.snapshot(name); });
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
