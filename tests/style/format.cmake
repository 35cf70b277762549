# All C++ sources are as clang-format 14 lays them out. CLANG_FORMAT: the program, false where it is not installed.
cmake_minimum_required(VERSION 3.25)
include(${CMAKE_CURRENT_LIST_DIR}/sources.cmake)

if(NOT CLANG_FORMAT)
  message(NOTICE "skipped: clang-format-14 is not installed")
  return()
endif()
source_files(files "\\.(h|cc|c)$")
execute_process(COMMAND ${CLANG_FORMAT} --dry-run -Werror ${files} WORKING_DIRECTORY ${ROOT} RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "Run clang-format-14 -i on the files above")
endif()
