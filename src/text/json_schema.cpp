#include "lacake/error.h"
#include "lacake/sampler.h"

#ifdef LACAKE_HAVE_LLAMA_COMMON
#include <fmt/format.h>
#include <json-schema-to-grammar.h>

#include <exception>

#include "text/nesting.h"
#endif

namespace lacake {

std::string json_schema_grammar(const std::string& schema) {
#ifdef LACAKE_HAVE_LLAMA_COMMON
  const auto refuse = [](const char* expected, const std::exception& e) {
    throw Error({.kind = Error::Kind::kUsage, .subject = "json_schema", .expected = expected, .found = e.what()});
  };
  if (nesting_of(schema, true) > kDeepestJson) {
    throw Error({.kind = Error::Kind::kUsage,
                 .subject = "json_schema",
                 .expected = fmt::format("JSON of {} levels at most", kDeepestJson),
                 .found = "more"});
  }
  common_json parsed;
  try {
    parsed = common_json::parse(schema);
  } catch (const std::exception& e) {
    refuse("JSON", e);
  }
  try {
    return json_schema_to_grammar(parsed);
  } catch (const std::exception& e) {
    refuse("a JSON schema that can be held to", e);
  }
  return "";
#else
  throw Error({.kind = Error::Kind::kUsage,
               .subject = "json_schema",
               .found = "cannot be used: this build was made without llama.cpp's sources",
               .remedy = "a `grammar` can say the same"});
#endif
}

}  // namespace lacake
