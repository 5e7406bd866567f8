#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "calibration/learner.h"
#include "calibration/pieces.h"
#include "lacake/calibration.h"
#include "lacake/engine.h"
#include "lacake/error.h"
#include "lacake/generation.h"
#include "model/calibration.h"
#include "model/loaded_model.h"

namespace lacake {
namespace {

constexpr std::size_t kTested = 10;  // of so many pieces one is learned nothing from, at the end
constexpr std::size_t kSinks = 4;    // first tokens of a text, whose worth is their place's

struct Piece {
  std::size_t text = 0;
  std::string_view letters;
};

// Of all texts in turn, so that what is learned last is not one text's.
std::vector<Piece> cut(const Model& model, std::span<const CalibrationText> texts, const CalibrationOptions& options) {
  std::vector<std::vector<std::string_view>> of_text;
  double n_tokens = 0;
  for (const CalibrationText& text : texts) {
    const double n = (double)model.tokenize(text.text, false, false).size();
    const double bytes = (double)text.text.size() / std::max(n, 1.0) * (double)options.chunk;
    n_tokens += n;
    of_text.push_back(pieces_of(text.text, std::max<std::size_t>((std::size_t)bytes, 8)));
  }
  const double share = options.tokens == 0 ? 1 : std::min(1.0, (double)options.tokens / std::max(n_tokens, 1.0));
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < of_text.size(); ++i) {
    const auto n = (std::size_t)(std::ceil(share * (double)of_text[i].size()));
    for (const std::size_t j : evenly(n, of_text[i].size())) pieces.push_back({i, of_text[i][j]});
  }
  // A piece to learn from and one to test.
  const std::size_t least = options.chunk + options.chunk / 2;
  if (pieces.size() < 2 || n_tokens < (double)least) {
    throw Error({.subject = texts.empty() ? "text" : texts[0].name,
                 .expected = fmt::format("texts of {} tokens or more", least),
                 .found = fmt::format("{} tokens", n_tokens)});
  }
  return pieces;
}

// A piece as the beginning of a message, and which of the tokens are the piece's own.
struct Prompt {
  std::vector<Token> tokens;
  RepeatedText text;
};

Prompt prompt_of(const Model& model, std::string_view letters) {
  std::string before;
  const bool chat = model.has_chat_template();
  if (chat) {
    const std::string piece(letters);
    const Message message{.role = "user", .content = piece};
    const std::string text = model.chat_text({&message, 1}, /*add_generation_prompt*/ false);
    const std::size_t at = text.find(piece);
    if (at != text.npos) before = text.substr(0, at);
  }
  Prompt prompt{.tokens = model.tokenize(before, /*parse_special*/ true, /*add_special*/ true)};
  const std::size_t first = prompt.tokens.size();
  const std::vector<Token> piece = model.tokenize(std::string(letters), false, false);
  prompt.tokens.insert(prompt.tokens.end(), piece.begin(), piece.end());
  prompt.text = {.first = first, .last = prompt.tokens.size(), .chat = chat};
  return prompt;
}

SessionOptions session_of(Lessons& lessons, std::size_t n_tokens) {
  PolicyType type{.name = "learner",
                  .summary = "keeps everything and takes lessons",
                  .bounded = false,
                  .max_entries_per_layer = [](const auto&, const auto&, std::size_t size) { return size; },
                  .min_cache_size = [](const auto&, const auto&) { return std::size_t{1}; },
                  .make = [&lessons](const auto&, const auto&, std::size_t size) -> std::unique_ptr<Policy> {
                    return std::make_unique<Learner>(lessons, size);
                  }};
  return {.policy = {.type = std::make_shared<PolicyType>(std::move(type))},
          .prompt_tokens = n_tokens,
          .new_tokens = 1,
          .single_turn = true};
}

class Course {
 public:
  Course(const Model& model, Engine& engine, std::span<const CalibrationText> texts, const CalibrationOptions& options)
      : model_(model),
        engine_(engine),
        options_(options),
        pieces_(cut(model, texts, options)),
        lessons_(model.facts().policy_attention(), (std::size_t)model.facts().n_embd) {
    for (const CalibrationText& text : texts) facts_.texts.push_back(text.name);
    facts_.target = Target::kName;
    facts_.chunk = options.chunk;
    facts_.alpha = options.alpha;
  }

  // False if it was stopped.
  bool run() {
    // Those that are left to test come from all over the texts, like the others.
    std::vector<Piece> learned, tested;
    const std::size_t n_tested = (pieces_.size() + kTested - 1) / kTested;
    const std::vector<std::size_t> numbers = evenly(n_tested, pieces_.size());
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      // From the end of each stretch, so that a text's beginning is learned.
      const std::size_t from_end = pieces_.size() - 1 - i;
      (std::binary_search(numbers.begin(), numbers.end(), from_end) ? tested : learned).push_back(pieces_[i]);
    }
    if (!read(learned, facts_.n_tokens)) return false;
    if (!lessons_.learned(options_.alpha)) {
      throw Error({.subject = facts_.texts.front(),
                   .expected = "more varied text, from which a layer's scores can be learned",
                   .found = fmt::format("{} tokens for which the regression has no solution", facts_.n_tokens)});
    }
    return read(tested, facts_.n_held_out);
  }

  CalibrationFile result() {
    const LoadedModel& loaded = model_.loaded();
    const Hyperparameters& h = loaded.hyperparameters;
    CalibrationFile file{.fingerprint = loaded.fingerprint(),
                         .model_name = loaded.display_name(),
                         .architecture = h.architecture,
                         .facts = facts_};
    int layer = 0;
    for (const LayerKind& kind : h.layers) {
      auto& to = file.layers.emplace_back();
      if (kind.window > 0) continue;
      to = {.weights = lessons_.map(layer).weights, .bias = lessons_.map(layer).bias};
      file.facts.r2.push_back(lessons_.r2(layer++));
    }
    return file;
  }

 private:
  bool read(const std::vector<Piece>& pieces, std::uint64_t& n_tokens) {
    for (const Piece& piece : pieces) {
      const Prompt prompt = prompt_of(model_, piece.letters);
      const std::size_t first = std::max(prompt.text.first, kSinks);
      lessons_.attend_to(first, prompt.text.last);
      const auto session = engine_.open(session_of(lessons_, prompt.tokens.size()));
      Session* sessions[] = {session.get()};
      PrefillOptions reading{.probes = repeat_probes(model_, sessions, prompt.tokens, prompt.text)};
      if (options_.progress) {
        reading.progress = [&](std::size_t done, std::size_t total) {
          return options_.progress(n_done_ + (double)done / (double)total, (double)pieces_.size());
        };
      }
      if (!session->prefill(prompt.tokens, reading)) return false;
      n_done_ += 1;
      n_tokens += prompt.text.last - std::min(first, prompt.text.last);
    }
    return true;
  }

  const Model& model_;
  Engine& engine_;
  const CalibrationOptions& options_;
  std::vector<Piece> pieces_;
  Lessons lessons_;
  CalibrationFacts facts_;
  double n_done_ = 0;
};

}  // namespace

Calibration::Calibration(CalibrationFile file) : file_(std::make_unique<CalibrationFile>(std::move(file))) {}
Calibration::Calibration(Calibration&&) noexcept = default;
Calibration::~Calibration() = default;
CalibrationFacts Calibration::facts() const { return file_->facts; }
void Calibration::save(const std::string& path) const { file_->write(path); }

std::optional<Calibration> calibrate(const Model& model, Engine& engine, std::span<const CalibrationText> texts,
                                     const CalibrationOptions& options) {
  if (options.chunk < 2 * kSinks) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "chunk",
                 .expected = fmt::format("at least {} tokens", 2 * kSinks),
                 .found = fmt::format("{}", options.chunk)});
  }
  Course course(model, engine, texts, options);
  if (!course.run()) return {};
  return Calibration(course.result());
}

}  // namespace lacake
