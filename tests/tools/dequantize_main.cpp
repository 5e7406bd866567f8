// lacake_dequantize IN OUT: makes OUT unless it is there already.

#include <cstdio>
#include <exception>

#include "tools/dequantize.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: lacake_dequantize IN.gguf OUT.gguf\n");
    return 2;
  }
  try {
    if (!lacake::is_dequantized(argv[1], argv[2])) lacake::dequantize(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "lacake_dequantize: %s\n", error.what());
    return 1;
  }
  return 0;
}
