// Prints the names that LACAKE_TARGET may have on this machine, one a line.

#include <cstdio>

#include "cpu/target.h"

int main() {
  for (const std::string& name : lacake::cpu::target_names()) std::puts(name.c_str());
}
