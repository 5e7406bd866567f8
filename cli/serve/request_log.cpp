#include "serve/request_log.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/open_file.h"
#include "output.h"

namespace lacake::cli {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::system_clock;

// More requests than this whose lines wait are lost, and more bytes of what they asked.
constexpr std::size_t kMostWaiting = 10'000, kMostBytes = 256 << 20;
constexpr std::chrono::seconds kLast{1};

// RFC 3339, in UTC.
std::string time_text(Clock::time_point time) {
  const auto since = time.time_since_epoch();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since);
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(since - seconds).count();
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime((std::time_t)seconds.count()), ms);
}

// Beyond ASCII everything is escaped too: what a client sends may be meant for the terminal of whoever reads the log.
std::string line_of(const Json& line) { return line.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n"; }

double rounded(double ms) { return (double)(std::int64_t)(ms * 1e3) / 1e3; }

Json json_of(const HttpRecord& record, bool prompts) {
  Json line = {{"time", time_text(record.time)},  {"id", record.request.id},
               {"client", record.request.client}, {"method", record.request.method},
               {"path", record.request.path},     {"status", record.status > 0 ? Json(record.status) : Json()},
               {"bytes", record.bytes},           {"duration_ms", rounded(record.ms)}};
  if (record.gone) line["gone"] = true;
  for (const auto& [name, value] : record.facts.items()) {
    line[name] = value.is_number_float() ? Json(rounded(value.get<double>())) : Json(value);
  }
  if (prompts && !record.request.body.empty()) line["request"] = record.request.body;
  return line;
}

}  // namespace

RequestLog::RequestLog(std::string file, bool prompts) : file_(std::move(file)), prompts_(prompts) {
  if (file_.empty()) {
    descriptor_ = STDERR_FILENO;
  } else {
    open_again();
    if (descriptor_ < 0) fail_at(file_, "opened", errno);
  }
  thread_ = std::thread([this] { run(); });
}

RequestLog::~RequestLog() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = std::chrono::steady_clock::now() + kLast;
  }
  news_.notify_all();
  thread_.join();
}

void RequestLog::add(HttpRecord record) {
  if (!prompts_) record.request.body = std::string();
  record.request.headers.clear();
  record.request.query.clear();
  {
    const std::lock_guard lock(mutex_);
    if (records_.size() >= kMostWaiting || bytes_ + record.request.body.size() > kMostBytes) {
      ++n_lost_;
      return;
    }
    bytes_ += record.request.body.size();
    records_.push_back(std::move(record));
  }
  news_.notify_all();
}

void RequestLog::reopen() {
  {
    const std::lock_guard lock(mutex_);
    reopens_ = true;
  }
  news_.notify_all();
}

void RequestLog::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    news_.wait(lock, [this] { return !records_.empty() || reopens_ || ends_; });
    const bool reopens = std::exchange(reopens_, false);
    if (records_.empty() && !reopens) return;
    std::optional<HttpRecord> record;
    if (!records_.empty()) {
      record = std::move(records_.front());
      records_.pop_front();
      bytes_ -= record->request.body.size();
    }
    const std::uint64_t n_lost = record ? std::exchange(n_lost_, 0) : 0;
    lock.unlock();
    if (reopens && !file_.empty()) open_again();
    if (n_lost > 0) write_line(line_of({{"time", time_text(Clock::now())}, {"lost", n_lost}}), n_lost);
    if (record) write_line(line_of(json_of(*record, prompts_)), 1);
    lock.lock();
  }
}

// One that cannot be opened leaves the old one, if there is one. Without O_NONBLOCK a pipe that nobody reads yet would
// hold everything up.
void RequestLog::open_again() {
  OpenFile file(file_, O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY | O_NONBLOCK);
  if (file.get() < 0) {
    if (opened_) warn(fmt::format("{}: cannot be opened: {}; the log stays where it was", file_, std::strerror(errno)));
    return;
  }
  opened_ = std::move(file);
  descriptor_ = opened_->get();
  torn_ = false;
}

void RequestLog::write_line(std::string line, std::uint64_t n_requests) {
  if (torn_) line.insert(0, "\n");
  const int error = write_all(line);
  if (error == 0) {
    failed_ = false;
    return;
  }
  // Said once, not for each line; where standard error itself is lost, there is nobody to tell.
  if (!std::exchange(failed_, true) && !file_.empty()) {
    warn(fmt::format("{}: cannot be written: {}; requests are answered, and their lines are lost", file_,
                     std::strerror(error)));
  }
  const std::lock_guard lock(mutex_);
  n_lost_ += n_requests;
}

int RequestLog::write_all(std::string_view bytes) {
  while (!bytes.empty()) {
    // A descriptor that is ready takes PIPE_BUF bytes without waiting, also one of others that may not be made
    // non-blocking for them.
    pollfd ready{.fd = descriptor_, .events = POLLOUT, .revents = 0};
    constexpr int kLookMs = 50;
    const int n_ready = ::poll(&ready, 1, kLookMs);
    if (n_ready == 0 || (n_ready < 0 && errno == EINTR)) {
      if (is_late()) return ETIMEDOUT;
      continue;
    }
    const ssize_t n = ::write(descriptor_, bytes.data(), std::min<std::size_t>(bytes.size(), PIPE_BUF));
    if (n < 0 && (errno == EINTR || errno == EAGAIN) && !is_late()) continue;
    if (n < 0) return errno;
    bytes.remove_prefix((std::size_t)n);
    torn_ = true;
  }
  torn_ = false;
  return 0;
}

bool RequestLog::is_late() const {
  const std::lock_guard lock(mutex_);
  return ends_ && std::chrono::steady_clock::now() > *ends_;
}

}  // namespace lacake::cli
