#include "eval/ruler/ruler.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>
#include <optional>

#include "eval/python_random.h"
#include "eval/python_text.h"
#include "eval/ruler/tasks.h"
#include "lacake/error.h"

namespace lacake::eval {
namespace {

std::size_t n_found(std::string_view answer, const std::vector<std::string>& references) {
  const std::u32string text = lower(characters(answer));
  return (std::size_t)std::count_if(references.begin(), references.end(), [&](const std::string& reference) {
    return text.find(lower(characters(reference))) != std::u32string::npos;
  });
}

// Samples of one task are alike whatever else is asked for.
std::uint64_t mixed(std::string_view task, std::size_t length, std::uint64_t seed) {
  std::uint64_t hash = 14695981039346656037U;  // FNV-1a
  for (const char c : task) hash = (hash ^ (unsigned char)c) * 1099511628211U;
  return (hash ^ (length * 0x9e3779b97f4a7c15U)) + seed;
}

// The largest size from `smallest` on that fits, if sizes that fit are those up to it; none where even that does not.
template <typename Fits>
std::optional<std::size_t> largest(std::size_t smallest, Fits fits) {
  if (!fits(smallest)) return {};
  std::size_t low = smallest, high = smallest * 2;
  while (fits(high)) low = high, high *= 2;
  while (high - low > 1) {
    const std::size_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

Sample sample_of(const RulerTask& task, const std::string& context, RulerQuestion question, const ChatFrame& chat) {
  Sample sample{.id = "",
                .context = context,
                .question = std::move(question.text),
                .most_new = task.most_new,
                .references = std::move(question.answers)};
  chat.put_around(sample, question.prefix);
  sample.score = [part = task.any_answer, expected = sample.references](std::string_view answer) {
    return part ? string_match_part(answer, expected) : string_match_all(answer, expected);
  };
  return sample;
}

class Maker {
 public:
  Maker(const Model& model, const RulerOptions& options) : model_(model), options_(options) {}

  std::vector<Sample> all() {
    for (const std::size_t length : options_.lengths) {
      material_ = {.length = length, .haystack = options_.haystack, .questions = options_.questions};
      if (const auto size = largest(5, [&](std::size_t n) {
            PythonRandom random(0);
            return model_.tokenize(vt_example(random, n), false, true).size() <= kExampleTokens;
          })) {
        material_.vt_example_size = *size;
      }
      for (const RulerTask& task : ruler_tasks(material_)) {
        if (task.name != "qa" && wanted(task)) add(task, task.name, length);
      }
      if (asked_for("qa") && options_.qa.empty()) {
        throw Error({.kind = Error::Kind::kUsage,
                     .subject = "tasks qa",
                     .expected = "a file of questions (`qa` FILE)",
                     .found = "none"});
      }
      for (const RulerQa& qa : options_.qa) {
        material_.qa = &qa;
        const RulerTask task = ruler_tasks(material_).back();
        if (wanted(task)) add(task, qa.task, length);
      }
    }
    return std::move(samples_);
  }

 private:
  bool asked_for(const std::string& name) const {
    return std::ranges::find(options_.tasks, name) != options_.tasks.end();
  }

  bool wanted(const RulerTask& task) const {
    if (!options_.tasks.empty() && !asked_for(task.name)) return false;
    if (task.one_question && options_.questions > 1) {
      if (options_.tasks.empty()) return false;
      throw Error({.kind = Error::Kind::kUsage,
                   .subject = "tasks " + task.name,
                   .expected = fmt::format("tasks of which {} things can be asked", options_.questions),
                   .found = "one question about a text"});
    }
    if (task.make) return true;
    if (options_.tasks.empty()) return false;
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "tasks " + task.name,
                 .expected = "a text as haystack (`files` FILE)",
                 .found = "none"});
  }

  // A sample for each question.
  std::vector<Sample> made(const RulerTask& task, std::uint64_t seed, std::size_t size) const {
    PythonRandom random(seed);
    RulerText text = task.make(random, size);
    std::vector<Sample> samples;
    for (RulerQuestion& question : text.questions) {
      samples.push_back(sample_of(task, text.context, std::move(question), options_.chat));
    }
    return samples;
  }

  bool fit(const std::vector<Sample>& samples, std::size_t length) const {
    return std::ranges::all_of(samples, [&](const Sample& sample) {
      return model_.tokenize(prompt_text(sample), true).size() + sample.most_new <= length;
    });
  }

  void add(const RulerTask& task, const std::string& name, std::size_t length) {
    const std::uint64_t probe = mixed(name, length, ~0U);
    const auto most = largest(task.smallest, [&](std::size_t size) { return fit(made(task, probe, size), length); });
    for (std::size_t i = 0; i < options_.samples; ++i) {
      const std::uint64_t seed = options_.seed + i;
      RulerTask own = task;
      if (task.name == "qa") {
        own = ruler_tasks({.length = length,
                           .haystack = "",
                           .qa = material_.qa,
                           .first_question = seed * options_.questions,
                           .questions = options_.questions})
                  .back();
      }
      std::size_t size = std::max(most.value_or(0), own.smallest);
      std::vector<Sample> made_of_it = made(own, mixed(name, length, seed), size);
      while (!fit(made_of_it, length)) {
        if (size == own.smallest) {
          throw Error({.kind = Error::Kind::kUsage,
                       .subject = "lengths",
                       .expected = fmt::format("more than {} tokens for {}", length, name),
                       .found = fmt::format("{}", length)});
        }
        size = std::max(own.smallest, size - std::max<std::size_t>(size / 50, 1));
        made_of_it = made(own, mixed(name, length, seed), size);
      }
      const std::string id = fmt::format("{}/{}/{}", name, length, seed);
      for (std::size_t q = 0; q < made_of_it.size(); ++q) {
        Sample& sample = made_of_it[q];
        sample.id = id;
        if (options_.questions > 1) {
          sample.id = fmt::format("{}/{}", id, q);
          sample.text = id;
          sample.number = q + 1;
        }
        sample.tags = {{"task", name}, {"length", length}};
        samples_.push_back(std::move(sample));
      }
    }
  }

  const Model& model_;
  const RulerOptions& options_;
  RulerMaterial material_{};
  std::vector<Sample> samples_;
};

// RULER's own files.
class DataReader {
 public:
  DataReader(const std::vector<std::string>& tasks, const ChatFrame& chat, BadLine bad)
      : asked_(tasks), chat_(chat), bad_(bad) {}

  void read(const DataFile& file) {
    const std::string name = name_of(file.path);
    if (name.empty()) return;
    const RulerTask& task = *find(name);
    // Records are known by their samples' ids, and files of one task count their lines alike.
    const std::size_t number = ++n_files_[name];
    const std::string before = number == 1 ? name : fmt::format("{}/{}", name, number);
    JsonLines lines = parse_json_lines(file.path, file.text, bad_);
    std::ranges::move(lines.skipped, std::back_inserter(result_.skipped));
    for (const JsonLines::Line& line : lines.lines) {
      const nlohmann::json& fields = line.value;
      const auto is_text = [&](const char* key) { return fields.contains(key) && fields[key].is_string(); };
      const bool answers = fields.contains("outputs") && fields["outputs"].is_array() && !fields["outputs"].empty() &&
                           std::ranges::all_of(fields["outputs"], [](const auto& item) { return item.is_string(); });
      const std::string input = is_text("input") ? fields["input"].get<std::string>() : "";
      const std::size_t at = ruler_question(name, input);
      Error::Fields wrong;
      if (!is_text("input")) {
        wrong = {.subject = "input", .expected = "a text", .found = "none"};
      } else if (!answers) {
        wrong = {.subject = "outputs", .expected = "a list of texts, one or more", .found = "none"};
      } else if (at == std::string::npos) {
        wrong = {
            .subject = "input", .expected = fmt::format("the question of {} at its end", name), .found = "another end"};
      }
      if (!wrong.subject.empty()) {
        wrong.subject = fmt::format("{}:{}: {}", file.path, line.number, wrong.subject);
        const Error error(wrong);
        if (bad_ == BadLine::kStop) throw error;
        result_.skipped.emplace_back(error.what());
        continue;
      }
      RulerQuestion question{.text = input.substr(at),
                             .prefix = is_text("answer_prefix") ? fields["answer_prefix"].get<std::string>() : "",
                             .answers = fields["outputs"]};
      Sample sample = sample_of(task, input.substr(0, at), std::move(question), chat_);
      sample.id = fmt::format("{}/{}", before, line.number - 1);
      sample.tags = {{"task", name}};
      result_.samples.push_back(std::move(sample));
    }
  }

  RulerData take() { return std::move(result_); }

 private:
  using Tasks = std::vector<RulerTask>;

  // "qa_1" is a task's name too. The end: none.
  Tasks::const_iterator find(const std::string& name) const {
    return std::ranges::find_if(known_, [&](const RulerTask& task) {
      return name == task.name || (task.name == "qa" && name.starts_with("qa_"));
    });
  }

  // What a file's samples are called by; "": it is of no task that was asked for.
  std::string name_of(const std::string& path) const {
    const std::filesystem::path file(path);
    std::string own = file.stem().string();
    if (find(own) == known_.end()) own = std::filesystem::absolute(file).parent_path().filename().string();
    const auto task = find(own);
    if (task == known_.end()) {
      if (asked_.size() == 1) return asked_[0];
      throw Error({.subject = path,
                   .expected = fmt::format("a file or folder named after its task ({}), or one of `tasks`",
                                           fmt::join(ruler_task_names(), ", ")),
                   .found = "another name"});
    }
    if (asked_.empty()) return own;
    if (std::ranges::find(asked_, task->name) == asked_.end()) return "";
    return asked_.size() == 1 ? asked_[0] : own;
  }

  const std::vector<std::string>& asked_;
  const ChatFrame& chat_;
  const BadLine bad_;
  const Tasks known_ = ruler_tasks({.length = 0, .haystack = ""});
  std::map<std::string, std::size_t> n_files_;
  RulerData result_;
};

}  // namespace

std::vector<std::string> ruler_task_names() {
  std::vector<std::string> names;
  for (const RulerTask& task : ruler_tasks({.length = 0, .haystack = ""})) names.push_back(task.name);
  return names;
}

std::vector<std::string> ruler_haystack_tasks() {
  std::vector<std::string> names;
  for (const RulerTask& task : ruler_tasks({.length = 0, .haystack = ""})) {
    if (!task.make && task.name != "qa") names.push_back(task.name);
  }
  return names;
}

std::vector<std::string> ruler_one_question_tasks() {
  std::vector<std::string> names;
  for (const RulerTask& task : ruler_tasks({.length = 0, .haystack = ""})) {
    if (task.one_question) names.push_back(task.name);
  }
  return names;
}

std::vector<Sample> ruler_samples(const Model& model, const RulerOptions& options) {
  return Maker(model, options).all();
}

RulerData ruler_data(std::vector<DataFile> files, const std::vector<std::string>& tasks, const ChatFrame& chat,
                     BadLine bad) {
  DataReader reader(tasks, chat, bad);
  for (DataFile& file : files) {
    reader.read(file);
    file.text = std::string();
  }
  return reader.take();
}

double string_match_all(std::string_view answer, const std::vector<std::string>& references) {
  return (double)n_found(answer, references) / (double)references.size();
}

double string_match_part(std::string_view answer, const std::vector<std::string>& references) {
  return n_found(answer, references) > 0 ? 1 : 0;
}

}  // namespace lacake::eval
