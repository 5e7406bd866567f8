#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "generation/control_places.h"
#include "lacake/chat.h"
#include "lacake/token.h"

namespace lacake {

// What a session holds, as text: a prompt, and an answer that came after it.
struct HeldText {
  std::string prompt = {};    // that was fed last, from the beginning of the conversation; "": nothing was fed
  std::string answered = {};  // the text of the answer after it, that of `pending` included
  std::vector<ControlPlace> controls = {};  // of both
  std::vector<Token> pending = {};          // of the answer: chosen, shown, but not fed yet

  // How many bytes of `text` the session holds, `pending` taken as fed, if all that it holds is the beginning of it, or
  // all of it. White space around the answer, which templates strip, is the one difference that counts for none, where
  // something follows.
  //   controls  of the text: the same words with other control tokens are another text
  std::optional<std::size_t> beginning_of(const std::string& text, std::span<const ControlPlace> controls) const;
};

}  // namespace lacake
