#include "model/calibration.h"

#include <gtest/gtest.h>

#include <random>

#include "base/files.h"
#include "engine/test_session.h"
#include "lacake/snapshot.h"
#include "model/loaded_model.h"
#include "snapshot/parts.h"
#include "tools/temporary_folder.h"

namespace lacake {
namespace {

using models::TinyCalibration;

TEST(LearnedScores, AreThePlainProductWhateverTheWidth) {
  std::mt19937 random(1);
  const auto number = [&] { return (float)(random() >> 8) * 0x1p-23f - 1; };
  for (const std::size_t n : {1, 15, 16, 17, 100, 896}) {
    LearnedLayer layer{.weights = std::vector<float>(3 * n), .bias = {1, -2, 0.5f}};
    std::vector<float> input(n), scores(6, -9);
    for (float& x : layer.weights) x = number();
    for (float& x : input) x = number();
    learned_scores(layer, input.data(), scores.data(), 2);
    for (std::size_t head = 0; head < 3; ++head) {
      double expected = layer.bias[head];
      for (std::size_t i = 0; i < n; ++i) expected += (double)layer.weights[head * n + i] * input[i];
      EXPECT_NEAR(scores[2 * head], expected, 1e-5) << n;
      EXPECT_EQ(scores[2 * head + 1], -9) << "a number that is another's";
    }
  }
}

TEST(CalibrationPath, StandsBesideTheModel) {
  EXPECT_EQ(calibration_path("/a/model.gguf"), "/a/model.calibration.gguf");
  EXPECT_EQ(calibration_path("model"), "model.calibration.gguf");
}

TEST(CalibrationInUse, IsTheOneNamedOrTheOneBesideTheModelOrNone) {
  const TemporaryFolder folder;
  const std::string model = folder.path("a.gguf");
  EXPECT_EQ(calibration_in_use(model, ""), "");
  EXPECT_EQ(calibration_in_use(model, "b.gguf"), "b.gguf");
  const std::string beside = folder.file("a.calibration.gguf", "x");
  EXPECT_EQ(calibration_in_use(model, ""), beside);
  EXPECT_EQ(calibration_in_use(model, "b.gguf"), "b.gguf");
  EXPECT_EQ(calibration_in_use(model, "none"), "");
}

CalibrationFile two_layers() {
  CalibrationFile file{.fingerprint = "abc",
                       .model_name = "tiny",
                       .architecture = "llama",
                       .facts = {.target = "something",
                                 .texts = {"a book", "another.txt"},
                                 .n_tokens = 12,
                                 .n_held_out = 3,
                                 .chunk = 5,
                                 .alpha = 1,
                                 .r2 = {0.5, -0.25}}};
  for (const float x : {1.0f, 2.0f}) {
    file.layers.push_back(LearnedLayer{.weights = {x, 2, 3, 4, 5, 6}, .bias = {7, 8}});
  }
  return file;
}

Hyperparameters of_two_layers() {
  Hyperparameters h;
  h.n_layer = 2;
  h.n_embd = 3;
  h.n_head_kv = 2;
  h.layers.resize(2);
  return h;
}

TEST(CalibrationFile, IsReadAsItWasWritten) {
  const TemporaryFolder folder;
  const std::string path = folder.path("c.gguf");
  const CalibrationFile written = two_layers();
  written.write(path);
  const CalibrationFile read = CalibrationFile::read(path, of_two_layers());
  EXPECT_EQ(read.fingerprint, written.fingerprint);
  EXPECT_EQ(read.model_name, written.model_name);
  EXPECT_EQ(read.architecture, written.architecture);
  EXPECT_EQ(read.facts.target, written.facts.target);
  EXPECT_EQ(read.facts.texts, written.facts.texts);
  EXPECT_EQ(read.facts.n_tokens, 12u);
  EXPECT_EQ(read.facts.n_held_out, 3u);
  EXPECT_EQ(read.facts.chunk, 5u);
  EXPECT_EQ(read.facts.alpha, 1);
  EXPECT_EQ(read.facts.r2, written.facts.r2);
  ASSERT_EQ(read.layers.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(read.layers[i]->weights, written.layers[i]->weights);
    EXPECT_EQ(read.layers[i]->bias, written.layers[i]->bias);
  }
  EXPECT_EQ(read.id(), written.id());
  CalibrationFile other = two_layers();
  other.layers[1]->bias[0] += 1;
  EXPECT_NE(other.id(), written.id());
}

// A layer with a sliding window has no scores, and none are looked for.
TEST(CalibrationFile, HasNothingOfLayersThatSlide) {
  const TemporaryFolder folder;
  const std::string path = folder.path("c.gguf");
  CalibrationFile written = two_layers();
  written.layers[0].reset();
  written.facts.r2 = {0.5};
  written.write(path);
  Hyperparameters h = of_two_layers();
  h.layers[0].window = 8;
  const CalibrationFile read = CalibrationFile::read(path, h);
  EXPECT_FALSE(read.layers[0]);
  EXPECT_TRUE(read.layers[1]);
  const std::string message = refusal(Error::Kind::kInput, [&] { (void)CalibrationFile::read(path, of_two_layers()); });
  EXPECT_EQ(message, path + ": part blk.0.score.weight: expected one, found none");
}

std::string refused(const std::string& path, const Hyperparameters& h = of_two_layers()) {
  const std::string message = refusal(Error::Kind::kInput, [&] { (void)CalibrationFile::read(path, h); });
  EXPECT_EQ(message.rfind(path, 0), 0u) << message;
  EXPECT_EQ(message.find('\n'), message.npos);
  return message.substr(std::min(message.size(), path.size()));
}

TEST(CalibrationFile, IsRefusedByWhatIsWrongWithIt) {
  const TemporaryFolder folder;
  const std::string path = folder.path("c.gguf");
  EXPECT_NE(refused(folder.path("no")).find("No such file"), std::string::npos);
  EXPECT_EQ(refused(folder.file("text", "hello")),
            ": expected a calibration that lacake made, found a file of another kind");
  two_layers().write(path);
  const std::string whole = read_file(path);
  EXPECT_NE(refused(folder.file("short", whole.substr(0, whole.size() - 64))).find("cut short"), std::string::npos);
  std::string damaged = whole;
  damaged[damaged.find(std::string("\0\0\xe0\x40", 4))] ^= 1;  // of the bias 7
  EXPECT_EQ(refused(folder.file("damaged", damaged)),
            ": part blk.0.score.bias is damaged: it does not match its checksum");
  const auto edited = [&](std::string_view from, std::string_view to) {
    std::string bytes = whole;
    bytes.replace(bytes.find(from), from.size(), to);
    EXPECT_TRUE(seal(std::as_writable_bytes(std::span(bytes))));
    return folder.file("edited", bytes);
  };
  EXPECT_EQ(refused(edited("lacake.calibration", "lacake.calibratiom")),
            ": general.type: expected lacake.calibration, found lacake.calibratiom");
  const std::string version("calibration.version\x0a\0\0\0\x01", 24);
  EXPECT_EQ(refused(edited(version, version.substr(0, 23) + "\x02")), ": calibration.version: expected 1, found 2");
  Hyperparameters wider = of_two_layers();
  wider.n_embd = 4;
  EXPECT_EQ(refused(path, wider), ": part blk.0.score.weight: expected 8 elements, found 6");
  CalibrationFile infinite = two_layers();
  infinite.layers[1]->weights[2] = INFINITY;
  infinite.write(path);
  EXPECT_EQ(refused(path), ": part blk.1.score.weight: expected numbers, found inf");
}

// The file opens with the model; whose scores they are is asked when a policy wants them.
TEST(Calibration, OfAnotherModelIsRefusedWhereItsScoresAreUsed) {
  const ModelFile file(small());
  TinyModel twin = small();
  twin.seed = 2;
  const ModelFile other(twin);
  const TinyCalibration calibration(other.path());
  const Model model(file.path(), {.calibration = calibration.path()});
  Engine engine(model, {.threads = 1});
  const std::string message =
      refusal(Error::Kind::kInput, [&] { (void)engine.open(with("learned", "40", "f32", PrefillMode::kExact, 30)); });
  EXPECT_TRUE(contains(message, calibration.path() + ": model.fingerprint: expected " + model.loaded().fingerprint()))
      << message;
  EXPECT_NO_THROW((void)engine.open(with("tova", "40", "f32", PrefillMode::kExact, 30)));
}

TEST(Calibration, IsNeededByWhoWantsLearnedScores) {
  const ModelFile file(small());
  const Model model(file.path(), {.calibration = "none"});
  Engine engine(model, {.threads = 1});
  const std::string message =
      refusal(Error::Kind::kUsage, [&] { (void)engine.open(with("learned", "40", "f32", PrefillMode::kExact, 30)); });
  EXPECT_TRUE(contains(message, "policy learned: expected a model with learned scores (calibration), found none"))
      << message;
}

// A conversation that was kept under one calibration does not go on under another: its scores mean something else.
TEST(Calibration, OfASavedSessionMustBeTheSame) {
  const TemporaryFolder folder;
  const ModelFile file(small());
  const TinyCalibration one(file.path()), two(file.path(), {}, 2);
  const auto opened = [&](const TinyCalibration& calibration, bool first) {
    const Model model(file.path(), {.calibration = calibration.path()});
    Engine engine(model, {.threads = 1});
    if (!first) return (void)engine.open(Snapshot(folder.path("a.kv")));
    const auto session = engine.open(with("learned", "40", "f32", PrefillMode::kExact, 60));
    session->prefill(random_tokens(small(), 60, 1));
    session->save(folder.path("a.kv"));
  };
  opened(one, true);
  EXPECT_NO_THROW(opened(one, false));
  EXPECT_TRUE(contains(refusal(Error::Kind::kInput, [&] { opened(two, false); }), "policy.calibration"));
}

}  // namespace
}  // namespace lacake
