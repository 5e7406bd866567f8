#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "cpu/target_hold.h"
#include "lacake/model.h"
#include "matmul/matmul_method.h"
#include "model/architecture.h"
#include "model/calibration.h"
#include "model/gguf_file.h"
#include "model/lora.h"
#include "model/weights.h"
#include "text/chat_prompts.h"
#include "text/vocabulary.h"

namespace lacake {

// What a Model is made of, for the parts of the library that compute with it.
struct LoadedModel {
  LoadedModel(const std::string& path, const Model::Options&);

  // What it computes with (model/fingerprint.h): found at the first call, which reads all weights. Any thread.
  const std::string& fingerprint() const;
  // What a person knows it by: the name that the file gives it, or the file's own.
  std::string display_name() const;
  // Throws Error(kInput) about the calibration if it was learned for another model: to be called before its scores are
  // used. Costs what fingerprint() costs.
  void check_calibration() const;

  cpu::TargetHold target;  // before the first question about what this machine can do
  matmul::Method product;
  std::uint64_t resident_before = 0;   // of the process, when opening began
  std::uint64_t vocabulary_bytes = 0;  // what the metadata and the vocabulary added
  GgufFile file;
  Hyperparameters hyperparameters;
  Vocabulary vocabulary;
  ChatPrompts chat;
  Weights weights;
  std::vector<Lora> loras;
  std::optional<CalibrationFile> calibration;
  ModelFacts facts;

 private:
  mutable std::once_flag fingerprinted_;
  mutable std::string fingerprint_;
};

}  // namespace lacake
