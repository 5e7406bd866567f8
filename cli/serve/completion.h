#pragma once

// What answers to several prompts of one request share, whoever asked.

#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "serve/answering.h"
#include "serve/sending.h"

namespace lacake::cli {

// Where a client of several requests gathers what comes of each.
class Gathering {
 public:
  virtual ~Gathering() = default;
  virtual void begin(std::size_t prompt, const ServedCache& cache) noexcept = 0;
  virtual void progress(std::size_t /*prompt*/, std::size_t /*done*/) noexcept {}
  virtual void written(std::size_t prompt, std::size_t answer, std::string_view text,
                       const Generation& generation) noexcept = 0;
  virtual void ended(std::size_t prompt, const Served& served) noexcept = 0;
  virtual void failed(const Error& error) noexcept = 0;
};

// Answers to several prompts, which end once.
class Completion : public Gathering, protected Answering {
 public:
  Completion(Api& api, std::shared_ptr<HttpExchange> exchange, std::vector<ChatPrompt> prompts, bool stream)
      : Answering(api, std::move(exchange), stream), prompts_(std::move(prompts)), served_(prompts_.size()) {}

  void begin(std::size_t prompt, const ServedCache& cache) noexcept override;
  void ended(std::size_t prompt, const Served& served) noexcept override;
  void failed(const Error& error) noexcept override;

 protected:
  virtual nlohmann::json whole() = 0;
  virtual void end_of(std::size_t prompt) = 0;
  virtual void end_stream() = 0;
  void event(const nlohmann::json& data);
  std::size_t prompt_length() const override;

  const std::vector<ChatPrompt> prompts_;
  std::vector<Served> served_;  // by prompt

 private:
  bool begun_ = false, over_ = false;
  std::size_t n_ended_ = 0;
};

// Throws what Scheduler::submit throws for the first of them.
void submit_all(Api& api, const std::shared_ptr<HttpExchange>& exchange, const std::vector<ChatPrompt>& prompts,
                const Request& like, const std::shared_ptr<Gathering>& gathering);

}  // namespace lacake::cli
