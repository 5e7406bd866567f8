# Installs into an empty prefix, builds examples/ against what was installed there, in each way that a program may find the
# library, and holds the example's answer to the installed program's.
# Given: BUILD EXAMPLES MODEL SANITIZE COMPILER PREFIX_PATH LIBDIR SHARED
set(work ${BUILD}/package_test)
file(REMOVE_RECURSE ${work})

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE errors)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${ARGN}\n${output}${errors}\nexit status ${status}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${work}/prefix)

# Whatever the model knows, the library and the program must answer alike. The question and the answer are shorter than
# the budget, so nothing is evicted and how each sizes its session can't matter.
set(question "Why is the sky blue?")
run(${work}/prefix/bin/lacake run -m ${MODEL} -p ${question} -n 64 --temp 0 --policy lacache --kv-budget 256 -q)
set(expected "${output}")

function(answers program)
  run(${CMAKE_COMMAND} -E env LD_LIBRARY_PATH=${work}/prefix/${LIBDIR} ${program} ${MODEL} ${question})
  if(NOT output STREQUAL expected OR expected MATCHES "^[ \n]*$")
    message(FATAL_ERROR "${program} answered:\n${output}\nthe program answered:\n${expected}")
  endif()
endfunction()

string(REPLACE ";" "\\;" prefix_path "${work}/prefix;${PREFIX_PATH}")  # one argument, though a list
function(cmake_finds build)
  run(${CMAKE_COMMAND} -S ${EXAMPLES} -B ${work}/${build} -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=${COMPILER}
      "-DCMAKE_PREFIX_PATH=${prefix_path}" ${ARGN})
  run(${CMAKE_COMMAND} --build ${work}/${build})
  answers(${work}/${build}/answer)
endfunction()

if(SANITIZE)
  cmake_finds(static -DCMAKE_CXX_FLAGS=-fsanitize=${SANITIZE})  # a static library with sanitizer calls needs them linked
  return()
endif()
cmake_finds(static -DBUILD_SHARED_LIBS=OFF)
if(NOT SHARED)
  return()
endif()
cmake_finds(shared)

# Without CMake: by pkg-config, and as one writes it by hand. The shared library needs nothing beside it.
run(${CMAKE_COMMAND} -E env PKG_CONFIG_PATH=${work}/prefix/${LIBDIR}/pkgconfig pkg-config --cflags --libs lacake)
separate_arguments(flags UNIX_COMMAND "${output}")
run(${COMPILER} -std=c++20 ${EXAMPLES}/answer.cpp ${flags} -o ${work}/by_pkg_config)
answers(${work}/by_pkg_config)
run(${COMPILER} -std=c++20 -I${work}/prefix/include ${EXAMPLES}/answer.cpp -L${work}/prefix/${LIBDIR} -llacake
    -o ${work}/by_hand)
answers(${work}/by_hand)
