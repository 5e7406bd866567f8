# Writes files into a .cpp, so that a program has them without looking for any:
#
#   cmake -D "FILES=a/index.html;a/main.js" -D OUTPUT=page_files.cpp -P embed.cmake
#
# Makes lacake::cli::page_files(), which cli/serve/page.h declares. Each has the start of its SHA-256 as its tag.
set(arrays "")
set(rows "")
set(i 0)
foreach(file IN LISTS FILES)
  get_filename_component(name ${file} NAME)
  file(READ ${file} digits HEX)
  string(REGEX REPLACE "(..)" "0x\\1," numbers "${digits}")
  file(SHA256 ${file} sum)
  string(SUBSTRING ${sum} 0 16 tag)
  string(APPEND arrays "constexpr unsigned char kFile${i}[] = {${numbers}0};\n")
  string(APPEND rows "      {\"${name}\", \"${tag}\", {reinterpret_cast<const char*>(kFile${i}), sizeof(kFile${i}) - 1}},\n")
  math(EXPR i "${i} + 1")
endforeach()
file(WRITE ${OUTPUT} "// Made by cmake/embed.cmake.
#include \"serve/page.h\"

namespace lacake::cli {
namespace {
${arrays}}  // namespace

std::span<const PageFile> page_files() {
  static const PageFile files[] = {
${rows}  };
  return files;
}
}  // namespace lacake::cli
")
