#include "policies/answer_entries.h"

namespace lacake {

PolicyParameter recent_parameter() {
  return {.name = "recent",
          .default_value = 0.5,
          .min = 0,
          .max = 1,
          .help = "share of a layer that the newest entries of an answer may take of the prompt's (ours)"};
}

}  // namespace lacake
