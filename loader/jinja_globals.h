// The functions every template may call: range, dict, namespace, raise_exception, strftime_now.
#pragma once

#include <ctime>

#include "loader/jinja_value.h"

namespace millrace::jinja {

class Evaluator;

void define_globals(Evaluator& evaluator, Heap& heap, const std::tm& now);

}  // namespace millrace::jinja
