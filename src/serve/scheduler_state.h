#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "base/stopwatch.h"
#include "lacake/error.h"
#include "lacake/scheduler.h"
#include "serve/conversations.h"
#include "serve/running.h"
#include "serve/saver.h"

namespace lacake {

// What requests are told that end because the server does, or that were cancelled.
Error stopping();
Error cancelled();
// Whatever ends one request ends no other. Where it is no Error, a machine without memory say, it is told as one.
Error error_of(const std::exception& exception);

// The thread that computes, and what other threads share with it. Its rounds: orders are taken, requests admitted, each
// answer written by a token, prompts read for a while.
struct Scheduler::State {
  struct Job {
    Ticket ticket = 0;
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
    bool has_begun = false;      // a step of reading was made: from then until it was read a prompt takes memory
    std::uint64_t promised = 0;  // KV memory of sessions that it will open when it writes

    std::size_t n_answers() const { return std::max<std::size_t>(request.asking.n_answers, 1); }
  };

  // A conversation on its way to the store. Whoever waits for that is told then.
  struct Saving {
    Ticket ticket;
    Resident* resident;
    std::function<void(const std::optional<Error>& failure)> tell;
  };

  State(const Model& model, Engine& engine, SchedulerOptions options);

  // --- the thread ----------------------------------------------------------------------------------------------

  void wake_up();

  void run();

  // New requests and cancelled ones. Waits where there is nothing to do. False: it is over.
  bool take_orders();

  // Another process may take them from the store then. Those that wait may still want one of them.
  void let_go_idle();

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
                    std::function<std::string()> snapshot);

  Ticket next_ticket();

  std::uint64_t promised_bytes() const;

  void cancel(const std::set<Ticket>& gone);

  // --- admission -----------------------------------------------------------------------------------------------

  void admit();

  enum class Admission { kAdmitted, kRefused, kBusy, kNoRoom };

  Admission admit(Job& job);

  void plan(Job& job);

  std::uint64_t free_bytes() const;

  // Whether there would be room if all gave way that may.
  bool could_fit(const Job& job) const;

  // Gives it a conversation, or room for its sessions.
  Admission place(Job& job);

  // What it begins with is being read by another now, and need not be read twice.
  bool somebody_reads_opening_of(Job& job) const;

  void begin(Job& job);

  // --- rounds --------------------------------------------------------------------------------------------------

  // One token of every answer.
  void write();

  // Where one cannot go on, the others do.
  void step(std::span<const Engine::Next> batch);

  Ticket owner_of(const Session* session) const;

  static bool is_written(const Job& job);  // to its end
  static bool has_written(const Job& job);

  // Steps of prompts: one, or as many as fit between two tokens of those that write. A prompt that was read to its end
  // gets its first token at once.
  void read();

  bool somebody_writes() const;

  // False: it was read to its end, or failed.
  bool read(std::deque<Job>::iterator job);

  // The one that has least left and the one that came first take turns. Long ones that have not begun are left out
  // where as many as may be have.
  std::deque<Job>::iterator next_to_read();

  // --- how they end --------------------------------------------------------------------------------------------

  std::deque<Job>::iterator ended(std::deque<Job>::iterator job);

  // What a client is told has ended is kept, where there is a store. False: there is none, or it is another's.
  bool save(Job& job, Served& served);

  void take_saved();

  std::deque<Job>::iterator failed(std::deque<Job>::iterator job, const Error& error);

  std::deque<Job>::iterator dropped(std::deque<Job>::iterator job, const Error& error);

  // What ran in it is gone already.
  void give_back(Job& job);

  void fail(Job& job, const Error& error);

  // How many there are. `telling`: whose clients are still to be told.
  void count(std::size_t telling = 0);

  void publish(std::size_t telling = 0);

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
  std::deque<Order> orders;
  SchedulerStatus published;
  std::size_t n_waiting = 0, n_running = 0;
  std::uint64_t n_requests = 0, n_refused = 0;
  Ticket last_ticket = 0;
  bool cancels_all = false, draining = false, stop = false, saved = false;
  std::optional<std::chrono::steady_clock::time_point> cancels_at;  // whatever is there then
  Saver saver;                                                      // borrows what stands above
  std::thread thread;
};

}  // namespace lacake
