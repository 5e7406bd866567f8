#include <gtest/gtest.h>

#include "base/files.h"
#include "calibration/pieces.h"
#include "engine/test_session.h"
#include "lacake/calibration.h"
#include "model/calibration.h"
#include "tools/temporary_folder.h"

namespace lacake {
namespace {

TEST(Pieces, AreCutWhereLinesOrWordsEnd) {
  using Pieces = std::vector<std::string_view>;
  EXPECT_EQ(pieces_of("one two\nthree four", 10), (Pieces{"one two\n", "three four"}));
  EXPECT_EQ(pieces_of("one two three four", 10), (Pieces{"one two ", "three four"}));
  EXPECT_EQ(pieces_of("onetwothreefour", 6), (Pieces{"onetwo", "threef", "our"}));
  EXPECT_EQ(pieces_of("short", 10), (Pieces{"short"}));
  EXPECT_EQ(pieces_of("one two three four. s", 20), (Pieces{"one two three four. "}));  // without the rest
}

TEST(Pieces, NeverCutACharacter) {
  const std::string text = "ääääääää";  // two bytes each
  std::string all;
  for (const std::string_view piece : pieces_of(text, 5)) {
    EXPECT_NE((unsigned char)piece.front() & 0xc0, 0x80);
    all += piece;
  }
  EXPECT_EQ(all, text);
}

TEST(Evenly, IsOverAll) {
  EXPECT_EQ(evenly(3, 9), (std::vector<std::size_t>{0, 3, 6}));
  EXPECT_EQ(evenly(5, 2), (std::vector<std::size_t>{0, 1}));
  EXPECT_EQ(evenly(0, 2), std::vector<std::size_t>{});
}

// Words of the tiny models' letters.
std::string letters(std::size_t n, unsigned seed) {
  std::string text;
  for (const Token token : random_tokens(small(), n, seed))
    text += (char)('a' + token % 26), text += token % 5 ? "" : " ";
  return text;
}

std::optional<Calibration> learned(const ModelFile& file, int threads,
                                   const CalibrationOptions& options = {.chunk = 64}) {
  const Model model(file.path(), {.calibration = "none"});
  Engine engine(model, {.threads = threads});
  const CalibrationText texts[] = {{"one", letters(700, 1)}, {"two", letters(300, 2)}};
  return calibrate(model, engine, texts, options);
}

TEST(Calibrate, MakesAFileThatTheModelOpensAndAPolicyUses) {
  const TemporaryFolder folder;
  const ModelFile file(small());
  const auto calibration = learned(file, 1);
  ASSERT_TRUE(calibration);
  const CalibrationFacts facts = calibration->facts();
  EXPECT_EQ(facts.texts, (std::vector<std::string>{"one", "two"}));
  EXPECT_EQ(facts.chunk, 64u);
  EXPECT_EQ(facts.r2.size(), 4u);
  EXPECT_GT(facts.n_held_out, 60u);
  EXPECT_GT(facts.n_tokens, 5 * facts.n_held_out);
  const std::string path = folder.path("c.gguf");
  calibration->save(path);

  const Model model(file.path(), {.calibration = path});
  EXPECT_EQ(model.facts().calibration_path, path);
  Engine engine(model, {.threads = 1});
  const auto session = engine.open(with("learned", "40", "f16", PrefillMode::kExact, 120));
  session->prefill(random_tokens(small(), 120, 3));
  EXPECT_LE(session->use().held_bytes, session->use().budget_bytes);
}

TEST(Calibrate, GivesTheSameBitsOnAnyNumberOfThreads) {
  const TemporaryFolder folder;
  const ModelFile file(small());
  for (const int threads : {1, 2}) learned(file, threads)->save(folder.path(std::to_string(threads)));
  EXPECT_EQ(read_file(folder.path("1")), read_file(folder.path("2")));
}

TEST(Calibrate, LearnsFromAsManyTokensAsItIsTold) {
  const ModelFile file(small());
  const CalibrationFacts all = learned(file, 1)->facts(),
                         some = learned(file, 1, {.chunk = 64, .tokens = 400})->facts();
  EXPECT_LT(some.n_tokens + some.n_held_out, 560u);
  EXPECT_GT(some.n_tokens + some.n_held_out, 300u);
  EXPECT_GT(all.n_tokens + all.n_held_out, 800u);
}

TEST(Calibrate, StopsWhereItsHookSaysSo) {
  const ModelFile file(small());
  double last = -1, most = 0;
  EXPECT_TRUE(learned(file, 1, {.chunk = 64, .progress = [&](double done, double total) {
                                  EXPECT_GE(done, last);
                                  EXPECT_LE(done, total);
                                  last = done;
                                  most = total;
                                  return true;
                                }}));
  EXPECT_GT(last, most - 1);
  EXPECT_FALSE(learned(file, 1, {.chunk = 64, .progress = [](double done, double) { return done < 3; }}));
}

TEST(Calibrate, KnowsLayersThatSlide) {
  const TinyModel tiny = models::variant("gemma3").model;
  const ModelFile file(tiny);
  const auto calibration = learned(file, 1);
  const Model model(file.path());
  EXPECT_EQ((int)calibration->facts().r2.size(), model.facts().policy_attention().n_layer);
}

TEST(Calibrate, RefusesTextsThatAreTooShortAndPiecesThatAreNone) {
  const ModelFile file(small());
  EXPECT_TRUE(contains(refusal(Error::Kind::kInput, [&] { (void)learned(file, 1, {.chunk = 5000}); }),
                       "one: expected texts of 7500 tokens or more, found "));
  EXPECT_TRUE(contains(refusal(Error::Kind::kUsage, [&] { (void)learned(file, 1, {.chunk = 3}); }),
                       "chunk: expected at least 8 tokens, found 3"));
}

}  // namespace
}  // namespace lacake
