#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "base/open_file.h"
#include "serve/http.h"

namespace lacake::cli {

// A line of JSON for each request. A thread of its own writes them, so that a disk that is full or a reader that does
// not read costs lines, which are counted, and never an answer.
class RequestLog {
 public:
  // `file`: "" for standard error. `prompts`: with what clients sent and got. Throws Error(kInput) naming the file.
  RequestLog(std::string file, bool prompts);
  // What is not written within a second is lost.
  ~RequestLog();
  RequestLog(const RequestLog&) = delete;
  RequestLog& operator=(const RequestLog&) = delete;

  // From any thread; never waits.
  void add(HttpRecord record);
  // The file was moved away: what comes from here on goes into a new one under its name.
  void reopen();

 private:
  void run();
  void open_again();
  // `n_requests`: that are lost with it.
  void write_line(std::string line, std::uint64_t n_requests);
  // Returns 0, or the errno of the failure.
  int write_all(std::string_view bytes);
  bool is_late() const;

  const std::string file_;
  const bool prompts_;
  // Of the thread:
  std::optional<OpenFile> opened_;
  int descriptor_ = -1;
  bool torn_ = false;  // the last line was written in part
  bool failed_ = false;
  // Of all threads, under the mutex:
  mutable std::mutex mutex_;
  std::condition_variable news_;
  std::deque<HttpRecord> records_;
  std::size_t bytes_ = 0;  // of their requests
  std::uint64_t n_lost_ = 0;
  bool reopens_ = false;
  std::optional<std::chrono::steady_clock::time_point> ends_;
  std::thread thread_;
};

}  // namespace lacake::cli
