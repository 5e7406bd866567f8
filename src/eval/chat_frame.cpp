#include "eval/chat_frame.h"

#include "lacake/error.h"

namespace lacake::eval {
namespace {

constexpr const char* kSpace = " \t\r\n";

}  // namespace

ChatFrame::ChatFrame(const Model& model) {
  if (!model.has_chat_template()) return;
  const std::string message = "lacake's question";
  const Message messages[] = {{"user", " " + message + " "}};
  const std::string rendered = model.chat_text(messages, true);
  std::size_t at = rendered.find(messages[0].content);
  trims = at == std::string::npos;
  const std::string& found = trims ? message : messages[0].content;
  if (trims) at = rendered.find(message);
  if (at == std::string::npos) {
    throw Error({.subject = "the chat template",
                 .expected = "one that shows the user's message",
                 .found = "one that does not",
                 .remedy = "`raw` takes prompts as they are"});
  }
  before = rendered.substr(0, at);
  after = rendered.substr(at + found.size());
}

std::size_t ChatFrame::n_tokens(const Model& model) const {
  return model.tokenize(before, true, true).size() + model.tokenize(after, true, false).size();
}

void ChatFrame::put_around(Sample& sample, const std::string& answer) const {
  if (!empty()) {
    sample.template_before = before.size();
    sample.template_after = after.size() + answer.size();
    if (trims) {
      sample.context.erase(0, sample.context.find_first_not_of(kSpace));
      sample.question.erase(sample.question.find_last_not_of(kSpace) + 1);
    }
  }
  sample.context = before + sample.context;
  sample.question += after + answer;
}

}  // namespace lacake::eval
