#include "grid.h"

#include "lacake/calibration.h"
#include "sizing.h"

namespace lacake::cli {

std::vector<eval::Configuration> grid_of(const Options& options) {
  std::vector<std::string> policies;
  for (const std::string& list : options.policies) {
    for (std::string& policy : PolicySpec::split(list)) policies.push_back(std::move(policy));
  }
  const std::vector<std::string> budgets = list_items(options.kv_budgets);
  if (policies.empty()) policies = {"full"};
  if (options.policies.empty() && !budgets.empty()) policies.emplace_back(kPolicyOfABudget);
  const bool calibrated = !calibration_in_use(options.model, options.calibration.value_or("")).empty();
  return eval::make_grid(policies, budgets, calibrated);
}

}  // namespace lacake::cli
