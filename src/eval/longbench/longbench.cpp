#include "eval/longbench/longbench.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "eval/longbench/text_scores.h"
#include "lacake/error.h"
#include "text/utf8.h"

namespace lacake::eval {
namespace {

constexpr std::size_t kSlack = 16;  // tokens: timed steps after an answer, and what tokenizing anew may add

// A line that cannot be used; becomes "FILE:LINE: key: expected, found".
struct BadField {
  std::string key, expected, found;
};

// What stands under a key instead of what was expected.
std::string found_instead(const nlohmann::json& line, const char* key) {
  const auto found = line.find(key);
  if (found == line.end()) return "none";
  if (found->is_array() && found->empty()) return "an empty list";
  if (found->is_array()) return "a list with something else in it";
  return found->type_name();
}

std::string text_field(const nlohmann::json& line, const char* key, bool needed) {
  const auto found = line.find(key);
  if (found == line.end() && !needed) return "";
  if (found == line.end() || !found->is_string()) throw BadField{key, "a text", found_instead(line, key)};
  return *found;
}

std::vector<std::string> texts_field(const nlohmann::json& line, const char* key, bool needed) {
  const auto found = line.find(key);
  if (!needed && (found == line.end() || found->is_null())) return {};
  const bool texts = found != line.end() && found->is_array() && !(needed && found->empty()) &&
                     std::all_of(found->begin(), found->end(), [](const auto& item) { return item.is_string(); });
  if (!texts) {
    const char* expected = needed ? "a list of texts, one or more" : "a list of texts";
    throw BadField{key, expected, found_instead(line, key)};
  }
  return *found;
}

std::string replaced(std::string_view text, std::string_view what, std::string_view with) {
  const std::size_t at = text.find(what);
  if (at == std::string_view::npos) return std::string(text);
  return std::string(text.substr(0, at)) + std::string(with) + std::string(text.substr(at + what.size()));
}

std::string_view first_line(std::string_view answer) {
  answer.remove_prefix(std::min(answer.find_first_not_of('\n'), answer.size()));
  return answer.substr(0, answer.find('\n'));
}

class Reader {
 public:
  Reader(const Model& model, const LongBenchOptions& options) : model_(model), options_(options) {
    if (options.chat) chat_ = ChatFrame(model);
    chat_tokens_ = chat_.n_tokens(model);
  }

  void read(const DataFile& file, LongBenchSamples& into) {
    const JsonLines lines = parse_json_lines(file.path, file.text, options_.bad_line);
    into.skipped.insert(into.skipped.end(), lines.skipped.begin(), lines.skipped.end());
    for (const JsonLines::Line& line : lines.lines) {
      try {
        add(line, into.samples);
      } catch (const BadField& bad) {
        const Error error({.subject = fmt::format("{}:{}: {}", file.path, line.number, bad.key),
                           .expected = bad.expected,
                           .found = bad.found});
        if (options_.bad_line == BadLine::kStop) throw error;
        into.skipped.emplace_back(error.what());
      }
    }
  }

 private:
  void add(const JsonLines::Line& line, std::vector<Sample>& samples) {
    std::string name = text_field(line.value, "dataset", true);
    const bool by_length = name.ends_with("_e");
    if (by_length) name.resize(name.size() - 2);
    const auto& tasks = longbench_tasks();
    const auto task = std::find_if(tasks.begin(), tasks.end(), [&](const auto& t) { return t.name == name; });
    if (task == tasks.end()) {
      throw BadField{"dataset", fmt::format("{}", fmt::join(longbench_task_names(), ", ")),
                     fmt::format("\"{}\"", name)};
    }
    if (!options_.tasks.empty() && std::ranges::find(options_.tasks, name) == options_.tasks.end()) return;
    if (options_.limit > 0 && counts_[name] == options_.limit) return;

    Sample sample = prompt(*task, text_field(line.value, "context", true), text_field(line.value, "input", false));
    sample.id = fmt::format(
        "{}/{}", name, line.value.contains("_id") ? text_field(line.value, "_id", true) : std::to_string(line.number));
    if (!ids_.insert(sample.id).second) throw BadField{"_id", "another for each", sample.id + " again"};
    sample.tags = {{"task", name}};
    if (by_length) sample.tags["words"] = length_class(line.value);
    sample.references = texts_field(line.value, "answers", true);
    for (const std::string& reference : sample.references) {
      if (task->numbered != nullptr && number_after(reference, task->numbered).empty()) {
        throw BadField{"answers", fmt::format("\"{}1\" or the like", task->numbered), fmt::format("\"{}\"", reference)};
      }
    }
    sample.score = [task = &*task, references = sample.references,
                    classes = texts_field(line.value, "all_classes", false)](std::string_view answer) {
      double best = 0;
      if (task->first_line) answer = first_line(answer);
      for (const std::string& reference : references) best = std::max(best, task->score(answer, reference, classes));
      return best;
    };
    ++counts_[name];
    samples.push_back(std::move(sample));
  }

  Sample prompt(const LongBenchTask& task, const std::string& context, const std::string& input) const {
    const std::size_t at = task.prompt.find("{context}");
    std::string begin = std::string(task.prompt.substr(0, at)) + context;
    std::string question = replaced(task.prompt.substr(at + std::string_view("{context}").size()), "{input}", input);
    const bool chat = task.chat && !chat_.empty();
    const std::size_t taken = task.most_new + (chat ? chat_tokens_ : 0) + kSlack;
    const auto length = (std::size_t)model_.facts().training_length;
    const std::size_t room = length > taken ? length - taken : 0;
    const std::size_t most = options_.max_length > 0 ? std::min(options_.max_length, room) : room;
    if (most < 2) {
      throw Error({.kind = Error::Kind::kCapacity,
                   .subject = std::string(task.name),
                   .expected = fmt::format("a model of more than {} tokens", taken + 2),
                   .found = fmt::format("one of {}", length)});
    }
    Halves halves = cut_middle(model_, begin + question, question.size(), most);
    Sample sample{.id = "",
                  .context = std::move(halves.context),
                  .question = std::move(halves.question),
                  .most_new = task.most_new};
    sample.one_line = task.first_line;
    if (chat) chat_.put_around(sample);
    return sample;
  }

  static std::string length_class(const nlohmann::json& line) {
    const auto found = line.find("length");
    if (found == line.end() || !found->is_number_integer()) {
      throw BadField{"length", "a number of words", found_instead(line, "length")};
    }
    const auto words = found->get<std::int64_t>();
    return words < 4000 ? "0-4k" : words < 8000 ? "4-8k" : "8k+";
  }

  const Model& model_;
  const LongBenchOptions& options_;
  ChatFrame chat_;
  std::size_t chat_tokens_ = 0;
  std::map<std::string, std::size_t> counts_;
  std::set<std::string> ids_;
};

}  // namespace

Halves cut_middle(const Model& model, std::string_view prompt, std::size_t question_bytes, std::size_t most) {
  const std::string_view question = prompt.substr(prompt.size() - question_bytes);
  const std::vector<Token> tokens = model.tokenize(PromptText::as_letters(std::string(prompt)), true);
  if (tokens.size() <= most) {
    return {std::string(prompt.substr(0, prompt.size() - question_bytes)), std::string(question)};
  }
  const std::size_t half = most / 2;
  std::string head, tail;
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::string piece = model.piece(tokens[i]);
    bytes += piece.size();
    if (i < half) head += piece;
    if (i >= tokens.size() - half) tail += piece;
  }
  // Some tokenizers put a space in front of a text; others lose what they cannot tell apart, then their own text
  // counts.
  const bool faithful = bytes == prompt.size() || bytes == prompt.size() + 1;
  if (faithful) {
    head = prompt.substr(0, head.size() - std::min(head.size(), bytes - prompt.size()));
    tail = prompt.substr(prompt.size() - std::min(tail.size(), prompt.size()));
  }
  head.resize(invalid_utf8_offset(head).value_or(head.size()));
  tail.erase(0, (std::size_t)(
                    std::find_if(tail.begin(), tail.end(), [](char c) { return ((unsigned char)c & 0xc0) != 0x80; }) -
                    tail.begin()));
  if (!tail.ends_with(question)) return {head, tail};
  return {head + tail.substr(0, tail.size() - question.size()), std::string(question)};
}

LongBenchSamples longbench_samples(const Model& model, std::vector<DataFile> files, const LongBenchOptions& options) {
  LongBenchSamples result;
  Reader reader(model, options);
  for (DataFile& file : files) {
    reader.read(file, result);
    file.text = std::string();
  }
  return result;
}

}  // namespace lacake::eval
