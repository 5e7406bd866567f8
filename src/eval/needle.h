#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "eval/answers.h"
#include "lacake/model.h"

namespace lacake::eval {

// A grid of texts with something to find in them: every length at every depth, with several seeds.
struct NeedleOptions {
  std::vector<std::size_t> lengths;  // tokens
  std::size_t depths = 11;           // from the beginning (0 %) to the end (100 %), evenly
  std::size_t seeds = 5;
  std::uint64_t first_seed = 0;
  std::size_t needles = 1;  // in a haystack: so many facts, the first at the depth, the others evenly after it
};

// LaCache's passkey test (its niah/pred.py): a number of up to five digits in sentences that repeat, 3.75 characters of
// them for each token of the length, whole kibi-characters; its own eleven depths by characters; the key of seed s is
// that of Python's random.Random(s). Right if the answer has the key in it.
// Throws Error(kUsage) for a length below 274 tokens, which has no whole kibi-character.
std::vector<Sample> passkey_samples(const Model& model, const NeedleOptions& options);

// Facts of ours in a user's text: "The access code of the Oslo archive is 48213." at ends of sentences, the question
// after it. The score is the share of codes that the answer has.
// Throws Error(kInput) if the text is shorter than a length needs.
std::vector<Sample> haystack_samples(const Model& model, std::string_view text, const NeedleOptions& options);

}  // namespace lacake::eval
