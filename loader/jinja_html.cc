#include "loader/jinja_html.h"

#include "loader/jinja_print.h"

namespace millrace::jinja {

Text escaped_text(TextView text) {
  Text result;
  for (const char32_t c : text) {
    switch (point(c)) {
      case U'&':
        append(result, "&amp;", mark_of(c));
        break;
      case U'<':
        append(result, "&lt;", mark_of(c));
        break;
      case U'>':
        append(result, "&gt;", mark_of(c));
        break;
      case U'"':
        append(result, "&#34;", mark_of(c));
        break;
      case U'\'':
        append(result, "&#39;", mark_of(c));
        break;
      default:
        result += c;
    }
  }
  return result;
}

Text escaped(Heap& heap, const Value& value) {
  if (value.is(Kind::text) && value.get<String>().markup) return value.text();
  const Text text = to_str(heap, value);
  heap.work(text.size());
  return escaped_text(text);
}

}  // namespace millrace::jinja
