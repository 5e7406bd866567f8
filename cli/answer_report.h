#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "lacake/generation.h"
#include "options.h"

namespace lacake::cli {

// How an answer shows in results and to people.

const char* finish_name(Finish finish);  // "end", "stop", "length", "interrupt"; "" where it goes on

// What a result says of an answer besides its text and tokens: which length or string ended it, its seed, its content,
// reasoning and calls of tools apart, and the log-probabilities where they were asked for.
nlohmann::json answer_json(const Answer& answer, const Model& model);

// One line where an answer was cut at a length that is not the one asked for (-n); "" otherwise.
std::string length_notice(const Answer& answer, const Options& options);

}  // namespace lacake::cli
