#include "generation/conversation_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>

#include "lacake/error.h"
#include "text/utf8.h"

namespace lacake {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;
constexpr std::size_t kMostRetries = 10'000;  // finding a seed takes time in proportion to its square
// A shorter text costs less than its place.
constexpr std::size_t kLongText = 64;

// Texts in a file, in the order in which they stand in what the session was fed: each is searched behind the last.
class Writer {
 public:
  explicit Writer(std::string_view all) : all_(all) {}

  // A text that is no UTF-8, which JSON cannot hold, is written as the hexadecimal digits of its bytes.
  json operator()(const std::string& text) {
    if (text.size() >= kLongText) {
      std::size_t at = all_.find(text, from_);
      if (at == all_.npos) at = all_.find(text);
      if (at != all_.npos) {
        from_ = at;
        return json{{"at", at}, {"bytes", text.size()}};
      }
    }
    if (!invalid_utf8_offset(text)) return text;
    std::string digits;
    for (const char byte : text) digits += fmt::format("{:02x}", (unsigned char)byte);
    return json{{"hex", digits}};
  }

 private:
  std::string_view all_;
  std::size_t from_ = 0;
};

class Reader {
 public:
  Reader(std::string_view all, const std::string& where) : all_(all), where_(where) {}

  std::string text(const json& from, const char* field) const {
    const json& value = at(from, field);
    if (value.is_string()) return value.get<std::string>();
    if (value.is_object() && value.contains("hex")) return bytes_of(value["hex"], field);
    const std::size_t begin = number(value, "at", all_.size()), n = number(value, "bytes", all_.size() - begin);
    return std::string(all_.substr(begin, n));
  }
  std::size_t number(const json& from, const char* field, std::size_t most = INT32_MAX) const {
    const json& value = at(from, field);
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > most) fail(field);
    return value.get<std::size_t>();
  }
  bool flag(const json& from, const char* field) const {
    const json& value = at(from, field);
    if (!value.is_boolean()) fail(field);
    return value.get<bool>();
  }
  const json& list(const json& from, const char* field) const {
    const json& value = at(from, field);
    if (!value.is_array()) fail(field);
    return value;
  }
  std::vector<Token> numbers(const json& from, const char* field) const {
    std::vector<Token> all;
    for (const json& value : list(from, field)) {
      if (!value.is_number_unsigned() || value.get<std::uint64_t>() > INT32_MAX) fail(field);
      all.push_back(value.get<Token>());
    }
    return all;
  }
  [[noreturn]] void fail(const std::string& field) const {
    throw Error(
        {.subject = where_, .expected = "a conversation as lacake writes it", .found = "another \"" + field + "\""});
  }

 private:
  std::string bytes_of(const json& digits, const char* field) const {
    if (!digits.is_string()) fail(field);
    const auto& text = digits.get_ref<const std::string&>();
    std::string bytes(text.size() / 2, '\0');
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      unsigned char byte = 0;
      const auto [end, error] = std::from_chars(text.data() + 2 * i, text.data() + 2 * i + 2, byte, 16);
      if (error != std::errc() || end != text.data() + 2 * i + 2) fail(field);
      bytes[i] = (char)byte;
    }
    if (text.size() % 2 != 0) fail(field);
    return bytes;
  }
  const json& at(const json& from, const char* field) const {
    if (!from.is_object() || !from.contains(field)) fail(field);
    return from[field];
  }

  std::string_view all_;
  const std::string& where_;
};

json message_json(const Message& message, Writer& text) {
  json parts = json::array(), calls = json::array();
  for (const ContentPart& part : message.parts) parts.push_back({{"type", text(part.type)}, {"text", text(part.text)}});
  for (const ToolCall& call : message.tool_calls) {
    calls.push_back({{"name", text(call.name)}, {"arguments", text(call.arguments)}, {"id", text(call.id)}});
  }
  return {{"role", text(message.role)},
          {"content", text(message.content)},
          {"parts", std::move(parts)},
          {"reasoning", text(message.reasoning)},
          {"tool_calls", std::move(calls)},
          {"name", text(message.name)},
          {"tool_call_id", text(message.tool_call_id)}};
}

Message message_from(const json& from, const Reader& read) {
  Message message{.role = read.text(from, "role"), .content = read.text(from, "content")};
  for (const json& part : read.list(from, "parts")) {
    message.parts.push_back({read.text(part, "type"), read.text(part, "text")});
  }
  message.reasoning = read.text(from, "reasoning");
  for (const json& call : read.list(from, "tool_calls")) {
    message.tool_calls.push_back({read.text(call, "name"), read.text(call, "arguments"), read.text(call, "id")});
  }
  message.name = read.text(from, "name");
  message.tool_call_id = read.text(from, "tool_call_id");
  return message;
}

json held_json(const HeldText& held, Writer& text) {
  json controls = json::array();
  for (const ControlPlace& place : held.controls) {
    controls.push_back(place.offset);
    controls.push_back(place.token);
  }
  return {{"prompt", text(held.prompt)},
          {"answered", text(held.answered)},
          {"controls", std::move(controls)},
          {"pending", held.pending}};
}

HeldText held_from(const json& from, const Reader& read) {
  HeldText held{.prompt = read.text(from, "prompt"),
                .answered = read.text(from, "answered"),
                .pending = read.numbers(from, "pending")};
  // Files of before have none: where a text has some, it is none that they hold, and is read again.
  if (!from.contains("controls")) return held;
  const std::vector<Token> numbers = read.numbers(from, "controls");
  if (numbers.size() % 2 != 0) read.fail("controls");
  for (std::size_t i = 0; i < numbers.size(); i += 2) {
    held.controls.push_back({(std::size_t)numbers[i], numbers[i + 1]});
  }
  return held;
}

}  // namespace

std::string to_json(const ConversationState& state, std::string_view all) {
  Writer text(all);
  json messages = json::array();
  for (const Message& message : state.messages) messages.push_back(message_json(message, text));
  json whole = {{"version", kVersion},
                {"raw", state.raw},
                {"parse_special", state.parse_special},
                {"messages", std::move(messages)},
                {"opening", state.n_opening},
                {"ahead", text(state.ahead)},
                {"begun_ahead", json::array()},
                {"retries", std::min(state.n_retries, kMostRetries)},
                {"checkpoints", json::array()}};
  for (const BegunAhead& begun : state.begun_ahead) {
    whole["begun_ahead"].push_back({{"message", begun.message}, {"bytes", begun.n_bytes}});
  }
  whole.update(held_json(state.held, text));
  for (const HeldMoment& moment : state.moments) {
    json saved = held_json(moment.held, text);
    saved["messages"] = moment.n_messages;
    whole["checkpoints"].push_back(std::move(saved));
  }
  return whole.dump();
}

ConversationState conversation_from(std::string_view bytes, std::string_view text, const std::string& where) {
  const Reader read(text, where);
  const json whole = json::parse(bytes, nullptr, false);
  if (whole.is_discarded() || read.number(whole, "version") != kVersion) read.fail("version");
  ConversationState state;
  state.raw = read.flag(whole, "raw");
  state.parse_special = read.flag(whole, "parse_special");
  for (const json& message : read.list(whole, "messages")) state.messages.push_back(message_from(message, read));
  state.n_opening = read.number(whole, "opening", state.messages.size());
  state.ahead = read.text(whole, "ahead");
  if (whole.contains("begun_ahead")) {  // files of before have none
    for (const json& begun : read.list(whole, "begun_ahead")) {
      const std::size_t message = read.number(begun, "message");
      if (message >= state.messages.size()) read.fail("begun_ahead");
      state.begun_ahead.push_back({message, read.number(begun, "bytes", state.messages[message].content.size())});
    }
  }
  state.n_retries = read.number(whole, "retries", kMostRetries);
  state.held = held_from(whole, read);
  for (const json& saved : read.list(whole, "checkpoints")) {
    state.moments.push_back({read.number(saved, "messages", state.messages.size()), held_from(saved, read)});
  }
  return state;
}

}  // namespace lacake
