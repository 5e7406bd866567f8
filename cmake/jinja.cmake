# Chat templates are Jinja, and an installed libllama only recognises well-known ones. The engine that llama.cpp itself
# uses is in the `common` folder of its sources, which no package installs: it is compiled in where the sources are at
# hand. Without them lacake falls back to libllama's list and says so when it runs (src/text/chat_template.h).
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

add_library(lacake_jinja OBJECT)
foreach(file jinja/lexer.cpp jinja/parser.cpp jinja/runtime.cpp jinja/string.cpp jinja/value.cpp unicode.cpp json.cpp)
  target_sources(lacake_jinja PRIVATE "${LACAKE_LLAMA_SOURCE_DIR}/common/${file}")
endforeach()
target_include_directories(lacake_jinja SYSTEM PUBLIC $<BUILD_INTERFACE:${LACAKE_LLAMA_SOURCE_DIR}/common>
                           PRIVATE "${LACAKE_LLAMA_SOURCE_DIR}/vendor" $<TARGET_PROPERTY:ggml::ggml,INTERFACE_INCLUDE_DIRECTORIES>)
target_compile_definitions(lacake_jinja INTERFACE LACAKE_HAVE_JINJA)
target_compile_options(lacake_jinja PRIVATE -w)
message(STATUS "lacake: chat templates by the Jinja engine of ${LACAKE_LLAMA_SOURCE_DIR}")
