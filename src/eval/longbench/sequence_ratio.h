#pragma once

#include <string_view>

namespace lacake::eval {

// difflib.SequenceMatcher(None, a, b).ratio(): twice the characters in matching blocks, of all characters. The longest
// block is found first, then those before and behind it; characters that make up more than a hundredth of a `b` of 200
// or more do not begin a block. Not symmetric. REQUIRES: not both empty.
double sequence_ratio(std::u32string_view a, std::u32string_view b);

// fuzzywuzzy's fuzz.ratio, 0 to 100, as it comes without python-Levenshtein (LongBench does not ask for that): equal
// texts have 100, then an empty one 0, others the rounded ratio.
int fuzz_ratio(std::u32string_view a, std::u32string_view b);

}  // namespace lacake::eval
