#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>

#include "base/nearest.h"
#include "checks.h"
#include "commands.h"
#include "lacake/error.h"
#include "lacake/machine.h"
#include "lacake/version.h"
#include "other_names.h"
#include "output.h"
#include "report.h"
#include "terminal.h"

namespace lacake::cli {
namespace {

constexpr int kFailed = 1;
constexpr int kWrongUsage = 2;
constexpr const char* kTargetVariable = "LACAKE_TARGET";

struct CommandRow {
  const char* name;
  const char* summary;
  const char* footer;
  Command bit;
  int (*run)(const Options&);
};

constexpr CommandRow kCommands[] = {
    {"run", "one answer: FILE, then TEXT, in the model's chat template unless --raw",
     "Example: lacake run -m model.gguf -f book.txt -p \"Who is the murderer?\" --policy cake --kv-budget 512", kRun,
     run},
    {"chat", "a conversation in the terminal", "Ctrl-C stops an answer; /help lists what else can be said.", kChat,
     chat},
    {"ingest", "reads texts into a saved conversation, to be asked with run or chat --session",
     "Example: lacake ingest book.txt -m model.gguf -o book.kv --kv-budget 2048", kIngest, ingest},
    {"serve",
     "a server for many conversations in a fixed amount of memory, with OpenAI's, Anthropic's and llama.cpp's APIs",
     "Example: lacake serve -m model.gguf --kv-budget 1024 --parallel 16", kServe, serve},
    {"inspect", "model facts and memory plan; with a prompt or a saved conversation: what each layer keeps of it",
     "Example: lacake inspect -m model.gguf -f book.txt --policy lacache --kv-budget 512 --plot kept.svg", kInspect,
     inspect},
    {"bench", "speed: prompts and single tokens, at given depths, policies and budgets",
     "Example: lacake bench -m model.gguf -d 0,2048,8192 --policy full,cake,lacache --kv-budget 512", kBench, bench},
    {"eval", "quality of policies and budgets: perplexity, needle, RULER, LongBench",
     "Example: lacake eval perplexity -m model.gguf -f book.txt --policy full,lacache,cake --kv-budget 256,512", kEval,
     eval},
    {"calibrate",
     "learns from texts what tokens are worth to a model: a small file for the policies trellis and learned",
     "Example: lacake calibrate -m model.gguf -f book.txt", kCalibrate, calibrate},
    {"policies", "the policies: parameters, defaults, ranges, papers", "", kPolicies, policies},
};

std::vector<std::string> command_names() {
  std::vector<std::string> names = {"help"};
  for (const CommandRow& row : kCommands) names.emplace_back(row.name);
  return names;
}

// One line on standard error, whatever the message holds.
void print_error(std::string message, const std::string& color) {
  std::replace_if(
      message.begin(), message.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  const Terminal terminal(STDERR_FILENO, color);
  std::fputs(fmt::format("{} {} {}\n", "lacake:", terminal.paint(Style::kRed, "error:"), message).c_str(), stderr);
}

[[noreturn]] void refuse(const std::string& line) { throw Error({.kind = Error::Kind::kUsage, .found = line}); }

std::string did_you_mean(std::string_view name, const std::vector<std::string>& known) {
  if (const std::string other = of_llama_cpp(name); !other.empty()) return other;
  const std::string near = nearest(name, known);
  return near.empty() ? "" : fmt::format(", did you mean {}?", near);
}

std::string no_such_option(const std::string& name, const CommandRow& row) {
  return fmt::format("{}: no such option{} (see lacake {} --help)", name, did_you_mean(name, option_names(row.bit)),
                     row.name);
}

// CLI11 takes the word after `--host=` for its value, and a file that is named [a,b] for the two files a and b.
std::vector<std::string> as_meant(const std::vector<std::string>& words, const std::vector<std::string>& with_value,
                                  bool has_files) {
  const auto takes_value = [&](const std::string& flag) {
    return std::ranges::find(with_value, flag) != with_value.end();
  };
  std::vector<std::string> meant;
  bool is_value = false;
  for (const std::string& word : words) {
    if (!is_value && word.starts_with("--") && word.ends_with('=') && takes_value(word.substr(0, word.size() - 1))) {
      meant.push_back(word.substr(0, word.size() - 1));
      meant.emplace_back();
      continue;
    }
    const bool in_brackets = !is_value && has_files && word.starts_with('[') && word.ends_with(']');
    meant.push_back(in_brackets ? "./" + word : word);
    is_value = !is_value && takes_value(word);
  }
  return meant;
}

// Before CLI11 takes one for a short option and its value. Returns lines about those that are taken, and takes them out
// of `words`, which stand behind the command.
std::vector<std::string> check_foreign_flags(const CommandRow& row, std::vector<std::string>& words) {
  std::vector<std::string> known, with_value;
  bool has_files = false;
  for (const OptionFacts& option : option_facts(row.bit)) {
    has_files = has_files || !option.name().starts_with('-');
    known.insert(known.end(), option.flags.begin(), option.flags.end());
    if (option.takes_value) with_value.insert(with_value.end(), option.flags.begin(), option.flags.end());
  }
  std::vector<std::string> said;
  words = as_meant(words, with_value, has_files);
  if (row.bit == kServe) {
    const auto has = [&](const char* flag) { return std::ranges::find(words, flag) != words.end(); };
    if (has("--slots") && has("--no-slots")) refuse("--slots: expected one of --slots and --no-slots, found both");
    said = take_flags_without_effect(words, with_value);
  }
  const std::string flag = foreign_flag(words, known, with_value);
  if (!flag.empty()) refuse(no_such_option(flag, row));
  return said;
}

const CommandRow* command_named(std::string_view name) {
  for (const CommandRow& row : kCommands) {
    if (name == row.name) return &row;
  }
  return nullptr;
}

// What the library says, with the names that the user wrote: flags of the command, environment variables.
std::string in_our_words(const Error& error, const CommandRow* row) {
  return error.with_names([row](std::string_view setting) -> std::string {
    if (setting == "instruction_set") return kTargetVariable;
    return row != nullptr ? flag_of(row->bit, setting) : "";
  });
}

// What CLI11 refused, as one line that leads on.
std::string refusal(const CLI::App& app, const CLI::ParseError& error) {
  for (const CommandRow& row : kCommands) {
    const CLI::App* command = app.get_subcommand(row.name);
    if (!command->parsed()) continue;
    std::string what = error.what();
    if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
      // Where the command has none they are the program's.
      const auto extras = command->remaining().empty() ? app.remaining() : command->remaining();
      const std::string extra = extras.empty() ? "" : extras.front();
      const std::string name = extra.substr(0, extra.find('='));
      const bool option = extra.starts_with('-') && extra.size() > 1;
      if (option) return no_such_option(name, row);
      what = fmt::format("\"{}\": expected an option, found a word (is a quotation mark missing?)", extra);
    }
    return fmt::format("{} (see lacake {} --help)", what, row.name);
  }
  return fmt::format("{} (see lacake --help)", error.what());
}

[[noreturn]] void refuse_command(std::string_view word) {
  if (word.starts_with('-')) refuse(fmt::format("{}: no such option before a command (see lacake --help)", word));
  refuse(fmt::format("\"{}\": no such command{} (see lacake --help)", word, did_you_mean(word, command_names())));
}

// Everything that --help says, for programs: completions, man pages, tests.
nlohmann::json help_json() {
  nlohmann::json commands = nlohmann::json::array();
  for (const CommandRow& row : kCommands) {
    commands.push_back({{"name", row.name},
                        {"summary", row.summary},
                        {"footer", row.footer},
                        {"options", option_table_json(row.bit)}});
  }
  return {{"schema", 1},
          {"version", LACAKE_VERSION},
          {"commands", std::move(commands)},
          {"environment",
           {{{"name", kTargetVariable}, {"help", "instruction set to compute with"}, {"words", instruction_sets()}},
            {{"name", "NO_COLOR"}, {"help", "--color auto is never"}},
            {{"name", "XDG_STATE_HOME"},
             {"help", "chat keeps its history in lacake/chat_history there [~/.local/state]"}}}}};
}

int print_help(const CLI::App& app, const std::string& topic) {
  if (topic == "--json") {
    write_output(json_line(help_json()));
    return 0;
  }
  const auto known = command_names();
  if (!topic.empty() && std::find(known.begin(), known.end(), topic) == known.end()) refuse_command(topic);
  write_output(topic.empty() ? app.help() : app.get_subcommand(topic)->help("lacake"));
  return 0;
}

int run_command_line(int argc, char** argv, Options& options) {
  CLI::App app("lacake: long texts in a language model, in as much KV cache memory as you give it", "lacake");
  app.set_version_flag("--version", "lacake " LACAKE_VERSION);
  app.set_help_flag("-h,--help", "this help");
  app.require_subcommand(0, 1);  // a second one is a word too much
  app.get_formatter()->column_width(34);
  app.footer(wrapped(fmt::format("Model families: {}.", fmt::join(supported_architectures(), ", ")), 0, 80));
  for (const CommandRow& row : kCommands) {
    CLI::App* command = app.add_subcommand(row.name, row.summary);
    command->footer(row.footer);
    add_options(*command, row.bit, options);
  }
  app.add_subcommand("help", "the options of a command");
  // CLI11 would take the command's name after `help` for the command itself.
  const std::string_view first = argc > 1 ? argv[1] : "";
  const auto refuse_after = [&](int n) {
    if (argc > n) refuse(fmt::format("\"{}\": expected nothing after {} (see lacake --help)", argv[n], argv[n - 1]));
  };
  if (first == "help" || first == "--help" || first == "-h") {
    refuse_after(3);
    return print_help(app, argc > 2 ? argv[2] : "");
  }
  if (first == "--version") refuse_after(2);

  const CommandRow* named = argc > 1 ? command_named(argv[1]) : nullptr;
  // Before CLI11 takes a --help behind it for all that was asked.
  if (argc > 1 && named == nullptr && first != "--version") refuse_command(first);
  std::vector<std::string> words(argv + std::min(argc, named ? 2 : 1), argv + argc), said;
  if (named != nullptr) said = check_foreign_flags(*named, words);
  if (named != nullptr) words.insert(words.begin(), argv[1]);
  std::ranges::reverse(words);  // as CLI11 takes them
  try {
    app.parse(std::move(words));
  } catch (const CLI::CallForVersion&) {
    write_output("lacake " LACAKE_VERSION "\n");
    return 0;
  } catch (const CLI::CallForHelp&) {
    write_output(app.help());
    return 0;
  } catch (const CLI::ParseError& error) {
    refuse(refusal(app, error));
  }

  for (const CommandRow& row : kCommands) {
    if (!app.got_subcommand(row.name)) continue;
    const bool saved = row.bit == kInspect && !options.words.empty();
    if ((row.bit & (kPolicies | kEval)) == 0 && !saved && options.model.empty()) {
      refuse(fmt::format("no model: expected -m FILE (see lacake {} --help)", row.name));
    }
    for (const std::string& line : said) notice(options, line);
    note_given(*app.get_subcommand(row.name), row.bit, options);
    check_effects(options, row.bit);
    // Before a model is opened: what it packs is packed for one instruction set.
    if (const char* target = std::getenv(kTargetVariable); target && *target) use_instruction_set(target);
    return row.run(options);
  }
  refuse("expected a command (see lacake --help)");
}

}  // namespace

void notice(const Options& options, const std::string& line) {
  if (!options.quiet) std::fputs((line + "\n").c_str(), stderr);
}

int guarded(int argc, char** argv) {
  // A reader of standard output that leaves shows as an error of write().
  signal(SIGPIPE, SIG_IGN);
  Options options;
  const CommandRow* named = argc > 1 ? command_named(argv[1]) : nullptr;
  try {
    return run_command_line(argc, argv, options);
  } catch (const OutputClosed&) {
    return 0;
  } catch (const Error& error) {
    print_error(in_our_words(error, named), options.color);
    return error.kind() == Error::Kind::kUsage ? kWrongUsage : kFailed;
  } catch (const std::bad_alloc&) {
    print_error("out of memory", options.color);
  } catch (const std::exception& error) {
    print_error(error.what(), options.color);
  }
  return kFailed;
}

}  // namespace lacake::cli

int main(int argc, char** argv) { return lacake::cli::guarded(argc, argv); }
