#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace lacake {

// A regular file in memory, read only, as long as this lives. Reading bytes that another process has cut off meanwhile
// ends the process: files of ours are replaced whole, never changed in place.
class MappedFile {
 public:
  // Throws Error(kInput) whose subject is the file; `expected` is what a folder or a pipe stands in the place of.
  explicit MappedFile(const std::string& path, const std::string& expected = "a file");
  // A copy of bytes that came from elsewhere, at the address of a page as a file's would be. Throws std::bad_alloc.
  struct Copy {};
  MappedFile(Copy, std::string_view bytes);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, bytes_}; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace lacake
