#include "options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <ranges>
#include <variant>

#include "lacake/error.h"
#include "prompt.h"
#include "tools.h"

namespace lacake::cli {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();

// What a value may be, and where it goes.
struct Text {
  std::variant<std::string Options::*, std::optional<std::string> Options::*> field;
};
struct Whole {
  std::optional<std::int64_t> Options::*field;
  std::int64_t min;
  std::int64_t max;
};
struct Real {
  std::optional<double> Options::*field;
  double min;
  double max;
};
struct Choice {
  std::variant<std::string Options::*, std::optional<std::string> Options::*> field;
  std::vector<std::string> words;
};
struct Switch {
  bool Options::*field;
};
// May be given several times; nothing of it is lost.
struct Texts {
  std::vector<std::string> Options::*field;
};
// The same, and a comma separates two.
struct Wholes {
  std::vector<std::int64_t> Options::*field;
  std::int64_t min;
  std::int64_t max;
};

constexpr const char* kModelTasks = "perplexity,needle,ruler,longbench";
constexpr const char* kAllTasks = "perplexity,needle,ruler,longbench,compare,report";
constexpr const char* kTasksWithRecords = "perplexity,needle,ruler,longbench,report";

// One option: everything that is said of it anywhere.
struct Row {
  std::string flags;  // as CLI11 takes them; the last is the name in messages
  std::string json;
  std::string value;  // what stands for the value in help texts
  std::string group;
  std::string help;
  unsigned commands;
  std::variant<Text, Whole, Real, Choice, Switch, Texts, Wholes> kind;
  const char* tasks = kModelTasks;  // of `eval`: those that it is for, with commas between

  std::string name() const { return flags.substr(flags.rfind(',') + 1); }
};

const std::vector<Row>& rows() {
  constexpr unsigned kModelled = kRun | kChat | kInspect;
  constexpr unsigned kAnswering = kRun | kChat;
  constexpr unsigned kPrompted = kRun | kInspect;
  constexpr unsigned kReading = kModelled | kIngest;
  constexpr unsigned kRunning = kReading | kBench | kEval | kServe;
  constexpr unsigned kLoading = kRunning | kCalibrate;
  constexpr unsigned kTemplated = kAnswering | kIngest | kServe;
  constexpr unsigned kSampled = kModelled | kServe;
  constexpr unsigned kAll = kLoading | kPolicies;
  using O = Options;
  static const std::vector<Row> table = {
      {"-m,--model", "model", "FILE", "Model",
       "GGUF file, the first where it is split; needed but to look at a saved conversation", kLoading, Text{&O::model}},
      {"-t,--threads", "threads", "N", "Model", "threads [all cores]", kLoading, Whole{&O::threads, 1, 1024}},
      {"--product", "product", "HOW", "Model",
       "a prompt's matrix products: auto, bf16x3, bf16, int8, f32 or ggml [auto]", kLoading,
       Choice{&O::product, {"auto", "bf16x3", "bf16", "int8", "f32", "ggml"}}},
      {"--attention", "attention", "auto|int16|f32|ggml", "Model", "attention's arithmetic; ggml is slow [auto]",
       kLoading, Choice{&O::attention, {"auto", "int16", "f32", "ggml"}}},
      {"--no-repack", "no_repack", "", "Model", "keep no faster second copies of weights", kLoading,
       Switch{&O::no_repack}},

      {"--rope-scaling", "rope_scaling", "HOW", "RoPE", "none, linear, yarn or longrope [what the file says]", kLoading,
       Choice{&O::rope_scaling, {"none", "linear", "yarn", "longrope"}}},
      {"--rope-scale", "rope_scale", "X", "RoPE", "positions are stretched X times", kLoading,
       Real{&O::rope_scale, 1e-3, 1e6}},
      {"--rope-freq-base", "rope_freq_base", "X", "RoPE", "frequency base; a larger one is NTK scaling", kLoading,
       Real{&O::rope_freq_base, 1e-3, 1e12}},
      {"--rope-freq-scale", "rope_freq_scale", "X", "RoPE", "1 / --rope-scale", kLoading,
       Real{&O::rope_freq_scale, 1e-6, 1e3}},
      {"--yarn-orig-ctx", "yarn_orig_ctx", "N", "RoPE", "YaRN: length of the first training", kLoading,
       Whole{&O::yarn_orig_ctx, 1, kMost}},
      {"--yarn-ext-factor", "yarn_ext_factor", "X", "RoPE",
       "YaRN: 0 interpolates all dimensions, 1 mixes [1 with YaRN, else 0]", kLoading, Real{&O::yarn_ext_factor, 0, 1}},
      {"--yarn-attn-factor", "yarn_attn_factor", "X", "RoPE",
       "scale of rotated queries and keys; only without YaRN, which sets its own [1]", kLoading,
       Real{&O::yarn_attn_factor, 1e-3, 1e3}},
      {"--yarn-beta-slow", "yarn_beta_slow", "X", "RoPE",
       "YaRN: dimensions that rotate less often over the first training length are interpolated fully [1]", kLoading,
       Real{&O::yarn_beta_slow, 0, 1e6}},
      {"--yarn-beta-fast", "yarn_beta_fast", "X", "RoPE",
       "YaRN: dimensions that rotate more often are not interpolated [32]", kLoading, Real{&O::yarn_beta_fast, 0, 1e6}},
      {"--override-kv", "override_kv", "KEY=TYPE:VALUE", "Model",
       "metadata instead of the file's; TYPE int, float, bool or str; may be repeated", kLoading,
       Texts{&O::override_kv}},
      {"--lora", "lora", "FILE", "Model", "LoRA adapter in GGUF; several add up", kLoading, Texts{&O::lora}},
      {"--lora-scaled", "lora_scaled", "FILE:SCALE", "Model", "the same, SCALE times", kLoading,
       Texts{&O::lora_scaled}},
      {"--calibration", "calibration", "FILE|none", "Model",
       "learned scores, for policies that drop by them [the file that `lacake calibrate` made beside the model]",
       kRunning, Text{&O::calibration}},

      {"-f,--file", "file", "FILE", "Prompt", "text file, - for standard input", kPrompted, Text{&O::file}},
      {"-p,--prompt", "prompt", "TEXT", "Prompt", "text; comes after FILE, a blank line between", kPrompted,
       Text{&O::prompt}},
      {"--system", "system", "TEXT", "Prompt", "system message", kReading, Text{&O::system}},
      {"--raw", "raw", "", "Prompt", "the prompt as it is, without chat template", kPrompted | kIngest,
       Switch{&O::raw}},
      {"--parse-special", "parse_special", "", "Prompt",
       "control tokens written out in prompt or messages count as such [they are letters]", kReading,
       Switch{&O::parse_special}},
      {"--tools-file", "tools", "FILE", "Prompt", "functions that the model may call, a JSON list as OpenAI's API has",
       kRun, Text{&O::tools_file}},
      {"--prompt-tokens", "prompt_tokens", "N", "Prompt", "plan for a prompt of N tokens [the model's length]",
       kInspect, Whole{&O::prompt_tokens, 1, kMost}},

      {"text", "text", "FILE...", "Text", "texts to read, one after the other, - for standard input", kIngest,
       Texts{&O::words}},
      {"-o,--output", "output", "FILE", "Text", "where the conversation that holds them is saved; always needed",
       kIngest, Text{&O::output}},
      {"-f,--file", "files", "FILE", "Text", "text to learn from, - for standard input; several by giving it again",
       kCalibrate, Texts{&O::files}},
      {"-o,--output", "output", "FILE", "Text", "where the calibration goes [MODEL.calibration.gguf, found by itself]",
       kCalibrate, Text{&O::output}},
      {"--tokens", "tokens", "N", "Text", "learn from N tokens, the same share of each text [all]", kCalibrate,
       Whole{&O::tokens, 1, kMost}},
      {"--chunk", "learned_chunk", "N", "Text",
       "tokens that are read at once, and repeated at once if the model was trained for twice as many [1024]",
       kCalibrate, Whole{&O::learned_chunk, 8, kMost}},
      {"saved", "saved", "FILE", "Saved", "a saved conversation to look at, without -m", kInspect, Texts{&O::words}},
      {"--session", "session", "FILE", "Saved",
       "a saved conversation to go on with; chat makes it where it is not there, and saves after each answer",
       kAnswering, Text{&O::session}},
      {"--save", "save", "", "Saved", "keep question and answer in the file of --session [it stays as it is]", kRun,
       Switch{&O::save}},
      {"--checkpoints", "checkpoints", "SIZE", "Saved",
       "memory, and as much of the file, for copies of the cache, for /undo and /retry (256MiB) [that of two copies]",
       kChat, Text{&O::checkpoints}},
      {"--checkpoints", "checkpoints", "SIZE", "Conversations",
       "memory of each for copies of its cache, to go back to where it was edited (256MiB) [that of two copies]",
       kServe, Text{&O::checkpoints}},
      {"--no-pin-system", "no_pin_system", "", "Conversations",
       "let the policy drop entries of system messages and tools too [they always stay]", kServe,
       Switch{&O::no_pin_system}},
      {"--kv-elastic", "kv_elastic", "", "Conversations",
       "idle conversations that are not in a store give way by halves, down to a quarter of their budget, before any "
       "goes",
       kServe, Switch{&O::kv_elastic}},
      {"--kv-memory", "kv_memory", "SIZE", "Conversations",
       "KV memory of all conversations together (4GiB) [that of --parallel]", kServe, Text{&O::kv_memory}},
      {"--parallel", "parallel", "N", "Conversations", "conversations that KV memory is reserved for [4]", kServe,
       Whole{&O::parallel, 1, 100'000}},
      {"--queue", "queue", "N", "Conversations", "requests that may wait; more are refused [64]", kServe,
       Whole{&O::queue, 1, 1'000'000}},
      {"--store", "store", "FOLDER", "Conversations", "where conversations are kept, over restarts too [nowhere]",
       kServe, Text{&O::store}},
      {"--store-size", "store_size", "SIZE", "Conversations", "most bytes of it [10GB]", kServe, Text{&O::store_size}},

      {"--host", "host", "ADDRESS", "HTTP", "address to listen on [127.0.0.1]", kServe, Text{&O::host}},
      {"--port", "port", "N", "HTTP", "port, 0 for any that is free [8080]", kServe, Whole{&O::port, 0, 65535}},
      {"-a,--alias", "alias", "NAME", "HTTP", "the model's name for clients [the file's]", kServe, Text{&O::alias}},
      {"--api-key", "api_keys", "KEY", "HTTP", "a key that clients must send; several by giving it again", kServe,
       Texts{&O::api_keys}},
      {"--api-key-file", "api_key_file", "FILE", "HTTP", "keys from a file, a line each", kServe,
       Text{&O::api_key_file}},
      {"--ssl-key-file", "ssl_key_file", "FILE", "HTTP", "TLS: the private key, in PEM [no TLS]", kServe,
       Text{&O::ssl_key_file}},
      {"--ssl-cert-file", "ssl_cert_file", "FILE", "HTTP", "TLS: its certificate, and those that signed it, in PEM",
       kServe, Text{&O::ssl_cert_file}},
      {"--cors", "cors", "ORIGIN", "HTTP", "web pages of this origin may ask, * for all [none]", kServe,
       Text{&O::cors}},
      {"--no-ui", "no_ui", "", "HTTP", "no page in the browser at /", kServe, Switch{&O::no_ui}},
      {"--body-size", "body_size", "SIZE", "HTTP", "the largest body of a request [64MiB]", kServe,
       Text{&O::body_size}},
      {"--request-time", "request_time", "SECONDS", "HTTP", "in which a request must have arrived [30]", kServe,
       Whole{&O::request_time, 1, 86'400}},
      {"--connections", "connections", "N", "HTTP", "connections at once [512]", kServe,
       Whole{&O::connections, 1, 100'000}},
      {"--drain-time", "drain_time", "SECONDS", "HTTP", "for running answers after SIGTERM or Ctrl-C [3]", kServe,
       Whole{&O::drain_time, 0, 86'400}},
      {"--no-slots", "no_slots", "", "HTTP", "no GET /slots", kServe, Switch{&O::no_slots}},
      {"-v,--verbose", "verbose", "", "HTTP", "answers to chats have the prompt that was read, as `__verbose`", kServe,
       Switch{&O::verbose}},
      {"--admin-key", "admin_key", "KEY", "HTTP", "who sends this one may POST /drain [nobody may]", kServe,
       Text{&O::admin_key}},
      {"--log-requests", "log_requests", "", "Log", "a line of JSON for each request, on standard error", kServe,
       Switch{&O::log_requests}},
      {"--log-file", "log_file", "FILE", "Log", "these lines go to the end of this file; SIGHUP opens it anew", kServe,
       Text{&O::log_file}},
      {"--log-prompts", "log_prompts", "", "Log", "what clients send and get is in them too", kServe,
       Switch{&O::log_prompts}},
      {"--html", "html", "FILE", "Saved",
       "of a saved conversation: a page of its text, dimmed by how many layers still hold it", kInspect,
       Text{&O::html}},
      {"--text", "show_text", "", "Saved", "of a saved conversation: the same in the terminal", kInspect,
       Switch{&O::show_text}},

      {"-d,--n-depth,--depth", "depth", "N", "Measured",
       "tokens before those that are timed, 0,2048 for two depths [0]", kBench, Wholes{&O::depths, 0, kMost}},
      {"-p,--n-prompt", "n_prompt", "N", "Measured", "tokens of a timed prompt, 0 for none [512]", kBench,
       Whole{&O::n_prompt, 0, kMost}},
      {"-n,--n-gen", "n_gen", "N", "Measured", "timed tokens one by one, 0 for none [32]", kBench,
       Whole{&O::n_gen, 0, kMost}},
      {"-r,--repetitions", "repetitions", "N", "Measured", "times [3]", kBench, Whole{&O::repetitions, 1, 1000}},
      {"--fill", "fill", "HOW", "Measured", "the depth's entries: read (real), made up (synthetic) or auto [auto]",
       kBench, Choice{&O::fill, {"auto", "real", "synthetic"}}},
      {"-f,--file", "file", "FILE", "Measured", "text that prompts are made of [a page of the program's own]", kBench,
       Text{&O::file}},
      {"--beyond-training", "beyond_training", "", "Measured", "also lengths that the model was not trained for",
       kBench, Switch{&O::beyond_training}},

      {"-n,--n-predict,--predict", "predict", "N", "Answer", "at most N new tokens, -1 without end [until end of text]",
       kSampled, Whole{&O::predict, -1, kMost}},
      {"--ignore-eos", "ignore_eos", "", "Answer", "never end before N tokens", kSampled, Switch{&O::ignore_eos}},
      {"-r,--reverse-prompt,--stop", "stop", "TEXT", "Answer",
       "end the answer where this text would begin; may be repeated", kAnswering, Texts{&O::stop}},
      {"--logprobs", "logprobs", "N", "Answer",
       "with --json: log-probabilities of the answer's tokens and of the N likeliest", kRun,
       Whole{&O::logprobs, 0, 1000}},
      {"--continuation", "continuation", "FILE", "Answer", "score this text as what follows the prompt (perplexity)",
       kRun, Text{&O::continuation}},

      {"--policy", "policy", "NAME[:key=value,...]", "KV cache",
       "what stays cached, see `lacake policies` [trellis; without --kv-budget full]", kSampled | kIngest,
       Text{&O::policy}},
      {"--kv-budget", "kv_budget", "SIZE", "KV cache", "entries a layer (1024), share (3.2%) or bytes (256MiB)",
       kReading | kServe, Text{&O::kv_budget}},
      {"--policy", "policy", "NAME[:key=value,...]", "KV cache",
       "what stays cached; commas between several; all: each that the model can run [full; with --kv-budget trellis "
       "too]",
       kBench | kEval, Texts{&O::policies}},
      {"--kv-budget", "kv_budget", "SIZE", "KV cache",
       "of policies that evict: entries a layer (1024), share (3.2%) or bytes", kBench | kEval, Texts{&O::kv_budgets}},
      {"--kv-type", "kv_type", "TYPE", "KV cache",
       "f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, iq4_nl or q4_0, or one each for K and V (q8_0,f16) [f16]", kRunning,
       Text{&O::kv_type}},
      {"--prefill", "prefill", "HOW", "KV cache",
       "exact: the whole prompt attends to itself before entries are evicted; streaming: chunk by chunk [exact]",
       kRunning, Choice{&O::prefill, {"exact", "streaming"}}},
      {"--chunk", "chunk", "N", "KV cache", "tokens a streaming chunk [budget / 8, at least 32]", kRunning & ~kEval,
       Whole{&O::chunk, 1, kMost}},
      {"-c,--ctx-size", "ctx_size", "N", "KV cache", "most tokens of a conversation [the model's length]",
       kReading | kServe, Whole{&O::ctx_size, 1, kMost}},

      {"-s,--seed", "seed", "N", "Sampling", "seed, -1 for a random one [-1]", kSampled,
       Whole{&O::seed, -1, std::numeric_limits<std::uint32_t>::max()}},
      {"--temp", "temp", "X", "Sampling", "temperature, 0 for the likeliest token [0.8]", kSampled,
       Real{&O::temp, 0, 1e6}},
      {"--top-k", "top_k", "N", "Sampling", "only the N likeliest tokens, 0 for all [40]", kSampled,
       Whole{&O::top_k, 0, kMost}},
      {"--top-p", "top_p", "X", "Sampling", "only the likeliest that together reach X, 1 for all [0.95]", kSampled,
       Real{&O::top_p, 0, 1}},
      {"--min-p", "min_p", "X", "Sampling", "only those X times as likely as the likeliest, 0 for all [0.05]", kSampled,
       Real{&O::min_p, 0, 1}},
      {"--typical-p,--typical", "typical_p", "X", "Sampling",
       "only the most typical tokens that together reach X, 1 for all [1]", kSampled, Real{&O::typical_p, 0, 1}},
      {"--top-n-sigma,--top-nsigma", "top_n_sigma", "X", "Sampling",
       "only logits within X standard deviations of the largest, -1 for all [-1]", kSampled,
       Real{&O::top_n_sigma, -1, 1e3}},
      {"--xtc-probability", "xtc_probability", "X", "Sampling",
       "XTC: how often all but the least likely above the threshold go [0]", kSampled, Real{&O::xtc_probability, 0, 1}},
      {"--xtc-threshold", "xtc_threshold", "X", "Sampling", "XTC: threshold, above 0.5 never reached [0.1]", kSampled,
       Real{&O::xtc_threshold, 0, 1}},
      {"--min-keep", "min_keep", "N", "Sampling",
       "top-p, min-p, typical and XTC leave at least N tokens, 0 for no such limit [0]", kSampled,
       Whole{&O::min_keep, 0, kMost}},
      {"--dynatemp-range", "dynatemp_range", "X", "Sampling",
       "temperature varies X around --temp with the entropy, 0 for not [0]", kSampled,
       Real{&O::dynatemp_range, 0, 1e6}},
      {"--dynatemp-exp", "dynatemp_exponent", "X", "Sampling", "exponent of that [1]", kSampled,
       Real{&O::dynatemp_exponent, -1e3, 1e3}},
      {"--repeat-last-n", "repeat_last_n", "N", "Sampling", "last tokens that penalties look at, 0 for none [64]",
       kSampled, Whole{&O::repeat_last_n, 0, kMost}},
      {"--repeat-penalty", "repeat_penalty", "X", "Sampling", "above 1: recent tokens become less likely [1]", kSampled,
       Real{&O::repeat_penalty, 1e-3, 1e3}},
      {"--presence-penalty", "presence_penalty", "X", "Sampling", "taken from the logits of recent tokens [0]",
       kSampled, Real{&O::presence_penalty, -1e3, 1e3}},
      {"--frequency-penalty", "frequency_penalty", "X", "Sampling", "taken from them as often as they are there [0]",
       kSampled, Real{&O::frequency_penalty, -1e3, 1e3}},
      {"--dry-multiplier", "dry_multiplier", "X", "Sampling",
       "DRY: penalty of a token that prolongs a repetition, 0 for none [0]", kSampled,
       Real{&O::dry_multiplier, 0, 1e3}},
      {"--dry-base", "dry_base", "X", "Sampling", "DRY: growth of the penalty by token [1.75]", kSampled,
       Real{&O::dry_base, 1, 1e3}},
      {"--dry-allowed-length", "dry_allowed_length", "N", "Sampling", "DRY: repetitions so long are free [2]", kSampled,
       Whole{&O::dry_allowed_length, 0, kMost}},
      {"--dry-penalty-last-n", "dry_penalty_last_n", "N", "Sampling", "DRY: last tokens searched, 0 for none [64]",
       kSampled, Whole{&O::dry_penalty_last_n, 0, kMost}},
      {"--dry-sequence-breaker", "dry_sequence_breakers", "TEXT", "Sampling",
       "DRY: no repetition reaches over it; several by giving it again, \"none\" for none [line break : \" *]",
       kSampled, Texts{&O::dry_sequence_breakers}},
      {"--mirostat", "mirostat", "N", "Sampling",
       "1 or 2: hold the surprise steady; ignores penalties, DRY and all that cuts tokens off [0]", kSampled,
       Whole{&O::mirostat, 0, 2}},
      {"--mirostat-lr", "mirostat_eta", "X", "Sampling", "Mirostat: how fast it learns [0.1]", kSampled,
       Real{&O::mirostat_eta, 0, 1e3}},
      {"--mirostat-ent", "mirostat_tau", "X", "Sampling", "Mirostat: surprise to hold, in bits [5]", kSampled,
       Real{&O::mirostat_tau, 0, 1e3}},
      {"-l,--logit-bias", "logit_bias", "TOKEN+BIAS", "Sampling",
       "add BIAS to the logit of a token, by number or \"text\"; -inf forbids; several by giving it again", kSampled,
       Texts{&O::logit_bias}},
      {"--samplers", "samplers", "NAME;...", "Sampling",
       "samplers in their order [penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature]", kSampled,
       Text{&O::samplers}},
      {"--sampler-seq,--sampling-seq", "sampling_seq", "LETTERS", "Sampling",
       "the same by llama.cpp's letters [edskypmxt]", kSampled, Text{&O::sampling_seq}},
      {"--grammar", "grammar", "GBNF", "Sampling", "grammar that the answer follows", kAnswering, Text{&O::grammar}},
      {"--grammar-file", "grammar_file", "FILE", "Sampling", "the same from a file", kAnswering,
       Text{&O::grammar_file}},
      {"-j,--json-schema", "json_schema", "SCHEMA", "Sampling", "the answer is JSON that follows this schema",
       kAnswering, Text{&O::json_schema}},
      {"--json-schema-file", "json_schema_file", "FILE", "Sampling", "the same from a file", kAnswering,
       Text{&O::json_schema_file}},

      {"--chat-template", "chat_template", "TEMPLATE", "Chat template",
       "Jinja template instead of the model's, or the name of a known one (chatml, llama3)", kReading | kServe,
       Text{&O::chat_template}},
      {"--chat-template-file", "chat_template_file", "FILE", "Chat template", "the same from a file", kReading | kServe,
       Text{&O::chat_template_file}},
      {"--chat-template-kwargs", "chat_template_kwargs", "JSON", "Chat template",
       "more variables for the template, as one JSON object", kTemplated, Text{&O::chat_template_kwargs}},
      {"--reasoning", "reasoning", "WHEN", "Chat template",
       "whether the model thinks first: on, off or auto, on where its template has a switch [auto]", kTemplated,
       Choice{&O::reasoning, {"on", "off", "auto"}}},
      {"--reasoning-format", "reasoning_format", "HOW", "Chat template",
       "reasoning stands apart from the content (auto, deepseek) or in it (none) [auto]", kServe,
       Choice{&O::reasoning_format, {"auto", "deepseek", "none"}}},
      {"--reasoning-budget", "reasoning_budget", "N", "Chat template",
       "reasoning is ended after N tokens, -1 for never [-1]", kAnswering | kServe,
       Whole{&O::reasoning_budget, -1, kMost}},

      {"--plot", "plot", "FILE", "Picture", "draw what each layer keeps, as .svg or .png", kInspect, Text{&O::plot}},
      {"--kept", "kept", "FILE", "Picture", "write the kept positions by layer and head as JSON", kInspect,
       Text{&O::kept}},

      {"task", "task", "TASK", "Evaluation",
       "perplexity, needle, ruler, longbench FILE..., compare FOLDER FOLDER, or report FOLDER", kEval, Texts{&O::words},
       kAllTasks},
      {"-f,--haystack,--file", "files", "FILE", "Evaluation",
       "text, or the haystack of needle and ruler; several by giving it again", kEval, Texts{&O::files}},
      {"--results", "results", "FOLDER", "Evaluation",
       "where records and metrics go, and where a run goes on that was stopped [results/TASK-MODEL]", kEval,
       Text{&O::results}},
      {"--limit", "limit", "N", "Evaluation", "at most N samples (longbench: of each task) [all]", kEval,
       Whole{&O::limit, 1, kMost}},
      {"--beside", "beside", "CELL", "Evaluation",
       "hold every cell against this one, sample by sample: a policy (at the same budget), or POLICY @ BUDGET", kEval,
       Text{&O::beside}, kTasksWithRecords},
      {"--cache-memory", "cache_memory", "SIZE", "Evaluation",
       "most memory for the caches of one pass (4GiB) [half of what is free]", kEval, Text{&O::cache_memory}},
      {"--tasks", "tasks", "NAME,...", "Evaluation", "only these tasks of ruler or longbench [all there is data for]",
       kEval, Texts{&O::tasks}, "ruler,longbench"},
      {"--raw", "raw", "", "Evaluation", "ruler, longbench: no chat template around any prompt", kEval, Switch{&O::raw},
       "ruler,longbench"},
      {"--skip-broken", "skip_broken", "", "Evaluation", "leave out broken lines of JSONL, and count them", kEval,
       Switch{&O::skip_broken}, "ruler,longbench"},
      {"--question", "question", "WHEN", "Evaluation",
       "whether a policy sees the question when it evicts (seen) or not (later) [seen]", kEval,
       Choice{&O::question, {"seen", "later"}}, "needle,ruler,longbench"},
      {"--questions", "questions", "N", "Needle, RULER",
       "with --question later: so many about each text, each asked of the cache as it was after reading [1]", kEval,
       Whole{&O::n_questions, 1, 100}, "needle,ruler"},
      {"--length,--lengths", "lengths", "N,...", "Needle, RULER", "tokens of the texts [1024,2048,4096]", kEval,
       Wholes{&O::lengths, 128, kMost}, "needle,ruler"},
      {"--depths", "n_depths", "N", "Needle", "depths from beginning to end, of a haystack [11]", kEval,
       Whole{&O::n_depths, 1, 101}, "needle"},
      {"--seeds", "n_seeds", "N", "Needle", "texts for each length and depth [5]", kEval, Whole{&O::n_seeds, 1, kMost},
       "needle"},
      {"--needles", "needles", "N", "Needle", "facts in one haystack [1]", kEval, Whole{&O::needles, 1, 16}, "needle"},
      {"--key", "key", "FORM", "Needle",
       "what is hidden: digits:N or tokens:N (a number of exactly so many digits, or tokens of this model), or words:N "
       "[a number of up to 5 digits; in a haystack digits:5]",
       kEval, Text{&O::key}, "needle"},
      {"--seed", "seed", "N", "Needle, RULER", "the first text's seed [0]", kEval, Whole{&O::seed, 0, kMost},
       "needle,ruler"},
      {"--samples", "n_samples", "N", "RULER", "texts of each task and length [10]", kEval,
       Whole{&O::n_samples, 1, kMost}, "ruler"},
      {"--qa", "qa", "FILE", "RULER", "questions of task qa: JSON of SQuAD (qa_1) or HotpotQA (qa_2)", kEval,
       Texts{&O::qa}, "ruler"},
      {"--data", "data", "FILE", "RULER", "samples made by RULER (JSONL) instead of new ones; may be repeated", kEval,
       Texts{&O::data}, "ruler"},
      {"--max-length", "max_length", "N", "LongBench",
       "longer prompts lose their middle [what the model's length leaves]", kEval, Whole{&O::max_length, 16, kMost},
       "longbench"},
      {"--chunk", "score_chunk", "N", "Perplexity",
       "score the second half of every N tokens, as llama-perplexity does [token by token]", kEval,
       Whole{&O::score_chunk, 4, kMost}, "perplexity"},
      {"--tokens", "tokens", "N", "Perplexity", "token by token: score N + 1 tokens [the model's length]", kEval,
       Whole{&O::tokens, 1, kMost}, "perplexity"},
      {"--window", "window", "N", "Perplexity", "tokens of one figure of perplexity by position [256]", kEval,
       Whole{&O::window, 1, kMost}, "perplexity,report"},

      {"--json", "json", "", "Output", "one JSON object on standard output",
       kPrompted | kIngest | kPolicies | kEval | kCalibrate, Switch{&O::json}, kAllTasks},
      {"--json", "json", "", "Output", "a JSON list, one object a measurement, on standard output", kBench,
       Switch{&O::json}},
      {"--no-history", "no_history", "", "Output",
       "at a terminal: neither read nor keep lines of earlier conversations [the newest 1000]", kChat,
       Switch{&O::no_history}},
      {"-q,--quiet", "quiet", "", "Output", "nothing on standard error but errors and losses", kLoading,
       Switch{&O::quiet}, kAllTasks},
      {"--color", "color", "WHEN", "Output", "auto, always or never [auto]", kAll,
       Choice{&O::color, {"auto", "always", "never"}}, kAllTasks},
  };
  return table;
}

[[noreturn]] void fail(const Row& row, const std::string& expected, const std::string& found) {
  throw Error({.kind = Error::Kind::kUsage,
               .subject = row.name(),
               .expected = expected,
               .found = fmt::format("\"{}\"", found)});
}

template <typename Number>
std::optional<Number> parse(const std::string& text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return {};
  return number;
}

struct Store {
  const Row& row;
  Options& options;
  const std::string& text;

  void operator()(const Text& kind) const {
    std::visit([&](auto field) { options.*field = text; }, kind.field);
  }
  void operator()(const Whole& kind) const {
    const auto value = parse<std::int64_t>(text);
    if (!value || *value < kind.min || *value > kind.max) {
      const std::string to = kind.max == kMost ? " or more" : fmt::format(" to {}", kind.max);
      fail(row, fmt::format("a whole number, {}{}", kind.min, to), text);
    }
    options.*kind.field = *value;
  }
  void operator()(const Real& kind) const {
    const auto value = parse<double>(text);
    if (!value || !(*value >= kind.min && *value <= kind.max)) {
      fail(row, fmt::format("a number from {:g} to {:g}", kind.min, kind.max), text);
    }
    options.*kind.field = *value;
  }
  void operator()(const Choice& kind) const {
    if (std::find(kind.words.begin(), kind.words.end(), text) == kind.words.end()) {
      fail(row, fmt::format("{}", fmt::join(kind.words, " or ")), text);
    }
    std::visit([&](auto field) { options.*field = text; }, kind.field);
  }
  void operator()(const Switch&) const {}
  void operator()(const Texts& kind) const { (options.*kind.field).push_back(text); }
  void operator()(const Wholes& kind) const {
    if (text.empty()) fail(row, "whole numbers", text);
    for (const auto part : std::views::split(text, ',')) {
      const auto value = parse<std::int64_t>(std::string(part.begin(), part.end()));
      if (!value || *value < kind.min || *value > kind.max) {
        fail(row, fmt::format("whole numbers, {} or more, with commas between", kind.min), text);
      }
      (options.*kind.field).push_back(*value);
    }
  }
};

std::vector<std::string> parts(std::string_view list) {
  std::vector<std::string> result;
  for (const auto part : std::views::split(list, ',')) result.emplace_back(part.begin(), part.end());
  return result;
}

// What a value may be, for programs.
struct Describe {
  nlohmann::json operator()(const Text&) const { return {{"kind", "text"}}; }
  nlohmann::json operator()(const Whole& kind) const {
    return {{"kind", "whole"}, {"min", kind.min}, {"max", kind.max}};
  }
  nlohmann::json operator()(const Real& kind) const { return {{"kind", "real"}, {"min", kind.min}, {"max", kind.max}}; }
  nlohmann::json operator()(const Choice& kind) const { return {{"kind", "choice"}, {"words", kind.words}}; }
  nlohmann::json operator()(const Switch&) const { return {{"kind", "switch"}}; }
  nlohmann::json operator()(const Texts&) const { return {{"kind", "text"}, {"repeatable", true}}; }
  nlohmann::json operator()(const Wholes& kind) const {
    return {{"kind", "whole"}, {"min", kind.min}, {"max", kind.max}, {"repeatable", true}};
  }
};

template <typename Value>
nlohmann::json value_json(const std::optional<Value>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json();
}
template <typename Value>
nlohmann::json value_json(const Value& value) {
  return value;
}

[[noreturn]] void refuse_both(const std::string& one, const std::string& other) {
  throw Error(
      {.kind = Error::Kind::kUsage, .subject = one, .expected = "either it or `" + other + "`", .found = "both"});
}

// A setting that can be given as text or as a file. "": neither.
std::string text_or_file(const std::optional<std::string>& text, const std::optional<std::string>& file,
                         const std::string& setting) {
  if (text && file) refuse_both(setting, setting + "_file");
  return file ? read_text(*file) : text.value_or("");
}

}  // namespace

std::vector<std::string> list_items(const std::vector<std::string>& lists) {
  std::vector<std::string> result;
  for (const std::string& list : lists) {
    for (const auto part : std::views::split(list, ',')) result.emplace_back(part.begin(), part.end());
  }
  return result;
}

void add_options(CLI::App& app, Command command, Options& options) {
  for (const Row& row : rows()) {
    if (!(row.commands & command)) continue;
    CLI::Option* option = nullptr;
    if (const auto* kind = std::get_if<Switch>(&row.kind)) {
      option = app.add_flag(row.flags, options.*kind->field, row.help);
    } else {
      // The last one given counts, so that a script's defaults can be overridden by appending.
      const auto store = [&](const std::string& text) { std::visit(Store{row, options, text}, row.kind); };
      const auto store_all = [store](const std::vector<std::string>& texts) { std::ranges::for_each(texts, store); };
      const bool several = std::holds_alternative<Texts>(row.kind) || std::holds_alternative<Wholes>(row.kind);
      option = several ? app.add_option_function<std::vector<std::string>>(row.flags, store_all, row.help)
                             ->allow_extra_args(!row.flags.starts_with('-'))
                       : app.add_option_function<std::string>(row.flags, store, row.help)->take_last();
      option->type_name(row.value);
    }
    option->group(row.group);
  }
}

void note_given(const CLI::App& app, Command command, Options& options) {
  for (const Row& row : rows()) {
    if ((row.commands & command) && app.get_option(row.name())->count() > 0) options.given.push_back(row.json);
  }
}

bool is_given(const Options& options, std::string_view json) {
  return std::find(options.given.begin(), options.given.end(), json) != options.given.end();
}

std::vector<OptionFacts> option_facts(Command command) {
  std::vector<OptionFacts> all;
  for (const Row& row : rows()) {
    if (!(row.commands & command)) continue;
    all.push_back({.flags = parts(row.flags),
                   .json = row.json,
                   .group = row.group,
                   .tasks = command == kEval ? parts(row.tasks) : std::vector<std::string>{},
                   .takes_value = !std::holds_alternative<Switch>(row.kind)});
  }
  return all;
}

std::vector<std::string> option_names(Command command) {
  std::vector<std::string> names = {"--help"};
  for (const OptionFacts& option : option_facts(command)) {
    if (option.name().starts_with('-')) names.push_back(option.name());
  }
  return names;
}

std::string flag_of(Command command, std::string_view setting) {
  // Where a flag says more than the library's setting, it has a name of its own.
  if (setting == "thinking") setting = "reasoning";
  if (setting == "template_arguments") setting = "chat_template_kwargs";
  for (const Row& row : rows()) {
    if ((row.commands & command) && row.json == setting && row.flags.starts_with('-')) return row.name();
  }
  return "";
}

nlohmann::json option_table_json(Command command) {
  nlohmann::json table = nlohmann::json::array();
  for (const Row& row : rows()) {
    if (!(row.commands & command)) continue;
    nlohmann::json option = std::visit(Describe{}, row.kind);
    option.update({{"flags", parts(row.flags)}, {"json", row.json}, {"value", row.value}, {"group", row.group}});
    option["help"] = row.help;
    if (command == kEval) option["tasks"] = parts(row.tasks);
    table.push_back(std::move(option));
  }
  return table;
}

nlohmann::json options_json(const Options& options, Command command) {
  nlohmann::json result = nlohmann::json::object();
  for (const Row& row : rows()) {
    if (!(row.commands & command)) continue;
    nlohmann::json& value = result[row.json];
    std::visit(
        [&](const auto& kind) {
          using Kind = std::decay_t<decltype(kind)>;
          if constexpr (std::is_same_v<Kind, Text> || std::is_same_v<Kind, Choice>) {
            std::visit([&](auto field) { value = value_json(options.*field); }, kind.field);
          } else {
            value = value_json(options.*kind.field);
          }
        },
        row.kind);
  }
  return result;
}

nlohmann::json options_json(const Options& options, Command command, std::initializer_list<std::string_view> groups) {
  const nlohmann::json all = options_json(options, command);
  nlohmann::json result = nlohmann::json::object();
  for (const Row& row : rows()) {
    const bool asked = std::find(groups.begin(), groups.end(), row.group) != groups.end();
    if ((row.commands & command) && asked && !all.at(row.json).is_null()) result[row.json] = all.at(row.json);
  }
  return result;
}

Engine::Options engine_options(const Options& options) {
  return {.threads = (int)options.threads.value_or(0), .attention = options.attention};
}

Model::Options model_options(const Options& options) {
  Model::Options model{.product = options.product, .repack = !options.no_repack};
  model.rope = {.scaling = options.rope_scaling,
                .freq_base = options.rope_freq_base,
                .freq_scale = options.rope_freq_scale,
                .original_length = options.yarn_orig_ctx,
                .yarn_ext_factor = options.yarn_ext_factor,
                .yarn_attn_factor = options.yarn_attn_factor,
                .yarn_beta_slow = options.yarn_beta_slow,
                .yarn_beta_fast = options.yarn_beta_fast};
  if (options.rope_scale) model.rope.freq_scale = 1.0 / *options.rope_scale;
  for (const std::string& text : options.override_kv) model.overrides.push_back(MetadataOverride::parse(text));
  for (const std::string& path : options.lora) model.loras.push_back({path});
  for (const std::string& text : options.lora_scaled) {
    model.loras.push_back(Model::LoraFile::parse(text));
  }
  model.calibration = options.calibration.value_or("");
  model.context_length = options.ctx_size.value_or(0);
  model.chat_template = text_or_file(options.chat_template, options.chat_template_file, "chat_template");
  return model;
}

SamplerOptions sampler_options(const Options& options) {
  SamplerOptions sampling;
  const auto set = [](auto& to, const auto& from) {
    if (from) to = static_cast<std::remove_reference_t<decltype(to)>>(*from);
  };
  if (options.seed && *options.seed >= 0) sampling.seed = (std::uint32_t)(*options.seed);
  set(sampling.temp, options.temp);
  set(sampling.dynatemp_range, options.dynatemp_range);
  set(sampling.dynatemp_exponent, options.dynatemp_exponent);
  set(sampling.top_k, options.top_k);
  set(sampling.top_p, options.top_p);
  set(sampling.min_p, options.min_p);
  set(sampling.typical_p, options.typical_p);
  set(sampling.top_n_sigma, options.top_n_sigma);
  set(sampling.xtc_probability, options.xtc_probability);
  set(sampling.xtc_threshold, options.xtc_threshold);
  set(sampling.min_keep, options.min_keep);
  set(sampling.repeat_penalty, options.repeat_penalty);
  set(sampling.repeat_last_n, options.repeat_last_n);
  set(sampling.presence_penalty, options.presence_penalty);
  set(sampling.frequency_penalty, options.frequency_penalty);
  set(sampling.dry_multiplier, options.dry_multiplier);
  set(sampling.dry_base, options.dry_base);
  set(sampling.dry_allowed_length, options.dry_allowed_length);
  set(sampling.dry_penalty_last_n, options.dry_penalty_last_n);
  set(sampling.mirostat, options.mirostat);
  set(sampling.mirostat_eta, options.mirostat_eta);
  set(sampling.mirostat_tau, options.mirostat_tau);
  set(sampling.reasoning_budget, options.reasoning_budget);
  if (!options.dry_sequence_breakers.empty()) {
    sampling.dry_sequence_breakers = options.dry_sequence_breakers;
    std::erase(sampling.dry_sequence_breakers, "none");
  }
  for (const std::string& text : options.logit_bias) sampling.logit_bias.push_back(parse_logit_bias(text));
  if (options.samplers && options.sampling_seq) refuse_both("samplers", "sampling_seq");
  if (options.samplers) sampling.samplers = parse_samplers(*options.samplers);
  if (options.sampling_seq) sampling.samplers = parse_sampler_letters(*options.sampling_seq);
  sampling.grammar = text_or_file(options.grammar, options.grammar_file, "grammar");
  sampling.json_schema = text_or_file(options.json_schema, options.json_schema_file, "json_schema");
  if (!sampling.grammar.empty() && !sampling.json_schema.empty()) refuse_both("grammar", "json_schema");
  return sampling;
}

ChatOptions chat_options(const Options& options) {
  ChatOptions chat;
  if (options.reasoning && *options.reasoning != "auto") chat.thinking = *options.reasoning == "on";
  if (options.reasoning_format) chat.reasoning_apart = *options.reasoning_format != "none";
  if (options.tools_file) chat.tools = read_tools(*options.tools_file);
  if (!options.chat_template_kwargs) return chat;
  const auto values = nlohmann::json::parse(*options.chat_template_kwargs, nullptr, false);
  if (!values.is_object()) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "chat_template_kwargs",
                 .expected = "a JSON object",
                 .found = "\"" + *options.chat_template_kwargs + "\""});
  }
  for (const auto& [name, value] : values.items()) chat.template_arguments[name] = value.dump();
  return chat;
}

}  // namespace lacake::cli
