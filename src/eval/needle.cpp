#include "eval/needle.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>

#include "eval/python_random.h"
#include "eval/ruler/words.h"
#include "lacake/error.h"

namespace lacake::eval {
namespace {

constexpr std::array kPlaces = {"Oslo",   "Lima",   "Quito", "Dakar", "Hanoi",  "Turin", "Perth", "Minsk",
                                "Bergen", "Malaga", "Osaka", "Tunis", "Zagreb", "Accra", "Delhi", "Boston"};

bool is_word_byte(char c) { return std::isalnum((unsigned char)c) != 0; }

bool has_whole(std::string_view answer, std::string_view key) {
  for (std::size_t at = answer.find(key); at != std::string_view::npos; at = answer.find(key, at + 1)) {
    const std::size_t end = at + key.size();
    if ((at == 0 || !is_word_byte(answer[at - 1])) && (end == answer.size() || !is_word_byte(answer[end]))) return true;
  }
  return false;
}

// A share of the references that an answer has in it.
double found(std::string_view answer, const std::vector<std::string>& references, bool whole) {
  std::size_t n = 0;
  for (const std::string& reference : references) {
    n += whole ? has_whole(answer, reference) : answer.find(reference) != std::string_view::npos;
  }
  return (double)n / (double)references.size();
}

std::string number_of(PythonRandom& random, std::size_t n_digits) {
  constexpr std::size_t kAtOnce = 9;  // randint's range
  std::int64_t least = 1;
  for (std::size_t i = 1; i < std::min(n_digits, kAtOnce); ++i) least *= 10;
  std::string number = fmt::format("{}", random.randint(least, 10 * least - 1));
  while (number.size() < n_digits) number += (char)('0' + random.below(10));
  return number;
}

// Draws keys of one form.
class Keys {
 public:
  Keys(const Model& model, const KeyForm& form) : model_(model), form_(form) {
    if (form.kind == KeyForm::Kind::kDigits) n_digits_ = form.length;
    if (form.kind == KeyForm::Kind::kTokens) n_digits_ = digits_of_tokens();
  }

  std::string draw(PythonRandom& random) const {
    if (form_.kind == KeyForm::Kind::kDigits) return number_of(random, n_digits_);
    if (form_.kind == KeyForm::Kind::kWords) {
      std::string key;
      for (std::size_t i = 1; i < form_.length; ++i) key += adjectives()[random.below(adjectives().size())] + " ";
      return key + nouns()[random.below(nouns().size())];
    }
    // Digits that come in pairs or threes make no number of so many tokens every time.
    std::string key;
    do key = number_of(random, n_digits_);
    while (key_tokens(model_, key) != form_.length);
    return key;
  }

 private:
  static constexpr std::size_t kMostDigits = 18;
  static constexpr std::size_t kDraws = 64;

  // The most digits of which at least half of the numbers, as drawn, are so many tokens.
  std::size_t digits_of_tokens() const {
    for (std::size_t n = kMostDigits; n > 0; --n) {
      PythonRandom random(n);
      std::size_t right = 0;
      for (std::size_t i = 0; i < kDraws; ++i) right += key_tokens(model_, number_of(random, n)) == form_.length;
      if (2 * right >= kDraws) return n;
    }
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "key " + form_.text(),
                 .expected = "numbers of so many tokens in this model's vocabulary",
                 .found = fmt::format("none of up to {} digits", kMostDigits)});
  }

  const Model& model_;
  KeyForm form_;
  std::size_t n_digits_ = 0;
};

Sample sample(std::string id, std::string context, std::string question, std::size_t most_new, std::size_t length,
              int depth, std::vector<std::string> references, bool whole) {
  Sample s{.id = std::move(id),
           .context = std::move(context),
           .question = std::move(question),
           .most_new = most_new,
           .tags = {{"length", length}, {"depth", depth}},
           .references = std::move(references)};
  s.score = [expected = s.references, whole](std::string_view answer) { return found(answer, expected, whole); };
  return s;
}

std::string repeated(std::string_view text, std::size_t n_chars) {
  std::string result;
  while (result.size() < n_chars) result += text;
  result.resize(n_chars);
  return result;
}

// The end of the sentence at or before `at`; 0 where there is none.
std::size_t sentence_end(std::string_view text, std::size_t at) {
  while (at > 0 && !(std::string_view(".!?\n").find(text[at - 1]) != std::string_view::npos &&
                     (at == text.size() || text[at] == ' ' || text[at] == '\n'))) {
    --at;
  }
  return at;
}

// As many bytes of whole tokens as come to `n` tokens.
std::string first_tokens(const Model& model, std::span<const Token> tokens, std::size_t n) {
  std::string text;
  for (const Token token : tokens.first(n)) text += model.piece(token);
  return text;
}

struct Fact {
  std::string place, code;
  double depth;
};

std::string question_about(std::span<const Fact> asked) {
  if (asked.size() == 1) {
    return fmt::format(
        "Question: What is the access code of the {0} archive?\nAnswer: The access code of the {0} archive is",
        asked[0].place);
  }
  std::string places;
  for (std::size_t k = 0; k < asked.size(); ++k) {
    places += (k == 0 ? "" : k + 1 == asked.size() ? " and " : ", ") + asked[k].place;
  }
  return fmt::format(
      "Question: What are the access codes of the {0} archives?\nAnswer: The access codes of the {0} archives, in this "
      "order, are",
      places);
}

// A haystack with its facts in it.
struct Planted {
  std::vector<Fact> facts;
  std::string context;
};

// Facts of places from a random one on, each behind the sentence that ends at its share of the haystack (`depths`).
Planted planted(std::string_view haystack, std::span<const double> depths, const Keys& keys, PythonRandom& random) {
  const auto first_place = (std::size_t)random.randint(0, (std::int64_t)kPlaces.size() - 1);
  Planted all;
  std::size_t from = 0;
  for (std::size_t k = 0; k < depths.size(); ++k) {
    const Fact& fact =
        all.facts.emplace_back(Fact{kPlaces[(first_place + k) % kPlaces.size()], keys.draw(random), depths[k]});
    const std::size_t end = std::max(from, sentence_end(haystack, (std::size_t)(depths[k] * (double)haystack.size())));
    all.context += haystack.substr(from, end - from);
    all.context += fmt::format(" The access code of the {} archive is {}. ", fact.place, fact.code);
    from = end;
  }
  all.context += std::string(haystack.substr(from)) + "\n\n";
  return all;
}

// Where facts stand: spread over all of the haystack where each is asked for by itself, else from `depth` to its end.
std::vector<double> depths_of(std::size_t n_facts, bool apart, double depth) {
  std::vector<double> all;
  for (std::size_t k = 0; k < n_facts; ++k) {
    all.push_back(apart ? (double)k / (double)(n_facts - 1) : depth + (1 - depth) * (double)k / (double)n_facts);
  }
  return all;
}

std::size_t checked_facts(const NeedleOptions& options) {
  const bool apart = options.questions > 1;
  const std::size_t n = apart ? options.questions : options.needles;
  if (n >= 1 && n <= kPlaces.size()) return n;
  throw Error({.kind = Error::Kind::kUsage,
               .subject = apart ? "questions" : "needles",
               .expected = fmt::format("1 to {}", kPlaces.size()),
               .found = fmt::format("{}", n)});
}

// As much of the text as leaves room, generously, for facts and question.
std::string haystack_of(const Model& model, const std::vector<Token>& tokens, std::size_t length, std::size_t n_facts) {
  const std::size_t hay = length > 32 * (n_facts + 2) ? length - 32 * (n_facts + 1) : 0;
  if (hay > 0 && tokens.size() >= hay) return first_tokens(model, tokens, hay);
  throw Error({.subject = "the haystack",
               .expected = fmt::format("{} tokens of text for a length of {}", std::max<std::size_t>(hay, 33), length),
               .found = fmt::format("{}", tokens.size())});
}

}  // namespace

KeyForm KeyForm::parse(std::string_view text) {
  constexpr std::array kNames = {"digits", "tokens", "words"};
  constexpr std::array<std::size_t, 3> kMost = {18, 18, 8};
  const std::size_t colon = text.find(':');
  const std::string_view number = colon == std::string_view::npos ? "" : text.substr(colon + 1);
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (text.substr(0, colon) != kNames[i]) continue;
    KeyForm form{(Kind)(i + 1), 0};
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), form.length);
    if (error == std::errc() && end == number.data() + number.size() && form.length >= 1 && form.length <= kMost[i]) {
      return form;
    }
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "key",
                 .expected = fmt::format("{}:1 to {}:{}", kNames[i], kNames[i], kMost[i]),
                 .found = fmt::format("\"{}\"", text)});
  }
  throw Error({.kind = Error::Kind::kUsage,
               .subject = "key",
               .expected = "digits:N, tokens:N or words:N",
               .found = fmt::format("\"{}\"", text)});
}

std::string KeyForm::text() const {
  constexpr std::array kNames = {"", "digits:", "tokens:", "words:"};
  return kind == Kind::kOfficial ? "" : fmt::format("{}{}", kNames[(std::size_t)kind], length);
}

std::size_t key_tokens(const Model& model, const std::string& key) {
  const std::vector<Token> tokens = model.tokenize(" " + key, false, false);
  const auto blank = [&](Token token) { return model.piece(token).find_first_not_of(' ') == std::string::npos; };
  std::size_t n_blank = 0;
  while (n_blank < tokens.size() && blank(tokens[n_blank])) ++n_blank;
  return tokens.size() - n_blank;
}

std::vector<Sample> passkey_samples(const Model& model, const NeedleOptions& options) {
  constexpr std::string_view kTask =
      "There is important information hidden in a lot of irrelevant text. Find it and memorize it. You will be quizzed "
      "on "
      "this hidden information.";
  constexpr std::string_view kGarbage =
      "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. ";
  const bool official = options.key.kind == KeyForm::Kind::kOfficial;
  const Keys keys(model, options.key);
  std::vector<Sample> samples;
  for (const std::size_t length : options.lengths) {
    const auto n_garbage = (std::size_t)(3.75 * (double)length / 1024) * 1024;
    if (n_garbage == 0) {
      throw Error({.kind = Error::Kind::kUsage,
                   .subject = "lengths",
                   .expected = "274 or more for the passkey test",
                   .found = fmt::format("{}", length)});
    }
    const std::size_t step = n_garbage / 10;
    for (std::size_t before = 0; before <= n_garbage; before += step) {
      for (std::size_t i = 0; i < options.seeds; ++i) {
        const std::uint64_t seed = options.first_seed + i;
        PythonRandom random(seed);
        const std::string key = official ? fmt::format("{}", random.randint(1, 99999)) : keys.draw(random);
        const int depth = (int)std::lround(10 * (double)before / (double)n_garbage) * 10;
        samples.push_back(
            sample(fmt::format("passkey/{}/{}/{}", length, depth, seed),
                   fmt::format("{}\n{}\nThe pass key is {}. Remember it. {} is the pass key.\n{}\n", kTask,
                               repeated(kGarbage, before), key, key, repeated(kGarbage, n_garbage - before)),
                   "What is the pass key? The pass key is", model.tokenize(" " + key, false, false).size() + 1, length,
                   depth, {key}, !official));
      }
    }
  }
  return samples;
}

std::vector<Sample> haystack_samples(const Model& model, std::string_view text, const NeedleOptions& options) {
  const bool apart = options.questions > 1;
  const std::size_t n_facts = checked_facts(options);
  const bool official = options.key.kind == KeyForm::Kind::kOfficial;
  const Keys keys(model, official ? KeyForm{KeyForm::Kind::kDigits, 5} : options.key);
  const std::vector<Token> tokens = model.tokenize(text, false, false);
  std::vector<Sample> samples;
  // One question about some of the facts.
  const auto add = [&](const std::string& id, const Planted& text_of, std::span<const Fact> asked, double depth,
                       std::size_t length) {
    std::vector<std::string> codes;
    std::size_t most = 10;
    for (const Fact& fact : asked) {
      codes.push_back(fact.code);
      most = std::max(most, key_tokens(model, fact.code) + 4);
    }
    samples.push_back(sample(id, text_of.context, question_about(asked), most * asked.size(), length,
                             (int)std::lround(depth * 100), codes, !official));
  };
  for (const std::size_t length : options.lengths) {
    const std::string haystack = haystack_of(model, tokens, length, n_facts);
    for (std::size_t d = 0; d < (apart ? 1 : options.depths); ++d) {
      const double depth = options.depths > 1 && !apart ? (double)d / (double)(options.depths - 1) : 0;
      for (std::size_t i = 0; i < options.seeds; ++i) {
        const std::uint64_t seed = options.first_seed + i;
        PythonRandom random(seed);
        const Planted text_of = planted(haystack, depths_of(n_facts, apart, depth), keys, random);
        if (!apart) {
          add(fmt::format("haystack/{}/{}/{}", length, (int)std::lround(depth * 100), seed), text_of, text_of.facts,
              depth, length);
          continue;
        }
        const std::string text_id = fmt::format("haystack/{}/{}", length, seed);
        for (std::size_t k = 0; k < n_facts; ++k) {
          add(fmt::format("{}/{}", text_id, k), text_of, std::span(text_of.facts).subspan(k, 1), text_of.facts[k].depth,
              length);
          samples.back().text = text_id;
          samples.back().number = k + 1;
        }
      }
    }
  }
  return samples;
}

}  // namespace lacake::eval
