#include "text/gbnf.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <string>

#include "lacake/error.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

namespace lacake {
namespace {

constexpr std::uint64_t kMostRepetitions = 2000;  // libllama's limit
constexpr int kDeepest = 256;                     // brackets in brackets: libllama calls itself for each

bool is_digit(char c) { return '0' <= c && c <= '9'; }
bool is_name(char c) { return ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z') || c == '-' || is_digit(c); }
bool is_hex(char c) { return is_digit(c) || ('a' <= c && c <= 'f') || ('A' <= c && c <= 'F'); }

class Reader {
 public:
  Reader(std::string_view text, const Vocabulary& vocabulary) : text_(text), vocabulary_(vocabulary) {}

  void grammar() {
    if (const std::size_t zero = text_.find('\0'); zero != text_.npos) {
      at_ = zero;
      fail("text", "a zero byte");
    }
    if (const auto malformed = invalid_utf8_offset(text_)) {
      at_ = *malformed;
      fail("UTF-8 text", "bytes that are no character");
    }
    space(true);
    while (!end()) rule();
    if (defined_.empty()) fail("rules", "none");
    if (!defined_.contains("root")) fail("a rule named root", "none");
    for (const std::string_view name : used_) {
      if (!defined_.contains(name)) fail("a definition of each rule", fmt::format("none of \"{}\"", name));
    }
  }

 private:
  bool end() const { return at_ == text_.size(); }
  char peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }

  [[noreturn]] void fail(std::string_view expected, std::string_view found) const {
    const auto line = 1 + std::count(text_.begin(), text_.begin() + (std::ptrdiff_t)at_, '\n');
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "grammar",
                 .expected = fmt::format("GBNF with {}", expected),
                 .found = fmt::format("{} in line {}", found, line)});
  }
  [[noreturn]] void fail(std::string_view expected) const {
    if (end()) fail(expected, "the end");
    constexpr std::size_t kShown = 24;
    const std::string_view rest = text_.substr(at_);
    fail(expected, fmt::format("\"{}\"", rest.substr(0, std::min(rest.find('\n'), kShown))));
  }

  void space(bool over_lines) {
    while (!end()) {
      const char c = peek();
      if (c == '#') {
        at_ = std::min(text_.find_first_of("\r\n", at_), text_.size());
      } else if (c == ' ' || c == '\t' || (over_lines && (c == '\r' || c == '\n'))) {
        ++at_;
      } else {
        return;
      }
    }
  }

  std::string_view name() {
    const std::size_t begin = at_;
    while (is_name(peek())) ++at_;
    if (at_ == begin) fail("the name of a rule here");
    return text_.substr(begin, at_ - begin);
  }

  std::uint64_t number() {
    std::uint64_t value = 0;
    const char* const last = text_.data() + text_.size();
    const auto [rest, error] = std::from_chars(text_.data() + at_, last, value);
    if (error != std::errc{}) fail("a number here");
    at_ = (std::size_t)(rest - text_.data());
    return value;
  }

  void rule() {
    const std::string_view defined = name();
    known(defined);
    space(false);
    if (text_.substr(at_, 3) != "::=") fail("::= behind the name of a rule");
    at_ += 3;
    space(true);
    alternates();
    if (!end() && peek() != '\r' && peek() != '\n') fail("the end of the line behind a rule");
    defined_.insert(defined);
    space(true);
  }

  void alternates() {
    sequence();
    while (peek() == '|') {
      ++at_;
      space(true);
      sequence();
    }
  }

  void sequence() {
    // The rules that libllama makes of the last item; none yet: nothing to repeat.
    std::optional<std::uint64_t> item;
    while (!end()) {
      const char c = peek();
      if (c == '"') {
        ++at_;
        const bool empty = peek() == '"';
        while (peek() != '"') character();
        ++at_;
        item = empty ? std::nullopt : std::optional<std::uint64_t>(1);
      } else if (c == '[') {
        item = range();
      } else if (c == '<' || c == '!') {
        token();
        item = 1;
      } else if (is_name(c)) {
        const std::string_view rule = name();
        used_.insert(rule);
        known(rule);
        item = 1;
      } else if (c == '(') {
        item = group();
      } else if (c == '.') {
        ++at_;
        item = 1;
      } else if (c == '*' || c == '+' || c == '?' || c == '{') {
        repeat(item);
        continue;
      } else {
        return;
      }
      space(nested());
    }
  }

  std::uint64_t group() {
    if (++depth_ > kDeepest) fail(fmt::format("at most {} brackets in each other", kDeepest));
    const std::uint64_t before = n_symbols_;
    ++at_;
    space(true);
    ++n_symbols_;
    alternates();
    if (peek() != ')') fail("a closing ) here");
    ++at_;
    --depth_;
    return std::max<std::uint64_t>(1, n_symbols_ - before);
  }

  std::optional<std::uint64_t> range() {
    ++at_;
    if (peek() == '^') ++at_;
    const std::size_t begin = at_;
    while (peek() != ']') {
      character();
      if (peek() == '-' && peek(1) != ']') {
        ++at_;
        character();
      }
    }
    ++at_;
    return at_ - 1 > begin ? std::optional<std::uint64_t>(1) : std::nullopt;
  }

  // One character of a literal or a range.
  void character() {
    if (end()) fail("the end of a text or range");
    if (peek() != '\\') {
      do ++at_;
      while (((unsigned char)peek() & 0xC0) == 0x80);
      return;
    }
    const char kind = peek(1);
    const std::size_t digits = kind == 'x' ? 2 : kind == 'u' ? 4 : kind == 'U' ? 8 : 0;
    if (digits == 0 && (kind == '\0' || std::string_view("trn\\\"[]-").find(kind) == std::string_view::npos)) {
      fail("one of the escapes \\x \\u \\U \\t \\r \\n \\\\ \\\" \\[ \\] \\- here");
    }
    for (std::size_t i = 0; i < digits; ++i) {
      if (!is_hex(peek(2 + i))) fail(fmt::format("{} hexadecimal digits behind \\{}", digits, kind));
    }
    at_ += 2 + digits;
  }

  // <[17]> or <text of one token>, with ! for any other.
  void token() {
    if (peek() == '!') ++at_;
    if (peek() != '<') fail("a token, <[id]> or <text>, here");
    const std::size_t begin = at_++;
    if (peek() == '[') {
      ++at_;
      const std::uint64_t id = number();
      if (id >= (std::uint64_t)vocabulary_.n_tokens()) fail("tokens of the vocabulary", std::to_string(id));
      if (peek() != ']' || peek(1) != '>') fail("]> behind the id of a token");
      at_ += 2;
      return;
    }
    const std::size_t close = text_.find('>', at_);
    if (close == text_.npos) fail("a closing > here");
    const std::string_view text = text_.substr(begin, close + 1 - begin);
    if (vocabulary_.tokenize(text, {.parse = true}).size() != 1) {
      fail("the text of one token in <>", fmt::format("\"{}\"", text));
    }
    at_ = close + 1;
  }

  void repeat(std::optional<std::uint64_t>& item) {
    const char c = peek();
    ++at_;
    space(nested());
    std::uint64_t least = c == '+' ? 1 : 0;
    std::optional<std::uint64_t> most = c == '?' ? std::optional<std::uint64_t>(1) : std::nullopt;
    if (c == '{') {
      least = number();
      space(nested());
      most = least;
      if (peek() == ',') {
        ++at_;
        space(nested());
        most = is_digit(peek()) ? std::optional<std::uint64_t>(number()) : std::nullopt;
        space(nested());
      }
      if (peek() != '}') fail("} behind the numbers of a repetition");
      ++at_;
      space(nested());
      if (most && *most < least) fail("a repetition's larger number last", fmt::format("{{{},{}}}", least, *most));
      if (most && *most > kMostRepetitions) most.reset();
    }
    if (!item) fail("something to repeat in front of * + ? and {");
    const std::uint64_t rules = most && *most > 0 ? *most : std::max<std::uint64_t>(least, 1);
    if (least > kMostRepetitions || *item * rules > kMostRepetitions) {
      fail(fmt::format("at most {} repetitions, those inside counted", kMostRepetitions));
    }
    n_symbols_ += most ? *most - least : 1;
    *item *= rules;
    if (most && *most == 0) item.reset();
  }

  // Rules inside brackets may go over lines.
  bool nested() const { return depth_ > 0; }

  void known(std::string_view name) {
    if (names_.insert(name).second) ++n_symbols_;
  }

  std::string_view text_;
  const Vocabulary& vocabulary_;
  std::size_t at_ = 0;
  int depth_ = 0;
  std::set<std::string_view> names_, defined_, used_;
  std::uint64_t n_symbols_ = 0;
};

}  // namespace

void check_gbnf(std::string_view grammar, const Vocabulary& vocabulary) { Reader(grammar, vocabulary).grammar(); }

}  // namespace lacake
