# Installs into an empty prefix, builds examples/ against what was installed there, runs an example on the model.
# Given: BUILD EXAMPLES MODEL SANITIZE COMPILER PREFIX_PATH
set(work ${BUILD}/package_test)
file(REMOVE_RECURSE ${work})

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${ARGN}\n${output}\nexit status ${status}")
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
run(${work}/build/answer ${MODEL} "What is the capital of France?")
if(NOT output MATCHES "Paris")
  message(FATAL_ERROR "the example answered: ${output}")
endif()
