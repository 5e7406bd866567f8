#pragma once

#include <functional>
#include <string>

#include "lacake/model.h"
#include "model/calibration.h"

namespace lacake::models {

// A calibration of random scores for a model, as a temporary file that is gone when this is.
class TinyCalibration {
 public:
  //   options  as the model will be opened
  //   edit     of what is written, last
  explicit TinyCalibration(const std::string& model_path, Model::Options options = {}, unsigned seed = 1,
                           const std::function<void(CalibrationFile&)>& edit = {});
  ~TinyCalibration();
  TinyCalibration(const TinyCalibration&) = delete;
  TinyCalibration& operator=(const TinyCalibration&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace lacake::models
