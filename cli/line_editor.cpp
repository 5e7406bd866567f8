#include "line_editor.h"

#include <histedit.h>
#include <langinfo.h>
#include <unistd.h>

#include <algorithm>
#include <clocale>
#include <cstdio>
#include <cwchar>
#include <filesystem>

#include "long_texts.h"
#include "terminal.h"
#include "terminal_signals.h"

namespace lacake::cli {
namespace {

// libedit takes part of the prompt that moves no cursor between two of these.
constexpr wchar_t kNoWidth = L'\1';
constexpr wchar_t kCtrlC = L'\3';
constexpr wchar_t kCtrlD = L'\4';
constexpr wchar_t kNoLetter = 0xFFFD;

// Asks the terminal to put a pasted text between two marks, or no longer to.
constexpr const char* kMarkPastes = "\x1b[?2004h";
constexpr const char* kMarkNoPastes = "\x1b[?2004l";
constexpr std::wstring_view kPasteEnds = L"\x1b[201~";

constexpr int kMostRemembered = 1000;

// Both in the locale, which is one of UTF-8. What is no letter becomes U+FFFD.
std::wstring wide(std::string_view text) {
  std::wstring result;
  std::mbstate_t state{};
  while (!text.empty()) {
    wchar_t letter = 0;
    const std::size_t taken = std::mbrtowc(&letter, text.data(), text.size(), &state);
    const bool is_letter = taken <= text.size();
    if (!is_letter) state = {};
    result += is_letter ? letter : kNoLetter;
    text.remove_prefix(is_letter ? std::max<std::size_t>(taken, 1) : 1);
  }
  return result;
}

std::string narrow(std::wstring_view text) {
  std::string result;
  for (const wchar_t letter : text) {
    char bytes[16];
    std::mbstate_t state{};
    const std::size_t n = std::wcrtomb(bytes, letter, &state);
    if (n <= sizeof bytes) result.append(bytes, n);
  }
  return result;
}

// A pasted text as part of a line: lines end in '\n', and nothing in it moves a cursor.
std::wstring cleaned(const std::wstring& pasted) {
  std::wstring text;
  for (std::size_t i = 0; i < pasted.size(); ++i) {
    const wchar_t letter = pasted[i];
    if (letter == L'\r') {
      if (i + 1 == pasted.size() || pasted[i + 1] != L'\n') text += L'\n';
    } else if (letter == L'\n' || letter == L'\t' || (letter >= L' ' && (letter < 0x7F || letter > 0x9F))) {
      text += letter;
    }
  }
  while (text.ends_with(L'\n')) text.pop_back();
  return text;
}

// Names of files that begin with `begun`; folders end in a slash.
std::vector<std::string> files_like(const std::string& begun) {
  namespace fs = std::filesystem;
  const std::size_t slash = begun.rfind('/');
  const std::string folder = slash == begun.npos ? "" : begun.substr(0, slash + 1);
  const std::string name = begun.substr(folder.size());
  std::vector<std::string> found;
  std::error_code unreadable, unknown;
  for (fs::directory_iterator file(folder.empty() ? "." : folder, unreadable), end; !unreadable && file != end;
       file.increment(unreadable)) {
    const std::string here = file->path().filename().string();
    if (!here.starts_with(name) || (name.empty() && here.starts_with('.'))) continue;
    found.push_back(folder + here + (file->is_directory(unknown) ? "/" : ""));
  }
  return found;
}

}  // namespace

class LineEditor::Editing {
 public:
  Editing(const std::string& prompt, bool color, std::span<const EditedCommand> commands);
  ~Editing();

  void remember(const std::string& line);
  std::optional<std::string> next();
  bool interrupted() const { return interrupted_; }

 private:
  using Function = unsigned char (Editing::*)(wint_t);

  static Editing& of(EditLine* edit);
  template <Function function>
  void bind(const wchar_t* name, std::initializer_list<const wchar_t*> keys);
  void bind_keys();

  // What libedit calls.
  unsigned char take_paste(wint_t);
  unsigned char break_line(wint_t);
  unsigned char give_up(wint_t);
  unsigned char complete(wint_t);
  int read_letter(wchar_t* letter);

  void begin_editing();
  void end_editing();
  void act_on(int signal);
  void draw_again();
  std::wstring before_cursor() const;
  std::vector<std::string> completions(const std::string& begun) const;
  void write(std::string_view text) const;

  std::wstring prompt_;
  std::size_t prompt_columns_;
  std::span<const EditedCommand> commands_;
  FILE* output_;
  EditLine* edit_;
  HistoryW* history_;
  LongTexts long_texts_;
  std::string unread_;                  // bytes that came and are not taken yet
  TerminalSignals* signals_ = nullptr;  // while a line is read
  bool given_up_ = false;
  bool interrupted_ = false;
};

LineEditor::Editing& LineEditor::Editing::of(EditLine* edit) {
  void* self = nullptr;
  el_wget(edit, EL_CLIENTDATA, &self);
  return *static_cast<Editing*>(self);
}

LineEditor::Editing::Editing(const std::string& prompt, bool color, std::span<const EditedCommand> commands)
    : prompt_columns_(prompt.size()),
      commands_(commands),
      // Standard error without its own buffer would show each letter's way there.
      output_(::fdopen(::dup(STDERR_FILENO), "w")),
      edit_(el_init("lacake", stdin, output_, output_)),
      history_(history_winit()) {
  const std::wstring green = color ? L"\1\x1b[32m\1" : L"", plain = color ? L"\1\x1b[0m\1" : L"";
  prompt_ = green + wide(prompt) + plain;
  HistEventW event{};
  history_w(history_, &event, H_SETSIZE, kMostRemembered);
  history_w(history_, &event, H_SETUNIQUE, 1);
  el_wset(edit_, EL_CLIENTDATA, static_cast<void*>(this));
  el_wset(
      edit_, EL_PROMPT_ESC, +[](EditLine* edit) { return of(edit).prompt_.data(); }, kNoWidth);
  el_wset(edit_, EL_HIST, history_w, history_);
  el_wset(
      edit_, EL_GETCFN, +[](EditLine* edit, wchar_t* letter) { return of(edit).read_letter(letter); });
  el_wset(edit_, EL_EDITOR, L"emacs");
  bind_keys();
  el_source(edit_, nullptr);  // what users of libedit have set for all of its programs
}

LineEditor::Editing::~Editing() {
  history_wend(history_);
  el_end(edit_);
  std::fclose(output_);
}

template <LineEditor::Editing::Function function>
void LineEditor::Editing::bind(const wchar_t* name, std::initializer_list<const wchar_t*> keys) {
  const auto call = +[](EditLine* edit, wint_t key) -> unsigned char { return (of(edit).*function)(key); };
  el_wset(edit_, EL_ADDFN, name, name, call);
  for (const wchar_t* key : keys) el_wset(edit_, EL_BIND, key, name, nullptr);
}

void LineEditor::Editing::bind_keys() {
  bind<&Editing::take_paste>(L"lacake-take-paste", {L"\\e[200~"});
  bind<&Editing::break_line>(L"lacake-break-line", {L"\\e\\r", L"\\e\\n"});
  bind<&Editing::give_up>(L"lacake-give-up", {L"^C"});
  bind<&Editing::complete>(L"lacake-complete", {L"\\t"});
  // What terminals send for keys, and libedit leaves to its users.
  constexpr const wchar_t* kKeys[][2] = {
      {L"\\e[3~", L"ed-delete-next-char"}, {L"\\e[H", L"ed-move-to-beg"},     {L"\\eOH", L"ed-move-to-beg"},
      {L"\\e[1~", L"ed-move-to-beg"},      {L"\\e[F", L"ed-move-to-end"},     {L"\\eOF", L"ed-move-to-end"},
      {L"\\e[4~", L"ed-move-to-end"},      {L"\\e[1;5C", L"em-next-word"},    {L"\\e[1;5D", L"ed-prev-word"},
      {L"\\e[1;3C", L"em-next-word"},      {L"\\e[1;3D", L"ed-prev-word"},    {L"^R", L"em-inc-search-prev"},
      {L"^W", L"ed-delete-prev-word"},     {L"\\e^?", L"ed-delete-prev-word"}};
  for (const auto& [key, function] : kKeys) el_wset(edit_, EL_BIND, key, function, nullptr);
}

void LineEditor::Editing::write(std::string_view text) const {
  std::fwrite(text.data(), 1, text.size(), output_);
  std::fflush(output_);
}

void LineEditor::Editing::remember(const std::string& line) {
  HistEventW event{};
  history_w(history_, &event, H_ENTER, wide(long_texts_.shown(line)).c_str());
}

std::optional<std::string> LineEditor::Editing::next() {
  TerminalSignals signals;
  signals_ = &signals;
  std::optional<std::string> line;
  do {
    begin_editing();  // before each prompt, which libedit shows first: the terminal must not show what comes after it
    given_up_ = interrupted_ = false;
    int n = 0;
    const wchar_t* text = el_wgets(edit_, &n);
    line = text == nullptr ? std::nullopt : std::optional(narrow(text));
  } while (given_up_);
  write(kMarkNoPastes);
  signals_ = nullptr;
  if (!line) {
    write("\n");
    return {};
  }
  if (line->ends_with('\n')) line->pop_back();
  if (!line->empty()) remember(*line);
  return long_texts_.whole(*line);
}

// --- signals and letters
// ------------------------------------------------------------------------------------------------

void LineEditor::Editing::begin_editing() {
  el_wset(edit_, EL_PREP_TERM, 1);
  write(kMarkPastes);
}

void LineEditor::Editing::end_editing() {
  write(kMarkNoPastes);
  el_wset(edit_, EL_PREP_TERM, 0);
}

std::wstring LineEditor::Editing::before_cursor() const {
  const LineInfoW* line = el_wline(edit_);
  return {line->buffer, line->cursor};
}

// The line as it is now, from its first row on.
void LineEditor::Editing::draw_again() {
  // Where the terminal has put the cursor: the rows of the new width that it has passed.
  const std::size_t columns = Terminal(STDERR_FILENO, "never").columns();
  std::size_t row = 0, column = prompt_columns_;
  for (const wchar_t letter : before_cursor()) {
    const auto width = (std::size_t)std::max(::wcwidth(letter), 0);
    if (letter == L'\n' || column + width > columns) {
      ++row;
      column = 0;
    }
    column += width;
  }
  std::string up = "\r";
  for (; row > 0; --row) up += "\x1b[A";
  write(up + "\x1b[J");
  el_wset(edit_, EL_REFRESH);
}

void LineEditor::Editing::act_on(int signal) {
  if (signal == SIGWINCH) {
    el_resize(edit_);
  } else {
    end_editing();
    signals_->act_as_before(signal);
    begin_editing();
  }
  draw_again();
}

int LineEditor::Editing::read_letter(wchar_t* letter) {
  std::mbstate_t state{};
  for (;;) {
    for (std::size_t i = 0; i < unread_.size(); ++i) {
      const std::size_t taken = std::mbrtowc(letter, unread_.data() + i, 1, &state);
      if (taken == (std::size_t)(-2)) continue;  // the letter goes on
      const bool is_letter = taken <= 1;
      if (!is_letter) *letter = kNoLetter;
      // What Linux keeps of a Ctrl-D that came before raw mode, while an answer was written.
      if (*letter == L'\0') *letter = kCtrlD;
      unread_.erase(0, i + 1);
      return 1;
    }
    state = {};
    const int signal = signals_->wait(STDIN_FILENO);
    if (signal == SIGINT) {
      *letter = kCtrlC;
      return 1;
    }
    if (signal != 0) {
      act_on(signal);
      continue;
    }
    char bytes[4096];
    const ssize_t got = ::read(STDIN_FILENO, bytes, sizeof bytes);
    if (got <= 0) return 0;
    unread_.append(bytes, (std::size_t)got);
  }
}

// --- keys
// ---------------------------------------------------------------------------------------------------------------

unsigned char LineEditor::Editing::take_paste(wint_t) {
  std::wstring pasted;
  while (!pasted.ends_with(kPasteEnds)) {
    wchar_t letter = 0;
    if (read_letter(&letter) != 1) return CC_EOF;
    if (letter == kCtrlC) return CC_REFRESH;
    pasted += letter;
  }
  pasted.resize(pasted.size() - kPasteEnds.size());
  const std::wstring shown = wide(long_texts_.shown(narrow(cleaned(pasted))));
  return shown.empty() || el_winsertstr(edit_, shown.c_str()) == 0 ? CC_REFRESH : CC_ERROR;
}

unsigned char LineEditor::Editing::break_line(wint_t) {
  return el_winsertstr(edit_, L"\n") == 0 ? CC_REFRESH : CC_ERROR;
}

unsigned char LineEditor::Editing::give_up(wint_t) {
  const LineInfoW* line = el_wline(edit_);
  if (line->buffer == line->lastchar) {
    interrupted_ = true;
    return CC_EOF;
  }
  given_up_ = true;
  el_cursor(edit_, (int)(line->lastchar - line->cursor));
  el_winsertstr(edit_, L"^C");
  el_wpush(edit_, L"\n");
  return CC_REFRESH;
}

std::vector<std::string> LineEditor::Editing::completions(const std::string& begun) const {
  std::vector<std::string> found;
  for (const auto& [name, takes_file] : commands_) {
    if (name.starts_with(begun)) found.push_back(std::string(name) + (takes_file ? " " : ""));
    const std::string with_file = std::string(name) + " ";
    if (!takes_file || !begun.starts_with(with_file)) continue;
    for (const std::string& file : files_like(begun.substr(with_file.size()))) found.push_back(with_file + file);
  }
  return found;
}

unsigned char LineEditor::Editing::complete(wint_t) {
  const std::string begun = narrow(before_cursor());
  if (!begun.starts_with('/')) return CC_ERROR;
  const std::vector<std::string> found = completions(begun);
  if (found.empty()) return CC_ERROR;
  std::string common = found.front();
  for (const std::string& other : found) {
    common.resize((std::size_t)(std::ranges::mismatch(common, other).in1 - common.begin()));
  }
  if (common.size() > begun.size()) {
    return el_winsertstr(edit_, wide(common.substr(begun.size())).c_str()) == 0 ? CC_REFRESH : CC_ERROR;
  }
  if (found.size() == 1) return CC_NORM;
  std::string listed = "\n";
  for (const std::string& one : found) listed += one + "\n";
  write(listed);
  return CC_REDISPLAY;
}

// ------------------------------------------------------------------------------------------------------------------------

bool LineEditor::usable() {
  const Terminal terminal(STDERR_FILENO, "never");
  if (::isatty(STDIN_FILENO) != 1 || !terminal.interactive()) return false;
  // What is typed goes to a model, which reads UTF-8 whatever the user's locale says.
  for (const char* locale : {"", "C.UTF-8"}) {
    if (std::setlocale(LC_CTYPE, locale) && std::string_view(::nl_langinfo(CODESET)) == "UTF-8") return true;
  }
  std::setlocale(LC_CTYPE, "C");
  return false;
}

LineEditor::LineEditor(std::string prompt, bool color, std::span<const EditedCommand> commands)
    : editing_(std::make_unique<Editing>(prompt, color, commands)) {}

LineEditor::~LineEditor() = default;

void LineEditor::remember(const std::string& line) { editing_->remember(line); }
std::optional<std::string> LineEditor::next() { return editing_->next(); }
bool LineEditor::interrupted() const { return editing_->interrupted(); }

}  // namespace lacake::cli
