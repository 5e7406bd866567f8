#include "model/lora.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <set>

#include "lacake/error.h"
#include "lacake/model.h"

namespace lacake {
namespace {

constexpr std::string_view kA = ".lora_a", kB = ".lora_b";

}  // namespace

Model::LoraFile Model::LoraFile::parse(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon != std::string_view::npos && colon > 0) {
    const std::string number(text.substr(colon + 1));
    char* end = nullptr;
    const double scale = std::strtod(number.c_str(), &end);
    if (!number.empty() && *end == 0 && std::isfinite(scale)) return {std::string(text.substr(0, colon)), scale};
  }
  throw Error({.kind = Error::Kind::kUsage,
               .subject = "lora_scaled",
               .expected = "FILE:SCALE",
               .found = fmt::format("\"{}\"", text)});
}

Lora::Lora(const std::string& path, double scale, const Weights& weights, const std::string& architecture)
    : file_(std::make_unique<GgufFile>(path)), scale_(scale) {
  const auto expect = [&](const char* key, const std::string& value) {
    const auto found = file_->string(key);
    if (!found) file_->fail(key, value + " (a LoRA adapter in GGUF)", "none");
    if (*found != value) file_->fail(key, value, *found);
  };
  expect("general.type", "adapter");
  expect("adapter.type", "lora");
  expect("general.architecture", architecture);
  context_.reset(ggml_init(
      {.mem_size = ggml_tensor_overhead() * (file_->n_tensors() + 1), .mem_buffer = nullptr, .no_alloc = true}));
  std::set<std::string> names;
  for (const std::string& name : file_->tensor_names()) {
    if (!name.ends_with(kA) && !name.ends_with(kB)) {
      file_->fail("tensor " + name, fmt::format("a name that ends in {} or {}", kA, kB), "another");
    }
    names.insert(name.substr(0, name.size() - kA.size()));
  }
  if (names.empty()) file_->fail("tensors", "one or more", "none");
  for (const std::string& name : names) add(name, weights, scale);
}

void Lora::add(const std::string& name, const Weights& weights, double scale) {
  const ggml_tensor* weight = weights.find(name);
  if (!weight) file_->fail(fmt::format("tensor {}{}", name, kA), fmt::format("a tensor {} in the model", name), "none");
  if (weight == weights.token_embedding() || ggml_n_dims(weight) != 2) {
    file_->fail(fmt::format("tensor {}{}", name, kA), "an adapter of a matrix that is multiplied",
                "one of an embedding, a norm or experts", "these cannot be adapted");
  }
  Pair pair{.a = take(name + std::string(kA)), .b = take(name + std::string(kB))};
  const std::int64_t rank = pair.b->ne[0];
  const auto expect = [&](const ggml_tensor* t, std::int64_t ne0, std::int64_t ne1) {
    if (ggml_n_dims(t) > 2 || t->ne[0] != ne0 || t->ne[1] != ne1) {
      file_->fail(fmt::format("tensor {}", t->name), fmt::format("shape [{}, {}]", ne0, ne1),
                  fmt::format("[{}, {}]", t->ne[0], t->ne[1]));
    }
  };
  if (rank == 0) file_->fail(fmt::format("tensor {}{}", name, kB), "a rank of 1 or more", "0");
  expect(pair.a, weight->ne[0], rank);
  expect(pair.b, rank, weight->ne[1]);
  const double alpha = file_->number("adapter.lora.alpha").value_or(0);
  pair.scale = (float)(alpha != 0 ? scale * alpha / (double)rank : scale);
  pairs_.emplace(weight, pair);
}

ggml_tensor* Lora::take(const std::string& name) {
  const ggml_tensor* described = file_->tensor(name);
  if (!described) file_->fail("tensor " + name, "both halves of an adapter", "the other one alone");
  if (described->type != GGML_TYPE_F32 && !ggml_get_type_traits(described->type)->to_float) {
    file_->fail("tensor " + name, "a float or quantised type", ggml_type_name(described->type));
  }
  ggml_tensor* tensor = ggml_dup_tensor(context_.get(), described);
  ggml_set_name(tensor, name.c_str());
  tensor->data = file_->data(described);
  bytes_ += ggml_nbytes(tensor);
  return tensor;
}

const Lora::Pair* Lora::pair(const ggml_tensor* weight) const {
  const auto found = pairs_.find(weight);
  return found == pairs_.end() ? nullptr : &found->second;
}

}  // namespace lacake
