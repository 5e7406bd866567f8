#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "lacake/chat.h"
#include "lacake/model.h"
#include "lacake/token.h"

namespace lacake {

// A control token of a text, and where its spelling begins. Of texts that read alike they tell which parts are letters:
// `<|im_end|>` that a user wrote has none.
struct ControlPlace {
  static constexpr std::size_t kNowhere = INT32_MAX;  // a token of an answer that is no part of its text

  std::size_t offset = 0;
  Token token = 0;
  bool operator==(const ControlPlace&) const = default;
};

// Those of a prompt. Costs reading what is between its letters, which is little.
std::vector<ControlPlace> control_places(const Model& model, const PromptText& prompt);

// Adds those of these tokens, whose text begins at `offset`. One whose spelling is not in the text is nowhere.
void add_control_places(const Model& model, std::span<const Token> tokens, std::string_view text, std::size_t offset,
                        std::vector<ControlPlace>& places);

// Whether a text's places up to `size` are these.
bool same_places(std::span<const ControlPlace> of_text, std::size_t size, std::span<const ControlPlace> places);

}  // namespace lacake
