# Installs into an empty prefix, builds examples/ against what was installed there, and holds the example's answer to the
# installed program's.
# Given: BUILD EXAMPLES MODEL SANITIZE COMPILER PREFIX_PATH
set(work ${BUILD}/package_test)
file(REMOVE_RECURSE ${work})

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE errors)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${ARGN}\n${output}${errors}\nexit status ${status}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

string(REPLACE ";" "\\;" prefix_path "${work}/prefix;${PREFIX_PATH}")  # one argument, though a list
set(flags "")
if(SANITIZE)
  set(flags -DCMAKE_CXX_FLAGS=-fsanitize=${SANITIZE})  # a static library with sanitizer calls needs them linked
endif()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${work}/prefix)
run(${CMAKE_COMMAND} -S ${EXAMPLES} -B ${work}/build -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=${COMPILER}
    "-DCMAKE_PREFIX_PATH=${prefix_path}" ${flags})
run(${CMAKE_COMMAND} --build ${work}/build)

# Whatever the model knows, the library and the program must answer alike. The question and the answer are shorter than
# the budget, so nothing is evicted and how each sizes its session can't matter.
set(question "Why is the sky blue?")
run(${work}/build/answer ${MODEL} ${question})
set(answered "${output}")
run(${work}/prefix/bin/lacake run -m ${MODEL} -p ${question} -n 64 --temp 0 --policy lacache --kv-budget 256 -q)
if(NOT answered STREQUAL output OR answered MATCHES "^[ \n]*$")
  message(FATAL_ERROR "the example answered:\n${answered}\nthe program answered:\n${output}")
endif()
