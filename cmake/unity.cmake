# Several sources of a folder are compiled as one, so that what they include is read once: a whole build takes half of
# the time. What that asks of the sources: two in one folder may not use a name for different things, not even each in
# its unnamed namespace. Off in the presets debug and fuzz, where a change of one file compiles that file alone, and
# where an include that is missing shows.
option(LACAKE_UNITY "Compile several sources of a folder as one" OFF)

# lacake_unity(TARGET [APART FILE...]): those of APART each by itself, and so are those that have options of their own.
function(lacake_unity target)
  cmake_parse_arguments(PARSE_ARGV 1 unity "" "" "APART")
  # A source that another file includes is taken for a header, whose types must not have members of unnamed namespaces.
  if(LACAKE_UNITY)
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
  endif()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${LACAKE_UNITY} UNITY_BUILD_BATCH_SIZE 10)
  if(unity_APART)
    set_source_files_properties(${unity_APART} TARGET_DIRECTORY ${target} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  endif()
endfunction()
