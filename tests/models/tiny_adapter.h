#pragma once

#include <functional>
#include <string>

#include "gguf.h"

namespace lacake::models {

// A random LoRA adapter of every matrix in a model's blocks, but experts, as a temporary GGUF file.
class AdapterFile {
 public:
  //   edit  of the metadata, last
  explicit AdapterFile(const std::string& model_path, int rank = 4, float alpha = 6, unsigned seed = 1,
                       const std::function<void(gguf_context*)>& edit = {});
  ~AdapterFile();
  AdapterFile(const AdapterFile&) = delete;
  AdapterFile& operator=(const AdapterFile&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace lacake::models
