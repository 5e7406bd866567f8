#pragma once

#include <cstddef>
#include <vector>

#include "eval/grid.h"
#include "lacake/engine.h"
#include "options.h"

namespace lacake::cli {

// The session that the options describe. Throws Error(kUsage) for a policy, budget or type that cannot be understood,
// whether or not there is a model yet.
SessionOptions session_options(const Options& options, std::size_t prompt_tokens = 0, std::size_t new_tokens = 0);

// The same for a prompt of this length, with room for its answer: --predict tokens, or what --ctx-size (the model's
// length) leaves. A policy that keeps everything reserves that room, so where the whole of it does not fit and nobody
// named a length, it is halved until it does. Throws what Engine::plan throws.
SessionOptions sized_session(const Engine& engine, const Model& model, const Options& options,
                             std::size_t prompt_tokens);

// The same for a conversation of --ctx-size tokens (the model's length), whatever they are.
SessionOptions sized_chat(const Engine& engine, const Model& model, const Options& options);

// Every policy at every budget, where several may be given (bench, eval). Throws Error(kUsage) for one that cannot be
// understood, or that needs a budget where none is given.
std::vector<eval::Configuration> grid_of(const Options& options);

// The most new tokens that a session should make now, after what it was fed: --predict, and what is left of the
// conversation. Where positions never run out, that starts anew at every question, and --predict -1 means SIZE_MAX.
std::size_t longest_answer(const Options& options, const Session& session, const SessionOptions& sized);

}  // namespace lacake::cli
