#pragma once

#include <string_view>

namespace lacake::eval {

// ROUGE-L's F as the Python package `rouge` 1.0.1 computes it, which LongBench's scores are made with. That is not the
// paper's: sentences end at every full stop, words count once however often they occur, the longest common
// subsequences of a reference's sentences with all of the prediction's are joined to one set of words, and 1e-8 is
// added below. 0 where either text has nothing but full stops. Time and memory: words of one times words of the other.
// Departure: the package gives up (0) on sentences that are too long for Python's recursion; this does not.
double rouge_l(std::u32string_view prediction, std::u32string_view reference);

}  // namespace lacake::eval
