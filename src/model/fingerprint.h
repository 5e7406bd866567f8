#pragma once

#include <string>

namespace lacake {

struct LoadedModel;

// What a model computes with, as 32 hexadecimal digits: the XXH3 of 128 bits of its tensors' content, of its metadata
// and of its adapters. Where its files lie, what they are called, how they were split and which chat template writes
// prompts makes no difference; nor does how products are computed. Reads the weights once, at the memory's speed, and
// lets them leave resident memory again.
std::string fingerprint(const LoadedModel& model);

}  // namespace lacake
