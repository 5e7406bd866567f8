// Included in front of files of llama.cpp's Jinja engine when they are compiled (cmake/jinja.cmake), which changes them
// without a copy of them:
//
//   LACAKE_HOOK_PARSER  texts that stand in the template are marked, and nothing else is. The engine has one mark for
//                       the parts of a string, `is_input`, and keeps it through concatenation, trimming and the like;
//                       split, join and tojson lose it. So it has to mean "the template's own": what is lost then
//                       becomes letters, not special tokens.
//   LACAKE_HOOK_RUN     steps and bytes are counted (src/text/jinja_limits.h).
//   LACAKE_HOOK_CHAT    what templates make of conversations is kept with its marks (jinja_marks.h), and what every
//                       template may use is set: `range` within limits; `bos_token` and `eos_token` as its own text.
//   LACAKE_HOOK_CAPS    the latter alone.
//
// A file that does not look as expected any more fails to compile, or the tests of src/text fail.
#ifndef LACAKE_TEXT_JINJA_HOOKS_H
#define LACAKE_TEXT_JINJA_HOOKS_H

#include <algorithm>
#include <cassert>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "jinja_limits.h"

#ifdef LACAKE_HOOK_PARSER
#define string_literal template_literal  // the token's name too, in this file only
#include <jinja/lexer.h>
#undef string_literal
#include <jinja/parser.h>
#include <jinja/runtime.h>

namespace jinja {

struct template_literal : string_literal {
  using string_literal::string_literal;
  value execute_impl(context&) const override {
    auto text = mk_val<value_string>(val);
    text->mark_input();
    return text;
  }
};

}  // namespace jinja
#define string_literal template_literal
#endif

#ifdef LACAKE_HOOK_RUN
#include <jinja/runtime.h>
#include <json.h>

namespace jinja {

template <typename T, typename... Args>
auto mk_counted(Args&&... args) {
  auto made = mk_val<T>(std::forward<Args>(args)...);
  std::size_t bytes = sizeof(*made);
  if constexpr (std::is_same_v<T, value_string>) bytes += made->val_str.length();
  ::lacake::jinja_spend(bytes);
  return made;
}

inline const string& counted(const string& text) {
  ::lacake::jinja_spend(text.length() + text.parts.size() * sizeof(string_part));
  return text;
}
inline const std::string& counted(const std::string& text) {
  ::lacake::jinja_spend(text.size());
  return text;
}

}  // namespace jinja
#undef JJ_DEBUG
#define JJ_DEBUG(...) ::lacake::jinja_step()
#define mk_val mk_counted
#define append(text) append(::jinja::counted(text))
// Both move what is behind them, `str`'s tail, each time.
#define replace(from, length_, text) \
  replace((::lacake::jinja_spend(str.size() / 64), from), length_, ::jinja::counted(text))
#define erase(from, ...) erase((::lacake::jinja_spend(str.size() / 64), from) __VA_OPT__(, ) __VA_ARGS__)
#define reserve(size) reserve(::lacake::jinja_spend(size))
#define assign(size, character) assign(::lacake::jinja_spend((std::size_t)size), character)
#endif

#ifdef LACAKE_HOOK_CAPS
#include "jinja_marks.h"
#define global_from_json(...)    \
  global_from_json(__VA_ARGS__); \
  ::lacake::set_template_globals(ctx)
#endif

#ifdef LACAKE_HOOK_CHAT
#include "jinja_marks.h"
#define global_from_json(context, json, mark) \
  global_from_json(context, json, false);     \
  ::lacake::set_template_globals(context)
#define gather_string_parts(value) gather_string_parts(::lacake::kept_rendering(value))
#endif

#endif
