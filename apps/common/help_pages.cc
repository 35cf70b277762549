#include "apps/common/help_pages.h"

namespace millrace {

void add_help_pages(CLI::App& app, const std::string& more, const std::string& more_summary,
                    const std::string& more_example) {
  const auto show = [&app, more](bool wanted) {
    for (CLI::Option* option : app.get_options())
      if (!option->get_positional() && (option->get_group() == more) != wanted) option->group("");
    throw CLI::CallForHelp();
  };
  app.set_help_flag();
  app.add_flag_callback(
      "-h,--help", [show] { show(false); }, "show this help");
  app.add_flag_callback(
      "--help-more",
      [&app, show, more_example] {
        app.footer("Example: " + more_example);
        show(true);
      },
      more_summary);
}

}  // namespace millrace
