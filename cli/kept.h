#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "draw/density.h"
#include "lacake/engine.h"
#include "lacake/snapshot.h"
#include "terminal.h"

namespace lacake::cli {

// What a session keeps, or a saved one, taken out of it: positions by layer and KV head, ascending.
struct Kept {
  std::string model;
  std::string policy;
  std::size_t n_tokens = 0;  // of the conversation, kept or not
  std::vector<draw::HeadPositions> layers;
};

Kept kept_entries(const Session& session, const ModelFacts& facts, const SessionOptions& options);
Kept kept_entries(const Snapshot& snapshot);

// Entries of a layer, averaged over heads.
double mean_entries(const draw::HeadPositions& heads);

nlohmann::json kept_json(const Kept& kept);

// A row for each layer, at most `columns` wide.
std::string kept_text(const Kept& kept, const Terminal& terminal, std::size_t columns, draw::Glyphs glyphs);

}  // namespace lacake::cli
