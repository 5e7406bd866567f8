#pragma once

#include <cstdint>

#include "model/architecture.h"

namespace lacake {

// How sliding-window layers turn.
//   kSame      as the others
//   kOwnBase   at a frequency base of their own, 10000 unless the file says otherwise, without scaling
//   kUnscaled  at the same base, without scaling
enum class LocalRope { kSame, kOwnBase, kUnscaled };

// Fills h.ropes, those of sliding-window layers last, h.long_factors, and h.n_ctx_train where options stretch
// positions. Throws Error(kInput) naming the key.
void read_ropes(const GgufFile& file, LocalRope local, const RopeOptions& options, std::int64_t context_length,
                Hyperparameters& h);

}  // namespace lacake
