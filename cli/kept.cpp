#include "kept.h"

#include <fmt/format.h>

#include <algorithm>

namespace lacake::cli {

namespace {

// Of whatever has positions by layer and head.
template <class Holder>
std::vector<draw::HeadPositions> positions_of(const Holder& holder, int n_layer, int n_head_kv) {
  std::vector<draw::HeadPositions> layers;
  for (int layer = 0; layer < n_layer; ++layer) {
    draw::HeadPositions& heads = layers.emplace_back();
    for (int head = 0; head < n_head_kv; ++head) {
      heads.push_back(holder.kept(layer, head));
      std::sort(heads.back().begin(), heads.back().end());
    }
  }
  return layers;
}

}  // namespace

Kept kept_entries(const Session& session, const ModelFacts& facts, const SessionOptions& options) {
  return {.model = facts.name.empty() ? facts.path : facts.name,
          .policy = options.policy.text(),
          .n_tokens = session.tokens().size(),
          .layers = positions_of(session, facts.attention.n_layer, facts.attention.n_head_kv)};
}

Kept kept_entries(const Snapshot& snapshot) {
  const SnapshotFacts& facts = snapshot.facts();
  return {.model = facts.model_name,
          .policy = facts.options.policy.text(),
          .n_tokens = facts.n_tokens,
          .layers = positions_of(snapshot, facts.n_layer, facts.n_head_kv)};
}

double mean_entries(const draw::HeadPositions& heads) {
  std::size_t sum = 0;
  for (const auto& positions : heads) sum += positions.size();
  return heads.empty() ? 0 : (double)sum / (double)heads.size();
}

nlohmann::json kept_json(const Kept& kept) {
  nlohmann::json layers = nlohmann::json::array();
  for (std::size_t i = 0; i < kept.layers.size(); ++i) layers.push_back({{"layer", i}, {"heads", kept.layers[i]}});
  return {{"schema", 1},
          {"model", kept.model},
          {"policy", kept.policy},
          {"n_tokens", kept.n_tokens},
          {"layers", std::move(layers)}};
}

std::string kept_text(const Kept& kept, const Terminal& terminal, std::size_t columns, draw::Glyphs glyphs) {
  constexpr std::size_t kAround = 16;  // "  0 |" and "| 123456.7"
  const std::size_t width = std::max<std::size_t>(columns, kAround + 8) - kAround;
  const std::size_t n_heads = kept.layers.empty() ? 0 : kept.layers[0].size();
  std::string text = terminal.paint(Style::kBold, fmt::format("what each layer keeps of {} tokens", kept.n_tokens));
  text += fmt::format("\n  {}, mean of {} KV head{}\n", kept.policy, n_heads, n_heads == 1 ? "" : "s");
  text += terminal.paint(Style::kDim, fmt::format("layer{:{}}  entries", "", width)) + "\n";
  for (std::size_t layer = 0; layer < kept.layers.size(); ++layer) {
    const std::vector<double> shares = draw::density(kept.layers[layer], kept.n_tokens, width);
    text += terminal.paint(Style::kDim, fmt::format("{:>3} |", layer));
    text += terminal.paint(Style::kCyan, draw::glyph_row(shares, glyphs)) + std::string(width - shares.size(), ' ');
    text += terminal.paint(Style::kDim, "|") + fmt::format(" {:>8.0f}\n", mean_entries(kept.layers[layer]));
  }
  text += terminal.paint(Style::kDim, "     " + draw::position_scale(kept.n_tokens, width)) + "\n";
  return text + "     share kept: " + draw::glyph_legend(glyphs) + "\n";
}

}  // namespace lacake::cli
