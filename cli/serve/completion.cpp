#include "serve/completion.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "lacake/error.h"

namespace lacake::cli {
namespace {

// Requests for all of the prompts, a few at a time, so that a long list fills no queue. The first may be refused; then
// all are. When one fails or the client goes, the others end.
class Batch final : public std::enable_shared_from_this<Batch> {
 public:
  static constexpr std::size_t kAtOnce = 4;

  Batch(Scheduler& scheduler, std::vector<ChatPrompt> prompts, Request like, std::shared_ptr<Gathering> gathering)
      : scheduler_(scheduler), prompts_(std::move(prompts)), like_(std::move(like)), gathering_(std::move(gathering)) {}

  // Throws what Scheduler::submit throws for the first.
  void begin() {
    for (std::size_t i = 0; i < std::min(kAtOnce, prompts_.size()); ++i) next();
  }
  // Nobody is told of those that end so. False: it was over already.
  bool cancel() {
    const std::lock_guard lock(mutex_);
    if (std::exchange(over_, true)) return false;
    for (const Scheduler::Ticket ticket : tickets_) scheduler_.cancel(ticket);
    return true;
  }

 private:
  class Part final : public RequestClient {
   public:
    Part(std::shared_ptr<Batch> batch, std::size_t prompt) : batch_(std::move(batch)), prompt_(prompt) {}
    void started(const ServedCache& cache) noexcept override { batch_->gathering_->begin(prompt_, cache); }
    void progress(std::size_t done, std::size_t) noexcept override { batch_->gathering_->progress(prompt_, done); }
    void written(std::size_t answer, std::string_view text, const Generation& generation) noexcept override {
      batch_->gathering_->written(prompt_, answer, text, generation);
    }
    void ended(const Served& served) noexcept override {
      batch_->gathering_->ended(prompt_, served);
      try {
        batch_->next();
      } catch (const Error& error) {
        failed(error);
      } catch (const std::exception& error) {  // no memory for it
        failed(Error({.kind = Error::Kind::kState, .subject = "server", .found = error.what()}));
      }
    }
    void failed(const Error& error) noexcept override {
      if (batch_->cancel()) batch_->gathering_->failed(error);
    }

   private:
    const std::shared_ptr<Batch> batch_;
    const std::size_t prompt_;
  };

  void next() {
    const std::lock_guard lock(mutex_);
    if (over_ || n_begun_ == prompts_.size()) return;
    Request request = like_;
    request.accepted_before = n_begun_ > 0;
    std::get<TextRequest>(request.what).prompt = prompts_[n_begun_];
    tickets_.push_back(scheduler_.submit(std::move(request), std::make_shared<Part>(shared_from_this(), n_begun_)));
    ++n_begun_;
  }

  Scheduler& scheduler_;
  const std::vector<ChatPrompt> prompts_;
  const Request like_;
  const std::shared_ptr<Gathering> gathering_;
  std::mutex mutex_;
  std::size_t n_begun_ = 0;
  std::vector<Scheduler::Ticket> tickets_;
  bool over_ = false;
};

}  // namespace

void Completion::begin(std::size_t, const ServedCache&) noexcept {
  if (stream_ && !begun_) exchange_->begin(200, "text/event-stream");
  begun_ = true;
}

void Completion::ended(std::size_t prompt, const Served& served) noexcept {
  served_[prompt] = served;
  if (stream_) end_of(prompt);
  if (++n_ended_ < prompts_.size() || over_) return;
  over_ = true;
  answered(served_);
  stream_ ? end_stream() : send_json(*exchange_, whole());
}

void Completion::failed(const Error& error) noexcept {
  if (over_) return;
  over_ = true;
  const ApiError told = this->told(error);
  exchange_->send(told.status, "application/json", dumped(told.body), told.headers);
  exchange_->write("data: " + dumped(told.body) + "\n\n");
  exchange_->end();
}

void Completion::event(const nlohmann::json& data) { exchange_->write("data: " + dumped(data) + "\n\n"); }

std::size_t Completion::prompt_length() const {
  std::size_t longest = 0;
  for (const ChatPrompt& prompt : prompts_) longest = std::max(longest, prompt.tokens.size());
  return longest;
}

void submit_all(Api& api, const std::shared_ptr<HttpExchange>& exchange, const std::vector<ChatPrompt>& prompts,
                const Request& like, const std::shared_ptr<Gathering>& gathering) {
  const auto batch = std::make_shared<Batch>(api.scheduler(), prompts, like, gathering);
  try {
    batch->begin();
  } catch (const Error&) {
    batch->cancel();
    throw;
  }
  exchange->when_gone([batch] { batch->cancel(); });
}

}  // namespace lacake::cli
