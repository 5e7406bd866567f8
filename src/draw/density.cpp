#include "draw/density.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <string_view>

namespace lacake::draw {
namespace {

struct Shade {
  std::string_view block;
  std::string_view ascii;
  double below;  // shares under this, and not under the shade before
};

// A share of exactly 0 is the first, anything above it at least the second: one kept token must be seen.
constexpr std::array<Shade, 6> kShades = {{
    {" ", " ", 0.0},
    {"·", ".", 0.10},
    {"░", ":", 0.35},
    {"▒", "+", 0.65},
    {"▓", "*", 0.95},
    {"█", "#", 2.0},
}};

std::string_view character(const Shade& shade, Glyphs glyphs) {
  return glyphs == Glyphs::kBlocks ? shade.block : shade.ascii;
}

const Shade& shade_of(double share) {
  if (share <= 0) return kShades[0];
  return *std::find_if(kShades.begin() + 1, kShades.end() - 1, [&](const Shade& s) { return share < s.below; });
}

}  // namespace

std::vector<double> density(const HeadPositions& heads, std::size_t n_tokens, std::size_t n_buckets) {
  const std::size_t n = std::min(n_buckets, n_tokens);
  std::vector<double> shares(n, 0.0);
  if (n == 0 || heads.empty()) return shares;

  std::vector<char> kept(n_tokens);
  for (const auto& positions : heads) {
    std::fill(kept.begin(), kept.end(), 0);
    for (const std::int64_t position : positions) {
      assert(position >= 0 && (std::size_t)position < n_tokens);
      kept[(std::size_t)position] = 1;
    }
    for (std::size_t i = 0; i < n_tokens; ++i) shares[i * n / n_tokens] += kept[i];
  }
  // First position of bucket b: the smallest i with i * n / n_tokens >= b.
  const auto first = [&](std::size_t b) { return (b * n_tokens + n - 1) / n; };
  for (std::size_t b = 0; b < n; ++b) {
    shares[b] /= (double)((first(b + 1) - first(b)) * heads.size());
  }
  return shares;
}

std::string glyph_row(std::span<const double> shares, Glyphs glyphs) {
  std::string row;
  for (const double share : shares) row += character(shade_of(share), glyphs);
  return row;
}

std::string glyph_legend(Glyphs glyphs) {
  std::string legend;
  for (std::size_t i = 1; i < kShades.size(); ++i) {
    const bool last = i + 1 == kShades.size();
    const double bound = last ? kShades[i - 1].below : kShades[i].below;
    legend += legend.empty() ? "" : "  ";
    legend += character(kShades[i], glyphs);
    legend += (last ? " >=" : " <") + std::to_string((int)(bound * 100 + 0.5)) + "%";
  }
  return legend;
}

std::size_t round_step(std::size_t length, std::size_t most) {
  most = std::max<std::size_t>(most, 1);
  for (std::size_t power = 1;; power *= 10) {
    for (const std::size_t factor : {1, 2, 5}) {
      if (length <= factor * power * most) return factor * power;
    }
  }
}

std::string position_scale(std::size_t n_tokens, std::size_t width) {
  if (n_tokens == 0 || width == 0) return {};
  const std::size_t columns = std::min(width, n_tokens);
  const std::size_t label_columns = std::to_string(n_tokens).size() + 2;
  const std::size_t step = round_step(n_tokens, std::max<std::size_t>(columns / label_columns, 1));
  std::string scale;
  for (std::size_t position = 0; position < n_tokens; position += step) {
    const std::size_t column = position * columns / n_tokens;
    const std::string label = std::to_string(position);
    if (column < scale.size() + (scale.empty() ? 0 : 1) || column + label.size() > width) continue;
    scale.append(column - scale.size(), ' ');
    scale += label;
  }
  return scale;
}

}  // namespace lacake::draw
