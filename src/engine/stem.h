#pragma once

#include <vector>

#include "engine/session_state.h"
#include "lacake/engine.h"

namespace lacake {

struct SessionStem::State {
  const EngineState* engine;  // whose sessions it can be
  SessionOptions options;
  std::vector<Token> tokens;
  SessionCopy copy;  // of every row
};

}  // namespace lacake
