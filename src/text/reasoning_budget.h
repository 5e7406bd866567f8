#pragma once

#include "text/sampler_chain.h"

namespace lacake {

class Vocabulary;

// Watches where reasoning begins and ends, and ends it when its budget is spent: a sampler of llama.cpp's sources. Null
// where the options need none. Throws Error(kUsage) naming `reasoning_budget` in builds without these sources.
OwnedSampler make_reasoning_budget(const Vocabulary& vocabulary, const SamplerOptions& options);

// Whether the answer is inside of its reasoning: a lazy grammar does not look at it there.
// `sampler`: of make_reasoning_budget; null: never.
bool in_reasoning(const llama_sampler* sampler);

// The tokens that have just closed the reasoning; empty if it is open or never was.
std::vector<Token> reasoning_closed_by(const llama_sampler* sampler);

}  // namespace lacake
