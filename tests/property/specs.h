#pragma once

// Which settings of the registry's policies tests go through.

#include <string>
#include <vector>

#include "lacake/policy.h"

namespace lacake::simulation {

// Every policy with its defaults, and with each word of each parameter that takes words. Without cake's cascade=off,
// which holds the whole prompt before it cuts, as its README says.
inline std::vector<PolicySpec> every_choice() {
  std::vector<PolicySpec> specs;
  for (const PolicyType& type : policy_types()) {
    specs.push_back(PolicySpec::parse(type.name));
    for (const PolicyParameter& parameter : type.parameters) {
      for (std::size_t i = 0; i < parameter.choices.size(); ++i) {
        if (static_cast<double>(i) == parameter.default_value) continue;
        if (parameter.name == "cascade") continue;
        specs.push_back(PolicySpec::parse(type.name + ":" + parameter.name + "=" + parameter.choices[i]));
      }
    }
  }
  return specs;
}

}  // namespace lacake::simulation
