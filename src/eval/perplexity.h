#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "eval/grid.h"
#include "eval/results.h"
#include "eval/run_control.h"
#include "lacake/engine.h"

namespace lacake::eval {

struct Text {
  std::string name;
  std::vector<Token> tokens;
};

// How a text is scored.
//   by token   tokens 0, 1, ... are fed one by one, and every next one is scored: LaCache's ppl/run.py, which for
//              `tokens` N scores N + 1. All cells step together.
//   by chunk   chunks of `chunk` tokens, each on its own, of which the second half is scored (positions chunk/2 + 1 and
//              on), the first token replaced by BOS where the model wants one: llama-perplexity. A cell that keeps
//              everything reads a chunk at once; a bounded one reads the first half at once, compacts it, and then
//              meets the second half token by token.
struct PerplexityOptions {
  std::size_t chunk = 0;   // 0: by token
  std::size_t tokens = 0;  // by token: N; 0: all that the text and the model's length allow
  std::size_t limit = 0;   // by chunk: at most so many chunks of all texts together; 0: all
  std::uint64_t most_cache_bytes = 0;
  ConfigurationOptions cells;
};

// Scores every text under every cell that has no record yet, and adds a record for each as soon as it is known:
//   sample    "FILE" or "FILE#12"; the unit that is done again if the run is stopped within it
//   cell      Configuration::name()
//   first     index in its sample of the first token that was scored
//   nll       [tokens scored] -ln p, rounded to 1e-4; `sum` has their sum unrounded
//   kl, same  mean KL from the grid's cell that keeps everything, share of tokens with the same likeliest one; absent
//             where the grid has none
//   kv        bytes; step_ms: one token of all cells of the pass together
// False if the watch stopped it. A cell that cannot run for its budget is left out and noticed.
// Throws Error(kInput) for a text that is too short, Error if no cell can run.
bool run_perplexity(const Model& model, Engine& engine, const std::vector<Configuration>& grid,
                    const std::vector<Text>& texts, const PerplexityOptions& options, const RunControl& watch,
                    Results& results);

// metrics.json of such records: for each cell perplexity with its standard error (as llama-perplexity computes it) and
// 95 % interval, perplexity by position in windows of `window` tokens, mean KL, share of equal tokens, bytes. `ratio`:
// to the perplexity of the cell that keeps everything, token by token on the same ones, and `beside` to that of the
// named cell (see cell_beside); their intervals take each window for one draw, because neighbours are alike.
nlohmann::json perplexity_metrics(const std::vector<nlohmann::json>& records, const std::vector<Configuration>& grid,
                                  std::size_t window, std::string_view beside = "");

}  // namespace lacake::eval
