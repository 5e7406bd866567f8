#pragma once

#include <span>
#include <string>
#include <string_view>

#include "eval/grid.h"
#include "lacake/model.h"
#include "lacake/snapshot.h"
#include "options.h"

namespace lacake::cli {

// Nothing that stood on the command line may be without effect unheard.

// Throws Error(kUsage) for the first option that changes nothing beside the others, saying what it needs. Options of
// sampling are looked at as sampler_checks.h says.
void check_effects(const Options& options, Command command);

// The same for options of a chat template beside a saved conversation whose texts have none around them. What chat
// begins a conversation with is another matter: it is held against the file.
void require_template(const Options& options, Command command, const Snapshot& saved);

// Says which options have no effect on a model that has no chat template.
void warn_without_template(const Options& options, Command command);

// The same as check_effects for options that a task of `eval` does not look at.
void check_effects_of_task(const Options& options, std::string_view task);

// The same for budgets that no policy of the grid looks at.
void check_budgets(const Options& options, std::span<const eval::Configuration> grid);

}  // namespace lacake::cli
