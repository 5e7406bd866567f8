// Which requests begin, and when: those for whose conversations there is KV memory.

#include "serve/scheduler_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <string_view>
#include <utility>
#include <variant>

namespace lacake {

void Scheduler::State::admit() {
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

Scheduler::State::Admission Scheduler::State::admit(Job& job) {
  try {
    if (!job.planned) plan(job);
    while (true) {
      const Admission admission = place(job);
      if (admission != Admission::kNoRoom || !could_fit(job) || !conversations.let_go_one(job.name)) {
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

void Scheduler::State::plan(Job& job) {
  const ChatRequest* const chat = std::get_if<ChatRequest>(&job.request.what);
  job.request.asking.generation.limits.conversation = options.limits.conversation;
  job.session = job.request.session.value_or(options.session);
  if (chat) {
    job.session.prompt_tokens = options.session.prompt_tokens;
    job.session.new_tokens = options.session.new_tokens;
    job.session.single_turn = false;
    job.session = engine.settled(job.session);  // ids of saved and copied conversations are made from settled options
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

std::uint64_t Scheduler::State::free_bytes() const {
  const std::uint64_t promised = promised_bytes();
  const std::uint64_t free = engine.kv_memory().free;
  return free > promised ? free - promised : 0;
}

// Otherwise idle conversations would be dropped for a request that still could not start.
bool Scheduler::State::could_fit(const Job& job) const {
  return free_bytes() + conversations.idle_bytes() >= job.bytes * job.n_answers();
}

Scheduler::State::Admission Scheduler::State::place(Job& job) {
  const std::uint64_t others = job.bytes * (job.n_answers() - 1);
  const std::uint64_t promised = engine.kv_memory().free - free_bytes();
  const ChatRequest* const chat = std::get_if<ChatRequest>(&job.request.what);
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

bool Scheduler::State::somebody_reads_opening_of(Job& job) const {
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

void Scheduler::State::begin(Job& job) {
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

}  // namespace lacake
