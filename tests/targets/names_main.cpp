// Prints the names that LACAKE_TARGET may have on this machine, one a line.

#include <cstdio>

#include "lacake/machine.h"

int main() {
  for (const std::string& name : lacake::instruction_sets()) std::puts(name.c_str());
}
