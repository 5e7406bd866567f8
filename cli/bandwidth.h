#pragma once

namespace lacake::cli {

// Bytes a second, in GB (10^9), that this many threads read from memory when they do nothing else: the best of several
// passes over a buffer that is larger than any cache. Takes about a second.
double read_bandwidth(int threads);

}  // namespace lacake::cli
