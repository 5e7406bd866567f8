#include "held_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "draw/drawing.h"
#include "text/utf8.h"

namespace lacake::cli {
namespace {

// Tokens that look alike lie in one run, so that a book's page has some thousands of elements, not a hundred thousand.
constexpr int kShades = 8;

// 0: held by none; else 1 (few layers) to kShades (all).
int shade(double share) { return share <= 0 ? 0 : std::clamp((int)std::ceil(share * kShades), 1, kShades); }

struct Run {
  int shade = 0;
  double share = 0;  // mean over the run's tokens
  std::size_t n = 0;
  std::string text;
};

std::vector<Run> runs_of(const std::vector<HeldToken>& tokens) {
  std::vector<Run> runs;
  Utf8Stream characters;  // a character that lies in two tokens belongs to the second
  for (const HeldToken& token : tokens) {
    if (runs.empty() || runs.back().shade != shade(token.share)) runs.push_back({.shade = shade(token.share)});
    Run& run = runs.back();
    run.share = (run.share * (double)run.n + token.share) / (double)(run.n + 1);
    ++run.n;
    run.text += characters.push(token.text);
  }
  if (!runs.empty()) runs.back().text += characters.flush();
  return runs;
}

// What a terminal would take for a command becomes a picture of it.
std::string without_controls(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const auto byte = (unsigned char)c;
    if (byte < 0x20 && c != '\n' && c != '\t') {
      result += fmt::format("\\x{:02x}", byte);
    } else {
      result += c;
    }
  }
  return result;
}

}  // namespace

std::vector<HeldToken> held_tokens(const Kept& kept, const std::vector<std::string>& pieces) {
  std::vector<HeldToken> tokens;
  for (const std::string& piece : pieces) tokens.push_back({piece, 0});
  for (const draw::HeadPositions& heads : kept.layers) {
    const double part = 1.0 / (double)(kept.layers.size() * heads.size());
    for (const std::vector<std::int64_t>& positions : heads) {
      for (const std::int64_t position : positions) {
        if (position >= 0 && position < (std::int64_t)tokens.size()) {
          tokens[(std::size_t)position].share += part;
        }
      }
    }
  }
  for (HeldToken& token : tokens) token.share = std::min(token.share, 1.0);
  return tokens;
}

std::string held_text(const std::vector<HeldToken>& tokens, const Terminal& terminal) {
  std::string text;
  for (const Run& run : runs_of(tokens)) {
    if (!terminal.color()) {
      // Without colours what is gone is said, not shown.
      text +=
          run.shade == 0 ? fmt::format("[{} token{} gone]", run.n, run.n == 1 ? "" : "s") : without_controls(run.text);
      continue;
    }
    if (run.shade == 0) {
      text += terminal.paint(Style::kDim, fmt::format("[{}]", run.n));
    } else {
      const Style style = run.shade >= kShades ? Style::kBold : run.shade > kShades / 2 ? Style::kPlain : Style::kDim;
      text += terminal.paint(style, without_controls(run.text));
    }
  }
  return text + "\n";
}

std::string held_page(const std::vector<HeldToken>& tokens, const std::string& title, const std::string& facts) {
  std::string page = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<style>\n"
      ":root {{ color-scheme: light dark; --ink: 20, 20, 20; --page: #fff; }}\n"
      "@media (prefers-color-scheme: dark) {{ :root {{ --ink: 240, 240, 240; --page: #16181c; }} }}\n"
      "body {{ font: 16px/1.55 Georgia, serif; background: var(--page); color: rgb(var(--ink)); max-width: 46rem;"
      " margin: 2rem auto; padding: 0 1rem; }}\n"
      "pre {{ font: 13px/1.4 ui-monospace, monospace; white-space: pre-wrap; }}\n"
      ".text {{ white-space: pre-wrap; overflow-wrap: anywhere; }}\n"
      ".s0 {{ color: rgba(var(--ink), .18); text-decoration: line-through; }}\n",
      draw::escaped(title));
  for (int i = 1; i <= kShades; ++i) {
    page += fmt::format(".s{} {{ color: rgba(var(--ink), {:.2f}); }}\n", i, 0.30 + 0.70 * i / kShades);
  }
  page += fmt::format("</style>\n</head>\n<body>\n<h1>{}</h1>\n<pre>{}</pre>\n<p>", draw::escaped(title),
                      draw::escaped(facts));
  page += "Share of layers that still hold a token: <span class=\"s0\">none</span> ";
  for (int i = 1; i <= kShades; ++i) page += fmt::format("<span class=\"s{}\">{:.0f}%</span> ", i, 100.0 * i / kShades);
  page += "</p>\n<div class=\"text\">";
  for (const Run& run : runs_of(tokens)) {
    page += fmt::format("<span class=\"s{}\" title=\"{} token{}, held by {:.0f}% of layers\">{}</span>", run.shade,
                        run.n, run.n == 1 ? "" : "s", 100 * run.share, draw::escaped(run.text));
  }
  return page + "</div>\n</body>\n</html>\n";
}

}  // namespace lacake::cli
