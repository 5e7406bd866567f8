#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "lacake/engine.h"
#include "lacake/model.h"
#include "terminal.h"

namespace lacake::cli {

// What every result says of its model, plan and cache, once for all commands. Texts end with a new line.

std::string model_text(const ModelFacts& facts, const Terminal& terminal);
nlohmann::json calibration_json(const CalibrationFacts& facts);
nlohmann::json model_json(const ModelFacts& facts);

// `policy` is how the user would say it.
std::string plan_text(const SessionPlan& plan, const ModelFacts& facts, const SessionOptions& options,
                      const Terminal& terminal);
nlohmann::json plan_json(const MemoryPlan& plan);

nlohmann::json cache_json(const CacheUse& use, const SessionOptions& options);

// JSON as the program prints it: one line, never invalid UTF-8.
std::string json_line(const nlohmann::json& json);

}  // namespace lacake::cli
