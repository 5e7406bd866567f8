// lacake chat: a conversation in the terminal, or one line of standard input a turn.

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <optional>
#include <utility>
#include <vector>

#include "answer_report.h"
#include "checks.h"
#include "commands.h"
#include "interrupt.h"
#include "lacake/conversation.h"
#include "lacake/error.h"
#include "lacake/memory.h"
#include "output.h"
#include "prompt.h"
#include "reading.h"
#include "report.h"
#include "sizing.h"

namespace lacake::cli {
namespace {

constexpr const char* kHelp =
    "/exit   leave (or Ctrl-D)\n"
    "/clear  forget the conversation\n"
    "/stats  tokens, speed and memory\n"
    "/help   this list\n"
    "Ctrl-C stops an answer; at the prompt it leaves.\n";

// Lines of standard input, without its buffering: what comes after a line stays for the next read.
class Lines {
 public:
  // Empty at the end of the input.
  std::optional<std::string> next() {
    for (;;) {
      if (const std::size_t end = held_.find('\n'); end != std::string::npos) {
        std::string line = held_.substr(0, end);
        held_.erase(0, end + 1);
        return line;
      }
      char bytes[4096];
      const ssize_t got = ::read(STDIN_FILENO, bytes, sizeof bytes);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return held_.empty() ? std::nullopt : std::optional(std::exchange(held_, {}));
      held_.append(bytes, static_cast<std::size_t>(got));
    }
  }

 private:
  std::string held_;
};

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

  std::string text(const Conversation& conversation) const {
    const std::size_t n_turns = conversation.n_turns();
    const Session* session = conversation.session();
    const std::size_t n_tokens = session != nullptr ? session->tokens().size() : 0;
    std::string text = fmt::format("{} turn{}, {} tokens\n", n_turns, n_turns == 1 ? "" : "s", n_tokens);
    if (n_read_ > 0) {
      text += fmt::format("questions read at {:.1f} tokens/s", static_cast<double>(n_read_) / read_s_);
      if (token_ms_) text += fmt::format(", last answer written at {:.1f} tokens/s", 1e3 / *token_ms_);
      text += "\n";
    }
    if (session == nullptr) return text + "no cache is open: the next question reads the conversation again\n";
    const CacheUse use = session->use();
    text += fmt::format("KV {} held of {} (full cache {})\n", bytes_text(use.held_bytes), bytes_text(use.budget_bytes),
                        bytes_text(use.full_bytes));
    return text + fmt::format("peak memory {} of {} planned\n", bytes_text(peak_resident_bytes()),
                              bytes_text(session->plan().memory.total()));
  }

 private:
  std::size_t n_read_ = 0;
  double read_s_ = 0;
  std::optional<double> token_ms_;
};

struct Chat {
  Conversation& conversation;
  Statistics statistics;
  const Terminal& terminal;
  const Options& options;
  bool interactive;
};

Turn ask(Chat& chat, const std::string& line) {
  PromptBar bar({chat.terminal, chat.options.quiet});
  const ConversationHooks hooks{
      .prompt_progress = bar.hook(),
      .on_text = write_output,
      .read_again =
          [&](std::size_t n_tokens) {
            notice(chat.options, fmt::format("the conversation as the chat template writes it now is not what was read "
                                             "before: all {} tokens of it are read again",
                                             n_tokens));
          },
  };
  const Turn turn = chat.conversation.ask({.role = "user", .content = line}, hooks);
  bar.check_output();
  return turn;
}

void answer(Chat& chat, const std::string& line) {
  try {
    require_utf8(line, "the line");
    const Turn turn = ask(chat, line);
    chat.statistics.add(turn);
    write_output("\n");
    const Answer& answer = turn.answer;
    if (answer.finish == Finish::kCancelled) notice(chat.options, chat.terminal.paint(Style::kDim, "(stopped)"));
    if (answer.finish != Finish::kLength) return;
    const std::string cut = length_notice(answer, chat.options);
    if (cut.empty()) {
      notice(chat.options, chat.terminal.paint(Style::kDim, "(length reached)"));
    } else {
      warn(chat.terminal.paint(Style::kDim, fmt::format("({})", cut)));
    }
  } catch (const Error& error) {
    // A conversation goes on after a line that did not fit; a script's should fail.
    if (!chat.interactive) throw;
    print_error(chat.terminal, error);
  }
}

std::vector<Message> opening(const Options& options) {
  if (!options.system) return {};
  return {{.role = "system", .content = *options.system}};
}

}  // namespace

int chat(const Options& options) {
  const GenerationOptions generating = generation_options(options);
  const SessionOptions asked = session_options(options);
  if (options.system) require_utf8(*options.system, "--system");
  const bool interactive = ::isatty(STDIN_FILENO) == 1;
  const Terminal terminal(STDERR_FILENO, options.color);
  const Model model(options.model, model_options(options));
  Engine engine(model, engine_options(options));
  warn(kv_type_warning(model.facts(), options));
  if (!model.chat_notice().empty()) notice(options, model.chat_notice());
  if (!model.has_chat_template()) warn_without_template(options, kChat);

  const SessionOptions sized = sized_for_conversation(engine, model.facts(), asked, generating.limits);
  if (!options.quiet) {
    std::fputs(plan_text(engine.plan(sized), model.facts(), sized, terminal).c_str(), stderr);
    if (interactive) std::fputs(terminal.paint(Style::kDim, "/help lists what else can be said\n").c_str(), stderr);
  }
  Conversation conversation(model, engine,
                            {.session = sized,
                             .generation = generating,
                             .chat = chat_options(options),
                             .opening = opening(options),
                             .raw = !model.has_chat_template(),
                             .parse_special = options.parse_special});
  Chat chat{conversation, {}, terminal, options, interactive};

  Lines lines;
  for (;;) {
    leave_on_interrupt();
    if (interactive) std::fputs(terminal.paint(Style::kGreen, "> ").c_str(), stderr);
    const auto line = lines.next();
    if (!line || *line == "/exit") {
      if (!line && interactive) std::fputs("\n", stderr);
      return 0;
    }
    if (line->empty()) continue;
    if (*line == "/help") {
      std::fputs(kHelp, stderr);
    } else if (*line == "/stats") {
      std::fputs(chat.statistics.text(conversation).c_str(), stderr);
    } else if (*line == "/clear") {
      conversation.clear();
    } else if (line->front() == '/' && line->find(' ') == std::string::npos && interactive) {
      std::fputs(fmt::format("{} is no command; /help lists them\n", *line).c_str(), stderr);
    } else {
      watch_interrupt();
      answer(chat, *line);
      if (interrupted() && !interactive) return kInterruptedStatus;
    }
  }
}

}  // namespace lacake::cli
