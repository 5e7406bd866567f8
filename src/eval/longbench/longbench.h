#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "eval/answers.h"
#include "eval/chat_frame.h"
#include "eval/json_lines.h"
#include "lacake/model.h"

namespace lacake::eval {

// One of LongBench's 21 tasks, as its config/*.json, pred.py and eval.py have it.
struct LongBenchTask {
  std::string_view name;
  std::string_view prompt;  // with {context} once and {input} at most once after it
  std::size_t most_new;     // tokens
  double (*score)(std::string_view answer, std::string_view reference, const std::vector<std::string>& classes);
  bool chat;             // in the model's chat template; few-shot and code tasks are not
  bool first_line;       // only the answer's first line counts
  const char* numbered;  // what a reference has in front of its number, of retrieval tasks
};

const std::vector<LongBenchTask>& longbench_tasks();
std::vector<std::string> longbench_task_names();

struct LongBenchOptions {
  std::size_t max_length = 0;      // tokens of a prompt without its chat template; 0: what the model's length leaves
  std::vector<std::string> tasks;  // empty: all
  std::size_t limit = 0;           // samples of each task; 0: all
  bool chat = true;
  BadLine bad_line = BadLine::kStop;
};

struct LongBenchSamples {
  std::vector<Sample> samples;       // "multi_news/<_id>", tagged with their task
  std::vector<std::string> skipped;  // as in JsonLines
};

// Samples of files as published: input, context, answers, dataset, all_classes, _id; `dataset` may have LongBench-E's
// "_e". A prompt that is too long loses its middle, as in pred.py: half of the tokens from either end, cut between
// characters (pred.py leaves halves of them as U+FFFD). The question is what follows the context, also where the cut
// went through it. Departures: an answer to a first-line task ends with that line (pred.py does that for samsum alone,
// where it also forbids a line's end as the first token); Chinese scores, see text_scores.h.
// Throws Error(kInput) "FILE:LINE: ..." at a line that cannot be used, unless it is skipped. The files' texts go one by
// one, as samples are made of them.
LongBenchSamples longbench_samples(const Model& model, std::vector<DataFile> files, const LongBenchOptions& options);

// What is left of a prompt of at most `most` tokens, half of them from either end, as context and question; the
// question is the prompt's last `question_bytes`, or what is left of it.
struct Halves {
  std::string context, question;
};
Halves cut_middle(const Model& model, std::string_view prompt, std::size_t question_bytes, std::size_t most);

}  // namespace lacake::eval
