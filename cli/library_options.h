// What the options of the command line are for the library.
#pragma once

#include <string>
#include <vector>

#include "lacake/chat.h"
#include "lacake/engine.h"
#include "lacake/model.h"
#include "lacake/sampler.h"
#include "options.h"

namespace lacake::cli {

// How these options open their model.
// Throws Error(kUsage) for an override that cannot be understood.
Model::Options model_options(const Options&);
Engine::Options engine_options(const Options&);

// Throws Error(kInput) for a file that cannot be read, Error(kUsage) for what cannot be used.
SamplerOptions sampler_options(const Options& options);

// The samplers in their order, by name, as they are in sampler_options(). Throws Error(kUsage) for an unknown one.
std::vector<std::string> sampler_names(const Options& options);

// How prompts are made from conversations: thinking, and the template's arguments.
// Throws Error(kUsage) for arguments that are no JSON object.
ChatOptions chat_options(const Options& options);

}  // namespace lacake::cli
