#pragma once

// System calls on the files of one folder, written down as they come, of which a chosen one fails. A program that links
// liblacake_faults makes its calls through it; in one that does not, LD_PRELOAD puts it there, and the environment says
// what fails:
//
//   LACAKE_FAULTS_FOLDER   the folder
//   LACAKE_FAULTS_CALL     the first call that fails, counted from 1
//   LACAKE_FAULTS_ERROR    how: the number of an errno, or "short": a write takes half of what it is given
//   LACAKE_FAULTS_FOREVER  set: and every call after it
//
// Calls: open, write, pwrite, fsync, fdatasync, ftruncate, flock, close, rename, unlink. What syncs is written down and
// not done: what a power cut leaves is computed (power_cut.h), and a sync costs a disk's time.

#include <cstddef>
#include <string>
#include <vector>

namespace lacake::faults {

struct Fault {
  std::size_t call = 0;  // counted from 1; 0: none fails
  int error = 0;         // 0: a write takes half of what it is given, other calls are as they are
  bool forever = false;  // every call from there on fails, not this one alone
  bool kills = false;    // the process ends before the call, as by kill -9
};

struct Call {
  std::string name;
  std::string path;        // of the file, or the one that it had when it was opened
  std::string to = {};     // rename
  std::string bytes = {};  // that were written
  std::size_t at = 0;      // and where
  int error = 0;           // errno, where it failed
};

// From here on, for the calls of all threads. One folder at a time.
void watch(const std::string& folder, const Fault& fault = {});
// Ends it: the calls since.
std::vector<Call> stop();

}  // namespace lacake::faults
