#include "eval/results.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <optional>

#include "base/files.h"
#include "eval/json_lines.h"
#include "lacake/error.h"
#include "tools/temporary_folder.h"

namespace lacake::eval {
namespace {

using nlohmann::json;

class Folder : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return folder_.path(name); }
  static json config(int seed, int limit = 3) { return {{"meaning", {{"seed", seed}}}, {"grid", {{"limit", limit}}}}; }
  std::string refused(const json& config) const {
    try {
      Results(folder_.path(), config);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  TemporaryFolder folder_;
};

using ResultsFolder = Folder;
using JsonLinesText = Folder;

TEST_F(ResultsFolder, GoesOnWithTheRecordsThatAreThere) {
  Results(folder_.path(), config(1)).add({{"sample", "a"}});
  Results again(folder_.path(), config(1, 9));
  again.add({{"sample", "b"}});
  ASSERT_EQ(again.records().size(), 2u);
  EXPECT_EQ(again.records()[0]["sample"], "a");
  EXPECT_EQ(read_records(path("predictions.jsonl")), again.records());
}

TEST_F(ResultsFolder, RefusesAnotherConfigurationAndSaysWhatDiffers) {
  Results(folder_.path(), config(1));
  const std::string line = refused(config(2));
  EXPECT_NE(line.find(folder_.path()), std::string::npos) << line;
  EXPECT_NE(line.find("seed: was 1, now 2"), std::string::npos) << line;
}

TEST_F(ResultsFolder, DropsHalfALastLineAndKeepsTheRest) {
  Results(folder_.path(), config(1)).add({{"sample", "a"}});
  std::ofstream(path("predictions.jsonl"), std::ios::app) << R"({"sample": "b)";
  Results again(folder_.path(), config(1));
  again.add({{"sample", "c"}});
  EXPECT_EQ(read_records(path("predictions.jsonl")), (std::vector<json>{{{"sample", "a"}}, {{"sample", "c"}}}));
}

TEST_F(ResultsFolder, NamesABrokenLineByFileAndNumber) {
  Results(folder_.path(), config(1)).add({{"sample", "a"}});
  std::ofstream(path("predictions.jsonl"), std::ios::app) << "{oops}\n";
  EXPECT_NE(refused(config(1)).find("predictions.jsonl:2: not JSON"), std::string::npos) << refused(config(1));
}

TEST_F(ResultsFolder, LosesNothingWrittenWhenTheDiskIsFull) {
  std::optional<Results> results(std::in_place, folder_.path(), config(1));
  results->add({{"sample", "a"}});
  const json before = results->records();
  // A limit on the file's size is a disk that is full after some bytes of the next record.
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit full{.rlim_cur = std::filesystem::file_size(path("predictions.jsonl")) + 5, .rlim_max = old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &full);
  EXPECT_THROW(results->add({{"sample", std::string(1000, 'b')}}), Error);
  EXPECT_THROW(results->write("config.json", std::string(1000, ' ')), Error);
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, ignored);
  EXPECT_EQ(read_file(path("predictions.jsonl")), "{\"sample\":\"a\"}\n");
  results.reset();
  EXPECT_EQ(json(Results(folder_.path(), config(1)).records()), before);
}

TEST_F(ResultsFolder, HasOneWriterAtATimeAndReadersMeanwhile) {
  {
    Results writing(folder_.path(), config(1));
    writing.add({{"sample", "a"}});
    EXPECT_EQ(refused(config(1)), "results " + folder_.path() + ": expected a folder that no other evaluation is " +
                                      "writing, found one that is being written now");
    EXPECT_EQ(read_records(path("predictions.jsonl")).size(), 1u);
    writing.add({{"sample", "b"}});
  }
  EXPECT_EQ(Results(folder_.path(), config(1)).records().size(), 2u);
}

TEST(JsonLines, NamesEveryBadLineAndSkipsOrStops) {
  const std::string text = "{\"a\": 1}\n\n{\"a\": \n[2]\n{\"a\": 3}";
  const JsonLines lines = parse_json_lines("data.jsonl", text, BadLine::kSkip);
  ASSERT_EQ(lines.lines.size(), 2u);
  EXPECT_EQ(lines.lines[1].number, 5u);
  ASSERT_EQ(lines.skipped.size(), 2u);
  EXPECT_EQ(lines.skipped[0].find("data.jsonl:3: not JSON"), 0u) << lines.skipped[0];
  EXPECT_EQ(lines.skipped[1], "data.jsonl:4: expected a JSON object, found array");
  EXPECT_THROW(parse_json_lines("data.jsonl", text, BadLine::kStop), Error);
}

TEST(Difference, NamesKeysByPath) {
  const json was = {{"model", {{"name", "a"}, {"size", 1}}}, {"kept", true}};
  const json now = {{"model", {{"name", "b"}, {"size", 1}}}, {"kept", true}, {"added", 2}};
  EXPECT_EQ(difference(was, was), "");
  EXPECT_EQ(difference(was, now), "added: was null, now 2; model.name: was \"a\", now \"b\"");
}

}  // namespace
}  // namespace lacake::eval
