// A policy from outside of the library: written, registered and run with the public headers only.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <numeric>
#include <string>

#include "lacake/engine.h"
#include "lacake/error.h"
#include "lacake/policy_author.h"
#include "models/tiny_model.h"

namespace {

using lacake::AttentionShape;
using lacake::CacheEdits;
using lacake::Error;
using lacake::Observation;
using lacake::PolicySettings;
using lacake::PolicySpec;

// Keeps the first `pinned` tokens and the newest.
class Pinned final : public lacake::Policy {
 public:
  Pinned(std::size_t pinned, std::size_t cache_size, int n_layer)
      : n_layer_(n_layer), cache_size_(cache_size), lengths_((std::size_t)n_layer) {
    traits_.sinks = pinned;
    traits_.window = cache_size - pinned;
  }

  const lacake::PolicyTraits& traits() const override { return traits_; }
  lacake::Measures measures(lacake::Phase, int, std::size_t, std::size_t) const override { return {}; }
  void update(const Observation& seen, CacheEdits& edits) override { cut(seen.layer, seen.n_entries, edits); }
  std::size_t peak_entries(std::size_t n_held, std::size_t n_new) const override {
    return std::min(n_held + n_new, cache_size_);
  }
  std::size_t reserve(int, int) const override { return cache_size_ + 1; }
  void resize(std::size_t cache_size, CacheEdits& edits) override {
    lacake::require_cache_size("pinned", traits_.sinks + 1, cache_size);
    cache_size_ = cache_size;
    traits_.window = cache_size - traits_.sinks;
    for (int layer = 0; layer < n_layer_; ++layer) cut(layer, lengths_[(std::size_t)layer], edits);
  }
  std::unique_ptr<lacake::Policy> clone() const override { return std::make_unique<Pinned>(*this); }
  void visit(lacake::PolicyFields& state) override {
    for (int layer = 0; layer < n_layer_; ++layer) {
      const std::size_t n = state.n_entries(layer, 0);
      state.number("length", lengths_[(std::size_t)layer], n, n);
    }
  }

 private:
  void cut(int layer, std::size_t n_entries, CacheEdits& edits) {
    std::size_t& length = lengths_[(std::size_t)layer];
    length = std::min(n_entries, cache_size_);
    if (length == n_entries) return;
    std::vector<std::uint32_t> kept(length);
    const auto newest = kept.begin() + (std::ptrdiff_t)traits_.sinks;
    std::iota(kept.begin(), newest, 0u);
    std::iota(newest, kept.end(), (std::uint32_t)(n_entries - traits_.window));
    edits.keep(layer, {{std::move(kept)}});
  }

  lacake::PolicyTraits traits_;
  int n_layer_;
  std::size_t cache_size_;
  std::vector<std::size_t> lengths_;
};

// What all policies of the kind share: how many tokens each file says, read once.
class PinnedFiles {
 public:
  std::size_t operator[](const std::string& path) {
    if (path.empty()) return 2;
    const std::lock_guard lock(mutex_);
    const auto known = counts_.find(path);
    if (known != counts_.end()) return known->second;
    std::size_t n = 0;
    if (!(std::ifstream(path) >> n)) {
      throw Error({.kind = Error::Kind::kInput, .subject = path, .expected = "a number", .found = "none"});
    }
    ++n_read_;
    return counts_[path] = n;
  }
  int n_read() const { return n_read_; }

 private:
  std::mutex mutex_;
  std::map<std::string, std::size_t> counts_;
  int n_read_ = 0;
};

lacake::PolicyType pinned_type(std::shared_ptr<PinnedFiles> files) {
  lacake::PolicyType type{.name = "pinned",
                          .summary = "as many first tokens as a file says, and the newest",
                          .parameters = {{.name = "from",
                                          .kind = lacake::PolicyParameter::Kind::kFile,
                                          .default_value = "",
                                          .help = "says how many first tokens stay; without it two"}}};
  const auto pinned = [files, parameters = type.parameters](const PolicySettings& given) {
    return (*files)[lacake::text_setting(parameters, given, "from")];
  };
  type.max_entries_per_layer = [](const PolicySettings&, const AttentionShape&, std::size_t cache_size) {
    return cache_size + 1;
  };
  type.min_cache_size = [pinned](const PolicySettings& given, const AttentionShape&) { return pinned(given) + 1; };
  type.make = [pinned](const PolicySettings& given, const AttentionShape& shape, std::size_t cache_size) {
    lacake::require_cache_size("pinned", pinned(given) + 1, cache_size);
    return std::make_unique<Pinned>(pinned(given), cache_size, shape.n_layer);
  };
  return type;
}

// A file whose name has all that a list of settings is cut at.
class CountFile {
 public:
  explicit CountFile(std::size_t n) : path_(std::filesystem::path(testing::TempDir()) / "how many,of=them: \"all\"") {
    std::ofstream(path_) << n;
  }
  ~CountFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

class OutsidePolicy : public testing::Test {
 protected:
  static void SetUpTestSuite() { lacake::register_policy(pinned_type(files_)); }

  static inline const std::shared_ptr<PinnedFiles> files_ = std::make_shared<PinnedFiles>();
};

TEST_F(OutsidePolicy, RunsInASessionWithWhatItsFileSays) {
  const CountFile file(3);
  PolicySpec spec{.type = lacake::find_policy_type("pinned"), .settings = {{"from", file.path()}}};
  ASSERT_TRUE(spec.type);
  spec.check();
  spec = PolicySpec::parse(spec.text());
  ASSERT_EQ(spec.settings.at("from"), file.path());

  const lacake::models::TinyModel tiny{
      .n_layer = 2, .n_embd = 16, .n_head = 2, .n_head_kv = 1, .d_k = 8, .d_v = 8, .n_ff = 16};
  const lacake::models::ModelFile model_file(tiny);
  const lacake::Model model(model_file.path());
  lacake::Engine engine(model, {.threads = 1});
  const int n_read = files_->n_read();
  const auto session = engine.open({.policy = spec, .budget = lacake::Budget::parse("9"), .prompt_tokens = 20});
  session->prefill(lacake::models::random_tokens(tiny, 20, 1));
  EXPECT_EQ(session->kept(1, 0), (std::vector<std::int64_t>{0, 1, 2, 15, 16, 17, 18, 19}));
  session->step(3);
  EXPECT_EQ(session->kept(0, 0), (std::vector<std::int64_t>{0, 1, 2, 16, 17, 18, 19, 20}));
  EXPECT_EQ(files_->n_read(), n_read + 1);
}

TEST_F(OutsidePolicy, AFileThatCannotBeUsedIsNamed) {
  const PolicySpec spec = PolicySpec::parse("pinned:from=/nowhere/at/all");
  try {
    spec.type->make(spec.settings, {.n_layer = 1, .n_head = 1, .n_head_kv = 1}, 8);
    FAIL() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), Error::Kind::kInput);
    EXPECT_EQ(error.fields().subject, "/nowhere/at/all");
  }
}

TEST_F(OutsidePolicy, IsListedAfterTheLibrarysOwn) {
  const auto types = lacake::policy_types();
  const auto own =
      std::find_if(types.begin(), types.end(), [](const lacake::PolicyType& t) { return t.name == "full"; });
  const auto found =
      std::find_if(types.begin(), types.end(), [](const lacake::PolicyType& t) { return t.name == "pinned"; });
  ASSERT_NE(found, types.end());
  EXPECT_LT(own, found);
}

TEST_F(OutsidePolicy, ANameIsTakenOnce) { EXPECT_THROW(lacake::register_policy(pinned_type(files_)), Error); }

}  // namespace
