#include "lacake/policy.h"

namespace lacake {

#define LACAKE_POLICY(name) const PolicyType& name##_policy();
#include "policies/policies.def"
#undef LACAKE_POLICY

const std::vector<PolicyType>& policy_types() {
  static const std::vector<PolicyType> types = {
#define LACAKE_POLICY(name) name##_policy(),
#include "policies/policies.def"
#undef LACAKE_POLICY
  };
  return types;
}

}  // namespace lacake
