// An answer of a conversation that is read for and written in bounded steps.

#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "generation/reply_state.h"

namespace lacake {

Reply::Reply(std::unique_ptr<State> state) : state_(std::move(state)) {}
Reply::~Reply() = default;
Reply::Reply(Reply&&) noexcept = default;
Reply& Reply::operator=(Reply&&) noexcept = default;

bool Reply::read() {
  if (state_->reading.read()) return true;
  if (state_->answers.writing().empty()) state_->begin_writing();
  return false;
}

bool Reply::reading() const { return state_->reading.reading(); }
std::string_view Reply::reading_opening() const { return state_->reading.reading_opening(); }
std::size_t Reply::n_to_feed() const { return state_->reading.n_to_feed(); }
std::size_t Reply::n_to_read() const { return state_->reading.n_to_read(); }
double Reply::n_read() const { return state_->reading.n_read(); }
std::span<const Writing> Reply::writing() const { return state_->answers.writing(); }
const Turn& Reply::turn() const { return state_->reading.turn; }
Turn Reply::end() { return state_->end(); }

}  // namespace lacake
