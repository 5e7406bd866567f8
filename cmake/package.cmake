# What `cmake --install` puts in place, and the Debian packages of it (`make package`): the program, the library, its
# headers, and what finds it: the CMake package `lacake` and pkg-config's file. Two components: `runtime`, which the
# program and programs with the shared library need, and `development`.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(LACAKE_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/lacake)
set(LACAKE_BUNDLED_DIR ${CMAKE_INSTALL_LIBDIR}/lacake)

# ggml and libllama built by scripts/setup exist nowhere but in this build folder: a package that is to outlive it
# carries them, in a folder of its own, where they can't replace anybody else's. Static ones are in the program and in the
# shared library already.
cmake_path(IS_PREFIX CMAKE_CURRENT_SOURCE_DIR "${llama_DIR}" NORMALIZE LACAKE_BUNDLES_LLAMA)
if(LACAKE_BUNDLES_LLAMA)
  cmake_path(SET bundled NORMALIZE "${llama_DIR}/../../..")  # <prefix>/lib/cmake/llama
  install(DIRECTORY ${bundled}/include DESTINATION ${LACAKE_BUNDLED_DIR} COMPONENT development)
  install(DIRECTORY ${bundled}/lib DESTINATION ${LACAKE_BUNDLED_DIR} COMPONENT development
          PATTERN pkgconfig EXCLUDE PATTERN "*.py" EXCLUDE PATTERN "*.so.*" EXCLUDE PATTERN "*.so" EXCLUDE)
  install(DIRECTORY ${bundled}/lib DESTINATION ${LACAKE_BUNDLED_DIR} COMPONENT runtime USE_SOURCE_PERMISSIONS
          FILES_MATCHING PATTERN "*.so.*" PATTERN "*.so" PATTERN cmake EXCLUDE PATTERN pkgconfig EXCLUDE)
  file(RELATIVE_PATH up /${CMAKE_INSTALL_BINDIR} /${LACAKE_BUNDLED_DIR}/lib)
  set(LACAKE_PROGRAM_RPATH "$ORIGIN/${up}")
  set(LACAKE_LIBRARY_RPATH "$ORIGIN/lacake/lib")
endif()

# --- the library ---------------------------------------------------------------------------------------------------------

# Each form has an export set of its own, as the static one needs what the shared one has inside.
set_target_properties(lacake PROPERTIES EXPORT_NAME lacake_static)
install(TARGETS lacake EXPORT lacakeStatic ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(EXPORT lacakeStatic NAMESPACE lacake:: DESTINATION ${LACAKE_PACKAGE_DIR} COMPONENT development)
if(TARGET lacake_shared)
  # Before 1.0 a minor version may change what programs were compiled against.
  set_target_properties(lacake_shared PROPERTIES OUTPUT_NAME lacake VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR} INSTALL_RPATH "${LACAKE_LIBRARY_RPATH}")
  if(NOT APPLE)
    set(map ${CMAKE_CURRENT_SOURCE_DIR}/cmake/liblacake.map)
    target_link_options(lacake_shared PRIVATE LINKER:--version-script=${map} LINKER:--no-undefined)
    set_property(TARGET lacake_shared APPEND PROPERTY LINK_DEPENDS ${map})
  endif()
  install(TARGETS lacake_shared EXPORT lacakeShared LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime
          NAMELINK_COMPONENT development)
  install(EXPORT lacakeShared NAMESPACE lacake:: DESTINATION ${LACAKE_PACKAGE_DIR} COMPONENT development)
endif()
install(DIRECTORY include/lacake DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development
        FILES_MATCHING PATTERN "*.h")

configure_package_config_file(cmake/lacakeConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/lacakeConfig.cmake
                              INSTALL_DESTINATION ${LACAKE_PACKAGE_DIR})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/lacakeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/lacakeConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/lacakeConfigVersion.cmake
              cmake/hwy.cmake DESTINATION ${LACAKE_PACKAGE_DIR} COMPONENT development)
if(TARGET lacake_shared)
  file(RELATIVE_PATH LACAKE_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
  configure_file(cmake/lacake.pc.in ${CMAKE_CURRENT_BINARY_DIR}/lacake.pc @ONLY)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/lacake.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
endif()

# --- the program -----------------------------------------------------------------------------------------------------------

if(TARGET lacake_cli)
  set_target_properties(lacake_cli PROPERTIES INSTALL_RPATH "${LACAKE_PROGRAM_RPATH}")
  install(TARGETS lacake_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)
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
  install(DIRECTORY ${reference}/man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT runtime OPTIONAL)
  set(completions ${reference}/completions)
  install(FILES ${completions}/lacake DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
          COMPONENT runtime OPTIONAL)
  foreach(folder site-functions vendor-completions)  # zsh's own, and that of Debian's packages
    install(FILES ${completions}/_lacake DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/${folder} COMPONENT runtime OPTIONAL)
  endforeach()
  install(FILES ${completions}/lacake.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d
          COMPONENT runtime OPTIONAL)
endif()

install(DIRECTORY packaging/ DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT runtime)
install(FILES CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT runtime)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT runtime RENAME copyright)  # Debian's name for it
if(EXISTS "${LACAKE_LLAMA_SOURCE_DIR}/LICENSE")  # MIT: binaries with its code carry its notice
  install(FILES "${LACAKE_LLAMA_SOURCE_DIR}/LICENSE" DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT runtime
          RENAME copyright.llama.cpp)
endif()

# --- Debian packages -------------------------------------------------------------------------------------------------------

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "lacake developers <developers@lacake.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_COMPONENTS_ALL runtime development)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME lacake)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION science)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_RUNTIME_DESCRIPTION "Program and shared library.
Runs GGUF language models on long texts and conversations, in as much KV cache
memory as it is given: the least important entries of the cache are dropped.")
if(LACAKE_BUNDLES_LLAMA)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${bundled}/lib)
endif()
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME liblacake-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "lacake (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SUGGESTS "libfmt-dev, libhwy-dev")  # of the static library
set(CPACK_DEBIAN_DEVELOPMENT_DESCRIPTION "Headers, the static library, and what CMake and pkg-config find it by.")
include(CPack)

# --- tests -----------------------------------------------------------------------------------------------------------------

if(LACAKE_BUILD_TESTS)
  add_test(NAME package
           COMMAND ${CMAKE_COMMAND} -DBUILD=${CMAKE_CURRENT_BINARY_DIR} -DEXAMPLES=${CMAKE_CURRENT_SOURCE_DIR}/examples
                   -DMODEL=${LACAKE_TEST_MODEL} -DSANITIZE=${LACAKE_SANITIZE} -DCOMPILER=${CMAKE_CXX_COMPILER}
                   -DLIBDIR=${CMAKE_INSTALL_LIBDIR} -DSHARED=$<TARGET_EXISTS:lacake_shared>
                   "-DPREFIX_PATH=${CMAKE_PREFIX_PATH}" -P ${CMAKE_CURRENT_SOURCE_DIR}/cmake/package_test.cmake)
  set_tests_properties(package PROPERTIES LABELS package)
endif()
