// lacake chat: a conversation in the terminal, or one line of standard input a turn.

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "checks.h"
#include "commands.h"
#include "conversation.h"
#include "interrupt.h"
#include "lacake/error.h"
#include "output.h"
#include "prompt.h"
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

void answer(Conversation& conversation, const std::string& line, const Terminal& terminal, const Options& options,
            bool interactive) {
  try {
    require_utf8(line, "the line");
    const Turn turn = conversation.ask(line, write_output);
    write_output("\n");
    if (turn.stopped == "interrupt") notice(options, terminal.paint(Style::kDim, "(stopped)"));
    if (turn.stopped == "length") notice(options, terminal.paint(Style::kDim, "(length reached)"));
  } catch (const Error& error) {
    // A conversation goes on after a line that did not fit; a script's should fail.
    if (!interactive) throw;
    std::fputs((terminal.paint(Style::kRed, "error:") + " " + error.what() + "\n").c_str(), stderr);
  }
}

}  // namespace

int chat(const Options& options) {
  const SamplerOptions sampling = sampler_options(options);
  (void)session_options(options);
  if (options.system) require_utf8(*options.system, "--system");
  const bool interactive = ::isatty(STDIN_FILENO) == 1;
  const Terminal terminal(STDERR_FILENO, options.color);
  const Model model(options.model, model_options(options));
  Engine engine(model, engine_options(options));
  warn(kv_type_warning(model.facts(), options));
  if (!model.chat_notice().empty()) notice(options, model.chat_notice());

  const SessionOptions sized = sized_chat(engine, model, options);
  if (!options.quiet) {
    std::fputs(plan_text(engine.plan(sized), model.facts(), sized, terminal).c_str(), stderr);
    if (interactive) std::fputs(terminal.paint(Style::kDim, "/help lists what else can be said\n").c_str(), stderr);
  }
  Conversation conversation(model, engine, sized, sampling, options, {terminal, options.quiet});

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
      std::fputs(conversation.stats().c_str(), stderr);
    } else if (*line == "/clear") {
      conversation.clear();
    } else if (line->front() == '/' && line->find(' ') == std::string::npos && interactive) {
      std::fputs(fmt::format("{} is no command; /help lists them\n", *line).c_str(), stderr);
    } else {
      watch_interrupt();
      answer(conversation, *line, terminal, options, interactive);
      if (interrupted() && !interactive) return kInterruptedStatus;
    }
  }
}

}  // namespace lacake::cli
