#pragma once

#include <llama.h>

#include <memory>

#include "lacake/sampler.h"

namespace lacake {

class Vocabulary;

struct FreeSampler {
  void operator()(llama_sampler* sampler) const { llama_sampler_free(sampler); }
};
using OwnedSampler = std::unique_ptr<llama_sampler, FreeSampler>;

// Throws Error(kUsage) naming the option that is outside of what it may be.
void check_ranges(const SamplerOptions& options);

// llama.cpp's chain for these options: biases, the samplers in their order, the draw. With temp <= 0 or mirostat the
// samplers that then have no effect are left out.
// REQUIRES: checked options with a seed that is not kRandomSeed.
OwnedSampler make_chain(const Vocabulary& vocabulary, const SamplerOptions& options);

}  // namespace lacake
