# Read after llama.cpp's own project() (scripts/setup). lacake takes from libllama its vocabularies, samplers and
# grammars; models computed by it are only what tests compare with. So the rest of it is optimised less, because that
# compiles sooner. Multiplications are ggml's, and are compiled as always.
function(lacake_lighten_llama)
  target_compile_options(llama PRIVATE $<$<CONFIG:Release>:-O1>)
  set(used vocab sampler grammar)
  list(TRANSFORM used REPLACE "(.+)" "${CMAKE_SOURCE_DIR}/src/llama-\\1.cpp")
  set_source_files_properties(${used} "${CMAKE_SOURCE_DIR}/src/unicode.cpp" DIRECTORY "${CMAKE_SOURCE_DIR}/src"
                              PROPERTIES COMPILE_OPTIONS "$<$<CONFIG:Release>:-O3>")
endfunction()
cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL lacake_lighten_llama)
