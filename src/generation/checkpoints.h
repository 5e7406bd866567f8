#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lacake {

// A checkpoint as thinning sees it.
struct CheckpointSize {
  std::size_t n_tokens = 0;  // of the conversation up to it
  std::uint64_t bytes = 0;
};

// Which of a conversation's checkpoints goes when together they take too much. What one is worth is how much more would
// be read again without it, the distance between its neighbours, compared with how far back one has to go to need it at
// all. So the last ones stay, and older ones are ever fewer: from the third last on, neighbours end up as far apart as
// their distance from the end allows. The last two are the last to go: before the last answer (to ask for it again) and
// before the last question (to ask another).
//   checkpoints  ascending by n_tokens; REQUIRES: one or more
//   n_tokens     of the conversation now
std::size_t least_useful(std::span<const CheckpointSize> checkpoints, std::size_t n_tokens);

// The places of those that stay where all together may take `most` bytes, ascending. 0: none stay.
std::vector<std::size_t> most_useful(std::span<const CheckpointSize> checkpoints, std::size_t n_tokens,
                                     std::uint64_t most);

}  // namespace lacake
