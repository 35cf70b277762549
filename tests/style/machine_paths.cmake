# The repository stands alone: nothing names a folder beside it or a path of somebody's machine.
cmake_minimum_required(VERSION 3.25)
include(${CMAKE_CURRENT_LIST_DIR}/sources.cmake)

# Written in pieces, or this file would name them itself.
string(CONCAT patterns "(\\.\\./" "shared" "|/" "work(/|[^A-Za-z0-9_]|$)" "|/" "home/" "|/" "root/" ")")
source_files(files "^[^/]*$|/")
list(FILTER files EXCLUDE REGEX "\\.safetensors$")
foreach(file IN LISTS files)
  file(STRINGS ${ROOT}/${file} lines REGEX "${patterns}")
  if(lines)
    violation("${file}: ${lines}")
  endif()
endforeach()
finish_check()
