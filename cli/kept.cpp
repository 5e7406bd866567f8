#include "kept.h"

#include <fmt/format.h>

#include <algorithm>

namespace lacake::cli {

Kept kept_entries(const Session& session, const ModelFacts& facts, const SessionOptions& options) {
  Kept kept{.model = facts.name.empty() ? facts.path : facts.name,
            .policy = options.policy.text(),
            .n_tokens = session.tokens().size(),
            .layers = {}};
  for (int layer = 0; layer < facts.attention.n_layer; ++layer) {
    draw::HeadPositions heads;
    for (int head = 0; head < facts.attention.n_head_kv; ++head) {
      heads.push_back(session.kept(layer, head));
      std::sort(heads.back().begin(), heads.back().end());
    }
    kept.layers.push_back(std::move(heads));
  }
  return kept;
}

double mean_entries(const draw::HeadPositions& heads) {
  std::size_t sum = 0;
  for (const auto& positions : heads) sum += positions.size();
  return heads.empty() ? 0 : static_cast<double>(sum) / static_cast<double>(heads.size());
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
    text += terminal.paint(Style::kDim, "|") + fmt::format(" {:>8g}\n", mean_entries(kept.layers[layer]));
  }
  text += terminal.paint(Style::kDim, "     " + draw::position_scale(kept.n_tokens, width)) + "\n";
  return text + "     share kept: " + draw::glyph_legend(glyphs) + "\n";
}

}  // namespace lacake::cli
