#include <gtest/gtest.h>

#include <string>

#include "lacake/error.h"
#include "lacake/policy.h"

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
    EXPECT_EQ(PolicySpec::parse(type.name).type, &type);
    EXPECT_FALSE(type.summary.empty());
    EXPECT_TRUE(type.max_entries_per_layer && type.min_cache_size && type.make);
    for (const PolicyParameter& parameter : type.parameters) {
      SCOPED_TRACE(parameter.name);
      EXPECT_FALSE(parameter.help.empty());
      EXPECT_LE(parameter.min, parameter.default_value);
      EXPECT_GE(parameter.max, parameter.default_value);
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

TEST(PolicySpec, WordsAreHeldAsTheirIndex) {
  EXPECT_EQ(PolicySpec::parse("lacache:query=script").settings, (PolicySettings{{"query", 1}}));
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
  expect_error("cake:tau1=0", {"tau1", "from 0.01 to 100"});
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

}  // namespace
}  // namespace lacake
