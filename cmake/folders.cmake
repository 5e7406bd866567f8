# lacake_folder(NAME [SEES FOLDER...] [CALLS FOLDER...] [APART FILE...]): the object library lacake_NAME of the folder's
#   sources.
# lacake_see(TARGET FOLDER...): gives a target outside src/ the headers of these folders.
# lacake_see_in_files(FILES... FOLDERS...): the same for a few files of a target only.
# lacake_folders_end(): after the last row.
#
# How includes are kept to the table: for each folder the build tree has a folder of its own with one symbolic link in
# it, visible/cache/cache -> src/cache. A target has on its include path only those of the folders that it sees, so that
# "cache/cache.h" is found where it is allowed and nowhere else.

file(REMOVE_RECURSE ${PROJECT_BINARY_DIR}/visible)  # with it, links of folders that are gone
set_property(GLOBAL PROPERTY lacake_folders "")
set_property(GLOBAL PROPERTY lacake_rows "")

# Sets VARIABLE to the include directories of the folders. `who` wants them, for the complaint about one without a row.
function(lacake_visible variable who)
  set(directories "")
  get_property(known GLOBAL PROPERTY lacake_folders)
  foreach(folder IN LISTS ARGN)
    if(NOT folder IN_LIST known)
      message(FATAL_ERROR "src/CMakeLists.txt: ${who} names the folder ${folder}, which has no row above it")
    endif()
    list(APPEND directories ${PROJECT_BINARY_DIR}/visible/${folder})
  endforeach()
  set(${variable} ${directories} PARENT_SCOPE)
endfunction()

function(lacake_see target)
  lacake_visible(directories ${target} ${ARGN})
  target_include_directories(${target} PRIVATE ${directories})
endfunction()

function(lacake_see_in_files)
  cmake_parse_arguments(PARSE_ARGV 0 some "" "" "FILES;FOLDERS")
  lacake_visible(directories "${some_FILES}" ${some_FOLDERS})
  set_property(SOURCE ${some_FILES} APPEND PROPERTY INCLUDE_DIRECTORIES ${directories})
endfunction()

# The objects of a target become part of the library, static and shared.
function(lacake_add_objects target)
  foreach(library IN LISTS LACAKE_LIBRARIES)
    target_sources(${library} PRIVATE $<TARGET_OBJECTS:${target}>)
  endforeach()
endfunction()

function(lacake_folder name)
  cmake_parse_arguments(PARSE_ARGV 1 row "" "" "SEES;CALLS;APART")
  if(row_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "src/CMakeLists.txt, row ${name}: expected SEES, CALLS or APART, found ${row_UNPARSED_ARGUMENTS}")
  endif()
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${name}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "_test\\.cpp$")
  set(apart "")
  if(row_APART)
    file(GLOB apart CONFIGURE_DEPENDS ${row_APART})
  endif()
  # Highway includes such a file in itself, once for each instruction set.
  foreach(source IN LISTS sources)
    file(STRINGS ${source} itself REGEX "^#define HWY_TARGET_INCLUDE")
    if(itself)
      list(APPEND apart ${source})
    endif()
  endforeach()
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/visible/${name})
  file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR}/${name} ${PROJECT_BINARY_DIR}/visible/${name}/${name} SYMBOLIC)

  add_library(lacake_${name} OBJECT ${sources})
  set_property(GLOBAL APPEND PROPERTY lacake_folders ${name})
  list(PREPEND row_SEES base ${name})
  list(REMOVE_DUPLICATES row_SEES)
  lacake_see(lacake_${name} ${row_SEES})
  lacake_visible(unused "row ${name}" ${row_CALLS})
  string(REPLACE ";" " " sees "${row_SEES}")
  string(REPLACE ";" " " calls "${row_CALLS}")
  set_property(GLOBAL APPEND PROPERTY lacake_rows
    "{\"name\": \"${name}\", \"sees\": \"${sees}\", \"calls\": \"${calls}\",\n  \"objects\": \"$<JOIN:$<TARGET_OBJECTS:lacake_${name}>, >\"}")
  target_include_directories(lacake_${name} PRIVATE ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(lacake_${name} PRIVATE lacake_dependencies lacake_options)
  lacake_unity(lacake_${name} APART ${apart})
  lacake_add_objects(lacake_${name})
endfunction()

# Writes the table to folders.json of the build tree, for tests/folders.
function(lacake_folders_end)
  get_property(known GLOBAL PROPERTY lacake_folders)
  file(GLOB entries CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} *)
  foreach(entry IN LISTS entries)
    if(IS_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/${entry} AND NOT entry IN_LIST known)
      message(FATAL_ERROR "src/CMakeLists.txt: the folder src/${entry} has no row")
    endif()
  endforeach()
  get_property(rows GLOBAL PROPERTY lacake_rows)
  list(JOIN rows ",\n " rows)
  file(GENERATE OUTPUT ${PROJECT_BINARY_DIR}/folders.json CONTENT "[${rows}]\n")
endfunction()
