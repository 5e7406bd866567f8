#pragma once

#include <string>
#include <vector>

#include "engine/test_session.h"
#include "eval/run_control.h"

namespace lacake::eval {

// Keeps what whoever started work is told.
struct KeptNotices {
  std::vector<std::string> lines;
  RunControl control{.notice = [this](const std::string& line) { lines.push_back(line); }};

  KeptNotices() = default;
  KeptNotices(const KeptNotices&) = delete;
  KeptNotices& operator=(const KeptNotices&) = delete;
};

// small(), trained for so many tokens.
inline models::TinyModel small_trained_for(int n_tokens) {
  models::TinyModel tiny = small();
  tiny.n_ctx_train = n_tokens;
  return tiny;
}

}  // namespace lacake::eval
