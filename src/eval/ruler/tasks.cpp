// RULER's templates (github.com/NVIDIA/RULER, Apache-2.0) are part of the protocol, word for word.

#include "eval/ruler/tasks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <numbers>
#include <set>

#include "eval/ruler/words.h"

namespace lacake::eval {
namespace {

constexpr std::string_view kNoise =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

enum class Hay { kRepeat, kEssay, kNeedles };
enum class Kind { kWords, kNumbers, kUuids };

struct Niah {
  const char* name;
  Hay hay;
  Kind key, value;
  std::size_t keys, values, queries;
};
constexpr std::array kNiah = {
    Niah{"niah_single_1", Hay::kRepeat, Kind::kWords, Kind::kNumbers, 1, 1, 1},
    Niah{"niah_single_2", Hay::kEssay, Kind::kWords, Kind::kNumbers, 1, 1, 1},
    Niah{"niah_single_3", Hay::kEssay, Kind::kWords, Kind::kUuids, 1, 1, 1},
    Niah{"niah_multikey_1", Hay::kEssay, Kind::kWords, Kind::kNumbers, 4, 1, 1},
    Niah{"niah_multikey_2", Hay::kNeedles, Kind::kWords, Kind::kNumbers, 1, 1, 1},
    Niah{"niah_multikey_3", Hay::kNeedles, Kind::kUuids, Kind::kUuids, 1, 1, 1},
    Niah{"niah_multivalue", Hay::kEssay, Kind::kWords, Kind::kNumbers, 1, 4, 1},
    Niah{"niah_multiquery", Hay::kEssay, Kind::kWords, Kind::kNumbers, 4, 1, 4},
};

std::string pair_of_words(PythonRandom& random) {
  return adjectives()[random.below(adjectives().size())] + "-" + nouns()[random.below(nouns().size())];
}

std::string drawn(Kind kind, PythonRandom& random) {
  if (kind == Kind::kWords) return pair_of_words(random);
  if (kind == Kind::kNumbers) return std::to_string(random.randint(1000000, 9999999));
  std::array<std::uint32_t, 4> bits{};
  for (std::uint32_t& b : bits) b = random.bits32();
  bits[1] = (bits[1] & 0xffff0fffU) | 0x4000U;      // version 4
  bits[2] = (bits[2] & 0x3fffffffU) | 0x80000000U;  // variant of RFC 4122
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:04x}{:08x}", bits[0], bits[1] >> 16, bits[1] & 0xffff,
                     bits[2] >> 16, bits[2] & 0xffff, bits[3]);
}

std::string kind_text(Kind kind) {
  return kind == Kind::kWords ? "words" : kind == Kind::kNumbers ? "numbers" : "uuids";
}

// A text that is an example: with its question, up to the answer.
std::string solved_text(const RulerText& text) {
  return text.context + text.questions.front().text + text.questions.front().prefix;
}

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> result;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t begin = text.find_first_not_of(" \t\r\n\f\v", i);
    if (begin == std::string_view::npos) break;
    i = std::min(text.find_first_of(" \t\r\n\f\v", begin), text.size());
    result.emplace_back(text.substr(begin, i - begin));
  }
  return result;
}

// `size` words, from the beginning again where there are no more, as sentences.
std::vector<std::string> sentences(const std::vector<std::string>& words, std::size_t size) {
  std::vector<std::string> result;
  bool ended = true;
  for (std::size_t i = 0; i < size; ++i) {
    const std::string& word = words[i % words.size()];
    if (ended) {
      result.push_back(word);
    } else {
      result.back() += " " + word;
    }
    const std::size_t last = word.find_last_not_of("\"')]");
    ended = last != std::string::npos && std::string_view(".!?").find(word[last]) != std::string_view::npos;
  }
  return result;
}

// So many keys that each of several questions asks about others.
std::size_t n_keys(const Niah& task, std::size_t questions) {
  return questions == 1 ? task.keys : std::max(task.keys, task.queries + questions - 1);
}

RulerText niah(const Niah& task, const std::vector<std::string>& essay, PythonRandom& random, std::size_t size,
               std::size_t questions) {
  const std::string type = kind_text(task.value);
  const auto needle = [&](const std::string& key, const std::string& value) {
    return fmt::format("One of the special magic {} for {} is: {}.", type, key, value);
  };
  std::vector<std::string> keys, needles;
  std::vector<std::vector<std::string>> values(n_keys(task, questions));
  for (std::size_t k = 0; k < values.size(); ++k) {
    std::string key = drawn(task.key, random);
    while (questions > 1 && std::ranges::find(keys, key) != keys.end()) key = drawn(task.key, random);
    keys.push_back(std::move(key));
    for (std::size_t v = 0; v < task.values; ++v) {
      values[k].push_back(drawn(task.value, random));
      needles.push_back(needle(keys[k], values[k][v]));
    }
  }
  random.shuffle(needles);

  RulerText text;
  std::vector<std::string> parts;
  std::vector<std::size_t> places;  // of the needles, ascending: before which part
  if (task.hay == Hay::kEssay) {
    // Forty depths, evenly; more for more needles.
    parts = sentences(essay, size);
    const std::size_t n_depths = std::max<std::size_t>(40, needles.size());
    for (const std::size_t depth : random.sample(n_depths, needles.size())) {
      const double percent = std::nearbyint(100.0 * (double)depth / (double)(n_depths - 1));
      places.push_back((std::size_t)((double)parts.size() * (percent / 100)));
    }
  } else {
    for (std::size_t i = 0; i < size; ++i) {
      parts.push_back(task.hay == Hay::kRepeat ? std::string(kNoise)
                                               : needle(drawn(task.key, random), drawn(task.value, random)));
    }
    places = random.sample(size, needles.size());
  }
  std::sort(places.begin(), places.end());
  std::vector<std::string> all;
  for (std::size_t i = 0, next = 0; i <= parts.size(); ++i) {
    while (next < places.size() && places[next] == i) all.push_back(needles[next++]);
    if (i < parts.size()) all.push_back(std::move(parts[i]));
  }

  const auto asked = [&](bool one) { return one ? type.substr(0, type.size() - 1) : type; };
  const bool one = task.queries * task.values == 1, one_in_all = one && questions == 1;
  text.context = fmt::format(
      "{} special magic {} {} hidden within the following text. Make sure to memorize it. I will quiz you about the {} "
      "afterwards.\n{}",
      one_in_all ? "A" : "Some", asked(one_in_all), one_in_all ? "is" : "are", asked(one_in_all),
      fmt::join(all, task.hay == Hay::kEssay ? " " : "\n"));
  const std::vector<std::size_t> order = random.sample(keys.size(), task.queries + questions - 1);
  for (std::size_t q = 0; q < questions; ++q) {
    RulerQuestion question;
    std::vector<std::string> queries;
    for (std::size_t i = q; i < q + task.queries; ++i) {
      queries.push_back(keys[order[i]]);
      question.answers.insert(question.answers.end(), values[order[i]].begin(), values[order[i]].end());
    }
    std::string query = queries.back();
    if (queries.size() > 1) {
      queries.pop_back();
      query = fmt::format("{}, and {}", fmt::join(queries, ", "), query);
    }
    question.text = fmt::format("\nWhat {} special magic {} for {} mentioned in the provided text?",
                                one ? "is the" : "are all the", asked(one), query);
    question.prefix = fmt::format(" The special magic {} for {} mentioned in the provided text {}", asked(one), query,
                                  one ? "is" : "are");
    text.questions.push_back(std::move(question));
  }
  return text;
}

std::string letters(PythonRandom& random, char first, std::size_t n) {
  std::string text;
  for (std::size_t i = 0; i < n; ++i) text += (char)(first + (char)random.below(26));
  return text;
}

// Chains of five names in noise, each asked about.
RulerText chains(PythonRandom& random, std::size_t size, std::size_t name_length, std::size_t n_chains) {
  constexpr std::size_t kHops = 4;
  RulerText text;
  std::set<std::string> taken;
  std::multimap<std::size_t, std::string> links;  // by the sentence that they stand before
  for (std::size_t c = 0; c < n_chains; ++c) {
    RulerQuestion question;
    while (question.answers.size() < kHops + 1) {
      std::string name = letters(random, 'A', name_length);
      if (taken.insert(name).second) question.answers.push_back(std::move(name));
    }
    std::string value;
    do value = std::to_string(random.randint(10000, 99998));
    while (!taken.insert(value).second);
    std::vector<std::size_t> places = random.sample(size, kHops + 1);
    std::sort(places.begin(), places.end());
    links.emplace(places[0], fmt::format("VAR {} = {}", question.answers[0], value));
    for (std::size_t i = 0; i < kHops; ++i) {
      links.emplace(places[i + 1], fmt::format("VAR {} = VAR {} ", question.answers[i + 1], question.answers[i]));
    }
    question.text =
        fmt::format("\nQuestion: Find all variables that are assigned the value {} in the text above.", value);
    question.prefix = fmt::format(
        " Answer: According to the chain(s) of variable assignment in the text above, {} variables are assigned the "
        "value {}, they are: ",
        kHops + 1, value);
    text.questions.push_back(std::move(question));
  }
  std::vector<std::string> all;
  for (std::size_t i = 0; i < size; ++i) {
    for (auto [link, end] = links.equal_range(i); link != end; ++link) all.push_back(link->second);
    all.emplace_back(kNoise);
  }
  text.context =
      fmt::format("Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{}",
                  fmt::join(all, "\n"));
  return text;
}

RulerText word_list(PythonRandom& random, std::size_t size, std::size_t common_times, std::size_t other_times) {
  constexpr std::size_t kCommon = 10;
  static const std::vector<std::string> singles = [] {
    std::set<std::string> all(nouns().begin(), nouns().end());
    all.insert(adjectives().begin(), adjectives().end());
    return std::vector<std::string>(all.begin(), all.end());
  }();
  std::vector<std::string> words;
  if (size <= singles.size()) {
    for (const std::size_t i : random.sample(singles.size(), size)) words.push_back(singles[i]);
  } else {
    std::set<std::string> taken;
    while (words.size() < std::min(size, nouns().size() * adjectives().size() / 2)) {
      std::string pair = pair_of_words(random);
      if (taken.insert(pair).second) words.push_back(std::move(pair));
    }
  }
  RulerText text;
  RulerQuestion& question = text.questions.emplace_back();
  std::vector<std::string> list;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i < kCommon) question.answers.push_back(words[i]);
    list.insert(list.end(), i < kCommon ? common_times : other_times, words[i]);
  }
  random.shuffle(list);
  text.context =
      "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that "
      "appear most often.\n";
  for (std::size_t i = 0; i < list.size(); ++i)
    text.context += fmt::format("{}{}. {}", i == 0 ? "" : " ", i + 1, list[i]);
  question.text = "\nQuestion: What are the 10 most common words in the above list?";
  question.prefix = " Answer: The top 10 words that appear most often in the list are:";
  return text;
}

// A solved list of a few words, then the list.
RulerText common_words(PythonRandom& random, std::size_t size, std::size_t length) {
  const bool easy = length < 4096;
  const RulerText example = easy ? word_list(random, 20, 3, 1) : word_list(random, 40, 10, 3);
  RulerText text = easy ? word_list(random, size, 6, 1) : word_list(random, size, 30, 3);
  std::string solved = solved_text(example);
  const std::vector<std::string>& answers = example.questions.front().answers;
  for (std::size_t i = 0; i < answers.size(); ++i) solved += fmt::format(" {}. {}", i + 1, answers[i]);
  text.context = solved + "\n" + text.context;
  return text;
}

// Words of made-up letters, the k-th as often as a zeta distribution of 2 says; the most frequent is noise.
RulerText frequent_words(PythonRandom& random, std::size_t size, std::size_t length) {
  const std::size_t n_words = std::max<std::size_t>((length - std::min<std::size_t>(length, 50)) / 50, 4);
  std::set<std::string> taken;
  std::vector<std::string> vocabulary = {"..."};
  while (vocabulary.size() < n_words) {
    std::string word = letters(random, 'a', 6);
    if (taken.insert(word).second) vocabulary.push_back(std::move(word));
  }
  std::vector<std::string> list;
  for (std::size_t k = 1; k <= n_words; ++k) {
    const double share = 6 / (std::numbers::pi * std::numbers::pi) / (double)(k * k);
    list.insert(list.end(), (std::size_t)((double)size * share), vocabulary[k - 1]);
  }
  random.shuffle(list);
  return {.context = fmt::format("Read the following coded text and track the frequency of each coded word. Find the "
                                 "three most frequently appeared coded words. {}",
                                 fmt::join(list, " ")),
          .questions = {{.text = "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are "
                                 "the three most frequently appeared words in the above coded text?",
                         .prefix = " Answer: According to the coded text above, the three most frequently appeared "
                                   "words are:",
                         .answers = {vocabulary[1], vocabulary[2], vocabulary[3]}}}};
}

// Those that answer some of the questions.
std::vector<std::size_t> needed_documents(const RulerQa& qa, std::size_t first, std::size_t questions) {
  std::vector<std::size_t> needed;
  for (std::size_t q = 0; q < questions; ++q) {
    for (const std::size_t document : qa.questions[(first + q) % qa.questions.size()].documents) {
      if (std::ranges::find(needed, document) == needed.end()) needed.push_back(document);
    }
  }
  return needed;
}

RulerText documents(const RulerQa& qa, std::size_t first, PythonRandom& random, std::size_t size,
                    std::size_t questions) {
  const RulerQa::Question& question = qa.questions[first % qa.questions.size()];
  std::vector<std::size_t> chosen = needed_documents(qa, first, questions);
  std::set<std::size_t> taken(chosen.begin(), chosen.end());
  const auto add = [&](std::size_t document) {
    if (chosen.size() < size && taken.insert(document).second) chosen.push_back(document);
  };
  for (const std::size_t i : random.sample(question.nearby.size(), question.nearby.size())) add(question.nearby[i]);
  if (size < qa.documents.size() / 2) {
    while (chosen.size() < size) add(random.below(qa.documents.size()));
  } else {
    for (const std::size_t i : random.sample(qa.documents.size(), qa.documents.size())) add(i);
    for (std::size_t i = 0; chosen.size() < size; ++i) chosen.push_back(i % qa.documents.size());
  }
  random.shuffle(chosen);
  RulerText text;
  text.context =
      "Answer the question based on the given documents. Only give me the answer and do not output any other "
      "words.\n\nThe "
      "following are given documents.\n\n";
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    text.context += fmt::format("{}Document {}:\n{}", i == 0 ? "" : "\n\n", i + 1, qa.documents[chosen[i]]);
  }
  for (std::size_t q = 0; q < questions; ++q) {
    const RulerQa::Question& asked = qa.questions[(first + q) % qa.questions.size()];
    text.questions.push_back(
        {.text = fmt::format("\n\nAnswer the question based on the given documents. Only give me the answer and do not "
                             "output any other words.\n\nQuestion: {}",
                             asked.text),
         .prefix = " Answer:",
         .answers = asked.answers});
  }
  return text;
}

}  // namespace

std::string vt_example(PythonRandom& random, std::size_t size) {
  const RulerText text = chains(random, size, 3, 1);
  return fmt::format("{} {}\n", solved_text(text), fmt::join(text.questions.front().answers, " "));
}

std::vector<RulerTask> ruler_tasks(const RulerMaterial& material) {
  const auto essay = std::make_shared<const std::vector<std::string>>(split_words(material.haystack));
  std::vector<RulerTask> tasks;
  const std::size_t questions = material.questions;
  for (const Niah& niah_task : kNiah) {
    const std::size_t n_needles = n_keys(niah_task, questions) * niah_task.values;
    RulerTask task{.name = niah_task.name,
                   .most_new = 128,
                   .smallest = std::max<std::size_t>(niah_task.hay == Hay::kEssay ? 50U : 5U, n_needles),
                   .make = {}};
    if (niah_task.hay != Hay::kEssay || !essay->empty()) {
      task.make = [niah_task, essay, questions](PythonRandom& random, std::size_t size) {
        return niah(niah_task, *essay, random, size, questions);
      };
    }
    tasks.push_back(std::move(task));
  }
  const std::size_t length = material.length;
  tasks.push_back(
      {"vt", 30, 5, [example = material.vt_example_size, questions](PythonRandom& random, std::size_t size) {
         const std::string solved = vt_example(random, example);
         RulerText text = chains(random, size, 5, questions);
         text.context = solved + "\n" + text.context;
         return text;
       }});
  tasks.push_back({"cwe", 120, 10,
                   [length](PythonRandom& random, std::size_t size) { return common_words(random, size, length); }});
  tasks.back().one_question = true;
  tasks.push_back({"fwe", 50, 100,
                   [length](PythonRandom& random, std::size_t size) { return frequent_words(random, size, length); }});
  tasks.back().one_question = true;
  RulerTask qa{.name = "qa", .most_new = 32, .smallest = 1, .make = {}, .any_answer = true};
  if (material.qa != nullptr) {
    const RulerQa& about = *material.qa;
    const std::size_t first = material.first_question;
    qa.smallest = needed_documents(about, first, questions).size();
    qa.make = [&about, first, questions](PythonRandom& random, std::size_t size) {
      return documents(about, first, random, size, questions);
    };
  }
  tasks.push_back(std::move(qa));
  return tasks;
}

std::size_t ruler_question(const std::string& task, const std::string& input) {
  if (task.starts_with("qa")) return input.rfind("\n\nAnswer the question based on the given documents.");
  if (task.starts_with("niah")) return input.rfind("\nWhat ");
  return input.rfind("\nQuestion: ");
}

}  // namespace lacake::eval
