// lacake chat: a conversation in the terminal, or one line of standard input a turn.

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "answer_report.h"
#include "base/blanks.h"
#include "base/files.h"
#include "base/nearest.h"
#include "chat_input.h"
#include "checks.h"
#include "commands.h"
#include "interrupt.h"
#include "lacake/conversation.h"
#include "lacake/error.h"
#include "lacake/memory.h"
#include "library_options.h"
#include "named_files.h"
#include "output.h"
#include "prompt.h"
#include "reading.h"
#include "report.h"
#include "saved.h"
#include "sizing.h"

namespace lacake::cli {
namespace {

// What can be said besides questions.
struct ChatCommand {
  const char* name;
  const char* argument;
  const char* help;
};

constexpr ChatCommand kCommands[] = {
    {"/retry", "", "answer the last question again"},
    {"/undo", "", "forget the last question and its answer"},
    {"/clear", "", "forget the conversation"},
    {"/save", "[FILE]", "keep the conversation in a file, that of --session if none is named"},
    {"/load", "FILE", "go on with the conversation of a file"},
    {"/stats", "", "tokens, speed and memory"},
    {"/help", "", "this list"},
    {"/exit", "", "leave (or Ctrl-D)"},
};

constexpr const char* kKeys =
    "Ctrl-C stops an answer; at the prompt it gives up the line, or leaves where there is none. Alt-Enter begins a "
    "new\n"
    "line of the same message, a pasted text is one message, Tab completes commands, Ctrl-R searches earlier lines.\n";

constexpr const char* kAskAboutText = "the text was read; ask about it";

std::string help_text(bool edits) {
  std::string text;
  for (const auto& [name, argument, help] : kCommands) {
    text += fmt::format("{:<14}{}\n", fmt::format("{} {}", name, argument), help);
  }
  return text + (edits ? kKeys : "Ctrl-C stops an answer; at the prompt it leaves.\n");
}

// For Tab.
std::vector<EditedCommand> edited_commands() {
  std::vector<EditedCommand> commands;
  for (const ChatCommand& command : kCommands) {
    commands.push_back({.name = command.name, .takes_file = *command.argument != '\0'});
  }
  return commands;
}

void print_error(const Terminal& terminal, const Error& error) {
  const std::string line = error.with_names([](std::string_view setting) { return flag_of(kChat, setting); });
  std::fputs((terminal.paint(Style::kRed, "error:") + " " + line + "\n").c_str(), stderr);
}

// What happened over the turns, for /stats.
class Statistics {
 public:
  void add(const Turn& turn) {
    n_read_ += turn.n_read;
    read_s_ += turn.n_read > 0 ? turn.read_ms / 1e3 : 0;
    token_ms_ = turn.answer.token_ms;
  }

  std::string text(const Conversation& conversation, std::uint64_t most_checkpoint_bytes) const {
    const std::size_t n_turns = conversation.n_turns();
    const Session* session = conversation.session();
    const std::size_t n_tokens = session != nullptr ? session->tokens().size() : 0;
    std::string text = fmt::format("{} turn{}, {} tokens\n", n_turns, n_turns == 1 ? "" : "s", n_tokens);
    if (n_read_ > 0) {
      text += fmt::format("questions read at {:.1f} tokens/s", (double)n_read_ / read_s_);
      if (token_ms_) text += fmt::format(", last answer written at {:.1f} tokens/s", 1e3 / *token_ms_);
      text += "\n";
    }
    if (session == nullptr) return text + "no cache is open: the next question reads the conversation again\n";
    const CacheUse use = session->use();
    text += fmt::format("KV {} held of {} (full cache {})\n", bytes_text(use.held_bytes), bytes_text(use.budget_bytes),
                        bytes_text(use.full_bytes));
    text += fmt::format("copies to go back to {} of {} at most\n", bytes_text(conversation.checkpoint_bytes()),
                        bytes_text(most_checkpoint_bytes));
    return text + fmt::format("peak memory {} of {} planned\n", bytes_text(peak_resident_bytes()),
                              bytes_text(session->plan().memory.total() + most_checkpoint_bytes));
  }

 private:
  std::size_t n_read_ = 0;
  double read_s_ = 0;
  std::optional<double> token_ms_;
};

struct Chat {
  const Model& model;
  Engine& engine;
  ConversationOptions making;
  std::unique_ptr<Conversation> conversation;
  Statistics statistics;
  const Terminal& terminal;
  const Options& options;
  bool interactive;
  std::optional<SessionFile> file;  // of --session
};

// What is to be answered: a new question, or the last one again.
using AskOnce = std::function<Turn(Conversation& conversation, const ConversationHooks& hooks)>;

Turn ask(Chat& chat, const AskOnce& asking) {
  PromptBar bar({chat.terminal, chat.options.quiet});
  const ConversationHooks hooks{
      .prompt_progress = bar.hook(),
      .on_text = write_output,
      .read_again = [&](std::size_t n_tokens) { notice(chat.options, read_again_line(n_tokens)); },
  };
  const Turn turn = asking(*chat.conversation, hooks);
  bar.check_output();
  write_output("\n");
  return turn;
}

// Where an answer is lost only if the process and the disk are: what cannot be saved is said, and the talk goes on.
void save(Chat& chat, const std::string& path) {
  try {
    if (chat.file && is_same_file(path, chat.file->path())) {
      chat.file->save(*chat.conversation);
    } else {
      chat.conversation->save(path);
    }
  } catch (const Error& error) {
    if (!chat.interactive) throw;
    print_error(chat.terminal, error);
  }
}

void answer(Chat& chat, const AskOnce& asking) {
  const Turn turn = ask(chat, asking);
  chat.statistics.add(turn);
  const Answer& answer = turn.answer;
  if (chat.options.session && turn.answered()) save(chat, *chat.options.session);
  if (answer.finish == Finish::kCancelled) notice(chat.options, chat.terminal.paint(Style::kDim, "(stopped)"));
  if (answer.finish != Finish::kLength) return;
  const std::string cut = length_notice(answer, chat.options);
  if (cut.empty()) {
    notice(chat.options, chat.terminal.paint(Style::kDim, "(length reached)"));
  } else {
    warn(chat.terminal.paint(Style::kDim, fmt::format("({})", cut)));
  }
}

void ask_line(Chat& chat, const std::string& line) {
  answer(chat, [&](Conversation& conversation, const ConversationHooks& hooks) {
    require_utf8(line, "the line");
    return conversation.ask({.role = "user", .content = line}, hooks);
  });
}

// A conversation begins with its own system message.
void require_system(const Options& options, const Conversation& conversation, const std::string& path) {
  const std::vector<Message>& messages = conversation.messages();
  const std::string system = messages.empty() || messages[0].role != "system" ? "" : messages[0].content;
  if (!options.system || *options.system == system) return;
  throw Error({.kind = Error::Kind::kUsage,
               .subject = "--system",
               .expected = fmt::format("\"{}\", as {} begins", system, path),
               .found = fmt::format("\"{}\"", *options.system)});
}

// The command line was of the conversation before: what it says of the cache or of how messages begin is not this
// one's.
void warn_of_other_options(const Chat& chat, const Snapshot& snapshot) {
  const auto said = [](const auto& check) {
    try {
      check();
    } catch (const Error& error) {
      warn(fmt::format("without effect on what was loaded: {}", error.what()));
    }
  };
  said([&] { require_same(chat.options, kChat, snapshot); });
  said([&] { require_same_policy(chat.options, kChat, snapshot, chat.engine); });
  said([&] { require_system(chat.options, *chat.conversation, snapshot.path()); });
  if (chat.model.has_chat_template()) said([&] { require_template(chat.options, kChat, snapshot); });
}

SessionFile session_file(const std::string& path) { return {path, "/save FILE keeps this conversation elsewhere"}; }

void load(Chat& chat, const std::string& path) {
  std::optional<SessionFile> file = chat.file;
  // What another program left there is known now, and goes on.
  if (file && is_same_file(path, file->path())) file = session_file(file->path());
  const Snapshot snapshot(path);
  // The old one goes when the new one is there.
  chat.conversation = std::make_unique<Conversation>(chat.model, chat.engine, chat.making, snapshot);
  chat.file = std::move(file);
  notice(chat.options, saved_line(snapshot));
  warn_of_other_options(chat, snapshot);
  if (chat.options.session && !is_same_file(*chat.options.session, path)) {
    warn(fmt::format("from the next answer on it is saved in {}, in place of what is there", *chat.options.session));
  }
}

// "/load FILE": what stands behind the command's name, without blanks around it. Nothing where the line is another.
std::optional<std::string> argument_of(const std::string& line, std::string_view command) {
  if (line == command) return "";
  if (!line.starts_with(command) || line[command.size()] != ' ' || line.find('\n') != line.npos) return {};
  return std::string(without_blanks(std::string_view(line).substr(command.size())));
}

[[noreturn]] void refuse(const char* command, const char* expected) {
  throw Error({.subject = command, .expected = expected, .found = "none"});
}

// What looks like a command and is none: a misspelt one is no question to the model.
[[noreturn]] void refuse_word(const std::string& word) {
  std::vector<std::string> names;
  for (const ChatCommand& command : kCommands) names.emplace_back(command.name);
  const std::string near = nearest(word, names);
  throw Error({.found = word + " is no command",
               .remedy = near.empty() ? "/help lists them" : fmt::format("did you mean {}? /help lists them", near)});
}

// A command that needs the conversation. False: the line is none.
bool run_command(Chat& chat, const std::string& line) {
  const auto say = [](const char* text) { std::fputs(text, stderr); };
  if (line == "/retry") {
    answer(chat, [](Conversation& conversation, const ConversationHooks& hooks) { return conversation.retry(hooks); });
  } else if (line == "/undo") {
    if (!chat.conversation->undo()) refuse("/undo", "a question to forget");
    if (chat.options.session) save(chat, *chat.options.session);
    say("forgotten: the last question and its answer\n");
    if (!chat.conversation->ahead().empty()) notice(chat.options, kAskAboutText);
  } else if (line == "/clear") {
    chat.conversation->clear();
    if (chat.options.session) {
      notice(chat.options, fmt::format("{} keeps the conversation until the next answer", *chat.options.session));
    }
  } else if (line == "/stats") {
    say(chat.statistics.text(*chat.conversation, chat.making.checkpoint_bytes).c_str());
  } else if (const auto path = argument_of(line, "/save")) {
    const std::string to = path->empty() ? chat.options.session.value_or("") : *path;
    if (to.empty()) refuse("/save", "a file, as nothing was said with --session");
    if (!path->empty()) require_apart({{"/save", to}}, files_read(chat.options, kChat));
    save(chat, to);
  } else if (const auto from = argument_of(line, "/load")) {
    if (from->empty()) refuse("/load", "a file");
    load(chat, *from);
  } else {
    return false;
  }
  return true;
}

std::vector<Message> opening(const Options& options) {
  if (!options.system) return {};
  return {{.role = "system", .content = *options.system}};
}

// A line: a command or a question.
void take_line(Chat& chat, const std::string& line) {
  const std::string command(without_blanks(line));
  if (command == "/help") {
    std::fputs(help_text(ChatInput::edits()).c_str(), stderr);
  } else if (run_command(chat, command)) {
    // done
  } else if (command.front() == '/' && command.find_first_of(" \n") == command.npos) {
    refuse_word(command);
  } else {
    ask_line(chat, line);
  }
}

// Whether anything is still to be done of what is there, when nobody reads the answers any more.
bool leaves_lines(ChatInput& input) {
  while (const auto line = input.next_at_hand()) {
    const std::string_view said = without_blanks(*line);
    if (said == "/exit") return false;
    if (!said.empty()) return true;
  }
  return false;
}

std::string unread_line(const Chat& chat, ChatInput& input) {
  const std::string left = leaves_lines(input) ? "the lines after it are left undone" : "";
  if (!chat.options.session) return left.empty() ? "" : "nobody read the whole answer: " + left;
  return cli::unread_line(*chat.options.session) + (left.empty() ? "" : ", and " + left);
}

// In memory, and beside the conversation in its file.
void size_checkpoints(Chat& chat, const SessionPlan& plan) {
  const std::optional<std::string>& size = chat.options.checkpoints;
  chat.making.checkpoint_bytes = size ? bytes_option("checkpoints", *size) : usual_checkpoint_bytes(plan);
  chat.making.saved_checkpoint_bytes = chat.making.checkpoint_bytes;
}

// What the file of --session has, if it is there; looked at before the model is opened, which takes longer.
std::optional<Snapshot> saved_conversation(const Options& options) {
  if (!options.session) return {};
  require_writable(*options.session, "--session");
  if (!std::filesystem::exists(*options.session)) return {};
  Snapshot saved(*options.session);
  require_same(options, kChat, saved);
  return saved;
}

// The conversation that --session has, or a new one.
void begin(Chat& chat, const std::optional<Snapshot>& saved) {
  if (saved) {
    require_same_policy(chat.options, kChat, *saved, chat.engine);
    size_checkpoints(chat, chat.engine.plan(saved->facts().options));
    chat.conversation = std::make_unique<Conversation>(chat.model, chat.engine, chat.making, *saved);
    require_system(chat.options, *chat.conversation, saved->path());
    notice(chat.options, saved_line(*saved));
    if (!chat.conversation->ahead().empty()) notice(chat.options, kAskAboutText);
    return;
  }
  const SessionOptions& sized = chat.making.session;
  const SessionPlan plan = chat.engine.plan(sized);
  size_checkpoints(chat, plan);
  if (!chat.options.quiet) std::fputs(plan_text(plan, chat.model.facts(), sized, chat.terminal).c_str(), stderr);
  chat.conversation = std::make_unique<Conversation>(chat.model, chat.engine, chat.making);
}

}  // namespace

int chat(const Options& options) {
  require_input();
  const GenerationOptions generating = generation_options(options);
  const SessionOptions asked = session_options(options);
  if (options.system) require_utf8(*options.system, "--system");
  const bool interactive = ::isatty(STDIN_FILENO) == 1;
  const Terminal terminal(STDERR_FILENO, options.color);
  std::optional<SessionFile> file;
  if (options.session) file = session_file(*options.session);
  std::optional<Snapshot> saved = saved_conversation(options);
  const Model model(options.model, model_options(options));
  Engine engine(model, engine_options(options));
  if (!model.chat_notice().empty()) notice(options, model.chat_notice());
  if (!model.has_chat_template()) {
    // Said and no more, so that the command line that began a conversation goes on with it too.
    warn_without_template(options, kChat);
  } else if (saved) {
    require_template(options, kChat, *saved);
  }

  Chat chat{.model = model,
            .engine = engine,
            .making = {.session = sized_for_conversation(engine, model.facts(), asked, generating.limits),
                       .generation = generating,
                       .chat = chat_options(options),
                       .opening = opening(options),
                       .raw = !model.has_chat_template(),
                       .parse_special = options.parse_special},
            .conversation = {},
            .statistics = {},
            .terminal = terminal,
            .options = options,
            .interactive = interactive,
            .file = std::move(file)};
  begin(chat, saved);
  saved.reset();
  if (interactive && !options.quiet) {
    std::fputs(terminal.paint(Style::kDim, "/help lists what else can be said\n").c_str(), stderr);
  }

  const std::vector<EditedCommand> commands = edited_commands();
  ChatInput input(options, terminal, commands);
  for (;;) {
    const auto line = input.next();
    if (!line) return input.interrupted() ? kInterruptedStatus : 0;
    const std::string_view said = without_blanks(*line);
    if (said == "/exit") return 0;
    if (said.empty()) continue;
    watch_interrupt();
    try {
      take_line(chat, *line);
    } catch (const OutputClosed&) {
      warn(unread_line(chat, input));
      throw;
    } catch (const Error& error) {
      // A conversation goes on after a line that did not fit; a script's should fail.
      if (!interactive) throw;
      print_error(terminal, error);
    }
    if (interrupted() && !interactive) return kInterruptedStatus;
  }
}

}  // namespace lacake::cli
