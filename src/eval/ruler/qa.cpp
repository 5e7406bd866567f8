#include "eval/ruler/qa.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "lacake/error.h"

namespace lacake::eval {
namespace {

using nlohmann::json;

// Documents by their text, numbered in its order.
std::map<std::string, std::size_t> numbered(const std::set<std::string>& texts, std::vector<std::string>& documents) {
  std::map<std::string, std::size_t> numbers;
  for (const std::string& text : texts) {
    numbers[text] = documents.size();
    documents.push_back(text);
  }
  return numbers;
}

RulerQa squad(const json& file) {
  RulerQa qa{.task = "qa_1"};
  std::set<std::string> texts;
  for (const json& article : file.at("data")) {
    for (const json& paragraph : article.at("paragraphs")) texts.insert(paragraph.at("context").get<std::string>());
  }
  const auto numbers = numbered(texts, qa.documents);
  for (const json& article : file.at("data")) {
    std::vector<std::size_t> all;
    for (const json& paragraph : article.at("paragraphs")) all.push_back(numbers.at(paragraph.at("context")));
    for (const json& paragraph : article.at("paragraphs")) {
      const std::size_t own = numbers.at(paragraph.at("context"));
      for (const json& asked : paragraph.at("qas")) {
        if (asked.value("is_impossible", false)) continue;
        RulerQa::Question question{.text = asked.at("question"), .documents = {own}};
        for (const json& answer : asked.at("answers")) question.answers.push_back(answer.at("text"));
        for (const std::size_t other : all) {
          if (other != own) question.nearby.push_back(other);
        }
        qa.questions.push_back(std::move(question));
      }
    }
  }
  return qa;
}

RulerQa hotpot(const json& file) {
  RulerQa qa{.task = "qa_2"};
  const auto document = [](const json& titled) {
    std::string text = titled.at(0).get<std::string>() + "\n";
    for (const json& sentence : titled.at(1)) text += sentence.get<std::string>();
    return text;
  };
  std::set<std::string> texts;
  for (const json& asked : file) {
    for (const json& titled : asked.at("context")) texts.insert(document(titled));
  }
  const auto numbers = numbered(texts, qa.documents);
  for (const json& asked : file) {
    RulerQa::Question question{.text = asked.at("question"), .answers = {asked.at("answer")}};
    for (const json& titled : asked.at("context")) question.documents.push_back(numbers.at(document(titled)));
    qa.questions.push_back(std::move(question));
  }
  return qa;
}

}  // namespace

RulerQa parse_ruler_qa(std::string_view name, std::string_view text) {
  const auto fail = [&](const std::string& found) {
    throw Error({.subject = std::string(name), .expected = "questions as in SQuAD 2.0 or HotpotQA", .found = found});
  };
  RulerQa qa;
  try {
    const json file = json::parse(text);
    qa = file.is_array() ? hotpot(file) : squad(file);
  } catch (const json::parse_error& error) {
    fail(fmt::format("no JSON at byte {}", error.byte));
  } catch (const json::exception& error) {
    fail(fmt::format("another form ({})", error.what()));
  }
  if (qa.questions.empty()) fail("none that has an answer");
  return qa;
}

}  // namespace lacake::eval
