#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lacake::draw {

// Kept positions of one layer: a list for each KV head. Order and duplicates do not matter.
using HeadPositions = std::vector<std::vector<std::int64_t>>;

// How much of a text one layer keeps: the text is cut into buckets of nearly equal length, and each gets the share of
// its tokens that is kept (0 to 1), averaged over heads. At most n_buckets values, fewer if there are fewer tokens.
//   bucket of a position = position * n_buckets / n_tokens, rounded down
// REQUIRES: positions in [0, n_tokens), n_buckets > 0.
std::vector<double> density(const HeadPositions& heads, std::size_t n_tokens, std::size_t n_buckets);

// What characters stand for a share.
enum class Glyphs { kBlocks, kAscii };

// One character for each share: blank only where nothing is kept, the heaviest only where (nearly) all is. UTF-8.
//   kBlocks  " ·░▒▓█"   kAscii  " .:+*#"
std::string glyph_row(std::span<const double> shares, Glyphs glyphs);

// What glyph_row's characters mean, as one line: "· <10%  ░ <35%  ...".
std::string glyph_legend(Glyphs glyphs);

// A scale under rows of `width` columns: "0        1000        2000", round numbers, each beginning at its column.
std::string position_scale(std::size_t n_tokens, std::size_t width);

// The round distance (1, 2 or 5 times a power of ten) that divides `length` into at most `most` parts.
std::size_t round_step(std::size_t length, std::size_t most);

}  // namespace lacake::draw
