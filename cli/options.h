#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace lacake::cli {

// The commands that an option belongs to, as a set of bits.
enum Command : unsigned {
  kRun = 1,
  kChat = 2,
  kInspect = 4,
  kPolicies = 8,
  kBench = 16,
  kEval = 32,
  kIngest = 64,
  kServe = 128,
  kCalibrate = 256
};

// What was asked for. Empty where the default is another part's to decide.
struct Options {
  std::vector<std::string> given;  // JSON names of the options that stood on the command line

  std::string model;

  std::optional<std::string> file;
  std::optional<std::string> prompt;
  std::optional<std::string> system;
  bool raw = false;
  bool parse_special = false;
  std::optional<std::string> tools_file;
  std::optional<std::string> output;
  std::optional<std::string> session;
  bool save = false;
  std::optional<std::string> checkpoints;
  bool no_history = false;
  bool no_pin_system = false;
  bool kv_elastic = false;
  std::optional<std::string> kv_memory;
  std::optional<std::int64_t> parallel;
  std::optional<std::int64_t> queue;
  std::optional<std::string> store;
  std::optional<std::string> store_size;
  std::optional<std::string> host;
  std::optional<std::int64_t> port;
  std::optional<std::string> alias;
  std::vector<std::string> api_keys;
  std::optional<std::string> api_key_file;
  std::optional<std::string> ssl_key_file;
  std::optional<std::string> ssl_cert_file;
  std::optional<std::string> cors;
  bool no_ui = false;
  std::optional<std::string> body_size;
  std::optional<std::int64_t> request_time;
  std::optional<std::int64_t> connections;
  std::optional<std::int64_t> drain_time;
  bool log_requests = false;
  std::optional<std::string> log_file;
  std::optional<std::string> admin_key;
  bool log_prompts = false;
  bool no_slots = false;
  bool verbose = false;
  std::optional<std::string> html;
  bool show_text = false;
  std::optional<std::int64_t> predict;
  std::vector<std::string> stop;
  std::optional<std::int64_t> logprobs;
  std::optional<std::string> continuation;
  bool ignore_eos = false;

  std::optional<std::string> policy;
  std::optional<std::string> kv_budget;
  std::optional<std::string> kv_type;
  std::string prefill = "exact";
  std::optional<std::int64_t> chunk;
  std::optional<std::int64_t> ctx_size;
  std::optional<std::int64_t> prompt_tokens;

  std::optional<std::int64_t> seed;
  std::optional<double> temp;
  std::optional<std::int64_t> top_k;
  std::optional<double> top_p;
  std::optional<double> min_p;
  std::optional<double> typical_p;
  std::optional<double> top_n_sigma;
  std::optional<double> xtc_probability;
  std::optional<double> xtc_threshold;
  std::optional<std::int64_t> min_keep;
  std::optional<double> dynatemp_range;
  std::optional<double> dynatemp_exponent;
  std::optional<double> repeat_penalty;
  std::optional<std::int64_t> repeat_last_n;
  std::optional<double> presence_penalty;
  std::optional<double> frequency_penalty;
  std::optional<double> dry_multiplier;
  std::optional<double> dry_base;
  std::optional<std::int64_t> dry_allowed_length;
  std::optional<std::int64_t> dry_penalty_last_n;
  std::vector<std::string> dry_sequence_breakers;
  std::optional<std::int64_t> mirostat;
  std::optional<double> mirostat_eta;
  std::optional<double> mirostat_tau;
  std::vector<std::string> logit_bias;
  std::optional<std::string> samplers;
  std::optional<std::string> sampling_seq;
  std::optional<std::string> grammar;
  std::optional<std::string> grammar_file;
  std::optional<std::string> json_schema;
  std::optional<std::string> json_schema_file;

  std::optional<std::string> chat_template;
  std::optional<std::string> chat_template_file;
  std::optional<std::string> chat_template_kwargs;
  std::optional<std::string> reasoning;
  std::optional<std::string> reasoning_format;
  std::optional<std::int64_t> reasoning_budget;

  std::optional<std::int64_t> threads;
  std::string product = "auto";
  std::string attention = "auto";
  bool no_repack = false;
  std::optional<std::string> rope_scaling;
  std::optional<double> rope_scale;
  std::optional<double> rope_freq_base;
  std::optional<double> rope_freq_scale;
  std::optional<std::int64_t> yarn_orig_ctx;
  std::optional<double> yarn_ext_factor;
  std::optional<double> yarn_attn_factor;
  std::optional<double> yarn_beta_slow;
  std::optional<double> yarn_beta_fast;
  std::vector<std::string> override_kv;
  std::vector<std::string> lora, lora_scaled;
  std::optional<std::string> calibration;

  // bench, eval: every combination is measured.
  std::vector<std::string> policies;
  std::vector<std::string> kv_budgets;
  std::vector<std::int64_t> depths;
  std::optional<std::int64_t> n_prompt;
  std::optional<std::int64_t> n_gen;
  std::optional<std::int64_t> repetitions;
  std::string fill = "auto";
  bool beyond_training = false;

  // eval
  std::vector<std::string> words;  // the task, then what it is about; of ingest and inspect: files
  std::vector<std::string> files;
  std::optional<std::int64_t> score_chunk;
  std::optional<std::int64_t> learned_chunk;  // of calibrate
  std::optional<std::int64_t> tokens;
  std::optional<std::int64_t> limit;
  std::optional<std::int64_t> window;
  std::vector<std::int64_t> lengths;
  std::optional<std::int64_t> n_depths;
  std::optional<std::int64_t> n_seeds;
  std::optional<std::int64_t> needles;
  std::optional<std::string> key;
  std::optional<std::int64_t> n_questions;
  std::string question = "seen";
  std::vector<std::string> tasks;
  bool skip_broken = false;
  std::optional<std::int64_t> n_samples;
  std::vector<std::string> data;
  std::vector<std::string> qa;
  std::optional<std::int64_t> max_length;
  std::optional<std::string> results;
  std::optional<std::string> cache_memory;
  std::optional<std::string> beside;

  std::optional<std::string> plot;
  std::optional<std::string> kept;

  bool json = false;
  bool quiet = false;
  std::string color = "auto";
};

// The items of lists as given: a comma ends one.
std::vector<std::string> list_items(const std::vector<std::string>& lists);

// Adds to `app` every option that `command` takes; parsing then fills `options`. Values that cannot be used throw
// Error(kUsage) while parsing.
void add_options(CLI::App& app, Command command, Options& options);

// Says in `options` which options stood on the command line that `app` has parsed.
void note_given(const CLI::App& app, Command command, Options& options);
bool is_given(const Options& options, std::string_view json);

// One option of a command, as programs see it: help --json, checks, tests.
struct OptionFacts {
  std::vector<std::string> flags;  // all of them, the one in messages last; without dashes: a word of its own
  std::string json;                // its name in JSON, and the library's name of the setting where it is one
  std::string group;
  std::vector<std::string> tasks;  // of `eval`: those that it is for
  bool takes_value = false;

  const std::string& name() const { return flags.back(); }
};
std::vector<OptionFacts> option_facts(Command command);

// The names of the options of a command: "--top-k", ...
std::vector<std::string> option_names(Command command);

// The flag of a setting in a command ("kv_budget": "--kv-budget"); "" if it has none.
std::string flag_of(Command command, std::string_view setting);

// Everything that is said of the options of a command, for programs: completions, man pages, tests.
nlohmann::json option_table_json(Command command);

// All options of a command by their JSON names, for a result to say how it came about; null: not given.
nlohmann::json options_json(const Options& options, Command command);

// Those of the given groups that were given or have a default.
nlohmann::json options_json(const Options& options, Command command, std::initializer_list<std::string_view> groups);

}  // namespace lacake::cli
