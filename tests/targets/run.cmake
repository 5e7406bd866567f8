# Runs PROGRAM's tests that FILTER names once for each target that NAMES prints.
execute_process(COMMAND ${NAMES} OUTPUT_VARIABLE names OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
string(REPLACE "\n" ";" names "${names}")
foreach(name IN LISTS names)
  message(STATUS "LACAKE_TARGET=${name}")
  execute_process(COMMAND ${CMAKE_COMMAND} -E env LACAKE_TARGET=${name} ${PROGRAM} --gtest_brief=1 --gtest_filter=${FILTER}
                  COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endforeach()
