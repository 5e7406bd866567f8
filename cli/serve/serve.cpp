// lacake serve: many conversations in one fixed amount of KV memory, over HTTP.

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <sstream>

#include "checks.h"
#include "commands.h"
#include "lacake/error.h"
#include "lacake/policy.h"
#include "lacake/sampler.h"
#include "lacake/scheduler.h"
#include "lacake/store.h"
#include "lacake/version.h"
#include "library_options.h"
#include "output.h"
#include "prompt.h"
#include "report.h"
#include "saved.h"
#include "serve/api.h"
#include "serve/http.h"
#include "serve/request_log.h"
#include "sizing.h"
#include "terminal.h"

namespace lacake::cli {
namespace {

constexpr std::int64_t kParallel = 4;
constexpr const char* kStoreSize = "10GB";

std::vector<std::string> keys_of(const Options& options) {
  std::vector<std::string> keys = options.api_keys;
  if (options.api_key_file) {
    std::istringstream lines(read_text(*options.api_key_file));
    for (std::string line; std::getline(lines, line);) {
      line.erase(line.find_last_not_of(" \r\t") + 1);
      // A comment that were a key too would be one that anybody can guess.
      if (!line.empty() && !line.starts_with('#')) keys.push_back(line);
    }
    if (keys.empty()) {
      throw Error({.subject = *options.api_key_file, .expected = "a key on a line", .found = "none"});
    }
  }
  return keys;
}

std::vector<std::string> policy_names() {
  std::vector<std::string> names;
  for (const PolicyType& type : policy_types()) names.push_back(type.name);
  return names;
}

bool is_local(const std::string& host) { return host == "localhost" || host == "::1" || host.starts_with("127."); }

// As browsers say it: in small letters and without a path, or nothing would ever be equal to it.
bool is_origin(std::string_view text) {
  const std::size_t colon = text.find("://");
  if (text == "*" || text == "null") return true;
  if (colon == text.npos || colon == 0) return false;
  const std::string_view host = text.substr(colon + 3);
  const auto may_be = [](unsigned char c) {
    return std::islower(c) != 0 || std::isdigit(c) != 0 || std::strchr("-._:[]", c) != nullptr;
  };
  return !host.empty() && std::ranges::all_of(host, may_be) &&
         std::ranges::all_of(text.substr(0, colon), [](unsigned char c) { return std::islower(c) || c == '-'; });
}

HttpLimits http_limits(const Options& options) {
  HttpLimits limits;
  if (options.cors && !is_origin(*options.cors)) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "cors",
                 .expected = "* or an origin as browsers send it (https://example.org)",
                 .found = fmt::format("\"{}\"", *options.cors)});
  }
  if (options.body_size) limits.body_bytes = bytes_option("body_size", *options.body_size);
  if (options.request_time) limits.request_time = std::chrono::seconds(*options.request_time);
  if (options.connections) limits.connections = (std::size_t)*options.connections;
  if (options.cors) {
    limits.headers.emplace_back("Access-Control-Allow-Origin", *options.cors);
    if (*options.cors != "*") limits.headers.emplace_back("Vary", "Origin");
  }
  return limits;
}

// What requests would be refused for, though their clients never asked for it.
void check_defaults(const Model& model, const Options& options, const GenerationOptions& generation,
                    const ChatOptions& chat) {
  SamplerOptions sampling = generation.sampling;
  if (!model.has_chat_template()) {
    warn_without_template(options, kServe);
  } else if (chat.thinking || sampling.reasoning_budget >= 0) {
    const Message any{.role = "user", .content = "Hello"};
    model.render_chat({&any, 1}, chat).format.apply_to(sampling);
  }
  const Sampler any(model, sampling);
}

// What all conversations are planned with. A length that cannot be is that of -c: there is no prompt yet.
SessionOptions conversation_session(const Engine& engine, const ModelFacts& facts, const SessionOptions& asked,
                                    const LengthLimits& limits) {
  try {
    SessionOptions session = sized_for_conversation(engine, facts, asked, limits);
    (void)engine.plan(session);
    return session;
  } catch (const Error& error) {
    Error::Fields fields = error.fields();
    if (fields.subject != "prompt" || !limits.conversation) throw;
    fields.kind = Error::Kind::kUsage;
    fields.subject = "ctx_size";
    throw Error(std::move(fields));
  }
}

// The most tokens of a conversation: where nothing is forgotten, as many as the cache holds.
std::size_t longest_conversation(const ModelFacts& facts, const SessionOptions& session, const SessionPlan& plan,
                                 const LengthLimits& limits) {
  const std::size_t allowed = limits.conversation.value_or((std::size_t)facts.training_length);
  return session.policy.type->bounded ? allowed : std::min(allowed, plan.cache_size);
}

// Those that end the server, and with a log file the one that asks for a new one. Before any thread is made: all of
// them inherit it.
sigset_t block_signals(bool has_log_file) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  if (has_log_file) sigaddset(&signals, SIGHUP);  // else it ends the program, as of old
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

// What conversations are, and what each takes.
struct ConversationPlan {
  SchedulerOptions scheduling;
  std::uint64_t bytes = 0;  // of KV memory
  std::size_t n_ctx = 0;    // most tokens
  MemoryPlan memory;
};

// Memory is reserved when an engine is made: how much of it a conversation takes, one without a reservation says.
ConversationPlan plan_conversations(const Model& model, const Options& options, const Engine::Options& engine_of,
                                    const SessionOptions& asked, const LengthLimits& limits) {
  const Engine sizes(model, engine_of);
  ConversationPlan all{
      .scheduling = {.session = conversation_session(sizes, model.facts(), asked, limits), .limits = limits}};
  SchedulerOptions& scheduling = all.scheduling;
  const SessionPlan plan = sizes.plan(scheduling.session);
  all.n_ctx = longest_conversation(model.facts(), scheduling.session, plan, limits);
  all.bytes = plan.budget_bytes;
  all.memory = plan.memory;
  scheduling.checkpoint_bytes =
      options.checkpoints ? bytes_option("checkpoints", *options.checkpoints) : usual_checkpoint_bytes(plan);
  scheduling.opening_bytes = scheduling.checkpoint_bytes;
  scheduling.pins_openings = !options.no_pin_system;
  scheduling.elastic = options.kv_elastic;
  const Terminal terminal(STDERR_FILENO, options.color);
  if (!options.quiet) std::fputs(plan_text(plan, model.facts(), scheduling.session, terminal).c_str(), stderr);
  return all;
}

// What each conversation has of its own, and what all of them have together.
std::string memory_line(const ConversationPlan& plan, std::uint64_t kv_memory) {
  const MemoryPlan& memory = plan.memory;
  const std::uint64_t n = kv_memory / plan.bytes, copies = plan.scheduling.checkpoint_bytes;
  const std::uint64_t own = copies + memory.policy_metadata;
  const std::uint64_t all =
      memory.total() - memory.cache - memory.policy_metadata + kv_memory + n * own + plan.scheduling.opening_bytes;
  return fmt::format(
      "{} conversations in {} of KV memory; beside it {} each for copies to go back to, and {} for what they share "
      "(--checkpoints sets both): {} in all, and {} more for each of up to {} further prompts of more than {} tokens "
      "that are read meanwhile",
      n, bytes_text(kv_memory), bytes_text(copies), bytes_text(plan.scheduling.opening_bytes), bytes_text(all),
      bytes_text(memory.hidden_states + memory.layer_workspace + memory.turn_copy), Scheduler::kMostReading - 1,
      Scheduler::kShortPrompt);
}

}  // namespace

int serve(const Options& options) {
  const std::vector<std::string> keys = keys_of(options);
  HttpLimits limits = http_limits(options);
  const std::shared_ptr<Tls> tls =
      options.ssl_key_file ? read_tls(*options.ssl_key_file, *options.ssl_cert_file) : nullptr;
  std::optional<RequestLog> log;
  const std::uint64_t store_bytes = bytes_option("store_size", options.store_size.value_or(kStoreSize));
  GenerationOptions generation = generation_options(options);
  generation.cancel = nullptr;
  const SessionOptions asked = session_options(options);
  const sigset_t signals = block_signals(options.log_file.has_value());
  if (options.log_requests) log.emplace(options.log_file.value_or(""), options.log_prompts);

  const Model model(options.model, model_options(options));
  if (!model.chat_notice().empty()) notice(options, model.chat_notice());
  check_defaults(model, options, generation, chat_options(options));
  if (options.kv_elastic && !asked.policy.type->bounded) {
    warn(
        fmt::format("--kv-elastic has no effect on conversations of policy {}, which cannot do with half of their "
                    "memory: only requests that ask for a policy and a budget of their own give any up",
                    asked.policy.text()));
  }
  Engine::Options engine_of = engine_options(options);
  ConversationPlan plan = plan_conversations(model, options, engine_of, asked, generation.limits);
  SchedulerOptions& scheduling = plan.scheduling;
  engine_of.kv_memory = options.kv_memory ? bytes_option("kv_memory", *options.kv_memory)
                                          : (std::uint64_t)options.parallel.value_or(kParallel) * plan.bytes;
  Engine engine(model, engine_of);
  std::optional<Store> store;
  if (options.store) store.emplace(*options.store, store_bytes);
  if (store && store_bytes < plan.bytes) {
    warn(fmt::format("--store-size: {} is less than a conversation may take, {}: those that are larger are not kept",
                     bytes_text(store_bytes), bytes_text(plan.bytes)));
  }
  if (store) scheduling.store = &*store;
  if (options.queue) scheduling.most_waiting = (std::size_t)*options.queue;
  const std::size_t n_parallel = (std::size_t)(engine_of.kv_memory / plan.bytes);
  const std::string memory = memory_line(plan, engine_of.kv_memory);
  const std::uint64_t checkpoints = scheduling.checkpoint_bytes;
  const std::size_t n_waiting = scheduling.most_waiting;
  const std::chrono::seconds drain(options.drain_time.value_or(3));
  auto scheduler = std::make_unique<Scheduler>(model, engine, std::move(scheduling));

  const std::string host = options.host.value_or("127.0.0.1");
  ApiOptions serving{.defaults = {generation, chat_options(options), asked},
                     .alias = options.alias.value_or(std::filesystem::path(options.model).filename().string()),
                     .version = LACAKE_VERSION,
                     .keys = keys,
                     .admin_key = options.admin_key.value_or(""),
                     .local = is_local(host),
                     .cors = options.cors.value_or(""),
                     .page = !options.no_ui,
                     .n_ctx = plan.n_ctx,
                     .most_tokens = generation.limits.conversation,
                     .n_parallel = n_parallel,
                     .logs_answers = options.log_prompts,
                     .slots = !options.no_slots,
                     .verbose = options.verbose,
                     .settings = {{"threads", engine.threads()},
                                  {"checkpoint_bytes", checkpoints},
                                  {"pin_system", !options.no_pin_system},
                                  {"kv_elastic", options.kv_elastic},
                                  {"queue", n_waiting},
                                  {"store", options.store.value_or("")},
                                  {"store_bytes", store ? store_bytes : 0},
                                  {"body_bytes", limits.body_bytes},
                                  {"request_s", limits.request_time.count()},
                                  {"connections", limits.connections},
                                  {"ui", !options.no_ui},
                                  {"policies", policy_names()},
                                  {"can_be_drained", options.admin_key.has_value()},
                                  {"drain_s", drain.count()}}};
  Api api(model, *scheduler, std::move(serving));
  limits.trusts = [&api](const HttpRequest& head) { return api.is_allowed(head); };
  HttpServer http(
      host, (int)options.port.value_or(8080), limits, tls,
      [&api](const std::shared_ptr<HttpExchange>& exchange) { api.handle(exchange); },
      [&log, &api](HttpRecord record) {
        api.metrics().request(record.status);
        if (log) log->add(std::move(record));
      });
  notice(options, memory);
  const bool ipv6 = host.find(':') != host.npos;
  notice(options,
         fmt::format("listening on {}://{}:{}", tls ? "https" : "http", ipv6 ? "[" + host + "]" : host, http.port()));

  int signal = 0;
  while (sigwait(&signals, &signal) == 0 && signal == SIGHUP) log->reopen();
  notice(options, "ending: answers that are being written have a moment left");
  api.drain();
  scheduler->drain(drain);
  http.close(std::chrono::seconds(1));
  scheduler.reset();
  api.worker().finish();  // as long as what it answers by is there
  return 0;
}

}  // namespace lacake::cli
