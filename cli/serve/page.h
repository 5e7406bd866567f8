#pragma once

// The page in the browser: the files of page/, which are part of the program.

#include <span>
#include <string_view>

#include "serve/http.h"

namespace lacake::cli {

struct PageFile {
  std::string_view name;  // "main.js"
  std::string_view tag;   // changes with what is in it
  std::string_view bytes;
};

// Made by the build (cmake/embed.cmake).
std::span<const PageFile> page_files();

// What a path of HTTP asks for: index.html at "/", each of the others below "/page/". Null: nothing of the page.
const PageFile* page_file(std::string_view path);

// The file, or that the browser has it already.
void send_page(HttpExchange& exchange, const PageFile& file);

}  // namespace lacake::cli
