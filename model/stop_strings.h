// StopStrings: cuts generated text at the first stop string, also where one lies across token borders, and holds back
// what may still become one. The result does not depend on how the text is cut into pieces. Used by one thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace millrace {

class StopStrings {
 public:
  // Empty strings are ignored.
  explicit StopStrings(std::vector<std::string> strings);

  // Appends text and returns what can be shown. Once a stop string is complete, its beginning is where the text ends
  // (of two that end at the same byte, the longer counts) and everything later is dropped.
  std::string push(std::string_view text);

  // The end of the text: returns what was held back.
  std::string flush();

  // Whether a stop string was found.
  bool stopped() const noexcept { return stopped_; }

 private:
  std::vector<std::string> strings_;
  std::string pending_;
  bool stopped_ = false;
};

}  // namespace millrace
