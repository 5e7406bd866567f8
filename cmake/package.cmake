# What `cmake --install` puts in place: the program, the library, its headers, and the CMake package `lacake`.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(LACAKE_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/lacake)
set(LACAKE_BUNDLED_DIR ${CMAKE_INSTALL_LIBDIR}/lacake)

install(TARGETS lacake EXPORT lacakeTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/lacake DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
if(TARGET lacake_cli)
  install(TARGETS lacake_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

# Man pages and completions, made from the program's own tables.
find_package(Python3 COMPONENTS Interpreter)
if(TARGET lacake_cli AND Python3_FOUND AND NOT CMAKE_CROSSCOMPILING)
  set(make_reference ${CMAKE_CURRENT_SOURCE_DIR}/scripts/make-reference)
  set(reference ${CMAKE_CURRENT_BINARY_DIR}/reference)
  add_custom_command(OUTPUT ${reference}/made DEPENDS lacake_cli ${make_reference} VERBATIM
    COMMAND Python3::Interpreter ${make_reference} man $<TARGET_FILE:lacake_cli> ${reference}/man
    COMMAND Python3::Interpreter ${make_reference} completions $<TARGET_FILE:lacake_cli> ${reference}/completions
    COMMAND ${CMAKE_COMMAND} -E touch ${reference}/made)
  add_custom_target(lacake_reference ALL DEPENDS ${reference}/made)
  install(DIRECTORY ${reference}/man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 OPTIONAL)
  install(FILES ${reference}/completions/lacake DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions OPTIONAL)
  install(FILES ${reference}/completions/_lacake DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions OPTIONAL)
  install(FILES ${reference}/completions/lacake.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d OPTIONAL)
endif()

# ggml and libllama built by scripts/setup exist nowhere but in this build folder: a package that is to outlive it
# carries them, in a folder of its own, where they can't replace anybody else's.
cmake_path(IS_PREFIX CMAKE_CURRENT_SOURCE_DIR "${llama_DIR}" NORMALIZE LACAKE_BUNDLES_LLAMA)
if(LACAKE_BUNDLES_LLAMA)
  cmake_path(SET bundled NORMALIZE "${llama_DIR}/../../..")  # <prefix>/lib/cmake/llama
  install(DIRECTORY ${bundled}/lib ${bundled}/include DESTINATION ${LACAKE_BUNDLED_DIR} PATTERN pkgconfig EXCLUDE)
endif()

install(DIRECTORY packaging/ DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
if(EXISTS "${LACAKE_LLAMA_SOURCE_DIR}/LICENSE")  # MIT: binaries with its code carry its notice
  install(FILES "${LACAKE_LLAMA_SOURCE_DIR}/LICENSE" DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME LICENSE.llama.cpp)
endif()

configure_package_config_file(cmake/lacakeConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/lacakeConfig.cmake
                              INSTALL_DESTINATION ${LACAKE_PACKAGE_DIR})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/lacakeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/lacakeConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/lacakeConfigVersion.cmake
              cmake/hwy.cmake DESTINATION ${LACAKE_PACKAGE_DIR})
install(EXPORT lacakeTargets NAMESPACE lacake:: DESTINATION ${LACAKE_PACKAGE_DIR})

if(LACAKE_BUILD_TESTS)
  add_test(NAME package
           COMMAND ${CMAKE_COMMAND} -DBUILD=${CMAKE_CURRENT_BINARY_DIR} -DEXAMPLES=${CMAKE_CURRENT_SOURCE_DIR}/examples
                   -DMODEL=${LACAKE_TEST_MODEL} -DSANITIZE=${LACAKE_SANITIZE} -DCOMPILER=${CMAKE_CXX_COMPILER}
                   "-DPREFIX_PATH=${CMAKE_PREFIX_PATH}" -P ${CMAKE_CURRENT_SOURCE_DIR}/cmake/package_test.cmake)
  set_tests_properties(package PROPERTIES LABELS package)
endif()
