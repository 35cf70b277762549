# Each object of a tier defines nothing weak and nothing outside its own namespace: a weak symbol compiled for a wide
# tier could be the copy that the linker keeps for everyone.
# TIER: the tier's name; OBJECTS: its objects, separated by |; NM: the nm program.
cmake_minimum_required(VERSION 3.25)
include(${CMAKE_CURRENT_LIST_DIR}/sources.cmake)

string(REPLACE "|" ";" objects "${OBJECTS}")
if(NOT objects)
  message(FATAL_ERROR "No objects of ${TIER}: this check would check nothing")
endif()
foreach(object IN LISTS objects)
  execute_process(COMMAND ${NM} --extern-only --defined-only --demangle ${object} OUTPUT_VARIABLE output
                  RESULT_VARIABLE status ERROR_VARIABLE errors)
  if(NOT status EQUAL 0 OR output STREQUAL "")
    violation("${object}: nm found no symbols (${errors})")
  endif()
  string(REGEX REPLACE "[][;]" "_" output "${output}")
  string(REPLACE "\n" ";" lines "${output}")
  foreach(line IN LISTS lines)
    if(line AND NOT line MATCHES "^[0-9a-f]+ [TRDB] millrace::${TIER}::")
      violation("${object}: ${line}")
    endif()
  endforeach()
endforeach()
finish_check()
