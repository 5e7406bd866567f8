#include "model/rope.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lacake/error.h"

namespace lacake {
namespace {

// YaRN's temperature for a stretch of positions (Peng et al. 2023, section 3.4).
double temperature(double stretch) { return stretch <= 1 ? 1 : 0.1 * std::log(stretch) + 1; }

bool is_known(const std::string& type) {
  return type == "none" || type == "linear" || type == "yarn" || type == "longrope";
}

bool has_factors(const GgufFile& file) {
  return file.tensor("rope_factors_long.weight") || file.tensor("rope_factors_short.weight");
}

[[noreturn]] void refuse(const std::string& setting, const std::string& expected, const std::string& found) {
  throw Error({.kind = Error::Kind::kUsage, .subject = setting, .expected = expected, .found = found});
}

// Throws Error(kUsage) for an option that would change nothing beside the others and this file.
void check_effect(const GgufFile& file, const RopeOptions& options, const std::string& type,
                  const RopeParameters& rope) {
  const bool yarn = rope.ext_factor != 0;
  const std::string no_yarn = fmt::format("`rope_scaling` {}", type);
  if (options.freq_scale && type == "none") refuse("rope_freq_scale", "another `rope_scaling` than none", "none");
  if (options.yarn_beta_slow && !yarn) refuse("yarn_beta_slow", "`rope_scaling` yarn", no_yarn);
  if (options.yarn_beta_fast && !yarn) refuse("yarn_beta_fast", "`rope_scaling` yarn", no_yarn);
  if (options.yarn_attn_factor && yarn) refuse("yarn_attn_factor", "no YaRN, which sets it by itself", "YaRN");
  if (options.original_length && !yarn && type != "yarn" && !has_factors(file)) {
    refuse("yarn_orig_ctx", "`rope_scaling` yarn, or a model with long and short RoPE factors", no_yarn);
  }
  if (options.scaling == "yarn" && rope.freq_scale == 1 && !options.freq_scale) {
    refuse("rope_scaling", "a stretch of positions for yarn (`rope_scale` 4)", "none, neither in the file");
  }
  if (options.scaling == "longrope" && !has_factors(file)) {
    refuse("rope_scaling", "a model with long and short RoPE factors for longrope", "one without");
  }
}

}  // namespace

void read_ropes(const GgufFile& file, LocalRope local, const RopeOptions& options, std::int64_t context_length,
                Hyperparameters& h) {
  const std::string p = h.architecture + ".", type_key = p + "rope.scaling.type";
  const std::string type = options.scaling.value_or(file.string(type_key).value_or("linear"));
  if (!is_known(type)) {
    const std::string expected = "none, linear, yarn or longrope", found = fmt::format("\"{}\"", type);
    if (options.scaling) refuse("rope_scaling", expected, found);
    file.fail(type_key, expected, found);
  }
  RopeParameters rope;
  rope.freq_base = (float)file.number_in(p + "rope.freq_base", 1e-3, 1e12, 10000.0);
  // Files older than rope.scaling.* say the linear factor in rope.scale_linear.
  const double factor =
      file.number_in(p + "rope.scaling.factor", 0, 1e6, file.number_in(p + "rope.scale_linear", 0, 1e6, 0.0));
  const float scale_of_file = factor > 0 ? (float)(1.0 / factor) : 1.0f;
  rope.freq_scale = scale_of_file;
  rope.n_ctx_orig =
      (int)file.integer_in(p + "rope.scaling.original_context_length", 0, INT32_MAX, (std::int64_t)h.n_ctx_train);

  RopeParameters sliding = rope;
  if (local == LocalRope::kOwnBase) sliding.freq_base = 10000, sliding.freq_scale = 1;
  sliding.freq_base = (float)file.number_in(p + "rope.freq_base_swa", 1e-3, 1e12, sliding.freq_base);

  // What the user says overrides the file for layers with full attention, YaRN's constants for all.
  if (options.freq_base) rope.freq_base = (float)*options.freq_base;
  if (options.freq_scale) rope.freq_scale = (float)*options.freq_scale;
  if (options.original_length) rope.n_ctx_orig = (int)*options.original_length;
  if (type == "none") rope.freq_scale = 1;
  rope.ext_factor = (float)options.yarn_ext_factor.value_or(type == "yarn" ? 1 : 0);
  rope.attn_factor = (float)options.yarn_attn_factor.value_or(1);
  rope.beta_fast = (float)options.yarn_beta_fast.value_or(32);
  rope.beta_slow = (float)options.yarn_beta_slow.value_or(1);
  check_effect(file, options, type, rope);
  if (rope.ext_factor != 0) {
    // ggml multiplies by 1 + 0.1 ln(stretch) itself, also where nothing is stretched.
    const double stretch = 1.0 / rope.freq_scale;
    rope.attn_factor = (float)(temperature(stretch) / (1 + 0.1 * std::log(stretch)));
  }
  rope.attn_factor *= (float)file.number_in(p + "rope.scaling.attn_factor", 1e-6, 1e6, 1.0);

  // Positions that options stretch further than the file does reach further, too.
  if (rope.freq_scale != scale_of_file) {
    const double length = type == "yarn" ? rope.n_ctx_orig / (double)rope.freq_scale
                                         : (double)h.n_ctx_train * scale_of_file / rope.freq_scale;
    h.n_ctx_train = (std::int64_t)std::clamp(length, 1.0, (double)INT32_MAX);
  }
  h.long_factors = (context_length > 0 ? context_length : h.n_ctx_train) > rope.n_ctx_orig;

  h.ropes = {rope};
  sliding.n_ctx_orig = rope.n_ctx_orig;
  sliding.beta_fast = rope.beta_fast, sliding.beta_slow = rope.beta_slow;
  if (local == LocalRope::kUnscaled) {
    sliding.freq_base = rope.freq_base, sliding.freq_scale = 1;
  } else {
    sliding.ext_factor = rope.ext_factor, sliding.attn_factor = rope.attn_factor;
  }
  h.ropes.push_back(sliding);
}

}  // namespace lacake
