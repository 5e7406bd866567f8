#include "eval/needle.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "eval/python_random.h"
#include "lacake/error.h"

namespace lacake::eval {
namespace {

constexpr std::array kPlaces = {"Oslo",   "Lima",   "Quito", "Dakar", "Hanoi",  "Turin", "Perth", "Minsk",
                                "Bergen", "Malaga", "Osaka", "Tunis", "Zagreb", "Accra", "Delhi", "Boston"};

// A share of the references that an answer has in it.
double found(std::string_view answer, const std::vector<std::string>& references) {
  std::size_t n = 0;
  for (const std::string& reference : references) n += answer.find(reference) != std::string_view::npos;
  return (double)n / (double)references.size();
}

Sample sample(std::string id, std::string context, std::string question, std::size_t most_new, std::size_t length,
              int depth, std::vector<std::string> references) {
  Sample s{.id = std::move(id),
           .context = std::move(context),
           .question = std::move(question),
           .most_new = most_new,
           .tags = {{"length", length}, {"depth", depth}},
           .references = std::move(references)};
  s.score = [expected = s.references](std::string_view answer) { return found(answer, expected); };
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

}  // namespace

std::vector<Sample> passkey_samples(const Model& model, const NeedleOptions& options) {
  constexpr std::string_view kTask =
      "There is important information hidden in a lot of irrelevant text. Find it and memorize it. You will be quizzed "
      "on "
      "this hidden information.";
  constexpr std::string_view kGarbage =
      "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. ";
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
        const std::string key = fmt::format("{}", PythonRandom(seed).randint(1, 99999));
        const int depth = (int)std::lround(10 * (double)before / (double)n_garbage) * 10;
        samples.push_back(
            sample(fmt::format("passkey/{}/{}/{}", length, depth, seed),
                   fmt::format("{}\n{}\nThe pass key is {}. Remember it. {} is the pass key.\n{}\n", kTask,
                               repeated(kGarbage, before), key, key, repeated(kGarbage, n_garbage - before)),
                   "What is the pass key? The pass key is", model.tokenize(" " + key, false, false).size() + 1, length,
                   depth, {key}));
      }
    }
  }
  return samples;
}

std::vector<Sample> haystack_samples(const Model& model, std::string_view text, const NeedleOptions& options) {
  if (options.needles < 1 || options.needles > kPlaces.size()) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "needles",
                 .expected = fmt::format("1 to {}", kPlaces.size()),
                 .found = fmt::format("{}", options.needles)});
  }
  const std::vector<Token> tokens = model.tokenize(text, false, false);
  std::vector<Sample> samples;
  for (const std::size_t length : options.lengths) {
    // What facts and question take, generously.
    const std::size_t hay = length > 32 * (options.needles + 2) ? length - 32 * (options.needles + 1) : 0;
    if (hay == 0 || tokens.size() < hay) {
      throw Error(
          {.subject = "the haystack",
           .expected = fmt::format("{} tokens of text for a length of {}", std::max<std::size_t>(hay, 33), length),
           .found = fmt::format("{}", tokens.size())});
    }
    const std::string haystack = first_tokens(model, tokens, hay);
    for (std::size_t d = 0; d < options.depths; ++d) {
      const double depth = options.depths > 1 ? (double)d / (double)(options.depths - 1) : 0;
      for (std::size_t i = 0; i < options.seeds; ++i) {
        const std::uint64_t seed = options.first_seed + i;
        PythonRandom random(seed);
        std::vector<std::string> codes;
        std::string context, places;
        std::size_t from = 0;
        const auto first_place = (std::size_t)random.randint(0, (std::int64_t)kPlaces.size() - 1);
        for (std::size_t k = 0; k < options.needles; ++k) {
          const char* place = kPlaces[(first_place + k) % kPlaces.size()];
          codes.push_back(fmt::format("{}", random.randint(10000, 99999)));
          const double at = depth + (1 - depth) * (double)k / (double)options.needles;
          const std::size_t end = std::max(from, sentence_end(haystack, (std::size_t)(at * (double)haystack.size())));
          context += haystack.substr(from, end - from);
          context += fmt::format(" The access code of the {} archive is {}. ", place, codes.back());
          places += (k == 0 ? "" : k + 1 == options.needles ? " and " : ", ") + std::string(place);
          from = end;
        }
        context += haystack.substr(from) + "\n\n";
        const std::string question =
            options.needles == 1
                ? fmt::format(
                      "Question: What is the access code of the {0} archive?\nAnswer: The access code of the {0} "
                      "archive is",
                      places)
                : fmt::format(
                      "Question: What are the access codes of the {0} archives?\nAnswer: The access codes of the "
                      "{0} archives, in this order, are",
                      places);
        samples.push_back(sample(fmt::format("haystack/{}/{}/{}", length, (int)std::lround(depth * 100), seed),
                                 std::move(context), question, 10 * options.needles, length,
                                 (int)std::lround(depth * 100), codes));
      }
    }
  }
  return samples;
}

}  // namespace lacake::eval
