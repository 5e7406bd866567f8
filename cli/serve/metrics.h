#pragma once

#include <memory>
#include <string>

#include "lacake/scheduler.h"

namespace lacake::cli {

// What Prometheus is told. Members may be called from any thread.
class ServerMetrics {
 public:
  ServerMetrics();
  ~ServerMetrics();

  // A request's time to its first token, and between two of its tokens.
  void first_token(double seconds);
  void between_tokens(double seconds);
  // 0: its client went before an answer began.
  void request(int status);

  // In the text format, with what the scheduler says now.
  std::string text(const SchedulerStatus& status);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lacake::cli
