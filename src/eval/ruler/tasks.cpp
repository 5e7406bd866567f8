// RULER's templates (github.com/NVIDIA/RULER, Apache-2.0) are part of the protocol, word for word.

#include "eval/ruler/tasks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
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

RulerText niah(const Niah& task, const std::vector<std::string>& essay, PythonRandom& random, std::size_t size) {
  const std::string type = kind_text(task.value);
  const auto needle = [&](const std::string& key, const std::string& value) {
    return fmt::format("One of the special magic {} for {} is: {}.", type, key, value);
  };
  std::vector<std::string> keys, needles;
  std::vector<std::vector<std::string>> values(task.keys);
  for (std::size_t k = 0; k < task.keys; ++k) {
    keys.push_back(drawn(task.key, random));
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
    // Forty depths, evenly.
    parts = sentences(essay, size);
    for (const std::size_t depth : random.sample(40, needles.size())) {
      const double percent = std::nearbyint(100.0 * (double)depth / 39);
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

  std::vector<std::string> queries;
  for (const std::size_t k : random.sample(task.keys, task.queries)) {
    queries.push_back(keys[k]);
    text.answers.insert(text.answers.end(), values[k].begin(), values[k].end());
  }
  std::string query = queries.back();
  if (queries.size() > 1) {
    queries.pop_back();
    query = fmt::format("{}, and {}", fmt::join(queries, ", "), query);
  }
  const bool one = task.queries * task.values == 1;
  const std::string asked = one ? type.substr(0, type.size() - 1) : type;
  text.context = fmt::format(
      "{} special magic {} {} hidden within the following text. Make sure to memorize it. I will quiz you about the {} "
      "afterwards.\n{}",
      one ? "A" : "Some", asked, one ? "is" : "are", asked, fmt::join(all, task.hay == Hay::kEssay ? " " : "\n"));
  text.question = fmt::format("\nWhat {} special magic {} for {} mentioned in the provided text?",
                              one ? "is the" : "are all the", asked, query);
  text.prefix =
      fmt::format(" The special magic {} for {} mentioned in the provided text {}", asked, query, one ? "is" : "are");
  return text;
}

std::string letters(PythonRandom& random, char first, std::size_t n) {
  std::string text;
  for (std::size_t i = 0; i < n; ++i) text += (char)(first + (char)random.below(26));
  return text;
}

// One chain of five names in noise.
RulerText chain(PythonRandom& random, std::size_t size, std::size_t name_length) {
  constexpr std::size_t kHops = 4;
  RulerText text;
  std::set<std::string> taken;
  while (text.answers.size() < kHops + 1) {
    std::string name = letters(random, 'A', name_length);
    if (taken.insert(name).second) text.answers.push_back(std::move(name));
  }
  const std::string value = std::to_string(random.randint(10000, 99998));
  std::vector<std::string> links = {fmt::format("VAR {} = {}", text.answers[0], value)};
  for (std::size_t i = 0; i < kHops; ++i) {
    links.push_back(fmt::format("VAR {} = VAR {} ", text.answers[i + 1], text.answers[i]));
  }
  std::vector<std::size_t> places = random.sample(size, links.size());
  std::sort(places.begin(), places.end());
  std::vector<std::string> all;
  for (std::size_t i = 0, next = 0; i < size; ++i) {
    if (next < places.size() && places[next] == i) all.push_back(links[next++]);
    all.emplace_back(kNoise);
  }
  text.context =
      fmt::format("Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{}",
                  fmt::join(all, "\n"));
  text.question =
      fmt::format("\nQuestion: Find all variables that are assigned the value {} in the text above.", value);
  text.prefix = fmt::format(
      " Answer: According to the chain(s) of variable assignment in the text above, {} variables are assigned the "
      "value "
      "{}, they are: ",
      kHops + 1, value);
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
  std::vector<std::string> list;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i < kCommon) text.answers.push_back(words[i]);
    list.insert(list.end(), i < kCommon ? common_times : other_times, words[i]);
  }
  random.shuffle(list);
  text.context =
      "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that "
      "appear most often.\n";
  for (std::size_t i = 0; i < list.size(); ++i)
    text.context += fmt::format("{}{}. {}", i == 0 ? "" : " ", i + 1, list[i]);
  text.question = "\nQuestion: What are the 10 most common words in the above list?";
  text.prefix = " Answer: The top 10 words that appear most often in the list are:";
  return text;
}

// A solved list of a few words, then the list.
RulerText common_words(PythonRandom& random, std::size_t size, std::size_t length) {
  const bool easy = length < 4096;
  const RulerText example = easy ? word_list(random, 20, 3, 1) : word_list(random, 40, 10, 3);
  RulerText text = easy ? word_list(random, size, 6, 1) : word_list(random, size, 30, 3);
  std::string solved = example.context + example.question + example.prefix;
  for (std::size_t i = 0; i < example.answers.size(); ++i) solved += fmt::format(" {}. {}", i + 1, example.answers[i]);
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
          .question =
              "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the three "
              "most frequently appeared words in the above coded text?",
          .prefix = " Answer: According to the coded text above, the three most frequently appeared words are:",
          .answers = {vocabulary[1], vocabulary[2], vocabulary[3]}};
}

RulerText documents(const RulerQa& qa, std::size_t asked, PythonRandom& random, std::size_t size) {
  const RulerQa::Question& question = qa.questions[asked % qa.questions.size()];
  std::vector<std::size_t> chosen = question.documents;
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
  RulerText text{.answers = question.answers};
  text.context =
      "Answer the question based on the given documents. Only give me the answer and do not output any other "
      "words.\n\nThe "
      "following are given documents.\n\n";
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    text.context += fmt::format("{}Document {}:\n{}", i == 0 ? "" : "\n\n", i + 1, qa.documents[chosen[i]]);
  }
  text.question = fmt::format(
      "\n\nAnswer the question based on the given documents. Only give me the answer and do not output any other "
      "words.\n\nQuestion: {}",
      question.text);
  text.prefix = " Answer:";
  return text;
}

}  // namespace

std::string vt_example(PythonRandom& random, std::size_t size) {
  const RulerText text = chain(random, size, 3);
  return fmt::format("{}{}{} {}\n", text.context, text.question, text.prefix, fmt::join(text.answers, " "));
}

std::vector<RulerTask> ruler_tasks(const RulerMaterial& material) {
  const auto essay = std::make_shared<const std::vector<std::string>>(split_words(material.haystack));
  std::vector<RulerTask> tasks;
  for (const Niah& niah_task : kNiah) {
    RulerTask task{
        .name = niah_task.name, .most_new = 128, .smallest = niah_task.hay == Hay::kEssay ? 50U : 5U, .make = {}};
    if (niah_task.hay != Hay::kEssay || !essay->empty()) {
      task.make = [niah_task, essay](PythonRandom& random, std::size_t size) {
        return niah(niah_task, *essay, random, size);
      };
    }
    tasks.push_back(std::move(task));
  }
  const std::size_t length = material.length;
  tasks.push_back({"vt", 30, 5, [example = material.vt_example_size](PythonRandom& random, std::size_t size) {
                     const std::string solved = vt_example(random, example);
                     RulerText text = chain(random, size, 5);
                     text.context = solved + "\n" + text.context;
                     return text;
                   }});
  tasks.push_back({"cwe", 120, 10,
                   [length](PythonRandom& random, std::size_t size) { return common_words(random, size, length); }});
  tasks.push_back({"fwe", 50, 100,
                   [length](PythonRandom& random, std::size_t size) { return frequent_words(random, size, length); }});
  RulerTask qa{.name = "qa", .most_new = 32, .smallest = 1, .make = {}, .any_answer = true};
  if (material.qa != nullptr) {
    const RulerQa& questions = *material.qa;
    qa.smallest = questions.questions[material.first_question % questions.questions.size()].documents.size();
    qa.make = [&questions, asked = material.first_question](PythonRandom& random, std::size_t size) {
      return documents(questions, asked, random, size);
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
