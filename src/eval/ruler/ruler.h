#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "eval/answers.h"
#include "eval/chat_frame.h"
#include "eval/json_lines.h"
#include "eval/ruler/qa.h"
#include "lacake/model.h"

namespace lacake::eval {

// RULER (Hsieh et al. 2024): what is asked about a text of any length that is made up for it. Templates, needles,
// counts and lengths of answers are those of its scripts/data/synthetic and synthetic.yaml. Departures: its random
// numbers come from three libraries, so samples differ; words are from a list of ours (adjective-noun keys; cwe beyond
// that list has such pairs too); sentences of a haystack end at . ! or ? before a space, not where NLTK says; a sample
// grows to the length by bisection on the first of its kind, the others give way from there, none is longer.
struct RulerOptions {
  std::vector<std::size_t> lengths;  // tokens of prompt and answer together, the chat template among them
  std::vector<std::string> tasks;    // empty: all that there is data for
  std::size_t samples = 10;          // of each task and length
  std::uint64_t seed = 0;            // of the first; the same seed, length and task make the same sample
  // Asked about each text, each its own sample: needles with so many keys, so many chains of variables, questions that
  // follow each other in a file of questions. Above 1 the tasks whose text has one question (cwe, fwe) are left out.
  std::size_t questions = 1;
  std::string haystack;     // the essay; repeated where a length needs more. "": tasks that need one are left out
  std::vector<RulerQa> qa;  // for the task qa
  ChatFrame chat;
};

// niah_single_1 ... fwe, qa.
std::vector<std::string> ruler_task_names();
// Those of them that need a text as haystack.
std::vector<std::string> ruler_haystack_tasks();

// The tasks that have one question about a text.
std::vector<std::string> ruler_one_question_tasks();

// Samples "niah_single_1/2048/0" (several questions: "niah_single_1/2048/0/3" of that text), tagged with task and
// length, the question being what follows the made-up text. Throws Error(kUsage) for a length that has no room for a
// task's smallest text, or a task without what it needs, or a task of one question that was asked for where several are
// wanted.
std::vector<Sample> ruler_samples(const Model& model, const RulerOptions& options);

struct RulerData {
  std::vector<Sample> samples;       // "qa_1/0", of a second file of a task "qa_1/2/0"; tagged with their task
  std::vector<std::string> skipped;  // as in JsonLines
};

// Samples of JSONL files made by RULER itself: input, outputs, and answer_prefix where there is one. The task is that
// of the file's name or, as RULER names its folders, of the folder that it is in; where neither says one, it is the one
// of `tasks`. Files of other tasks than these are left out; of all tasks where there are none. A single task of `tasks`
// is also what its samples are called by, where names say more ("qa" instead of "qa_1"). Inputs should be made with the
// template "base", as `chat` goes around them. Throws Error(kInput) "FILE:LINE: ..." at a line that cannot be used,
// unless it is skipped. The files' texts go one by one, as samples are made of them.
RulerData ruler_data(std::vector<DataFile> files, const std::vector<std::string>& tasks, const ChatFrame& chat,
                     BadLine bad);

// string_match_all: the share of references that the answer has in it, and string_match_part: whether it has any;
// letters' case is ignored.
double string_match_all(std::string_view answer, const std::vector<std::string>& references);
double string_match_part(std::string_view answer, const std::vector<std::string>& references);

}  // namespace lacake::eval
