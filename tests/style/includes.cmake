# Includes follow the chain apps -> model -> loader -> ops -> runtime, and each third-party header stays where it belongs.
cmake_minimum_required(VERSION 3.25)
include(${CMAKE_CURRENT_LIST_DIR}/sources.cmake)

set(runtime_may runtime)
set(ops_may ${runtime_may} ops)
set(loader_may ${ops_may} loader)
set(model_may ${loader_may} model)
set(apps_may ${model_may} apps)
set(tests_may ${apps_may} tests)
set(bench_may ${apps_may} tests bench)

# A header's name and the files, tests and bench apart, that may include it.
set(confined
  "^omp\\.h"            "^runtime/parallel\\.cc$"
  "^cblas\\.h"          "^ops/gemm\\.cc$"
  "^xsimd/"             "^ops/(vec\\.h|.*\\.simd\\.cc)$"
  "^xmmintrin\\.h"      "^runtime/float_mode\\.h$"
  "^[epnstw]?mmintrin\\.h" "^$"
  "^(imm|x86|x86gpr)intrin\\.h" "^ops/(vec\\.h|.*\\.simd\\.cc)$"
  "^nlohmann/json_fwd"  "^(loader|model|apps)/"
  "^nlohmann/json\\.hpp" "^(loader|model|apps)/.*\\.cc$"
  "^pcre2"              "^loader/pretokenizer\\.cc$"
  "^utf8proc"           "^loader/.*\\.cc$"
  "^liburing"           "^loader/.*\\.cc$"
  "^CLI/"               "^apps/"
  "^histedit"           "^apps/common/line_editor\\.cc$"
  "^httplib"            "^apps/server/"
  "^Eigen/"             "^$"
  "^g(test|mock)/"      "^$"
  "^benchmark/"         "^$")
set(kernel_headers "^(bit|cmath|cstddef|cstdint|cstring|immintrin\\.h|limits|xsimd/xsimd\\.hpp)$")

function(check_project_include file folder header)
  if(NOT header MATCHES "^([a-z]+)/")
    violation("${file}: \"${header}\" is not written from the root of the repository")
  elseif(NOT CMAKE_MATCH_1 IN_LIST ${folder}_may)
    violation("${file}: ${folder}/ may not include \"${header}\"")
  endif()
endfunction()

function(check_system_include file folder header)
  if(file MATCHES "(\\.simd\\.cc|^ops/vec\\.h)$" AND NOT header MATCHES "${kernel_headers}")
    violation("${file}: a kernel source may not include <${header}>")
  endif()
  if(folder MATCHES "^(tests|bench)$")
    return()
  endif()
  set(rules ${confined})
  while(rules)
    list(POP_FRONT rules name users)
    if(header MATCHES "${name}" AND NOT file MATCHES "${users}")
      violation("${file}: <${header}> is confined to files matching ${users}")
    endif()
  endwhile()
endfunction()

source_files(files "^(runtime|ops|loader|model|apps|tests|bench)/.*\\.(h|cc|c)$")
foreach(file IN LISTS files)
  string(REGEX MATCH "^[a-z]+" folder ${file})
  file(STRINGS ${ROOT}/${file} lines REGEX "^[ \t]*#[ \t]*include")
  foreach(line IN LISTS lines)
    if(line MATCHES "include[ \t]*\"([^\"]+)\"")
      check_project_include(${file} ${folder} "${CMAKE_MATCH_1}")
    elseif(line MATCHES "include[ \t]*<([^>]+)>")
      check_system_include(${file} ${folder} "${CMAKE_MATCH_1}")
    endif()
  endforeach()
endforeach()
finish_check()
