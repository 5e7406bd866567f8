#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "eval/answers.h"
#include "lacake/model.h"

namespace lacake::eval {

// What is hidden: how long, and of what.
struct KeyForm {
  enum class Kind {
    kOfficial,  // of a passkey: a number of up to five digits, as LaCache's script draws it; of a haystack: five digits
    kDigits,    // a number of exactly so many digits
    kTokens,    // the longest numbers that are exactly so many tokens of the model's vocabulary
    kWords,     // so many words: adjectives, then a noun ("amber river")
  };
  Kind kind = Kind::kOfficial;
  std::size_t length = 0;

  // "digits:2", "tokens:2", "words:2". Throws Error(kUsage) about `key` for anything else.
  static KeyForm parse(std::string_view text);
  std::string text() const;  // "" of kOfficial
};

// The tokens of " KEY" that hold a part of the key: what an answer has to write of it. A token of the space alone is
// none.
std::size_t key_tokens(const Model& model, const std::string& key);

// A grid of texts with something to find in them: every length at every depth, with several seeds.
struct NeedleOptions {
  std::vector<std::size_t> lengths;  // tokens
  std::size_t depths = 11;           // from the beginning (0 %) to the end (100 %), evenly
  std::size_t seeds = 5;
  std::uint64_t first_seed = 0;
  std::size_t needles = 1;  // in a haystack: so many facts, the first at the depth, the others evenly after it
  // In a haystack, above 1: so many facts from its beginning to its end, each asked about on its own. Then there is one
  // text for each length and seed, whatever `depths` and `needles` say, and a sample's depth is its fact's.
  std::size_t questions = 1;
  KeyForm key = {};
};

// LaCache's passkey test (its niah/pred.py): a number of up to five digits in sentences that repeat, 3.75 characters of
// them for each token of the length, whole kibi-characters; its own eleven depths by characters; the key of seed s is
// that of Python's random.Random(s). Right if the answer has the key in it; a key of another form must stand there as a
// word of its own, so that no longer number passes for a short one.
// Throws Error(kUsage) for a length below 274 tokens, which has no whole kibi-character, and for keys of so many tokens
// that the vocabulary has none.
std::vector<Sample> passkey_samples(const Model& model, const NeedleOptions& options);

// Facts of ours in a user's text: "The access code of the Oslo archive is 48213." at ends of sentences, the question
// after it. The score is the share of codes that the answer has.
// Throws Error(kInput) if the text is shorter than a length needs.
std::vector<Sample> haystack_samples(const Model& model, std::string_view text, const NeedleOptions& options);

}  // namespace lacake::eval
