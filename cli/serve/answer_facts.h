#pragma once

// What is said of answers, of the cache behind them, and of settings, in the words of OpenAI, llama-server and our own.

#include <nlohmann/json.hpp>
#include <string>

#include "lacake/model.h"
#include "lacake/scheduler.h"

namespace lacake::cli {

// What every answer says of the cache: {"policy", "budget_bytes", "held_bytes", ...}.
nlohmann::json cache_facts(const ServedCache& cache);
// What GET /v1/sessions and /slots say of a conversation in memory.
nlohmann::json session_json(const SchedulerStatus::Conversation& conversation);
nlohmann::json usage_of(const Served& served);
// Defaults of the server, or what a request came to, as llama-server shows them.
nlohmann::json generation_settings(const Model& model, const GenerationOptions& generation);
// "stop", "length", "tool_calls".
std::string finish_reason(const Answer& answer);

}  // namespace lacake::cli
