#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "generation/control_places.h"
#include "lacake/chat.h"
#include "lacake/engine.h"
#include "lacake/model.h"

namespace lacake {

// What several conversations read before their first question's words: the same system message and tools.
struct Opening {
  std::string group;  // conversations of other groups do not share it: another owner's, or with another cache
  std::string text;
  std::vector<ControlPlace> controls;  // of the text
  std::unique_ptr<SessionStem> stem;
};

// Openings that were read, for conversations to begin with: the first one reads it, the others get a copy. Within a
// bound in bytes, which are beside those of sessions; what was used least recently goes first. One thread at a time.
class Openings {
 public:
  // Shorter ones are read again as fast as they are copied.
  static constexpr std::size_t kLeastTokens = 64;

  explicit Openings(std::uint64_t most_bytes) : most_bytes_(most_bytes) {}

  // The longest that the text begins with. Null: there is none.
  std::shared_ptr<const Opening> find(std::string_view group, std::string_view text,
                                      std::span<const ControlPlace> controls);
  // Of a session that was fed this text and nothing else. Nothing where there is no room for it or one is there.
  void keep(const std::string& group, const std::string& text, std::vector<ControlPlace> controls,
            const Session& session);
  std::uint64_t bytes() const;

 private:
  std::uint64_t most_bytes_;
  std::list<std::shared_ptr<const Opening>> all_;  // the least recently used first
};

// What a prompt of these messages begins with before the words of the first question, as the template writes it;
// nothing if there is no such question or the template refuses to be asked. Costs two renderings of the opening.
PromptText opening_of(const Model& model, std::span<const Message> messages, const ChatOptions& chat);

}  // namespace lacake
