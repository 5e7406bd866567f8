#pragma once

#include "lacake/sampler.h"

namespace lacake {

// A sampler for a vocabulary without a model. Borrows the vocabulary. Throws as Sampler's constructor.
Sampler make_sampler(const Vocabulary& vocabulary, const SamplerOptions& options);

}  // namespace lacake
