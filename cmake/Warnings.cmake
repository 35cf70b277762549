# millrace_warnings: what every target of ours compiles under.
add_library(millrace_warnings INTERFACE)
target_compile_options(millrace_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wcast-qual -Wunused -Woverloaded-virtual
  # Designated initializers leave the rest at its default on purpose.
  -Wno-missing-field-initializers
  # A contracted multiply-add would round differently from tier to tier; the ones we want are written out.
  -ffp-contract=off)
