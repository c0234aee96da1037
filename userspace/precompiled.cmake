# SPDX-License-Identifier: GPL-2.0-only
# One precompiled header for each level of optimisation, because they cannot be mixed; what is compiled with -O1 are
# tests with Catch2.
set(common <algorithm> <array> <chrono> <cstdint> <cstdio> <functional> <fstream> <map> <memory> <optional> <span>
    <string> <string_view> <utility> <vector> <fmt/core.h>)

function(add_precompiled name)
  cmake_parse_arguments(arg "" "" "OPTIONS;HEADERS;LIBRARIES" ${ARGN})
  file(WRITE ${CMAKE_BINARY_DIR}/${name}.cpp.new "")
  configure_file(${CMAKE_BINARY_DIR}/${name}.cpp.new ${CMAKE_BINARY_DIR}/${name}.cpp COPYONLY)
  add_library(${name} OBJECT ${CMAKE_BINARY_DIR}/${name}.cpp)
  target_compile_options(${name} PRIVATE ${arg_OPTIONS})
  target_link_libraries(${name} PRIVATE fmt::fmt ${arg_LIBRARIES})
  target_precompile_headers(${name} PRIVATE ${common} ${arg_HEADERS})
endfunction()

find_package(fmt REQUIRED)
find_package(Catch2 2 REQUIRED)
add_precompiled(headers-O1 OPTIONS -O1 HEADERS <catch2/catch.hpp> LIBRARIES Catch2::Catch2)
add_precompiled(headers-O2)
add_precompiled(headers-O3 OPTIONS -O3)

function(use_precompiled directory)
  get_property(targets DIRECTORY ${directory} PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target ${targets})
    get_target_property(type ${target} TYPE)
    get_target_property(sources ${target} SOURCES)
    get_target_property(options ${target} COMPILE_OPTIONS)
    get_target_property(libraries ${target} LINK_LIBRARIES)
    get_target_property(has_own ${target} PRECOMPILE_HEADERS)
    # Modules are compiled as position-independent code, with a sanitizer all is different, and what needs no library
    # has no need of this.
    if(has_own OR NOT libraries OR NOT type MATCHES "EXECUTABLE|STATIC|OBJECT" OR NOT sources MATCHES "\\.cpp" OR
       options MATCHES sanitize)
      continue()
    endif()
    string(REGEX MATCH "-O[13]" level "${options}")
    if(NOT level)
      set(level -O2)
    endif()
    set_target_properties(${target} PROPERTIES PRECOMPILE_HEADERS_REUSE_FROM headers${level})
  endforeach()
  get_property(folders DIRECTORY ${directory} PROPERTY SUBDIRECTORIES)
  foreach(folder ${folders})
    use_precompiled(${folder})
  endforeach()
endfunction()
use_precompiled(${CMAKE_CURRENT_SOURCE_DIR})
