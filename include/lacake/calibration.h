#pragma once

// Learned scores: a small file beside a GGUF model that says of each token, when it is written, how much would be lost
// without its entry in each layer and KV head. A policy that drops by them needs no attention to be measured.
// docs/calibration.md has the file's format and what it is good for.
//
//     lacake::Engine engine(model, {});
//     if (auto learned = lacake::calibrate(model, engine, {{"a book", text}}, {})) {
//       learned->save(lacake::calibration_path("model.gguf"));
//     }
//
// The file is read when a Model is opened (Model::Options::calibration).
//
// Threads: calibrate() as the Engine that it is given; everything else from any thread.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lacake {

class Engine;
class Model;

// Where a model's calibration belongs: "MODEL.calibration.gguf" for "MODEL.gguf".
std::string calibration_path(const std::string& model_path);
// The one that Model opens with Options::calibration = `asked`: the file that it names, the one beside the model if it
// is there, or none, "".
std::string calibration_in_use(const std::string& model_path, const std::string& asked);

// What a calibration was learned from, and how well.
struct CalibrationFacts {
  std::string target;              // the scores that it imitates
  std::vector<std::string> texts;  // their names
  std::uint64_t n_tokens = 0;      // learned from
  std::uint64_t n_held_out = 0;    // tokens that R2 was measured on, none of the others
  // Tokens that were read at once. They were repeated at once too, unless the model was trained for less than both.
  std::uint64_t chunk = 0;
  double alpha = 0;        // of the ridge regression
  std::vector<double> r2;  // by layer with full attention, the mean over its KV heads
  double mean_r2() const;
};

struct CalibrationText {
  std::string name;  // for the file; no line breaks
  std::string text;  // UTF-8
};

struct CalibrationOptions {
  std::size_t chunk = 1024;  // tokens to read at once, about
  std::size_t tokens = 0;    // to read at most, the same share of each text; 0: all
  double alpha = 1;          // of the ridge regression
  // Pieces of text that are done, and all. False stops it.
  std::function<bool(double done, double total)> progress = {};
};

struct CalibrationFile;

// Learned scores that are not in a file yet.
class Calibration {
 public:
  explicit Calibration(CalibrationFile file);  // for the library's own use
  Calibration(Calibration&&) noexcept;
  ~Calibration();

  CalibrationFacts facts() const;
  // The whole new file or the old one. Throws Error(kInput) naming it.
  void save(const std::string& path) const;

 private:
  std::unique_ptr<CalibrationFile> file_;
};

// Reads texts piece by piece and learns how much of each token would be missed, of nine pieces in ten; the tenth tells
// how well. Nothing if the progress hook stopped it. Costs about three times what reading the texts does, n_embd^2 / 2
// doubles for each layer, and the memory of one piece. Throws Error(kInput) for texts that are too short, what
// Engine::open throws, and Error(kUsage) for options that cannot be.
std::optional<Calibration> calibrate(const Model& model, Engine& engine, std::span<const CalibrationText> texts,
                                     const CalibrationOptions& options);

}  // namespace lacake
