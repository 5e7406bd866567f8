// Prints the names that LACAKE_TARGET may have on this machine, one a line.

#include <cstdio>

#include "attention/attention.h"

int main() {
  for (const std::string& name : lacake::attention::target_names()) std::puts(name.c_str());
}
