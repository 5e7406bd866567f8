#pragma once

// Which settings of the registry's policies tests go through.

#include <string>
#include <vector>

#include "lacake/policy_author.h"

namespace lacake::simulation {

// Every policy with its defaults, and with each word of each parameter that takes words. Without cake's cascade=off,
// which holds the whole prompt before it cuts, as its README says.
inline std::vector<PolicySpec> every_choice() {
  std::vector<PolicySpec> specs;
  for (const PolicyType& type : policy_types()) {
    specs.push_back(PolicySpec::parse(type.name));
    for (const PolicyParameter& parameter : type.parameters) {
      for (const std::string& word : parameter.words) {
        if (PolicyValue(word) == parameter.default_value || parameter.name == "cascade") continue;
        specs.push_back(PolicySpec::parse(type.name + ":" + parameter.name + "=" + word));
      }
    }
  }
  return specs;
}

}  // namespace lacake::simulation
