#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace lacake {

// What the library throws for everything that is not its own mistake: a setting that cannot be used, a file that is
// not what it should be, something that does not fit, a call that comes at the wrong time.
//
// An error is a set of fields, so that a program can say it in its own words, and one line made of them:
//
//     SUBJECT: expected EXPECTED, found FOUND; REMEDY
//
// Fields that are empty leave their part of the line out; without `expected`, `found` is a sentence of its own ("full
// after 34 tokens"). No field names a flag of a program. Where a field names a setting of this library, its name stands
// in backquotes (`kv_budget`), and with_names() puts the program's own name for it there. A subject that is a setting
// stands without backquotes and is replaced likewise.
//
// Copying does not throw. Safe to read from several threads.
class Error : public std::runtime_error {
 public:
  // What a caller can do about it.
  //   kUsage     a setting or an argument cannot be used as given: change it
  //   kInput     a file, a prompt or a model is not what it should be: give another
  //   kCapacity  what was asked for does not fit; the fields have the numbers: ask for less, or give more
  //   kState     the call does not fit what came before it (a session that reads a prompt cannot step)
  enum class Kind { kUsage, kInput, kCapacity, kState };

  struct Fields {
    Kind kind = Kind::kInput;
    std::string subject = {};   // the setting, file or key that it is about
    std::string expected = {};  // what would have done
    std::string found = {};     // what was there
    std::string remedy = {};    // what else would do; "" if nothing better than `expected` is known
  };

  explicit Error(Fields fields);

  Kind kind() const { return fields_->kind; }
  const Fields& fields() const { return *fields_; }

  // The line with other names for settings: `name_of` gives a program's name for a setting of this library
  // ("kv_budget" -> "--budget"), or "" where it has none, and the setting then keeps its own.
  template <class NameOf>
  std::string with_names(const NameOf& name_of) const {
    return line(renamed(*fields_, name_of));
  }

 private:
  static std::string line(const Fields& fields);
  static std::string own_name(std::string_view) { return ""; }

  // `text` with the settings in backquotes replaced.
  template <class NameOf>
  static std::string renamed(std::string_view text, const NameOf& name_of) {
    std::string out;
    while (!text.empty()) {
      const std::size_t open = text.find('`');
      const std::size_t close = open == text.npos ? text.npos : text.find('`', open + 1);
      if (close == text.npos) break;
      const std::string_view setting = text.substr(open + 1, close - open - 1);
      const std::string name = name_of(setting);
      out += text.substr(0, open);
      out += name.empty() ? std::string(setting) : name;
      text.remove_prefix(close + 1);
    }
    return out += text;
  }
  template <class NameOf>
  static Fields renamed(Fields f, const NameOf& name_of) {
    // The subject's first word may be a setting: "policy cake" or "kv_budget".
    const std::size_t end = std::min(f.subject.find_first_of(" :"), f.subject.size());
    const std::string name = name_of(std::string_view(f.subject).substr(0, end));
    if (!name.empty()) f.subject.replace(0, end, name);
    f.expected = renamed(std::string_view(f.expected), name_of);
    f.found = renamed(std::string_view(f.found), name_of);
    f.remedy = renamed(std::string_view(f.remedy), name_of);
    return f;
  }

  std::shared_ptr<const Fields> fields_;  // shared by copies, so that copying does not throw
};

}  // namespace lacake
