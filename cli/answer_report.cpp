#include "answer_report.h"

#include <fmt/format.h>

namespace lacake::cli {
namespace {

// The setting, where it is one.
const char* limit_name(LengthLimit limit) {
  switch (limit) {
    case LengthLimit::kAnswer:
      return "predict";
    case LengthLimit::kConversation:
      return "ctx_size";
    case LengthLimit::kModel:
      return "model";
    case LengthLimit::kCache:
      break;
  }
  return "cache";
}

nlohmann::json token_json(const TokenProbability& token, const Model& model) {
  const std::string bytes = model.piece(token.token, true);
  return {{"id", token.token},
          {"token", bytes},
          {"bytes", std::vector<std::uint8_t>(bytes.begin(), bytes.end())},
          {"logprob", token.logprob}};
}

nlohmann::json log_probabilities_json(const std::vector<LogProbabilities>& tokens, const Model& model) {
  nlohmann::json list = nlohmann::json::array();
  for (const LogProbabilities& token : tokens) {
    nlohmann::json json = token_json(token.token, model);
    json["top"] = nlohmann::json::array();
    for (const TokenProbability& likely : token.best) json["top"].push_back(token_json(likely, model));
    list.push_back(std::move(json));
  }
  return list;
}

nlohmann::json message_json(const ParsedAnswer& parsed) {
  nlohmann::json calls = nlohmann::json::array();
  for (const ToolCall& call : parsed.tool_calls) {
    calls.push_back({{"name", call.name}, {"arguments", call.arguments}, {"id", call.id}});
  }
  return {{"content", parsed.content}, {"reasoning", parsed.reasoning}, {"tool_calls", std::move(calls)}};
}

}  // namespace

const char* finish_name(Finish finish) {
  switch (finish) {
    case Finish::kNone:
      break;
    case Finish::kEnd:
      return "end";
    case Finish::kStop:
      return "stop";
    case Finish::kLength:
      return "length";
    case Finish::kCancelled:
      return "interrupt";
  }
  return "";
}

nlohmann::json answer_json(const Answer& answer, const Model& model) {
  const auto where = [&](Finish finish, const auto& value) {
    return answer.finish == finish ? nlohmann::json(value) : nlohmann::json();
  };
  nlohmann::json json = {{"limit", where(Finish::kLength, limit_name(answer.limit))},
                         {"stop", where(Finish::kStop, answer.stop)},
                         {"seed", answer.seed},
                         {"message", message_json(answer.parsed)}};
  if (!answer.log_probabilities.empty()) {
    json["logprobs"] = log_probabilities_json(answer.log_probabilities, model);
  }
  return json;
}

std::string length_notice(const Answer& answer, const Options& options) {
  if (answer.finish != Finish::kLength) return "";
  switch (answer.limit) {
    case LengthLimit::kAnswer:
      return "";
    case LengthLimit::kConversation:
      return fmt::format("the answer was cut: the conversation has {} tokens, as many as --ctx-size allows",
                         options.ctx_size.value_or(0));
    case LengthLimit::kModel:
      return fmt::format("the answer was cut after {} tokens: the model was not trained for more",
                         answer.tokens.size());
    case LengthLimit::kCache:
      break;
  }
  return fmt::format("the answer was cut after {} tokens: the KV cache is full; a policy that evicts would go on",
                     answer.tokens.size());
}

}  // namespace lacake::cli
