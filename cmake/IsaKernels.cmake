# Kernel sources (<stem>.simd.cc) are compiled once per ISA tier, each time into namespace millrace::<tier>.
# They get at least -O2 in every build type: at -O0 inline helpers would leak as weak symbols from the wide tiers.

set(MILLRACE_ISA_TIERS "")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(MILLRACE_ISA_TIERS avx2 avx512 avx512bf16 amx)
endif()
set(MILLRACE_ISA_FLAGS_avx2 -march=x86-64-v3)
set(MILLRACE_ISA_FLAGS_avx512 -march=x86-64-v4 -mprefer-vector-width=512)
set(MILLRACE_ISA_FLAGS_avx512bf16 ${MILLRACE_ISA_FLAGS_avx512} -mavx512bf16 -mavx512vbmi -mavx512vbmi2 -mavx512vnni -mgfni)
set(MILLRACE_ISA_FLAGS_amx ${MILLRACE_ISA_FLAGS_avx512bf16} -mamx-tile -mamx-bf16)

# add_isa_kernels(<target> <tier> <source>...): compiles the sources for the tier and links them into the target.
# A tier this processor family does not have is skipped.
function(add_isa_kernels target tier)
  if(NOT tier IN_LIST MILLRACE_ISA_TIERS)
    return()
  endif()
  set(objects ${target}_${tier})
  add_library(${objects} OBJECT ${ARGN})
  target_include_directories(${objects} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(${objects} PRIVATE MILLRACE_ISA=${tier} MILLRACE_ISA_${tier}=1)
  target_link_libraries(${objects} PRIVATE millrace_warnings xsimd)
  # GCC 12 warns of its own intrinsics' deliberately undefined operands (gcc.gnu.org/bugzilla 105593).
  target_compile_options(${objects} PRIVATE ${MILLRACE_ISA_FLAGS_${tier}} -fno-exceptions -fno-rtti -fno-math-errno
                         $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized> -Wno-uninitialized $<$<CONFIG:Debug>:-O2>)
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:${objects}>)
  target_compile_definitions(${target} PRIVATE MILLRACE_HAS_${tier}=1)
endfunction()
