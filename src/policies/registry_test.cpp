#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lacake/error.h"
#include "lacake/policy_author.h"

namespace lacake {
namespace {

std::string error_of(std::string_view text) {
  try {
    PolicySpec::parse(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::kUsage);
    return error.what();
  }
  return "";
}

void expect_error(std::string_view text, std::initializer_list<const char*> parts) {
  const std::string message = error_of(text);
  EXPECT_FALSE(message.empty()) << text << " was accepted";
  EXPECT_EQ(message.find('\n'), std::string::npos);
  for (const char* part : parts) EXPECT_NE(message.find(part), std::string::npos) << message << "\nlacks " << part;
}

TEST(PolicyRegistry, EveryTypeIsComplete) {
  EXPECT_FALSE(policy_types().empty());
  for (const PolicyType& type : policy_types()) {
    SCOPED_TRACE(type.name);
    EXPECT_EQ(PolicySpec::parse(type.name).type.get(), &type);
    EXPECT_FALSE(type.summary.empty());
    EXPECT_TRUE(type.max_entries_per_layer && type.min_cache_size && type.make);
    for (const PolicyParameter& parameter : type.parameters) {
      SCOPED_TRACE(parameter.name);
      EXPECT_FALSE(parameter.help.empty());
      if (parameter.default_value.is_number()) {
        EXPECT_LE(parameter.min, parameter.default_value.number());
        EXPECT_GE(parameter.max, parameter.default_value.number());
      }
      EXPECT_NE(parameter.name, "cache_size");
    }
  }
}

TEST(PolicySpec, HoldsOnlyWhatWasGiven) {
  const PolicySpec spec = PolicySpec::parse("cake:tau1=1.6,window=16");
  EXPECT_EQ(spec.type->name, "cake");
  EXPECT_EQ(spec.settings, (PolicySettings{{"tau1", 1.6}, {"window", 16}}));
  EXPECT_EQ(spec.cache_size, 0u);
}

TEST(PolicySpec, WordsAreHeldAsTheyAre) {
  EXPECT_EQ(PolicySpec::parse("lacache:query=script").settings, (PolicySettings{{"query", "script"}}));
}

TEST(PolicySpec, TextParsesToTheSame) {
  for (const char* text : {"full", "full:positions=compacted", "streaming-llm:sinks=0,cache_size=7",
                           "lacache:span=8,overlap=4,query=script", "cake:gamma=0.1,tau1=1.6,cascade=off"}) {
    EXPECT_EQ(PolicySpec::parse(text).text(), text);
  }
}

TEST(PolicySpec, TextDoesNotDependOnTheOrderGiven) {
  EXPECT_EQ(PolicySpec::parse("lacache:cache_size=64,sinks=2,span=3").text(), "lacache:span=3,sinks=2,cache_size=64");
}

TEST(PolicySpec, AnUnknownPolicyBringsTheNearestName) {
  expect_error("lacahe", {"'lacahe'", "mean 'lacache'", "full, streaming-llm, lacache, cake"});
  expect_error("streamingllm:sinks=4", {"mean 'streaming-llm'"});
  expect_error("", {"full"});
}

TEST(PolicySpec, AnUnknownParameterBringsTheNearestNameAndTheList) {
  expect_error("cake:windows=3", {"cake", "'windows'", "mean 'window'", "tau2", "cache_size"});
  expect_error("full:cache_size=3", {"'cache_size'", "positions"});
}

TEST(PolicySpec, ValuesOutOfRangeAreRefusedWithTheRange) {
  expect_error("lacache:span=0", {"span", "whole number from 1 to 1024", "'0'"});
  expect_error("lacache:span=2.5", {"whole number", "'2.5'"});
  expect_error("cake:tau1=0", {"tau1", "from 0.2 to 100"});
  expect_error("cake:gamma=nan", {"gamma", "'nan'"});
  expect_error("cake:gamma=", {"gamma", "''"});
  expect_error("cake:gamma=2x", {"'2x'"});
  expect_error("cake:cascade=maybe", {"cascade", "on, off", "'maybe'"});
  expect_error("cake:cache_size=0", {"cache_size", "'0'"});
  expect_error("cake:cache_size=-3", {"cache_size", "'-3'"});
}

TEST(PolicySpec, ListsThatAreNotKeyValueAreRefused) {
  expect_error("cake:", {"key=value"});
  expect_error("cake:window", {"key=value", "'window'"});
  expect_error("cake:window=8,", {"key=value"});
  expect_error("cake:,window=8", {"key=value"});
  expect_error("cake:window=8,window=9", {"'window'", "twice"});
  expect_error("cake:cache_size=80,cache_size=90", {"'cache_size'", "twice"});
}

// A kind that reads a file and evicts as streaming-llm does.
PolicyType with_file(const std::string& name) {
  PolicyType type = *find_policy_type("streaming-llm");
  type.name = name;
  type.parameters.push_back(
      {.name = "from", .kind = PolicyParameter::Kind::kFile, .default_value = "", .help = "a file"});
  return type;
}

PolicySpec spec_of(const PolicyType& type, PolicySettings settings) {
  return {.type = std::make_shared<const PolicyType>(type), .settings = std::move(settings)};
}

std::string refusal(const std::function<void()>& act) {
  try {
    act();
    ADD_FAILURE() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::kUsage) << error.what();
    return error.what();
  }
  return "";
}

TEST(PolicySpec, NamesOfFilesSurviveWhateverIsInThem) {
  if (!find_policy_type("files")) register_policy(with_file("files"));
  for (const char* path : {"a.bin", "C:\\a=b:c.bin", "a, b.bin", "\"", "\"\"", "\"a\",b", ",", "x\"y,z", " spaced "}) {
    PolicySpec spec{.type = find_policy_type("files"), .settings = {{"from", path}, {"sinks", 1}}, .cache_size = 9};
    const PolicySpec again = PolicySpec::parse(spec.text());
    EXPECT_EQ(again.settings, spec.settings) << spec.text();
    EXPECT_EQ(again.cache_size, 9u) << spec.text();
    const std::string list = "full," + spec.text() + ",sinks=3,lacache:span=2,overlap=1";
    const std::vector<std::string> expected = {"full", spec.text() + ",sinks=3", "lacache:span=2,overlap=1"};
    EXPECT_EQ(PolicySpec::split(list), expected);
  }
  EXPECT_EQ(PolicySpec::parse("files:from=\"a.bin\"").text(), "files:from=a.bin");
  expect_error("files:from=\"a.bin", {"closing quote", "from="});
  expect_error("files:from=\"a\"b", {"key=value"});
  expect_error("files:from=", {"path of a file", "''"});
}

TEST(PolicySpec, SettingsThatCameAnotherWayAreHeldToTheSame) {
  const PolicyType& lacache = *find_policy_type("lacache");
  EXPECT_NO_THROW(spec_of(lacache, {{"span", 3}, {"query", "script"}}).check());
  const auto expect_refused = [&](const PolicySettings& settings, const char* part) {
    const std::string line = refusal([&] { spec_of(lacache, settings).check(); });
    EXPECT_NE(line.find(part), std::string::npos) << line;
  };
  expect_refused({{"spam", 3}}, "did you mean 'span'?");
  expect_refused({{"span", 0}}, "from 1 to 1024, found '0'");
  expect_refused({{"span", 1.5}}, "whole number");
  expect_refused({{"span", "three"}}, "found 'three'");
  expect_refused({{"query", 1}}, "one of own, script");
  expect_refused({{"query", "theirs"}}, "found 'theirs'");
}

TEST(PolicySpec, KeepsItsTypeAlive) {
  PolicySpec spec = spec_of(with_file("nobody-registered-this"), {{"from", "x"}});
  EXPECT_FALSE(find_policy_type("nobody-registered-this"));
  EXPECT_EQ(PolicySpec(spec).text(), "nobody-registered-this:from=x");
}

TEST(PolicySpec, SaysWhereKeysStand) {
  const AttentionShape shape{.n_layer = 4, .n_head = 2, .n_head_kv = 1};
  EXPECT_EQ(PolicySpec::parse("lacache").positions(shape), Positions::kCompacted);
  EXPECT_EQ(PolicySpec::parse("tova").positions(shape), Positions::kOriginal);
  EXPECT_EQ(PolicySpec::parse("tova:positions=compacted").positions(shape), Positions::kCompacted);
}

TEST(PolicyRegistry, RefusesWhatItCouldNotSell) {
  const auto expect_refused = [](const std::function<void(PolicyType&)>& spoil, const char* part) {
    PolicyType type = with_file("spoilt");
    spoil(type);
    const std::string line = refusal([&] { register_policy(type); });
    EXPECT_NE(line.find(part), std::string::npos) << line;
    EXPECT_FALSE(find_policy_type("spoilt"));
  };
  expect_refused([](PolicyType& t) { t.name = "lacache"; }, "no other policy has, found 'lacache'");
  expect_refused([](PolicyType& t) { t.name = "two words"; }, "'two words'");
  expect_refused([](PolicyType& t) { t.name = ""; }, "a name");
  expect_refused([](PolicyType& t) { t.make = nullptr; }, "make");
  expect_refused([](PolicyType& t) { t.parameters.push_back(t.parameters[0]); }, "'sinks' twice");
  expect_refused([](PolicyType& t) { t.parameters[0].name = "a=b"; }, "'a=b'");
  expect_refused([](PolicyType& t) { t.parameters[0].name = "cache_size"; }, "cache_size");
  expect_refused([](PolicyType& t) { t.parameters[0].default_value = -1; }, "found '-1'");
  expect_refused(
      [](PolicyType& t) {
        t.parameters[0].kind = PolicyParameter::Kind::kWord;
        t.parameters[0].words = {"a,b"};
      },
      "'a,b'");
}

TEST(PolicyRegistry, IsReadWhileOthersRegister) {
  if (find_policy_type("thread-0")) GTEST_SKIP() << "names can be registered once";
  const std::size_t before = policy_types().size();
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([i] {
      register_policy(with_file("thread-" + std::to_string(i)));
      for (int j = 0; j < 100; ++j) EXPECT_EQ(PolicySpec::parse("lacache:span=2").text(), "lacache:span=2");
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(policy_types().size(), before + 2);
}

}  // namespace
}  // namespace lacake
