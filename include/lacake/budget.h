#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "lacake/bytes.h"

namespace lacake {

// How much of the KV cache may be held, as its user says it:
//   1024     entries a layer, on average over layers
//   3.2%     of the entries that the prompt has
//   256MiB   bytes of K and V (B, KB, MB, GB = powers of 1000; KiB, MiB, GiB, TiB = powers of 1024)
// It counts K and V as allocated, and holds at every moment.
struct Budget {
  enum class Unit { kNone, kEntries, kShare, kBytes };

  Unit unit = Unit::kNone;
  double value = 0;  // entries, a fraction (3.2% = 0.032) or bytes

  // Throws Error(kUsage) about kv_budget for anything that is none of the three forms, not positive, or a share of more
  // than 100%.
  static Budget parse(std::string_view text);
  std::string text() const;

  bool given() const { return unit != Unit::kNone; }

  // Entries a layer; a share is of `prompt_tokens`. REQUIRES: unit is kEntries or kShare.
  std::uint64_t entries(std::size_t prompt_tokens) const;

  // The one place where a budget becomes bytes.
  //   entry_bytes    K and V of one token in one layer, all heads
  //   prompt_tokens  what a share refers to
  // REQUIRES: given().
  std::uint64_t bytes(std::uint64_t entry_bytes, int n_layer, std::size_t prompt_tokens) const;
};

}  // namespace lacake
