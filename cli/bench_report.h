#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "bench_measure.h"
#include "engine/bench.h"
#include "lacake/model.h"
#include "terminal.h"

namespace lacake::cli {

// What all measurements of a run have in common.
struct BenchSetting {
  const ModelFacts& facts;
  int threads = 0;
  double machine_gb_per_s = 0;     // a plain read of memory by as many threads
  std::uint64_t weight_bytes = 0;  // read at every token
  AttentionInUse attention;
};

// How this program was built: CMake's build type, and what makes its figures worthless ("" if nothing does).
std::string build_type();
std::string build_fault();

// A table of at most 80 columns, line by line as measurements come in. Texts end with a new line.
std::string bench_heading(const BenchSetting& setting, const Terminal& terminal);
std::string bench_row(const BenchResult& result, const BenchSetting& setting, const Terminal& terminal);

nlohmann::json bench_json(const BenchResult& result, const BenchSetting& setting);

}  // namespace lacake::cli
