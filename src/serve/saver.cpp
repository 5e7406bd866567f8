#include "serve/saver.h"

#include <exception>
#include <utility>

#include "base/files.h"

namespace lacake {

Saver::Saver(std::function<void()> when_done) : when_done_(std::move(when_done)), thread_([this] { run(); }) {}

Saver::~Saver() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Saver::save(std::uint64_t number, Store::Lease& lease, std::string bytes) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back({number, &lease, std::move(bytes)});
  }
  changed_.notify_all();
}

std::vector<Saver::Done> Saver::take_done() {
  const std::lock_guard lock(mutex_);
  return std::exchange(done_, {});
}

void Saver::finish() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return tasks_.empty(); });
}

void Saver::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    const Task& task = tasks_.front();  // stays where it is while others come behind it
    lock.unlock();
    bool kept = true;
    try {
      task.lease->save(task.bytes.size(), [&](const std::string& path) { replace_durably(path, task.bytes); });
    } catch (const std::exception&) {  // a full disk, say: the conversation is in memory still
      kept = false;
    }
    lock.lock();
    done_.push_back({task.number, kept});
    tasks_.pop_front();
    changed_.notify_all();
    lock.unlock();
    when_done_();
    lock.lock();
  }
}

}  // namespace lacake
