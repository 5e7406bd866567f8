#include "snapshot/policy_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace lacake {
namespace {

constexpr const char* kPrefix = "policy.";

// The values of a field, those of all calls that named it.
using Values = std::variant<std::vector<std::int64_t>, std::vector<float>, std::vector<double>>;

class Saving final : public PolicyFields {
 public:
  explicit Saving(const EntryCount& n_entries) : n_entries_(n_entries) {}

  std::size_t n_entries(int layer, int head) const override { return n_entries_(layer, head); }
  using PolicyFields::number;
  void number(std::string_view name, std::int64_t& value, std::int64_t, std::int64_t) override {
    values<std::int64_t>(name).push_back(value);
  }
  void real(std::string_view name, double& value) override { values<double>(name).push_back(value); }
  void reals(std::string_view name, std::vector<float>& list, std::size_t n, float, float) override {
    append(name, list, n);
  }
  void numbers(std::string_view name, std::vector<std::int64_t>& list, std::size_t n, std::int64_t,
               std::int64_t) override {
    append(name, list, n);
  }

  void add_to(PartsWriter& file, const std::string& before) && {
    for (auto& [name, values] : fields_) {
      const std::string part = before + kPrefix + name;
      if (std::visit([](const auto& list) { return list.empty(); }, values)) continue;
      if (const auto* whole = std::get_if<std::vector<std::int64_t>>(&values)) file.add_integers(part, *whole);
      if (auto* reals = std::get_if<std::vector<float>>(&values)) file.add(part, std::move(*reals));
      if (auto* reals = std::get_if<std::vector<double>>(&values)) file.add(part, std::move(*reals));
    }
  }

 private:
  template <class Number>
  std::vector<Number>& values(std::string_view name) {
    const auto at = fields_.try_emplace(std::string(name), std::vector<Number>()).first;
    return std::get<std::vector<Number>>(at->second);
  }
  template <class Number>
  void append(std::string_view name, const std::vector<Number>& list, [[maybe_unused]] std::size_t n) {
    assert(list.size() == n);
    std::vector<Number>& all = values<Number>(name);
    all.insert(all.end(), list.begin(), list.end());
  }

  const EntryCount& n_entries_;
  std::map<std::string, Values> fields_;
};

class Loading final : public PolicyFields {
 public:
  Loading(const EntryCount& n_entries, const PartsFile& file, const std::string& before)
      : n_entries_(n_entries), file_(file), prefix_(before + kPrefix) {}

  std::size_t n_entries(int layer, int head) const override { return n_entries_(layer, head); }
  using PolicyFields::number;
  void number(std::string_view name, std::int64_t& value, std::int64_t least, std::int64_t most) override {
    value = next<std::int64_t>(name, 1, least, most)[0];
  }
  void real(std::string_view name, double& value) override {
    constexpr double kMost = std::numeric_limits<double>::max();
    value = next<double>(name, 1, -kMost, kMost)[0];
  }
  void reals(std::string_view name, std::vector<float>& list, std::size_t n, float least, float most) override {
    const auto values = next<float>(name, n, least, most);
    list.assign(values.begin(), values.end());
  }
  void numbers(std::string_view name, std::vector<std::int64_t>& list, std::size_t n, std::int64_t least,
               std::int64_t most) override {
    const auto values = next<std::int64_t>(name, n, least, most);
    list.assign(values.begin(), values.end());
  }

  // Nothing may be left: what nobody asked for belongs to another policy.
  void finish() const {
    for (const std::string& part : file_.part_names()) {
      if (!part.starts_with(prefix_)) continue;
      const auto read = fields_.find(part.substr(prefix_.size()));
      if (read == fields_.end()) file_.fail("part " + part, "a field of its policy", "another");
      const std::size_t n = std::visit([](const auto& values) { return values.size(); }, read->second.values);
      if (n != read->second.n_read) {
        file_.fail("part " + part, fmt::format("{} values", read->second.n_read), fmt::format("{}", n));
      }
    }
  }

 private:
  struct Field {
    Values values;
    std::size_t n_read = 0;
  };

  template <class Number>
  std::span<const Number> next(std::string_view name, std::size_t n, Number least, Number most) {
    const std::string part = prefix_ + std::string(name);
    auto at = fields_.find(name);
    if (at == fields_.end()) {
      if (!file_.has_part(part)) {  // nothing was saved: no list is empty in a file
        at = fields_.emplace(name, Field{std::vector<Number>()}).first;
      } else if constexpr (std::is_same_v<Number, std::int64_t>) {
        at = fields_.emplace(name, Field{file_.integers(part)}).first;
      } else {
        at = fields_.emplace(name, Field{file_.list<Number>(part)}).first;
      }
    }
    Field& field = at->second;
    const auto& all = std::get<std::vector<Number>>(field.values);
    if (n > all.size() - field.n_read) {
      file_.fail("part " + part, fmt::format("{} values or more", field.n_read + n), fmt::format("{}", all.size()));
    }
    const std::span<const Number> values = std::span(all).subspan(field.n_read, n);
    field.n_read += n;
    for (const Number value : values) {
      if (!(value >= least && value <= most)) {  // not a number is neither
        file_.fail("part " + part, fmt::format("{} to {}", least, most), fmt::format("{}", value));
      }
    }
    return values;
  }

  const EntryCount& n_entries_;
  const PartsFile& file_;
  const std::string prefix_;
  std::map<std::string, Field, std::less<>> fields_;
};

}  // namespace

void save_policy(Policy& policy, const EntryCount& n_entries, PartsWriter& file, const std::string& before) {
  Saving fields(n_entries);
  policy.visit(fields);
  std::move(fields).add_to(file, before);
}

void load_policy(Policy& policy, const EntryCount& n_entries, const PartsFile& file, const std::string& before) {
  Loading fields(n_entries, file, before);
  policy.visit(fields);
  fields.finish();
}

}  // namespace lacake
