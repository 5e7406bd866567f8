#include "eval/report.h"

#include <gtest/gtest.h>

#include <map>

#include "eval/charts.h"
#include "lacake/error.h"

namespace lacake::eval {
namespace {

using nlohmann::json;

json config() {
  return {{"meaning",
           {{"task", "needle"},
            {"question", "seen"},
            {"model", {{"file", "m.gguf"}, {"name", "A <b> model"}, {"weight_types", "f32"}}}}},
          {"grid", {{"cells", {"full"}}, {"seeds", 3}}}};
}
json cell(const std::string& policy, const json& budget, double score) {
  return {{"cell", policy},
          {"policy", policy},
          {"budget", budget},
          {"score", score},
          {"interval", {score / 2, (1 + score) / 2}},
          {"samples", 4},
          {"kv", {{"peak_bytes", 2 << 20}, {"held_bytes", 1}, {"full_bytes", 4}}},
          {"groups",
           {{{"tags", {{"length", 2048}, {"depth", 0}}}, {"samples", 2}, {"score", score}},
            {{"tags", {{"length", 2048}, {"depth", 50}}}, {"samples", 2}, {"score", 1.0}}}}};
}

TEST(Report, IsOnePageThatNeedsNothingFromElsewhereAndEscapesWhatItShows) {
  const std::string html =
      report_html(config(), {{"task", "needle"}, {"cells", {cell("full", nullptr, 1), cell("cake", "9", 0.25)}}});
  EXPECT_NE(html.find("A &lt;b&gt; model"), std::string::npos);
  EXPECT_EQ(html.find("<b> model"), std::string::npos);
  EXPECT_EQ(html.find("src="), std::string::npos);
  EXPECT_EQ(html.find("href="), std::string::npos);
  for (const char* part : {"25.0 %", "Quality against budget", "Length and depth", "seen", "2.00 MiB"}) {
    EXPECT_NE(html.find(part), std::string::npos) << part;
  }
}

TEST(HeatMaps, HaveTheGroupsOfEachCellByDepthAndLength) {
  const auto maps = heat_maps({{"cells", {cell("cake", "9", 0.25)}}});
  ASSERT_EQ(maps.size(), 1u);
  EXPECT_EQ(maps[0].scores, (std::vector<std::vector<double>>{{0.25}, {1.0}}));
  EXPECT_EQ(heat_map_text(maps[0], false), "cake\n     0 %   25 \n    50 %  100 \n  length 2K   \n");
  EXPECT_EQ(heat_map_drawing(maps).boxes.size(), 2u);
}

TEST(HeatMaps, OfAPolicyOfSeveralBudgetsBeginARow) {
  std::vector<HeatMap> maps;
  for (const char* title : {"full", "cake @ 50%", "cake @ 25%", "tova @ 50%", "tova @ 25%"}) {
    maps.push_back({title, {2048}, {0}, {{1.0}}});
  }
  std::map<std::string, double> top, left;
  for (const auto& text : heat_map_drawing(maps).texts) top[text.text] = text.y, left[text.text] = text.x;
  EXPECT_LT(top["full"], top["cake @ 50%"]);
  EXPECT_EQ(top["cake @ 50%"], top["cake @ 25%"]);
  EXPECT_LT(left["cake @ 50%"], left["cake @ 25%"]);
  EXPECT_LT(top["cake @ 25%"], top["tova @ 50%"]);
  EXPECT_EQ(left["full"], left["tova @ 50%"]);
}

TEST(Comparison, ShowsCellsOfBothAndRefusesTwoTasks) {
  const json a = {{"task", "needle"}, {"cells", {cell("full", nullptr, 1), cell("cake", "9", 0.25)}}};
  const json b = {{"task", "needle"}, {"cells", {cell("cake", "9", 0.5), cell("tova", "9", 0.5)}}};
  const auto rows = comparison(a, b);
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[1][2], "-");
  EXPECT_EQ(rows[2],
            (std::vector<std::string>{"cake", "25.000", "50.000", "+25.000", "-", "-", "2.00 MiB", "2.00 MiB"}));
  EXPECT_EQ(rows[3][1], "-");
  json other = b;
  other["task"] = "perplexity";
  EXPECT_THROW(comparison(a, other), Error);
}

TEST(Report, HasScoresByQuestionAndWhatACellIsHeldAgainst) {
  json cake = cell("cake", "9", 0.25);
  cake["questions"] = {{{"question", 1}, {"score", 0.5}, {"interval", {0.25, 0.75}}}};
  cake["beside"] = {{"cell", "tova @ 9"}, {"difference", -0.125}, {"interval", {-0.25, 0.0}}};
  const json metrics = {{"task", "ruler"}, {"cells", {cell("full", nullptr, 1), cake}}};
  EXPECT_EQ(scores_by_question(metrics),
            (std::vector<std::vector<std::string>>{{"question", "cake"}, {"1", "50.0 (25.0 to 75.0)"}}));
  const std::string html = report_html(config(), metrics);
  for (const char* part : {"-12.5 (-25.0 to +0.0)", "12.5 to 62.5", "Scores by question"}) {
    EXPECT_NE(html.find(part), std::string::npos) << part;
  }
}

TEST(Report, HasScoresByTaskARowForEachGroupAndTheirMean) {
  json full = cell("full", nullptr, 1), cake = cell("cake", "9", 0.25);
  full["groups"] = {{{"tags", {{"task", "vt"}, {"length", 2048}}}, {"score", 0.5}},
                    {{"tags", {{"task", "cwe"}, {"length", 2048}}}, {"score", 1}}};
  cake["groups"] = {{{"tags", {{"task", "cwe"}, {"length", 2048}}}, {"score", 0.25}}};
  full["task_mean"] = 0.75;
  full["task_mean_interval"] = {0.5, 1};
  cake["task_mean"] = 0.25;
  cake["task_mean_interval"] = {0, 0.5};
  const json metrics = {{"task", "ruler"}, {"cells", {full, cake}}};
  EXPECT_EQ(scores_by_task(metrics),
            (std::vector<std::vector<std::string>>{{"task", "full", "cake"},
                                                   {"vt, length 2048", "50.0", "-"},
                                                   {"cwe, length 2048", "100.0", "25.0"},
                                                   {"mean of tasks", "75.0 (50.0 to 100.0)", "25.0 (0.0 to 50.0)"}}));
  EXPECT_NE(report_html(config(), metrics).find("<td>cwe, length 2048</td><td>100.0</td><td>25.0</td>"),
            std::string::npos);
  EXPECT_TRUE(scores_by_task({{"task", "needle"}, {"cells", {cell("full", nullptr, 1)}}}).empty());
}

}  // namespace
}  // namespace lacake::eval
