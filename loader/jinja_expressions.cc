// Evaluation of expressions.
#include <fmt/format.h>

#include "loader/jinja_access.h"
#include "loader/jinja_evaluator.h"
#include "loader/jinja_filters.h"
#include "loader/jinja_methods.h"
#include "loader/jinja_numbers.h"
#include "loader/jinja_print.h"

namespace millrace::jinja {

Value Evaluator::evaluate(const Expression& expression) {
  if (expression.kind == ExpressionKind::constant) return expression.value;
  const DepthGuard guard(depth_, 1000, "nesting of evaluation");
  heap_.step();
  const int line = line_;
  line_ = expression.line;
  Value value = evaluate_inside(expression);
  line_ = line;  // not after a Fault, which happened where it happened
  return value;
}

Value Evaluator::evaluate_inside(const Expression& expression) {
  const auto item = [&](std::size_t i) { return evaluate(*expression.items[i]); };
  switch (expression.kind) {
    case ExpressionKind::constant:
      return expression.value;
    case ExpressionKind::name:
      return evaluate_name(expression);
    case ExpressionKind::list:
      return heap_.list(evaluate_all(expression.items));
    case ExpressionKind::tuple:
      return heap_.tuple(evaluate_all(expression.items));
    case ExpressionKind::dict:
      return evaluate_dict(expression);
    case ExpressionKind::attribute:
      return get_attribute(heap_, item(0), expression.name, expression.value);
    case ExpressionKind::subscript:
      return evaluate_subscript(expression);
    case ExpressionKind::call:
      return evaluate_call(expression);
    case ExpressionKind::filter:
      return evaluate_filter(expression, nullptr);
    case ExpressionKind::test: {
      const Value operand = item(0);
      return Value::boolean(apply_test(heap_, expression.name, operand, evaluate_arguments(expression.arguments)));
    }
    case ExpressionKind::negative:
      return negated(item(0));
    case ExpressionKind::positive:
      return not_negated(item(0));
    case ExpressionKind::logical_not:
      return Value::boolean(!item(0).truth());
    case ExpressionKind::logical_and: {
      Value left = item(0);
      return left.truth() ? item(1) : left;
    }
    case ExpressionKind::logical_or: {
      Value left = item(0);
      return left.truth() ? left : item(1);
    }
    case ExpressionKind::concatenate:
      return evaluate_concatenation(expression);
    case ExpressionKind::compare:
      return evaluate_compare(expression);
    case ExpressionKind::conditional:
      if (item(0).truth()) return item(1);
      if (expression.items[2]) return item(2);
      return heap_.undefined("the inline if is false and has no else, it is undefined");
    case ExpressionKind::slice:
    case ExpressionKind::space_attribute:
      throw Fault("a slice outside of a subscript");
    default: {
      const Value left = item(0);
      return arithmetic(heap_, expression.kind, left, item(1));
    }
  }
}

Value Evaluator::evaluate_name(const Expression& expression) {
  const Value* found = find(expression.symbol);
  return found != nullptr ? *found : heap_.undefined("'" + expression.name + "' is undefined");
}

std::vector<Value> Evaluator::evaluate_all(const std::vector<ExpressionPtr>& expressions) {
  std::vector<Value> values;
  values.reserve(expressions.size());
  for (const ExpressionPtr& expression : expressions) values.push_back(evaluate(*expression));
  return values;
}

Value Evaluator::evaluate_dict(const Expression& expression) {
  auto dict = std::make_shared<Dict>(heap_);
  for (std::size_t i = 0; i < expression.items.size(); i += 2) {
    const Value key = evaluate(*expression.items[i]);
    dict->set(key, evaluate(*expression.items[i + 1]));
  }
  return Value::object(Kind::dict, std::shared_ptr<const Dict>(std::move(dict)));
}

Value Evaluator::evaluate_subscript(const Expression& expression) {
  const Value object = evaluate(*expression.items[0]);
  const Expression& key = *expression.items[1];
  if (key.kind != ExpressionKind::slice) return get_item(heap_, object, evaluate(key));
  Value bounds[3];
  for (std::size_t i = 0; i < 3; ++i)
    if (key.items[i]) bounds[i] = evaluate(*key.items[i]);
  return get_slice(heap_, object, bounds[0], bounds[1], bounds[2]);
}

Arguments Evaluator::evaluate_arguments(const CallArguments& arguments) {
  Arguments result;
  result.positional = evaluate_all(arguments.positional);
  for (const auto& [name, value] : arguments.named) result.named.emplace_back(name, evaluate(*value));
  if (arguments.star) {
    const std::vector<Value> more = collect(heap_, evaluate(*arguments.star));
    result.positional.insert(result.positional.end(), more.begin(), more.end());
  }
  if (arguments.double_star) {
    const Value more = evaluate(*arguments.double_star);
    if (!more.is(Kind::dict)) throw Fault(fmt::format("argument after ** must be a mapping, not {}", type_name(more)));
    for (const auto& [name, value] : more.get<Dict>().entries) {
      if (!name.is(Kind::text)) throw Fault("keywords must be strings");
      result.data_names = result.data_names || any_mark(name.text()) != 0;
      result.named.emplace_back(to_utf8(name.text()), value);
    }
  }
  return result;
}

Value Evaluator::evaluate_call(const Expression& expression) {
  const Expression& callee = *expression.items[0];
  if (callee.kind != ExpressionKind::attribute) {
    const Value function = evaluate(callee);
    return call(function, evaluate_arguments(expression.arguments));
  }
  const Value object = evaluate(*callee.items[0]);
  if (const Native* method = find_method(object, callee.name))
    return invoke(heap_, *method, object, evaluate_arguments(expression.arguments));
  const Value function = get_attribute(heap_, object, callee.name, callee.value);
  return call(function, evaluate_arguments(expression.arguments));
}

Value Evaluator::evaluate_filter(const Expression& expression, const Value* operand) {
  const Expression* inner = expression.items[0].get();
  Value value;
  if (inner == nullptr)
    value = *operand;
  else if (operand != nullptr && inner->kind == ExpressionKind::filter)
    value = evaluate_filter(*inner, operand);
  else
    value = evaluate(*inner);
  return apply_filter(heap_, expression.name, value, evaluate_arguments(expression.arguments));
}

Value Evaluator::filtered(const ExpressionPtr& filter, const Value& value) {
  return filter ? evaluate_filter(*filter, &value) : value;
}

Value Evaluator::evaluate_concatenation(const Expression& expression) {
  Text text;
  for (const ExpressionPtr& item : expression.items) {
    const Value value = evaluate(*item);
    if (value.is(Kind::text)) {
      Heap::check_text(text.size() + value.text().size());
      text += value.text();
    } else {
      text += to_str(heap_, value);
    }
  }
  return heap_.text(std::move(text));
}

namespace {

bool holds(Heap& heap, Comparison comparison, const Value& left, const Value& right) {
  switch (comparison) {
    case Comparison::equal:
      return equal(heap, left, right);
    case Comparison::not_equal:
      return !equal(heap, left, right);
    case Comparison::less:
      return less(heap, left, right, "<");
    case Comparison::less_equal:
      return less(heap, left, right, "<=");
    case Comparison::greater:
      return less(heap, left, right, ">");
    case Comparison::greater_equal:
      return less(heap, left, right, ">=");
    case Comparison::in:
      return contains(heap, right, left);
    case Comparison::not_in:
      return !contains(heap, right, left);
  }
  return false;
}

}  // namespace

Value Evaluator::evaluate_compare(const Expression& expression) {
  Value left = evaluate(*expression.items[0]);
  for (std::size_t i = 0; i < expression.operators.size(); ++i) {
    Value right = evaluate(*expression.items[i + 1]);
    if (!holds(heap_, expression.operators[i], left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

}  // namespace millrace::jinja
