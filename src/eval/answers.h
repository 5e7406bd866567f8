#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "eval/grid.h"
#include "eval/results.h"
#include "eval/run_control.h"
#include "lacake/chat.h"
#include "lacake/engine.h"

namespace lacake::eval {

// One thing asked about one text.
struct Sample {
  std::string id;        // unique in its task
  std::string context;   // what the question is about
  std::string question;  // follows it at once
  std::size_t most_new = 32;
  // Bytes that a chat template wrote: at the context's beginning and at the question's end. Control tokens written out
  // in them are such; in everything else they are letters.
  std::size_t template_before = 0, template_after = 0;
  bool one_line = false;                           // the answer is done with its first line that has something in it
  nlohmann::json tags = nlohmann::json::object();  // what tables group by: {"length": 2048, "depth": 30}
  std::vector<std::string> references;
  std::function<double(std::string_view answer)> score;  // 0 to 1
  // Of a text that several questions are asked about: its name, and which question this is, from 1. Samples of one text
  // have the same context, and stand beside each other. "": the text has this question alone.
  std::string text = {};
  std::size_t number = 1;
};

// Context and question as one prompt; from(context.size()) is the question alone.
PromptText prompt_text(const Sample& sample);

// What a policy knows when it evicts from the context.
//   kSeen   the question: context and question are one prompt
//   kLater  not the question: the context is read and compacted, then the question comes as a turn of its own
enum class Question { kSeen, kLater };

struct AnswerOptions {
  Question question = Question::kSeen;
  std::uint64_t most_cache_bytes = 0;
  ConfigurationOptions cells;
};

// Whether a text has a line that has ended and is not empty: where a one_line answer is done.
bool has_line(std::string_view text);

// Lets every cell answer every sample that it has no record of yet, greedily, and adds the records. In exact prefill
// one pass over a context serves as many cells as their caches fit in memory; the answers are decoded together, token
// by token. Each answer is the one that its cell gives alone. Under kLater the questions of one text are asked of one
// reading: each begins again with the cache as it was when the text had been read. Records:
//   sample, cell, tags, answer, references, score, tokens {prompt, new}
//   kl, same      against the grid's cell that keeps everything: mean KL over the tokens up to the first that differs
//                 (without the first of an exact prefill that saw the question: it is the full cache's), and the share
//                 of its answer's tokens before that; absent where the grid has none
//   text, question  of a text that several questions are asked about: its name, and which of them this is
//   kv            bytes
//   pass {cells, prefill_ms, passes}   the pass this was part of: its time is shared by its cells
//   decode_ms     a token of this cell alone, mean of a few after the answer; of the first sample of each length only
// False if the watch stopped it. A cell that cannot run a sample is left out with a notice. Throws Error(kInput) where
// there is no sample, Error(kUsage) with these notices where no cell can run any.
bool run_answers(const Model& model, Engine& engine, const std::vector<Configuration>& grid,
                 const std::vector<Sample>& samples, const AnswerOptions& options, const RunControl& watch,
                 Results& results);

// metrics.json of such records: for each cell the mean score and the share of the full cache's score, each with its 95
// % interval (eval/intervals.h; questions about one text are one draw, tasks are none), the other figures, and the mean
// score of every group of equal tags and of every question by its number. Where samples are tagged with a task: also
// `task_mean`, the mean of the tasks' mean scores. `beside` (see cell_beside): also the difference from that cell's
// score, sample by sample.
nlohmann::json answer_metrics(std::string_view task, const std::vector<nlohmann::json>& records,
                              const std::vector<Configuration>& grid, std::string_view beside = "");

}  // namespace lacake::eval
