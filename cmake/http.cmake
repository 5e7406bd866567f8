# The HTTP side of `lacake serve`, part of the program. Boost.Beast's templates take as long as three other files, so
# this is compiled before all others, beside them: as the last one it would be waited for.
find_package(Boost 1.81 REQUIRED)
find_package(OpenSSL REQUIRED)
add_library(lacake_http OBJECT cli/serve/http.cpp)
target_compile_features(lacake_http PRIVATE cxx_std_20)
target_include_directories(lacake_http PRIVATE cli include ${PROJECT_BINARY_DIR}/visible/base)
target_compile_options(lacake_http PRIVATE $<$<CONFIG:Release>:-O1>)
target_link_libraries(lacake_http PRIVATE lacake_options fmt::fmt nlohmann_json::nlohmann_json Boost::headers OpenSSL::SSL
                      Threads::Threads)
