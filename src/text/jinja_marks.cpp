#ifdef LACAKE_HAVE_JINJA

#include "text/jinja_marks.h"

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <stdexcept>
#include <utility>

namespace lacake {
namespace {

thread_local std::vector<jinja::value>* kept = nullptr;

// Python's range() with the limit of its sandbox, in which transformers runs templates; the engine's has none.
jinja::value limited_range(const jinja::func_args& args) {
  constexpr std::int64_t kMost = 100'000;
  args.ensure_count(1, 3);
  std::int64_t numbers[3] = {0, 0, 1};  // start, stop, step
  for (std::size_t i = 0; i < args.count(); ++i) {
    if (!jinja::is_val<jinja::value_int>(args.get_pos(i))) throw std::runtime_error("range() takes whole numbers");
    numbers[args.count() == 1 ? 1 : i] = args.get_pos(i)->as_int();
  }
  const auto [start, stop, step] = numbers;
  if (step == 0) throw std::runtime_error("range() takes no step of 0");
  auto out = jinja::mk_val<jinja::value_array>();
  std::int64_t n = 0;
  for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (++n > kMost) throw std::runtime_error("range() has more than 100000 numbers");
    out->push_back(jinja::mk_val<jinja::value_int>(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return out;
}

}  // namespace

void set_template_globals(jinja::context& context) {
  context.set_val("range", jinja::mk_val<jinja::value_func>("range", limited_range));
  for (const char* name : {"bos_token", "eos_token"}) {
    jinja::value token = context.get_val(name);
    if (auto* text = jinja::cast_val<jinja::value_string>(token)) text->mark_input();
  }
}

PromptText with_marks(const jinja::value& result) {
  PromptText marked;
  const auto text = jinja::runtime::gather_string_parts(result);
  for (const jinja::string_part& part : text->val_str.parts) {
    const std::size_t begin = marked.text.size();
    marked.text += part.val;
    const bool of_template = part.is_input;  // see jinja_hooks.h
    if (of_template || part.val.empty()) continue;
    if (!marked.letters.empty() && marked.letters.back().end == begin) {
      marked.letters.back().end = marked.text.size();
    } else {
      marked.letters.push_back({begin, marked.text.size()});
    }
  }
  return marked;
}

const jinja::value& kept_rendering(const jinja::value& result) {
  if (kept != nullptr) kept->push_back(result);
  return result;
}

KeptRenderings::KeptRenderings() {
  assert(kept == nullptr);
  kept = &results_;
}

KeptRenderings::~KeptRenderings() { kept = nullptr; }

PromptText KeptRenderings::marks_of(const std::string& prompt, const std::vector<std::string>& letters) const {
  // Of what was rendered, that which has most in common with the prompt, from both ends.
  PromptText from;
  std::size_t front = 0, back = 0;
  for (const jinja::value& result : results_) {
    PromptText rendered = with_marks(result);
    const std::string& text = rendered.text;
    const auto differ = std::mismatch(text.begin(), text.end(), prompt.begin(), prompt.end());
    const auto same_front = (std::size_t)(differ.first - text.begin());
    const std::size_t rest = std::min(text.size(), prompt.size()) - same_front;
    std::size_t same_back = 0;
    while (same_back < rest && text[text.size() - 1 - same_back] == prompt[prompt.size() - 1 - same_back]) ++same_back;
    if (same_front + same_back > front + back) {
      from = std::move(rendered), front = same_front, back = same_back;
    }
  }

  PromptText marked = {prompt, {}};
  const auto add = [&](std::size_t begin, std::size_t end) {
    if (begin < end) marked.letters.push_back({begin, end});
  };
  for (const auto& range : from.letters) add(range.begin, std::min(range.end, front));
  const std::size_t added_end = prompt.size() - back;
  std::size_t at = front;
  for (const std::string& text : letters) {
    const std::size_t found = prompt.find(text, at);
    if (found == prompt.npos || found + text.size() > added_end) {
      while (!marked.letters.empty() && marked.letters.back().begin >= front) marked.letters.pop_back();
      add(front, added_end);
      break;
    }
    add(found, at = found + text.size());
  }
  const std::size_t shift = from.text.size() - prompt.size();  // wraps around: only added back below
  for (const auto& range : from.letters) {
    const std::size_t begin = std::max(range.begin - shift, added_end);
    if (range.end > from.text.size() - back) add(begin, range.end - shift);
  }
  return marked;
}

}  // namespace lacake

#endif
