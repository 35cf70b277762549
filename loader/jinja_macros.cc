// Macros and calls.
#include <fmt/format.h>

#include <algorithm>

#include "loader/jinja_eval.h"
#include "loader/jinja_evaluator.h"

namespace millrace::jinja {

Value Evaluator::make_macro(const Statement& statement) {
  constexpr std::size_t bytes = sizeof(Macro) + sizeof(Scope) + 64;
  heap_.take(bytes);  // kept until the end
  for (Scope* scope = scope_; scope != nullptr && !scope->captured; scope = scope->parent) scope->captured = true;
  macros_.push_back(std::make_unique<const Macro>(Macro{statement, scope_}));
  return Value::macro(macros_.back().get());
}

void Evaluator::execute_call_block(const Statement& statement) {
  const Expression& expression = *statement.value;
  const Value callee = evaluate(*expression.items[0]);
  Arguments arguments = evaluate_arguments(expression.arguments);
  arguments.named.emplace_back("caller", make_macro(statement));
  const Value result = call(callee, arguments);
  out_->append(result.is(Kind::text) ? result.text() : Text());
}

Value Evaluator::call(const Value& callee, const Arguments& arguments) {
  switch (callee.kind()) {
    case Kind::undefined:
      fail_undefined(callee);
    case Kind::function: {
      const Function& function = callee.get<Function>();
      return function.call(heap_, function.self, arguments);
    }
    case Kind::macro:
      return call_macro(callee.macro(), arguments);
    case Kind::loop:
      if (!callee.loop()->recurse) throw Fault("The loop must have the 'recursive' marker to be called recursively.");
      if (arguments.positional.size() != 1 || !arguments.named.empty()) throw Fault("loop() takes one argument");
      return callee.loop()->recurse(heap_, arguments.positional[0]);
    default:
      throw Fault(fmt::format("'{}' object is not callable", type_name(callee)));
  }
}

namespace {

bool uses(const Statement& macro, FixedSymbol symbol) {
  return (macro.uses >> symbol & 1) != 0;
}

}  // namespace

// In the scope of the macro's body, where defaults may name earlier parameters.
void Evaluator::bind_parameters(const Macro& macro, const Arguments& arguments) {
  const Statement& node = macro.node;
  std::vector<std::pair<std::string, Value>> named = arguments.named;
  const auto take_named = [&named](const std::string& name) -> std::optional<Value> {
    const auto found = std::find_if(named.begin(), named.end(), [&](const auto& entry) { return entry.first == name; });
    if (found == named.end()) return std::nullopt;
    Value value = found->second;
    named.erase(found);
    return value;
  };
  for (std::size_t i = 0; i < node.parameters.size(); ++i) {
    const Parameter& parameter = node.parameters[i];
    std::optional<Value> value;
    if (i < arguments.positional.size())
      value = arguments.positional[i];
    else
      value = take_named(parameter.name);
    if (!value && parameter.otherwise) value = evaluate(*parameter.otherwise);
    if (!value)
      value = heap_.undefined(fmt::format("parameter '{}' was not provided, it is undefined", parameter.name));
    set(parameter.symbol, *value);
  }
  if (uses(node, symbol_caller)) {
    const std::optional<Value> caller = take_named("caller");
    set(symbol_caller, caller ? *caller : heap_.undefined("No caller defined, it is undefined"));
  }
  if (uses(node, symbol_kwargs)) {
    auto dict = std::make_shared<Dict>(heap_);
    for (const auto& [name, value] : named) dict->set(heap_.text(arguments.name_text(name)), value);
    set(symbol_kwargs, Value::object(Kind::dict, std::shared_ptr<const Dict>(std::move(dict))));
  } else if (!named.empty()) {
    throw Fault(fmt::format("macro '{}' takes no keyword argument '{}'", node.name, named[0].first));
  }
  const std::size_t count = node.parameters.size();
  if (uses(node, symbol_varargs)) {
    const std::size_t used = std::min(count, arguments.positional.size());
    set(symbol_varargs,
        heap_.tuple({arguments.positional.begin() + static_cast<std::ptrdiff_t>(used), arguments.positional.end()}));
  } else if (arguments.positional.size() > count) {
    throw Fault(fmt::format("macro '{}' takes not more than {} argument(s)", node.name, count));
  }
}

Value Evaluator::call_macro(const Macro& macro, const Arguments& arguments) {
  const DepthGuard guard(call_depth_, 64, "call depth: a macro");
  const ScopeGuard scope(*this, macro.scope);
  const int line = line_;
  bind_parameters(macro, arguments);
  Buffer buffer(heap_);
  Buffer* const outer = out_;
  out_ = &buffer;
  const Flow flow = execute(macro.node.body);
  out_ = outer;
  if (flow != Flow::normal) throw Fault("'break' or 'continue' outside of a loop");
  line_ = line;
  return buffer.value();
}

bool macro_attribute(Heap& heap, const Macro& macro, const std::string& name, Value& result) {
  if (name == "name") {
    result = heap.text(to_text(macro.node.name));
  } else if (name == "arguments") {
    std::vector<Value> names;
    for (const Parameter& parameter : macro.node.parameters) names.push_back(heap.text(to_text(parameter.name)));
    result = heap.tuple(std::move(names));
  } else if (name == "caller") {
    result = Value::boolean(uses(macro.node, symbol_caller));
  } else if (name == "catch_kwargs") {
    result = Value::boolean(uses(macro.node, symbol_kwargs));
  } else if (name == "catch_varargs") {
    result = Value::boolean(uses(macro.node, symbol_varargs));
  } else {
    return false;
  }
  return true;
}

}  // namespace millrace::jinja
