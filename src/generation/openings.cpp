#include "generation/openings.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "lacake/error.h"

namespace lacake {

std::shared_ptr<const Opening> Openings::find(std::string_view group, std::string_view text,
                                              std::span<const ControlPlace> controls) {
  auto best = all_.end();
  for (auto at = all_.begin(); at != all_.end(); ++at) {
    const Opening& opening = **at;
    if (opening.group != group || !text.starts_with(opening.text)) continue;
    if (!same_places(controls, opening.text.size(), opening.controls)) continue;
    if (best == all_.end() || (*at)->text.size() > (*best)->text.size()) best = at;
  }
  if (best == all_.end()) return nullptr;
  all_.splice(all_.end(), all_, best);
  return all_.back();
}

void Openings::keep(const std::string& group, const std::string& text, std::vector<ControlPlace> controls,
                    const Session& session) {
  const auto same = [&](const auto& opening) {
    return opening->group == group && opening->text == text && opening->controls == controls;
  };
  if (std::any_of(all_.begin(), all_.end(), same)) return;
  // Its bytes, rows before anything else, without making it.
  if (session.use().held_bytes > most_bytes_) return;
  auto opening = std::make_shared<const Opening>(Opening{group, text, std::move(controls), session.stem()});
  const std::uint64_t wanted = opening->stem->bytes();
  if (wanted > most_bytes_) return;
  while (bytes() > most_bytes_ - wanted) all_.pop_front();
  all_.push_back(std::move(opening));
}

std::uint64_t Openings::bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& opening : all_) bytes += opening->stem->bytes();
  return bytes;
}

PromptText opening_of(const Model& model, std::span<const Message> messages, const ChatOptions& chat) {
  const auto question =
      std::find_if(messages.begin(), messages.end(), [](const Message& message) { return message.role == "user"; });
  if (question == messages.end()) return {};
  std::vector<Message> asked(messages.begin(), question);
  asked.push_back({.role = "user"});
  const auto asking = [&](const char* words) {
    asked.back().content = words;
    return model.render_chat(asked, chat).text;
  };
  try {
    const PromptText one = asking("1"), two = asking("2");
    const auto differ = std::mismatch(one.text.begin(), one.text.end(), two.text.begin(), two.text.end()).first;
    return one.first((std::size_t)(differ - one.text.begin()));
  } catch (const Error&) {  // a template that refuses such messages
    return {};
  }
}

}  // namespace lacake
