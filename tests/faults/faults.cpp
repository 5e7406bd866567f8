#include "faults/faults.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>
#include <string_view>

namespace lacake::faults {
namespace {

struct Watched {
  std::string folder;
  Fault fault;
  std::vector<Call> calls;
  struct Open {
    std::string path;
    std::size_t at = 0;
  };
  std::map<int, Open> open;
};

// Calls come before and after every constructor and destructor of this library: nothing here has any.
std::atomic<bool> watching = false;
std::mutex mutex;
Watched* watched = nullptr;

bool is_watched(std::string_view path) {
  return path.starts_with(watched->folder) &&
         (path.size() == watched->folder.size() || path[watched->folder.size()] == '/');
}

// What a call comes to, written down in any case.
struct Verdict {
  int error = 0;
  bool halved = false;
};
Verdict judge(Call call) {
  const Fault& fault = watched->fault;
  const std::size_t number = watched->calls.size() + 1;
  Verdict verdict;
  if (fault.call > 0 && (fault.forever ? number >= fault.call : number == fault.call)) {
    if (fault.kills) ::raise(SIGKILL);
    verdict = {fault.error, fault.error == 0};
  }
  call.error = verdict.error;
  watched->calls.push_back(std::move(call));
  return verdict;
}

template <class Function>
Function* next(const char* name) {
  return (Function*)::dlsym(RTLD_NEXT, name);
}

int failed(int error) {
  errno = error;
  return -1;
}

// A call on an open file, its verdict known; nothing where it is none of ours.
std::optional<Verdict> judge(const char* name, int fd) {
  if (!watching) return {};
  const std::lock_guard lock(mutex);
  if (watched == nullptr || !watched->open.contains(fd)) return {};
  return judge({.name = name, .path = watched->open[fd].path});
}

int opened(const char* name, const char* path, int flags, mode_t mode) {
  const auto call = [&] { return next<int(const char*, int, ...)>(name)(path, flags, mode); };
  if (!watching) return call();
  const std::lock_guard lock(mutex);
  if (watched == nullptr || !is_watched(path)) return call();
  if (const int error = judge({.name = "open", .path = path}).error) return failed(error);
  const int fd = call();
  if (fd >= 0) watched->open[fd] = {path};
  return fd;
}

// Where writing goes to: behind what was written last, but for pwrite.
ssize_t written(int fd, std::size_t n, const void* bytes, std::optional<off_t> at, const auto& call) {
  if (!watching) return call(n);
  const std::lock_guard lock(mutex);
  if (watched == nullptr || !watched->open.contains(fd)) return call(n);
  Watched::Open& open = watched->open[fd];
  const Verdict verdict = judge({.name = "write", .path = open.path, .at = at ? (std::size_t)*at : open.at});
  if (verdict.error != 0) return failed(verdict.error);
  const ssize_t done = call(verdict.halved ? (n + 1) / 2 : n);
  if (done < 0) return done;
  watched->calls.back().bytes.assign((const char*)bytes, (std::size_t)done);
  if (!at) open.at += (std::size_t)done;
  return done;
}

int synced(const char* name, int fd) {
  if (const std::optional<Verdict> verdict = judge(name, fd)) {
    return verdict->error != 0 ? failed(verdict->error) : 0;
  }
  return next<int(int)>(name)(fd);
}

[[gnu::constructor]] void watch_by_environment() {
  const char* folder = std::getenv("LACAKE_FAULTS_FOLDER");
  const char* call = std::getenv("LACAKE_FAULTS_CALL");
  const char* error = std::getenv("LACAKE_FAULTS_ERROR");
  if (folder == nullptr || call == nullptr || error == nullptr) return;
  watch(folder, {.call = std::strtoull(call, nullptr, 10),
                 .error = std::atoi(error),  // of "short": 0
                 .forever = std::getenv("LACAKE_FAULTS_FOREVER") != nullptr});
}

}  // namespace

void watch(const std::string& folder, const Fault& fault) {
  const std::lock_guard lock(mutex);
  delete watched;
  watched = new Watched{.folder = folder, .fault = fault};
  watching = true;
}

std::vector<Call> stop() {
  const std::lock_guard lock(mutex);
  watching = false;
  if (watched == nullptr) return {};
  std::vector<Call> calls = std::move(watched->calls);
  delete watched;
  watched = nullptr;
  return calls;
}

}  // namespace lacake::faults

// The C library's names, as it declares them.
extern "C" {

int open(const char* path, int flags, ...) {
  std::va_list more;
  va_start(more, flags);
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
  va_end(more);
  return lacake::faults::opened("open", path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  std::va_list more;
  va_start(more, flags);
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
  va_end(more);
  return lacake::faults::opened("open64", path, flags, mode);
}

ssize_t write(int fd, const void* bytes, std::size_t n) {
  return lacake::faults::written(fd, n, bytes, {}, [&](std::size_t most) {
    return lacake::faults::next<ssize_t(int, const void*, std::size_t)>("write")(fd, bytes, most);
  });
}
ssize_t pwrite(int fd, const void* bytes, std::size_t n, off_t at) {
  return lacake::faults::written(fd, n, bytes, at, [&](std::size_t most) {
    return lacake::faults::next<ssize_t(int, const void*, std::size_t, off_t)>("pwrite")(fd, bytes, most, at);
  });
}

int fsync(int fd) { return lacake::faults::synced("fsync", fd); }
int fdatasync(int fd) { return lacake::faults::synced("fdatasync", fd); }

int ftruncate(int fd, off_t size) noexcept {
  const auto verdict = lacake::faults::judge("ftruncate", fd);
  if (verdict && verdict->error != 0) return lacake::faults::failed(verdict->error);
  return lacake::faults::next<int(int, off_t)>("ftruncate")(fd, size);
}

int flock(int fd, int operation) noexcept {
  const auto verdict = lacake::faults::judge("flock", fd);
  if (verdict && verdict->error != 0) return lacake::faults::failed(verdict->error);
  return lacake::faults::next<int(int, int)>("flock")(fd, operation);
}

// Linux closes the descriptor also where it says that this failed.
int close(int fd) {
  const auto verdict = lacake::faults::judge("close", fd);
  if (verdict) {
    const std::lock_guard lock(lacake::faults::mutex);
    if (lacake::faults::watched != nullptr) lacake::faults::watched->open.erase(fd);
  }
  const int done = lacake::faults::next<int(int)>("close")(fd);
  return verdict && verdict->error != 0 ? lacake::faults::failed(verdict->error) : done;
}

int rename(const char* from, const char* to) noexcept {
  using namespace lacake::faults;
  if (watching) {
    const std::lock_guard lock(mutex);
    if (watched != nullptr && (is_watched(from) || is_watched(to))) {
      if (const int error = judge({.name = "rename", .path = from, .to = to}).error) return failed(error);
    }
  }
  return next<int(const char*, const char*)>("rename")(from, to);
}

int unlink(const char* path) noexcept {
  using namespace lacake::faults;
  if (watching) {
    const std::lock_guard lock(mutex);
    if (watched != nullptr && is_watched(path)) {
      if (const int error = judge({.name = "unlink", .path = path}).error) return failed(error);
    }
  }
  return next<int(const char*)>("unlink")(path);
}

}  // extern "C"
