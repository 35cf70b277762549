# The goldens as the tests read them: folders of tests/golden as they are, archives NAME.tar.xz unpacked to NAME.
set(MILLRACE_GOLDEN_DIR ${CMAKE_BINARY_DIR}/golden)

# Unpacks the archives of tests/golden/<folder>, or of tests/golden itself, below MILLRACE_GOLDEN_DIR.
function(unpack_goldens folder)
  cmake_path(APPEND PROJECT_SOURCE_DIR tests/golden ${folder} OUTPUT_VARIABLE source)
  cmake_path(APPEND MILLRACE_GOLDEN_DIR ${folder} OUTPUT_VARIABLE target)
  file(MAKE_DIRECTORY ${target})
  file(GLOB archives CONFIGURE_DEPENDS ${source}/*.tar.xz)
  foreach(archive IN LISTS archives)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${archive})
    get_filename_component(name ${archive} NAME_WE)
    if(${archive} IS_NEWER_THAN ${target}/${name}.stamp)
      file(REMOVE_RECURSE ${target}/${name})
      file(ARCHIVE_EXTRACT INPUT ${archive} DESTINATION ${target})
      file(TOUCH ${target}/${name}.stamp)
    endif()
  endforeach()
endfunction()

function(link_goldens folder)
  file(CREATE_LINK ${PROJECT_SOURCE_DIR}/tests/golden/${folder} ${MILLRACE_GOLDEN_DIR}/${folder} SYMBOLIC)
endfunction()

unpack_goldens(.)
unpack_goldens(models)
unpack_goldens(text)
link_goldens(configs)
link_goldens(demo)
