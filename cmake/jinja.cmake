# Chat templates are Jinja, and an installed libllama only recognises well-known ones. The engine that llama.cpp itself
# uses is in the `common` folder of its sources, which no package installs; so are its parsers of answers (reasoning,
# calls of tools) and its converter of JSON schemas. They are compiled in where the sources are at hand. Without them
# lacake falls back to libllama's list of templates, and says what it cannot do (src/text/chat_template.h).
#
#   LACAKE_HAVE_JINJA         the engine is there
#   LACAKE_HAVE_LLAMA_COMMON  the parsers and the converter too; sources of early 2026 have only the engine
#
# An object library: its objects become part of liblacake, so that an installed lacake needs nothing more.

set(lacake_llama_source_candidates "${CMAKE_BINARY_DIR}/../_deps/llama.cpp" "${CMAKE_BINARY_DIR}/_deps/llama.cpp")
foreach(prefix IN LISTS CMAKE_PREFIX_PATH)
  list(APPEND lacake_llama_source_candidates "${prefix}/src/llama.cpp")
endforeach()
find_path(LACAKE_LLAMA_SOURCE_DIR common/jinja/runtime.h
          PATHS ${lacake_llama_source_candidates} NO_DEFAULT_PATH
          DOC "llama.cpp sources whose Jinja engine renders chat templates")
unset(lacake_llama_source_candidates)

if(NOT EXISTS "${LACAKE_LLAMA_SOURCE_DIR}/common/jinja/runtime.h")
  message(STATUS "lacake: no llama.cpp sources with common/jinja (LACAKE_LLAMA_SOURCE_DIR=${LACAKE_LLAMA_SOURCE_DIR}): "
                 "chat templates by libllama's list only")
  return()
endif()

set(lacake_common "${LACAKE_LLAMA_SOURCE_DIR}/common")
set(lacake_common_files jinja/caps jinja/lexer jinja/parser jinja/runtime jinja/string jinja/value unicode json)
add_library(lacake_jinja OBJECT)
target_compile_definitions(lacake_jinja INTERFACE LACAKE_HAVE_JINJA)

set(lacake_have_parsers YES)
foreach(file chat.cpp chat-peg-parser.cpp json-schema.h reasoning-budget.cpp parsers/sources.cmake)
  if(NOT EXISTS "${lacake_common}/${file}")
    set(lacake_have_parsers NO)
  endif()
endforeach()
if(lacake_have_parsers)
  include("${lacake_common}/parsers/sources.cmake")
  list(FILTER LLAMA_CHAT_PARSERS_SOURCES INCLUDE REGEX "\\.cpp$")
  target_sources(lacake_jinja PRIVATE ${LLAMA_CHAT_PARSERS_SOURCES})
  list(APPEND lacake_common_files chat chat-auto-parser-generator chat-auto-parser-helpers chat-diff-analyzer
       chat-peg-parser peg-parser json-schema json-schema-to-grammar reasoning-budget trie)
  target_compile_definitions(lacake_jinja INTERFACE LACAKE_HAVE_LLAMA_COMMON)
endif()
foreach(file IN LISTS lacake_common_files)
  target_sources(lacake_jinja PRIVATE "${lacake_common}/${file}.cpp")
endforeach()

# See src/text/jinja_hooks.h.
function(lacake_hook hook)
  foreach(file IN LISTS ARGN)
    set_property(SOURCE "${lacake_common}/${file}.cpp" APPEND PROPERTY COMPILE_DEFINITIONS ${hook})
    set_property(SOURCE "${lacake_common}/${file}.cpp" APPEND PROPERTY COMPILE_OPTIONS
                 -include "${CMAKE_CURRENT_SOURCE_DIR}/src/text/jinja_hooks.h")
    set_property(SOURCE "${lacake_common}/${file}.cpp" APPEND PROPERTY OBJECT_DEPENDS
                 "${CMAKE_CURRENT_SOURCE_DIR}/src/text/jinja_hooks.h")
  endforeach()
endfunction()
lacake_hook(LACAKE_HOOK_PARSER jinja/parser)
lacake_hook(LACAKE_HOOK_RUN jinja/runtime jinja/value)
lacake_hook(LACAKE_HOOK_CAPS jinja/caps)
if(lacake_have_parsers)
  lacake_hook(LACAKE_HOOK_CHAT chat)
endif()

target_compile_features(lacake_jinja PRIVATE cxx_std_20)
target_include_directories(lacake_jinja SYSTEM PUBLIC $<BUILD_INTERFACE:${lacake_common}>
                           PRIVATE "${LACAKE_LLAMA_SOURCE_DIR}/vendor" $<TARGET_PROPERTY:ggml::ggml,INTERFACE_INCLUDE_DIRECTORIES>
                                   $<TARGET_PROPERTY:llama,INTERFACE_INCLUDE_DIRECTORIES>)
target_include_directories(lacake_jinja PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}/src/text" "${CMAKE_CURRENT_SOURCE_DIR}/include")
target_compile_options(lacake_jinja PRIVATE -w $<$<CONFIG:Release>:-O1>)
lacake_unity(lacake_jinja APART "${lacake_common}/json.cpp")
message(STATUS "lacake: chat templates by the Jinja engine of ${LACAKE_LLAMA_SOURCE_DIR}")
               
