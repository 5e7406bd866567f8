#include "lacake/scheduler.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <future>
#include <mutex>
#include <random>
#include <thread>

#include "base/files.h"
#include "generation/openings.h"
#include "generation/test_generation.h"
#include "tools/temporary_folder.h"

namespace lacake {
namespace {

Message user(const std::string& text) { return {.role = "user", .content = text}; }
Message assistant(const std::string& text) { return {.role = "assistant", .content = text}; }

// Waits for what comes of a request.
class Client final : public RequestClient {
 public:
  void started(const ServedCache& cache) noexcept override {
    set([&] { admitted = cache; });
    if (when_started) when_started();
  }
  void progress(std::size_t n, std::size_t total) noexcept override {
    set([&] { n_read = n, n_to_read = total; });
  }
  void written(std::size_t answer, std::string_view text, const Generation&) noexcept override {
    set([&] {
      if (texts.size() <= answer) texts.resize(answer + 1);
      texts[answer] += text;
      ++n_tokens;
    });
  }
  void ended(const Served& s) noexcept override {
    if (when_ended) when_ended();
    set([&] { served = s, done = true; });
  }
  void failed(const Error& e) noexcept override {
    set([&] { error = e.what(), done = true; });
  }

  template <class Condition>
  void until(const Condition& condition) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60), condition));
  }
  const Served& result() {
    until([this] { return done; });
    EXPECT_EQ(error, "");
    return served;
  }
  std::string failure() {
    until([this] { return done; });
    return error;
  }

  std::function<void()> when_started, when_ended;
  std::optional<ServedCache> admitted;
  std::size_t n_read = 0, n_to_read = 0, n_tokens = 0;
  std::vector<std::string> texts;
  Served served;
  std::string error;
  bool done = false;

 private:
  template <class Change>
  void set(const Change& change) {
    const std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
};

// A model and an engine with room for so many conversations.
class SchedulerTest : public testing::Test {
 protected:
  explicit SchedulerTest(std::size_t n_sessions = 3) : n_sessions_(n_sessions) {}

  SessionOptions session() const { return with("streaming-llm", "64", "f32", PrefillMode::kExact, 400); }
  SchedulerOptions options() const { return {.session = session(), .checkpoint_bytes = 1 << 20}; }
  Request chat(std::vector<Message> messages, std::size_t n_new = 12, const std::string& key = "") {
    return {.what = ChatRequest{.messages = std::move(messages), .key = key}, .asking = {.generation = greedy(n_new)}};
  }
  std::shared_ptr<Client> submit(Scheduler& scheduler, Request request) {
    auto client = std::make_shared<Client>();
    client_ticket = scheduler.submit(std::move(request), client);
    return client;
  }
  Served serve(Scheduler& scheduler, Request request) { return submit(scheduler, std::move(request))->result(); }

  // What a conversation of its own answers.
  Turn alone(const std::vector<Message>& messages, std::size_t n_new = 12) {
    Conversation conversation(loaded.model, other, {.session = session(), .generation = greedy(n_new)});
    return conversation.answer(messages);
  }

  std::uint64_t one() const { return other.plan(session()).budget_bytes; }

  std::size_t n_sessions_;
  Loaded loaded{chatting()};
  Engine other{loaded.model, {.threads = 1}};
  Engine engine{loaded.model, {.threads = 1, .kv_memory = n_sessions_ * one()}};
  Scheduler::Ticket client_ticket = 0;
};

// Each client says a word of its own, which nobody else may see.
TEST_F(SchedulerTest, ManyClientsGetWhatEachWouldGetAlone) {
  Scheduler scheduler(loaded.model, engine, options());
  std::vector<std::vector<Message>> asked;
  std::vector<std::shared_ptr<Client>> clients;
  for (std::size_t i = 0; i < 16; ++i) {
    asked.push_back({user("canary " + std::string(1 + 17 * (i % 5), (char)('a' + i)) + " what is it")});
    clients.push_back(submit(scheduler, chat(asked.back(), 4 + i)));
  }
  for (std::size_t i = 0; i < asked.size(); ++i) {
    const Turn expected = alone(asked[i], 4 + i);
    const Served& served = clients[i]->result();
    ASSERT_EQ(served.answers.size(), 1U);
    EXPECT_EQ(served.answers[0].tokens, expected.answer.tokens) << i;
    EXPECT_EQ(clients[i]->texts.at(0), expected.answer.text);
    EXPECT_EQ(served.cache.n_prompt, expected.n_read);
    EXPECT_EQ(served.cache.n_held, 0U);
  }
  const SchedulerStatus status = scheduler.status();
  EXPECT_EQ(status.n_requests, 16U);
  EXPECT_LE(status.memory.leased, n_sessions_ * one());
  EXPECT_GE(status.n_dropped, 13U);
}

TEST_F(SchedulerTest, AConversationIsFoundByHowItBegins) {
  Scheduler scheduler(loaded.model, engine, options());
  std::vector<Message> messages = {user("why is it")};
  for (int turn = 0; turn < 3; ++turn) {
    const Served served = serve(scheduler, chat(messages));
    EXPECT_EQ(served.cache.n_held > 0, turn > 0);
    EXPECT_FALSE(served.read_again);
    messages.push_back(assistant(served.answers[0].text));
    messages.push_back(user("and what else " + std::to_string(turn)));
  }
  EXPECT_EQ(scheduler.status().conversations.size(), 1U);
  // Another one that begins alike leaves it alone.
  const Served other_one = serve(scheduler, chat({user("why is it"), assistant("it is not"), user("no")}));
  EXPECT_EQ(other_one.answers[0].tokens, alone({user("why is it"), assistant("it is not"), user("no")}).answer.tokens);
  EXPECT_EQ(scheduler.status().conversations.size(), 2U);
  EXPECT_GT(serve(scheduler, chat(messages)).cache.n_held, 0U);
}

TEST_F(SchedulerTest, AKeyIsOneConversationOfOneOwner) {
  Scheduler scheduler(loaded.model, engine, options());
  const Served first = serve(scheduler, chat({user("why is it")}, 12, "k"));
  const std::vector<Message> next = {user("why is it"), assistant(first.answers[0].text), user("and then")};
  Request foreign = chat(next, 12, "k");
  std::get<ChatRequest>(foreign.what).owner = "somebody else";
  EXPECT_EQ(serve(scheduler, std::move(foreign)).cache.n_held, 0U);
  EXPECT_GT(serve(scheduler, chat(next, 12, "k")).cache.n_held, 0U);
}

TEST_F(SchedulerTest, AnEditedMessageIsReadFromTheOneBefore) {
  Scheduler scheduler(loaded.model, engine, options());
  std::vector<Message> messages = {user("why is it")};
  for (const char* question : {"two", "three", "four"}) {
    messages.push_back(assistant(serve(scheduler, chat(messages, 12, "k")).answers[0].text));
    messages.push_back(user(question));
  }
  (void)serve(scheduler, chat(messages, 12, "k"));
  messages.back().content = "something else";
  const Served served = serve(scheduler, chat(messages, 12, "k"));
  EXPECT_FALSE(served.read_again);
  EXPECT_LE(served.cache.n_prompt - served.cache.n_held, 45U);
}

TEST_F(SchedulerTest, ConversationsOutliveIt) {
  const TemporaryFolder folder;
  const Store store(folder.path("store"), 1 << 24);
  SchedulerOptions kept = options();
  kept.store = &store;
  std::vector<std::vector<Message>> talks;
  {
    Scheduler scheduler(loaded.model, engine, kept);
    for (int i = 0; i < 6; ++i) {  // more than fit in memory
      talks.push_back({user("question " + std::to_string(i))});
      talks.back().push_back(assistant(serve(scheduler, chat(talks.back())).answers[0].text));
      talks.back().push_back(user("and then"));
    }
    EXPECT_EQ(scheduler.status().n_stored, 6U);
  }
  Scheduler scheduler(loaded.model, engine, kept);
  for (const std::vector<Message>& messages : talks) {
    const Served served = serve(scheduler, chat(messages));
    EXPECT_GT(served.cache.n_held, 0U);
    EXPECT_EQ(served.cache.stored, true);
    EXPECT_FALSE(served.read_again);
  }
  EXPECT_EQ(scheduler.status().n_loaded, 6U);
  EXPECT_EQ(scheduler.status().n_store_failures, 0U);
}

TEST_F(SchedulerTest, AStoredConversationOfAnotherLengthIsReadAgain) {
  const TemporaryFolder folder;
  const Store store(folder.path("store"), 1 << 24);
  Engine roomy(loaded.model, {.threads = 1, .kv_memory = 64 << 20});
  std::vector<Message> next = {user("why is it")};
  std::size_t before = 0;
  for (const std::size_t length : {400, 200, 400, 400}) {
    SchedulerOptions kept = options();
    kept.session = with("full", "", "f32", PrefillMode::kExact, length);
    kept.store = &store;
    Scheduler scheduler(loaded.model, roomy, kept);
    const Served served = serve(scheduler, chat(next, 12, "k"));
    EXPECT_EQ(served.cache.n_held > 0, length == before) << length;
    EXPECT_EQ(served.cache.stored, true);
    EXPECT_EQ(scheduler.status().n_store_failures, 0U);
    if (before == 0) next.insert(next.end(), {assistant(served.answers[0].text), user("and then")});
    before = length;
  }
}

// Their files are looked at one by one, so not all of them.
TEST_F(SchedulerTest, ManyThatBeginAlikeAreKeptApart) {
  const TemporaryFolder folder;
  const Store store(folder.path("store"), 1 << 24);
  SchedulerOptions kept = options();
  kept.store = &store;
  Scheduler scheduler(loaded.model, engine, kept);
  const auto variant = [](int i) {
    const std::string said(40, (char)('a' + i));
    return std::vector<Message>{user("why"), assistant(said), user(said), assistant(said), user("no")};
  };
  for (int i = 0; i < 9; ++i) {
    EXPECT_EQ(serve(scheduler, chat(variant(i))).answers[0].tokens, alone(variant(i)).answer.tokens) << i;
  }
  EXPECT_EQ(store.conversations().size(), 9U);
}

TEST_F(SchedulerTest, AStoreThatFailsEndsNoAnswer) {
  const TemporaryFolder folder;
  const Store store(folder.path("store"), 2000);  // less than one conversation
  SchedulerOptions kept = options();
  kept.store = &store;
  Scheduler scheduler(loaded.model, engine, kept);
  const Served served = serve(scheduler, chat({user("why is it")}));
  EXPECT_EQ(served.answers[0].tokens, alone({user("why is it")}).answer.tokens);
  EXPECT_EQ(served.cache.stored, false);
  EXPECT_EQ(scheduler.status().n_store_failures, 1U);
  std::filesystem::remove_all(folder.path("store"));
  (void)serve(scheduler, chat({user("and then")}));
  EXPECT_EQ(scheduler.status().n_store_failures, 2U);
}

TEST_F(SchedulerTest, AStoreThatFailsIsToldWithItsCauseOnce) {
  const TemporaryFolder folder;
  const Store tight(folder.path("tight"), 2000), gone(folder.path("gone"), 1 << 24);
  const auto why = [](const Served& served) -> std::string { return served.cache.store_failure.value().what(); };
  SchedulerOptions kept = options();
  kept.store = &tight;
  {
    Scheduler scheduler(loaded.model, engine, kept);
    EXPECT_TRUE(contains(why(serve(scheduler, chat({user("why is it")}))), "most_bytes: expected "));
  }
  kept.store = &gone;
  Scheduler scheduler(loaded.model, engine, kept);
  EXPECT_FALSE(serve(scheduler, chat({user("why is it")}, 12, "j")).cache.store_failure);
  std::filesystem::remove_all(gone.folder());
  // Of one that has its place in the store, and of one that gets none.
  const std::string cause = gone.folder() + "/lock: cannot be opened: No such file or directory";
  EXPECT_EQ(why(serve(scheduler, chat({user("why is it")}, 12, "j"))), cause);
  const Served other_one = serve(scheduler, chat({user("and then")}, 12, "k"));
  EXPECT_EQ(why(other_one), cause);
  const Served again = serve(scheduler, chat({user("and then")}, 12, "k"));
  EXPECT_EQ(again.cache.stored, false);
  EXPECT_FALSE(again.cache.store_failure);
}

TEST_F(SchedulerTest, IdleConversationsGiveHalvesUpBeforeAnyGoes) {
  SchedulerOptions elastic = options();
  elastic.elastic = true;
  Scheduler scheduler(loaded.model, engine, elastic);
  std::vector<std::vector<Message>> talks;
  const auto go_on = [&](std::vector<Message>& messages, const std::string& question) {
    messages.push_back(user(question));
    const Served served = serve(scheduler, chat(messages));
    messages.push_back(assistant(served.answers[0].text));
    EXPECT_LE(engine.kv_memory().leased, engine.kv_memory().reserved);
    return served.cache;
  };
  for (int i = 0; i < 6; ++i) {  // in the room of three
    talks.emplace_back();
    (void)go_on(talks.back(), "question " + std::to_string(i) + std::string(30, 'x'));
  }
  SchedulerStatus status = scheduler.status();
  EXPECT_EQ(status.conversations.size(), 6U);
  EXPECT_EQ(status.n_dropped, 0U);
  EXPECT_GT(status.n_shrunk, 3U);
  for (std::vector<Message>& messages : talks) {
    const ServedCache cache = go_on(messages, "and then");
    EXPECT_GT(cache.n_held, 40U);  // nothing is read again
    EXPECT_EQ(cache.use.budget_bytes, one());
  }
  // More than fits even so: the one that was used least recently goes.
  for (int i = 0; i < 12; ++i) {
    talks.emplace_back();
    (void)go_on(talks.back(), "another " + std::to_string(i) + std::string(30, 'x'));
  }
  EXPECT_GT(scheduler.status().n_dropped, 0U);
}

TEST_F(SchedulerTest, WhoHasGoneCostsNothingMore) {
  Scheduler scheduler(loaded.model, engine, options());
  const auto writing = submit(scheduler, chat({user("a")}, 100'000));
  const Scheduler::Ticket first = client_ticket;
  writing->until([&] { return writing->n_tokens > 3; });
  const auto reading = submit(scheduler, chat({user(std::string(380, 'b'))}, 100'000));
  const Scheduler::Ticket second = client_ticket;
  const auto third = submit(scheduler, chat({user("c")}, 100'000));
  const Scheduler::Ticket third_ticket = client_ticket;
  third->until([&] { return third->n_tokens > 0; });
  const auto waits = submit(scheduler, chat({user("d")}, 100'000));
  const Scheduler::Ticket fourth = client_ticket;
  scheduler.cancel(fourth);
  EXPECT_EQ(waits->failure(), "request: cancelled");
  scheduler.cancel(first);
  EXPECT_EQ(writing->result().answers[0].finish, Finish::kCancelled);
  scheduler.cancel(second);
  (void)reading->failure();
  scheduler.cancel(third_ticket);
  (void)third->result();
  // Others are as ever, and of what was never answered nothing is left.
  EXPECT_EQ(serve(scheduler, chat({user("why is it")})).answers[0].tokens, alone({user("why is it")}).answer.tokens);
  EXPECT_EQ(scheduler.status().n_cancelled, 4U);
  EXPECT_EQ(scheduler.status().n_failed, 0U);
  EXPECT_EQ(scheduler.status().conversations.size(), 3U);
}

TEST_F(SchedulerTest, AShortPromptDoesNotWaitForALongOne) {
  SchedulerOptions streaming = options();
  streaming.session.prefill = PrefillMode::kStreaming;
  streaming.session.chunk = 32;
  Scheduler scheduler(loaded.model, engine, streaming);
  const auto book = std::make_shared<Client>(), note = std::make_shared<Client>();
  std::vector<std::string> order;  // of the scheduler's thread
  book->when_ended = [&] { order.push_back("book"); };
  note->when_ended = [&] { order.push_back("note"); };
  // The note comes when the book has begun.
  book->when_started = [&] { (void)scheduler.submit(chat({user("c")}, 1), note); };
  (void)scheduler.submit(chat({user(std::string(380, 'b'))}, 1), book);
  (void)book->result();
  (void)note->result();
  EXPECT_EQ(order, (std::vector<std::string>{"note", "book"}));
}

TEST_F(SchedulerTest, RefusesWhatCannotWaitOrNeverFits) {
  SchedulerOptions narrow = options();
  narrow.most_waiting = 2;
  narrow.limits.conversation = 300;
  Scheduler scheduler(loaded.model, engine, narrow);
  std::vector<std::shared_ptr<Client>> clients;
  std::vector<Scheduler::Ticket> tickets;
  std::string refused;
  for (int i = 0; i < 9 && refused.empty(); ++i) {
    refused = refusal(Error::Kind::kCapacity, [&] {
      clients.push_back(submit(scheduler, chat({user(std::string(1, (char)('a' + i)))}, 100'000)));
      tickets.push_back(client_ticket);
    });
    if (refused.empty() && i < 3) clients.back()->until([&] { return clients.back()->n_tokens > 0; });
  }
  EXPECT_EQ(refused, "queue: expected 2 requests at most that wait, found one more");
  EXPECT_EQ(tickets.size(), 5U);
  for (const Scheduler::Ticket ticket : tickets) scheduler.cancel(ticket);
  for (const auto& client : clients) client->until([&] { return client->done; });
  EXPECT_TRUE(contains(submit(scheduler, chat({user(std::string(400, 'x'))}))->failure(), "ctx_size: expected"));
  for (const std::size_t n : {std::size_t{4}, (std::size_t{1} << 60) + 1}) {
    Request many = chat({user("a")});
    many.asking.n_answers = n;
    EXPECT_TRUE(contains(submit(scheduler, std::move(many))->failure(), "kv_memory: expected")) << n;
  }
}

TEST_F(SchedulerTest, SeveralAnswersTakeTheRoomOfSeveral) {
  Scheduler scheduler(loaded.model, engine, options());
  for (int i = 0; i < 3; ++i) (void)serve(scheduler, chat({user(std::to_string(i))}));
  Request many = chat({user("why is it")});
  many.asking.n_answers = 3;
  many.asking.generation.sampling.temp = 1;
  many.asking.generation.sampling.seed = 3;
  const Served served = serve(scheduler, std::move(many));
  ASSERT_EQ(served.answers.size(), 3U);
  EXPECT_NE(served.answers[0].text, served.answers[1].text);
  EXPECT_EQ(scheduler.status().conversations.size(), 1U);
}

TEST_F(SchedulerTest, AFurtherPartOfAcceptedWorkIsNotRefused) {
  SchedulerOptions one_waits = options();
  one_waits.most_waiting = 1;
  Scheduler scheduler(loaded.model, engine, one_waits);
  const auto part = [&](bool accepted_before) {
    Request request = chat({user("a part")});
    request.accepted_before = accepted_before;
    return request;
  };
  const auto first = std::make_shared<Client>(), second = std::make_shared<Client>(),
             third = std::make_shared<Client>();
  first->when_started = [&] {
    scheduler.begin_drain({}, [](const std::variant<std::size_t, Error>&) {});
    EXPECT_THROW(scheduler.submit(part(false), std::make_shared<Client>()), Error);
    (void)scheduler.submit(part(true), second);
    (void)scheduler.submit(part(true), third);
  };
  (void)scheduler.submit(part(false), first);
  EXPECT_FALSE(first->result().answers.empty());
  EXPECT_FALSE(second->result().answers.empty());
  EXPECT_FALSE(third->result().answers.empty());
}

// The memory that prompts take while they are read is bounded, however many ever shorter ones come. Nobody waits for
// that with a short one.
TEST(SchedulerReading, FourLongPromptsAreReadAtOnceAndShortOnesBesideThem) {
  const Loaded loaded(chatting());
  const SessionOptions session = with("streaming-llm", "64", "f32", PrefillMode::kExact, 2000);
  Engine other(loaded.model, {.threads = 1});
  const std::vector<std::size_t> lengths = {1600, 1400, 1200, 1000, 800, 100};
  Engine engine(loaded.model, {.threads = 1, .kv_memory = lengths.size() * other.plan(session).budget_bytes});
  Scheduler scheduler(loaded.model, engine, {.session = session});
  std::vector<std::size_t> read, reading;  // lengths, in the order in which they ended; of those under way
  struct Reader final : RequestClient {
    void progress(std::size_t done, std::size_t total) noexcept override { step(done, total); }
    void ended(const Served&) noexcept override { told.set_value(true); }
    void failed(const Error&) noexcept override { told.set_value(false); }
    std::function<void(std::size_t, std::size_t)> step;
    bool begun = false;
    std::promise<bool> told;
  };
  std::vector<std::shared_ptr<Reader>> readers;
  std::size_t most = 0;
  const auto send = [&](std::size_t i) {
    Request request{.what = TextRequest{.prompt = random_prompt(loaded, lengths[i])},
                    .asking = {.generation = greedy(1)}};
    (void)scheduler.submit(std::move(request), readers[i]);
  };
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    readers.push_back(std::make_shared<Reader>());
    readers[i]->step = [&, i](std::size_t done, std::size_t total) {
      if (!readers[i]->begun) {
        readers[i]->begun = true;
        reading.push_back(lengths[i]);
        most = std::max(most, reading.size());
        // Each has the next one sent in the middle of its reading, the fourth both that are left.
        if (i < 4) send(i + 1);
        if (i == 3) send(5);
      }
      if (done < total) return;
      std::erase(reading, lengths[i]);
      read.push_back(lengths[i]);
    };
  }
  send(0);
  for (const auto& reader : readers) EXPECT_TRUE(reader->told.get_future().get());
  EXPECT_EQ(most, Scheduler::kMostReading + 1);
  EXPECT_EQ(read.front(), 100U);
}

TEST_F(SchedulerTest, OneThatIsCancelledBeforeItsFirstTokenIsToldSo) {
  Scheduler scheduler(loaded.model, engine, options());
  class Reader final : public RequestClient {
   public:
    void progress(std::size_t, std::size_t) noexcept override {
      if (++n_steps == last_step) when_read();
    }
    void ended(const Served&) noexcept override { told.set_value("ended"); }
    void failed(const Error& error) noexcept override { told.set_value(error.what()); }
    std::size_t n_steps = 0, last_step = 0;
    std::function<void()> when_read;
    std::promise<std::string> told;
  };
  const auto first = std::make_shared<Reader>(), second = std::make_shared<Reader>();
  (void)scheduler.submit(chat({user("why is it")}, 12, "first"), first);
  EXPECT_EQ(first->told.get_future().get(), "ended");
  // The same again, cancelled by the step that ends its reading.
  second->last_step = first->n_steps;
  second->when_read = [&] { scheduler.cancel(2); };
  EXPECT_EQ(scheduler.submit(chat({user("why is it")}, 12, "second"), second), 2U);
  EXPECT_EQ(second->told.get_future().get(), "request: cancelled");
}

TEST_F(SchedulerTest, ATextIsContinuedAndItsOwnProbabilitiesAreGiven) {
  Scheduler scheduler(loaded.model, engine, options());
  const ChatPrompt prompt = random_prompt(loaded, 40);
  Request request{.what = TextRequest{.prompt = prompt, .log_probabilities = 2}, .asking = {.generation = greedy(8)}};
  const Served served = serve(scheduler, std::move(request));
  SessionOptions sized = session();
  EXPECT_EQ(served.answers[0].tokens, plain_answer(loaded, sized, prompt.tokens, 8));
  ASSERT_EQ(served.prompt_log_probabilities.size(), 39U);
  EXPECT_EQ(served.prompt_log_probabilities[5].token.token, prompt.tokens[6]);
  EXPECT_TRUE(scheduler.status().conversations.empty());
}

// What an order is told.
template <class Result>
class Waiting {
 public:
  Told<Result> told() {
    return [this](std::variant<Result, Error> result) { promise_.set_value(std::move(result)); };
  }
  Result result() {
    std::variant<Result, Error> told = promise_.get_future().get();
    if (const Error* const error = std::get_if<Error>(&told)) throw *error;
    return std::get<Result>(std::move(told));
  }

 private:
  std::promise<std::variant<Result, Error>> promise_;
};

// How many requests were left when everything idle had been let go.
std::size_t begin_drain(Scheduler& scheduler, std::optional<std::chrono::milliseconds> deadline = {}) {
  Waiting<std::size_t> n_left;
  scheduler.begin_drain(deadline, n_left.told());
  return n_left.result();
}

TEST_F(SchedulerTest, DrainsByItsDeadline) {
  Scheduler scheduler(loaded.model, engine, options());
  const auto endless = submit(scheduler, chat({user("a")}, 100'000));
  endless->until([&] { return endless->n_tokens > 0; });
  scheduler.drain(std::chrono::milliseconds(50));
  EXPECT_TRUE(endless->done);
  EXPECT_EQ(endless->result().answers[0].finish, Finish::kCancelled);
  EXPECT_TRUE(contains(refusal(Error::Kind::kState, [&] { submit(scheduler, chat({user("b")})); }), "stops"));
}

TEST_F(SchedulerTest, BeginsToDrainWithoutWaiting) {
  Scheduler scheduler(loaded.model, engine, options());
  const auto endless = submit(scheduler, chat({user("a")}, 100'000));
  endless->until([&] { return endless->n_tokens > 0; });
  EXPECT_EQ(begin_drain(scheduler), 1U);
  EXPECT_TRUE(contains(refusal(Error::Kind::kState, [&] { submit(scheduler, chat({user("b")})); }), "stops"));
  std::size_t n_then = 0;
  endless->until([&] { return n_then = endless->n_tokens; });
  endless->until([&] { return endless->n_tokens > n_then + 3; });  // goes on
  (void)begin_drain(scheduler, std::chrono::milliseconds(20));
  EXPECT_EQ(endless->result().answers[0].finish, Finish::kCancelled);
}

TEST_F(SchedulerTest, OneThatDrainsLeavesItsConversationsToAnother) {
  const TemporaryFolder folder;
  const Store store(folder.path("store"), 1 << 24);
  SchedulerOptions kept = options();
  kept.store = &store;
  Engine second{loaded.model, {.threads = 1, .kv_memory = n_sessions_ * one()}};
  Scheduler leaving(loaded.model, engine, kept), staying(loaded.model, second, kept);
  const Served first = serve(leaving, chat({user("why is it")}, 12, "k"));
  const std::vector<Message> next = {user("why is it"), assistant(first.answers[0].text), user("and then")};
  begin_drain(leaving);
  EXPECT_GT(serve(staying, chat(next, 12, "k")).cache.n_held, 0U);
}

TEST_F(SchedulerTest, WhoeverStillWaitsWhenItGoesIsTold) {
  std::vector<std::shared_ptr<Client>> clients;
  {
    Scheduler scheduler(loaded.model, engine, options());
    for (int i = 0; i < 6; ++i) clients.push_back(submit(scheduler, chat({user(std::to_string(i))}, 100'000)));
  }
  for (const auto& client : clients) EXPECT_TRUE(contains(client->failure(), "stops"));
  EXPECT_EQ(engine.kv_memory().n_sessions, 0U);
}

// Four questions behind one long system message, under policies that keep everything, that drop, and that measure.
TEST_F(SchedulerTest, WhatConversationsBeginWithIsReadOnce) {
  for (const char* const policy : {"full", "streaming-llm", "cake"}) {
    SCOPED_TRACE(policy);
    SchedulerOptions shared = options();
    shared.session = with(policy, std::string(policy) == "full" ? "" : "96", "f16", PrefillMode::kExact, 400);
    shared.opening_bytes = 1 << 20;
    Engine roomy(loaded.model, {.threads = 1, .kv_memory = 5 * other.plan(shared.session).budget_bytes});
    Scheduler scheduler(loaded.model, roomy, shared);
    const Message system{.role = "system", .content = std::string(150, 's') + "be brief"};
    std::vector<std::shared_ptr<Client>> clients;
    std::vector<std::vector<Message>> asked;
    for (int i = 0; i < 4; ++i) {
      asked.push_back({system, user(std::string(10 + 5 * (std::size_t)i, (char)('a' + i)))});
      clients.push_back(submit(scheduler, chat(asked.back())));
    }
    std::size_t n_prompts = 0, n_held = 0;
    for (int i = 0; i < 4; ++i) {
      const Served& served = clients[(std::size_t)i]->result();
      n_prompts += served.cache.n_prompt;
      n_held += served.cache.n_held;
      EXPECT_EQ(served.cache.n_held > 0, i > 0) << i;
      // As it would be answered by itself.
      Conversation alone(
          loaded.model, other,
          {.session = shared.session, .generation = greedy(12), .openings = std::make_shared<Openings>(1 << 20)});
      EXPECT_EQ(served.answers[0].tokens, alone.answer(asked[(std::size_t)i]).answer.tokens) << i;
    }
    EXPECT_EQ(scheduler.status().n_read_tokens, n_prompts - n_held);
    EXPECT_GT(n_held, 3 * 150U);
    EXPECT_GT(scheduler.status().opening_bytes, 0U);
    EXPECT_LE(scheduler.status().opening_bytes, shared.opening_bytes);
    // Not for somebody else.
    Request foreign = chat(asked[0]);
    std::get<ChatRequest>(foreign.what).owner = "somebody else";
    EXPECT_EQ(serve(scheduler, std::move(foreign)).cache.n_held, 0U);
    // An edited question is read behind it.
    asked[1].back().content = "else";
    EXPECT_GT(serve(scheduler, chat(asked[1])).cache.n_held, 150U);
  }
}

// The one that read it for others has gone.
TEST_F(SchedulerTest, WhoWaitsForAnOpeningReadsItWhereItsReaderGoes) {
  SchedulerOptions shared = options();
  shared.opening_bytes = 1 << 20;
  shared.session.prefill = PrefillMode::kStreaming;
  shared.session.chunk = 32;
  Scheduler scheduler(loaded.model, engine, shared);
  const Message system{.role = "system", .content = std::string(300, 's')};
  auto first = std::make_shared<Client>(), second = std::make_shared<Client>();
  constexpr Scheduler::Ticket kFirst = 1;
  first->when_started = [&] {
    (void)scheduler.submit(chat({system, user("b")}), second);
    scheduler.cancel(kFirst);
  };
  EXPECT_EQ(scheduler.submit(chat({system, user("a")}), first), kFirst);
  EXPECT_EQ(first->failure(), "request: cancelled");
  EXPECT_EQ(second->result().cache.n_held, 0U);
  EXPECT_GT(serve(scheduler, chat({system, user("d")})).cache.n_held, 0U);
}

class OfOwners : public SchedulerTest {
 protected:
  static std::string snapshot(Scheduler& scheduler, const ConversationName& name) {
    Waiting<std::string> waiting;
    scheduler.snapshot(name, waiting.told());
    return waiting.result();
  }
  static RestoredConversation restore(Scheduler& scheduler, const std::string& bytes, const std::string& key,
                                      const std::string& owner = "") {
    Waiting<RestoredConversation> waiting;
    scheduler.restore(bytes, key, owner, waiting.told());
    return waiting.result();
  }
  static std::string fork(Scheduler& scheduler, const ConversationName& name, const std::string& key) {
    Waiting<RestoredConversation> waiting;
    scheduler.fork(name, key, waiting.told());
    return waiting.result().id;
  }
  static void drop(Scheduler& scheduler, const ConversationName& name) {
    Waiting<std::monostate> waiting;
    scheduler.drop(name, waiting.told());
    (void)waiting.result();
  }
  static ConversationView look(Scheduler& scheduler, const ConversationName& name) {
    Waiting<ConversationView> waiting;
    scheduler.look(name, waiting.told());
    return waiting.result();
  }

  // A conversation of a question and its answer, and the next question.
  std::vector<Message> begun(Scheduler& scheduler, const std::string& key) {
    std::vector<Message> messages = {user("why is it")};
    const Served served = serve(scheduler, chat(messages, 12, key));
    id = served.cache.id;
    messages.push_back(assistant(served.answers[0].text));
    messages.push_back(user("and then"));
    return messages;
  }

  std::string id;
};

TEST_F(OfOwners, ASnapshotIsTheConversationUnderAnotherKeyAndInAnotherServer) {
  std::string bytes;
  std::vector<Message> next;
  std::vector<Token> expected;
  {
    Scheduler scheduler(loaded.model, engine, options());
    next = begun(scheduler, "k");
    bytes = snapshot(scheduler, {.id = id});
    const std::string copy = fork(scheduler, {.id = id}, "copy");
    EXPECT_NE(copy, id);
    const Served original = serve(scheduler, chat(next, 12, "k")), forked = serve(scheduler, chat(next, 12, "copy"));
    expected = original.answers[0].tokens;
    EXPECT_EQ(forked.answers[0].tokens, expected);
    EXPECT_EQ(forked.cache.n_held, original.cache.n_held);
    EXPECT_EQ(forked.cache.id, copy);
  }
  Scheduler scheduler(loaded.model, engine, options());
  const std::string restored = restore(scheduler, bytes, "there").id;
  EXPECT_GT(scheduler.status().conversations.at(0).n_tokens, 0U);
  const Served served = serve(scheduler, chat(next, 12, "there"));
  EXPECT_EQ(served.cache.id, restored);
  EXPECT_GT(served.cache.n_held, 0U);
  EXPECT_EQ(served.answers[0].tokens, expected);
}

// A share's span is lacache's own choice; requests name the policy without it.
TEST_F(OfOwners, ACopyIsFoundWhateverItsPolicyTookFromModelAndBudget) {
  SchedulerOptions chosen = options();
  chosen.session = with("lacache", "16%", "f32", PrefillMode::kExact, 400);
  Scheduler scheduler(loaded.model, engine, chosen);
  const std::vector<Message> next = begun(scheduler, "k");
  const std::string copy = fork(scheduler, {.id = id}, "copy");
  const Served served = serve(scheduler, chat(next, 12, "copy"));
  EXPECT_EQ(served.cache.id, copy);
  EXPECT_GT(served.cache.n_held, 0U);
}

TEST_F(OfOwners, ACopyOfOneThatGaveHalfUpHasTheWholeBudget) {
  SchedulerOptions elastic = options();
  elastic.elastic = true;
  Scheduler scheduler(loaded.model, engine, elastic);
  const std::vector<Message> next = begun(scheduler, "k");
  const std::string first = id;
  for (const char* key : {"l", "m", "n"}) (void)begun(scheduler, key);  // in the room of three
  EXPECT_LT(scheduler.status().conversations.at(0).budget_bytes, one());
  const std::string copy = fork(scheduler, {.id = first}, "copy");
  const Served served = serve(scheduler, chat(next, 12, "copy"));
  EXPECT_EQ(served.cache.id, copy);
  EXPECT_GT(served.cache.n_held, 0U);
  EXPECT_EQ(served.cache.use.budget_bytes, one());
}

TEST_F(OfOwners, NobodyGivesWayToARequestThatStillFindsNoRoom) {
  Scheduler scheduler(loaded.model, engine, options());
  const Served idle = serve(scheduler, chat({user("idle")}));
  const auto running = submit(scheduler, chat({user("running")}, 100'000));
  const Scheduler::Ticket ticket = client_ticket;
  running->until([&] { return running->n_tokens > 0; });
  Request three = chat({user("three")});
  three.asking.n_answers = 3;  // all of the room
  const auto waiting = submit(scheduler, std::move(three));
  running->until([&, n = running->n_tokens] { return running->n_tokens > n + 5; });
  EXPECT_FALSE(look(scheduler, {.id = idle.cache.id}).tokens.empty());  // it is still there
  scheduler.cancel(ticket);
  EXPECT_EQ(waiting->result().answers.size(), 3U);
}

TEST_F(OfOwners, WhatIsRestoredOrForkedIsInTheStore) {
  const TemporaryFolder folder;
  const Store store(folder.path("store"), 1 << 24);
  SchedulerOptions kept = options();
  kept.store = &store;
  std::vector<Message> next;
  std::string original, copy;
  {
    Scheduler scheduler(loaded.model, engine, kept);
    next = begun(scheduler, "k");
    original = id;
    copy = fork(scheduler, {.id = id}, "copy");
    EXPECT_EQ(scheduler.stored("").size(), 2U);
    EXPECT_TRUE(scheduler.stored("somebody else").empty());
  }
  Scheduler scheduler(loaded.model, engine, kept);
  // Of those that are on disk alone: looked at, copied, dropped.
  EXPECT_EQ(look(scheduler, {.id = copy}).tokens, look(scheduler, {.id = original}).tokens);
  const std::string bytes = snapshot(scheduler, {.id = copy});
  EXPECT_EQ(bytes, read_file(*store.acquire(copy)->path()));
  EXPECT_EQ(scheduler.status().conversations.size(), 0U);
  drop(scheduler, {.id = original});
  EXPECT_EQ(serve(scheduler, chat(next, 12, "k")).cache.n_held, 0U);
  EXPECT_GT(serve(scheduler, chat(next, 12, "copy")).cache.n_held, 0U);
  drop(scheduler, {.id = copy});
  EXPECT_EQ(scheduler.stored("").size(), 1U);
  EXPECT_EQ(serve(scheduler, chat(next, 12, "copy")).cache.n_held, 0U);
}

TEST_F(OfOwners, WhatIsRestoredAndNotKeptIsToldWithItsCause) {
  const TemporaryFolder folder;
  const Store store(folder.path("store"), 100);
  SchedulerOptions kept = options();
  kept.store = &store;
  Scheduler scheduler(loaded.model, engine, kept);
  (void)begun(scheduler, "k");
  const std::string bytes = snapshot(scheduler, {.id = id});
  const std::string cause = refusal(Error::Kind::kState, [&] { (void)restore(scheduler, bytes, "l"); });
  EXPECT_TRUE(cause.starts_with("store: expected ")) << cause;
  EXPECT_TRUE(contains(cause, "found 100 B;")) << cause;
  EXPECT_TRUE(cause.ends_with("; the conversation is in memory alone")) << cause;
  EXPECT_EQ(scheduler.status().conversations.size(), 2U);
}

TEST_F(OfOwners, AKeyThatAConversationHasIsNotTakenFromIt) {
  const TemporaryFolder folder;
  const Store store(folder.path("store"), 1 << 24);
  SchedulerOptions kept = options();
  kept.store = &store;
  std::string first, bytes;
  for (const bool in_memory : {true, false}) {
    Scheduler scheduler(loaded.model, engine, kept);
    if (in_memory) {
      (void)begun(scheduler, "l");
      (void)begun(scheduler, "k");
      first = id;
      bytes = snapshot(scheduler, {.id = first});
    }
    for (const char* const key : {"k", "l"}) {
      const std::string taken = fmt::format("session: expected a key that no conversation has, found \"{}\"", key);
      EXPECT_TRUE(contains(refusal(Error::Kind::kState, [&] { (void)fork(scheduler, {.id = first}, key); }), taken));
      EXPECT_TRUE(contains(refusal(Error::Kind::kState, [&] { (void)restore(scheduler, bytes, key); }), taken));
    }
    EXPECT_EQ(snapshot(scheduler, {.id = first}), bytes);
    EXPECT_EQ(scheduler.stored("").size(), 2U);
    // Somebody else's key of the same name is another.
    if (!in_memory) {
      EXPECT_FALSE(restore(scheduler, bytes, "k", "somebody else").id.empty());
    }
  }
}

TEST_F(OfOwners, AViewIsWhatTheCacheHolds) {
  Scheduler scheduler(loaded.model, engine, options());
  (void)serve(scheduler, chat({user(std::string(200, 'x'))}, 12, "k"));
  const std::string held = serve(scheduler, chat({user("why is it")}, 12, "l")).cache.id;
  const ConversationView view = look(scheduler, {.id = held});
  EXPECT_EQ(view.policy, session().policy.text());
  const AttentionShape& shape = loaded.model.facts().attention;
  ASSERT_EQ(view.kept.size(), (std::size_t)shape.n_layer);
  ASSERT_EQ(view.kept[0].size(), (std::size_t)shape.n_head_kv);
  Conversation conversation(loaded.model, other, {.session = session(), .generation = greedy(12)});
  (void)conversation.answer({user("why is it")});
  EXPECT_EQ(view.tokens, conversation.session()->tokens());
  EXPECT_EQ(view.kept[1][0], conversation.session()->kept(1, 0));
}

TEST_F(OfOwners, NobodyHasThoseOfOthersNorThoseThatRun) {
  Scheduler scheduler(loaded.model, engine, options());
  (void)begun(scheduler, "k");
  const std::string refused = "conversation: expected the id of one that is here";
  for (const ConversationName& name : {ConversationName{id, "somebody else"}, ConversationName{"k-1-2"},
                                       ConversationName{""}, ConversationName{"../" + id}}) {
    EXPECT_TRUE(contains(refusal(Error::Kind::kInput, [&] { look(scheduler, name); }), refused));
    EXPECT_TRUE(contains(refusal(Error::Kind::kInput, [&] { (void)snapshot(scheduler, name); }), refused));
    EXPECT_TRUE(contains(refusal(Error::Kind::kInput, [&] { (void)fork(scheduler, name, "x"); }), refused));
    EXPECT_TRUE(contains(refusal(Error::Kind::kInput, [&] { drop(scheduler, name); }), refused));
  }
  const auto runs = submit(scheduler, chat({user("why is it")}, 100'000, "k"));
  runs->until([&] { return runs->n_tokens > 0; });
  EXPECT_TRUE(contains(refusal(Error::Kind::kState, [&] { look(scheduler, {.id = id}); }), "is being asked"));
  EXPECT_TRUE(contains(refusal(Error::Kind::kState, [&] { drop(scheduler, {.id = id}); }), "is being asked"));
  scheduler.cancel(client_ticket);
  (void)runs->result();
  EXPECT_FALSE(look(scheduler, {.id = id}).tokens.empty());
}

TEST_F(OfOwners, WhatCannotBeRestoredLeavesWhatIsThere) {
  Scheduler scheduler(loaded.model, engine, options());
  const std::vector<Message> next = begun(scheduler, "k");
  const std::string bytes = snapshot(scheduler, {.id = id});
  std::string damaged = bytes;
  damaged[damaged.size() / 2] ^= 1;
  for (const std::string& bad : {damaged, std::string("GGUF"), std::string(), bytes.substr(0, bytes.size() / 2)}) {
    EXPECT_TRUE(contains(refusal(Error::Kind::kInput, [&] { (void)restore(scheduler, bad, "k"); }), "snapshot"));
  }
  // What can never be makes nobody give way.
  SessionOptions large = session();
  large.budget = Budget::parse("256");
  TinyModel changed = chatting();
  changed.seed += 1;
  Loaded stranger(std::move(changed));
  std::vector<std::string> refused;
  for (Loaded* const loader : {&loaded, &stranger}) {
    Conversation other_one(loader->model, loader->engine,
                           {.session = loader == &loaded ? large : session(), .generation = greedy(4)});
    (void)other_one.ask(user("why"));
    try {
      (void)restore(scheduler, other_one.saved(), "m");
    } catch (const Error& error) {
      refused.emplace_back(error.what());
    }
  }
  ASSERT_EQ(refused.size(), 2U);
  EXPECT_TRUE(contains(refused[0], "kv_memory: expected a conversation of")) << refused[0];
  EXPECT_TRUE(contains(refused[1], "snapshot: model")) << refused[1];
  EXPECT_EQ(scheduler.status().conversations.size(), 1U);
  EXPECT_EQ(scheduler.status().n_dropped, 0U);
  // All the memory runs.
  std::vector<Scheduler::Ticket> tickets;
  std::vector<std::shared_ptr<Client>> clients;
  for (int i = 0; i < 2; ++i) {
    clients.push_back(submit(scheduler, chat({user(std::to_string(i))}, 100'000)));
    tickets.push_back(client_ticket);
    clients.back()->until([&] { return clients.back()->n_tokens > 0; });
  }
  clients.push_back(submit(scheduler, chat(next, 100'000, "k")));
  tickets.push_back(client_ticket);
  clients.back()->until([&] { return clients.back()->n_tokens > 0; });
  EXPECT_GT(clients.back()->admitted->n_held, 0U);
  EXPECT_TRUE(contains(refusal(Error::Kind::kCapacity, [&] { (void)restore(scheduler, bytes, "l"); }), "kv_memory"));
  for (const Scheduler::Ticket ticket : tickets) scheduler.cancel(ticket);
  for (const auto& client : clients) client->until([&] { return client->done; });
}

// Lengths, cancellations and conversations at random: everything ends, and memory is back.
TEST_F(SchedulerTest, RandomClientsAllEnd) {
  const TemporaryFolder folder;
  const Store store(folder.path("store"), 1 << 20);
  SchedulerOptions kept = options();
  kept.store = &store;
  kept.most_waiting = 1000;
  {
    Scheduler scheduler(loaded.model, engine, kept);
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937 random(t);
        for (int i = 0; i < 25; ++i) {
          auto client = std::make_shared<Client>();
          Request request = chat({user(std::string(1 + random() % 60, (char)('a' + random() % 8)))}, 1 + random() % 20,
                                 random() % 2 ? "" : std::to_string(random() % 5));
          request.asking.n_answers = 1 + random() % 2;
          const Scheduler::Ticket ticket = scheduler.submit(std::move(request), client);
          if (random() % 3 == 0) {
            std::this_thread::sleep_for(std::chrono::microseconds(random() % 5000));
            scheduler.cancel(ticket);
          }
          client->until([&] { return client->done; });
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    const SchedulerStatus status = scheduler.status();
    EXPECT_EQ(status.n_requests, 100U);
    EXPECT_LE(status.memory.leased, status.memory.reserved);
  }
  EXPECT_EQ(engine.kv_memory().n_sessions, 0U);
  EXPECT_EQ(engine.kv_memory().leased, 0U);
}

}  // namespace
}  // namespace lacake
