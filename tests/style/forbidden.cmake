# The library never prints, never ends the process, and changes nothing that belongs to the whole process.
cmake_minimum_required(VERSION 3.25)
include(${CMAKE_CURRENT_LIST_DIR}/sources.cmake)

set(calls
  # printing
  printf fprintf vprintf vfprintf puts fputs putchar perror psignal print println
  # ending
  abort exit _exit _Exit quick_exit terminate at_quick_exit atexit set_terminate raise kill
  # state of the process
  setenv unsetenv putenv signal sigaction setlocale fesetround fesetenv feenableexcept _mm_setcsr)
list(JOIN calls "|" calls)
set(start "(^|[^A-Za-z0-9_.>:])")
set(patterns
  "${start}(std::|::|fmt::)*(${calls})[ ]*\\("
  "${start}(std::)?(cout|cerr|clog)[^A-Za-z0-9_]"
  "std::locale::global")

source_files(files "^(runtime|ops|loader|model|apps/capi)/.*\\.(h|cc|c)$")
foreach(file IN LISTS files)
  foreach(pattern IN LISTS patterns)
    file(STRINGS ${ROOT}/${file} lines REGEX "${pattern}")
    foreach(line IN LISTS lines)
      string(REGEX REPLACE "//.*" "" code "${line}")
      if(code MATCHES "${pattern}" AND NOT (file STREQUAL "runtime/float_mode.h" AND code MATCHES "_mm_setcsr"))
        violation("${file}: a library may not do this: ${code}")
      endif()
    endforeach()
  endforeach()
endforeach()
finish_check()
