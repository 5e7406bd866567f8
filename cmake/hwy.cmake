# Makes the target hwy::hwy. Highway's own CMake package where it is installed; pkg-config where a distribution ships
# only that. Included by the build and by the installed lacakeConfig.cmake, which must find the same library.
if(NOT TARGET hwy::hwy)
  find_package(hwy CONFIG QUIET)
endif()
if(NOT TARGET hwy::hwy)
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)
  add_library(hwy::hwy INTERFACE IMPORTED)  # no alias: an export would write down what it stands for
  target_link_libraries(hwy::hwy INTERFACE PkgConfig::HWY)
endif()
