#include "loader/jinja_eval.h"

#include <fmt/format.h>

#include "loader/jinja_error.h"
#include "loader/jinja_evaluator.h"
#include "loader/jinja_globals.h"
#include "loader/jinja_print.h"

namespace millrace::jinja {

Evaluator::ScopeGuard::ScopeGuard(Evaluator& evaluator, Scope* parent)
    : evaluator_(evaluator), outer_(evaluator.scope_), scope_(std::make_unique<Scope>()) {
  scope_->parent = parent;
  evaluator.scope_ = scope_.get();
}

Evaluator::ScopeGuard::~ScopeGuard() {
  evaluator_.scope_ = outer_;
  if (scope_->captured) evaluator_.kept_.push_back(std::move(scope_));
}

Evaluator::DepthGuard::DepthGuard(int& depth, int most, const char* what) : depth_(depth) {
  if (depth >= most) throw Fault(fmt::format("{} more than {} deep", what, most));
  ++depth_;
}

void Evaluator::define(const std::string& name, const Value& value) {
  for (std::size_t i = 0; i < tree_.symbols.size(); ++i)
    if (tree_.symbols[i] == name) globals_[i] = value;
}

Text Evaluator::run() {
  if (execute(tree_.body) != Flow::normal) throw Fault("'break' or 'continue' outside of a loop");
  return output_.text();
}

const Value* Evaluator::find(int symbol) const {
  for (const Scope* scope = scope_; scope != nullptr; scope = scope->parent)
    for (const auto& [name, value] : scope->names)
      if (name == symbol) return &value;
  const auto& global = globals_[static_cast<std::size_t>(symbol)];
  return global ? &*global : nullptr;
}

void Evaluator::set(int symbol, const Value& value) {
  if (scope_ == nullptr) {
    globals_[static_cast<std::size_t>(symbol)] = value;
    return;
  }
  for (auto& [name, old] : scope_->names) {
    if (name != symbol) continue;
    old = value;
    return;
  }
  scope_->names.emplace_back(symbol, value);
}

void Evaluator::assign(const Expression& target, const Value& value) {
  if (target.kind == ExpressionKind::name) return set(target.symbol, value);
  if (target.kind == ExpressionKind::space_attribute) {
    const Value* space = find(target.symbol);
    if (space == nullptr || !space->is(Kind::space)) throw Fault("cannot assign attribute on non-namespace object");
    space->space().attributes.set(heap_.text(to_text(target.name)), value);
    return;
  }
  if (value.is(Kind::none) || value.is_number())
    throw Fault(fmt::format("cannot unpack non-iterable {} object", type_name(value)));
  const std::vector<Value> items = collect(heap_, value);
  const std::size_t expected = target.items.size();
  if (items.size() < expected)
    throw Fault(fmt::format("not enough values to unpack (expected {}, got {})", expected, items.size()));
  if (items.size() > expected) throw Fault(fmt::format("too many values to unpack (expected {})", expected));
  for (std::size_t i = 0; i < expected; ++i) assign(*target.items[i], items[i]);
}

Value Evaluator::written(const Statements& body) {
  Buffer buffer(heap_);
  Buffer* const outer = out_;
  out_ = &buffer;
  const Flow flow = execute_scope(body);
  out_ = outer;
  if (flow != Flow::normal) throw Fault("'break' or 'continue' outside of a loop");
  return buffer.value();
}

Flow Evaluator::execute(const Statements& statements) {
  for (const auto& statement : statements)
    if (const Flow flow = execute(*statement); flow != Flow::normal) return flow;
  return Flow::normal;
}

Flow Evaluator::execute(const Statement& statement) {
  heap_.step();
  line_ = statement.line;
  switch (statement.kind) {
    case StatementKind::data:
      out_->append(statement.text);
      break;
    case StatementKind::output: {
      const Value value = evaluate(*statement.value);
      if (value.is(Kind::text))
        out_->append(value.text());
      else
        out_->append(to_str(heap_, value));
      break;
    }
    case StatementKind::condition:
      return execute_condition(statement);
    case StatementKind::loop:
      return execute_loop(statement, evaluate(*statement.value), 1);
    case StatementKind::set:
      assign(*statement.target, evaluate(*statement.value));
      break;
    case StatementKind::set_block:
      execute_set_block(statement);
      break;
    case StatementKind::with:
      return execute_with(statement);
    case StatementKind::macro:
      set(statement.symbol, make_macro(statement));
      break;
    case StatementKind::call_block:
      execute_call_block(statement);
      break;
    case StatementKind::filter_block:
      execute_filter_block(statement);
      break;
    case StatementKind::scope:
      return execute_scope(statement.body);
    case StatementKind::break_loop:
      return Flow::break_loop;
    case StatementKind::continue_loop:
      return Flow::continue_loop;
  }
  return Flow::normal;
}

Flow Evaluator::execute_condition(const Statement& statement) {
  const DepthGuard guard(depth_, 1000, "nesting of evaluation");
  for (const auto& [condition, body] : statement.branches)
    if (evaluate(*condition).truth()) return execute(body);
  return execute(statement.otherwise);
}

Flow Evaluator::execute_scope(const Statements& body) {
  const DepthGuard guard(depth_, 1000, "nesting of evaluation");
  const ScopeGuard scope(*this);
  return execute(body);
}

Flow Evaluator::execute_with(const Statement& statement) {
  const DepthGuard guard(depth_, 1000, "nesting of evaluation");
  std::vector<Value> values;
  for (const auto& [target, value] : statement.assignments) values.push_back(evaluate(*value));
  const ScopeGuard scope(*this);
  for (std::size_t i = 0; i < values.size(); ++i) assign(*statement.assignments[i].first, values[i]);
  return execute(statement.body);
}

void Evaluator::execute_set_block(const Statement& statement) {
  const Value body = written(statement.body);
  assign(*statement.target, filtered(statement.value, body));
}

void Evaluator::execute_filter_block(const Statement& statement) {
  const Value body = written(statement.body);
  out_->append(to_str(heap_, filtered(statement.value, body)));
}

std::shared_ptr<Loop> Evaluator::make_loop(const Statement& statement, const Value& iterable, int level) {
  std::vector<Value> items = collect(heap_, iterable);
  auto loop = std::make_shared<Loop>(heap_, sizeof(Loop) + 2 * items.size() * sizeof(Value));
  loop->level = level;
  loop->depth = iterable.depth() + 1;
  if (loop->depth > deepest_nesting) throw Fault(fmt::format("nesting of values deeper than {}", deepest_nesting));
  if (statement.test) {
    loop->rest = std::move(items);
    loop->accepts = [this, &statement, outer = scope_](const Value& item) {
      const DepthGuard guard(depth_, 1000, "nesting of evaluation");
      const ScopeGuard scope(*this, outer);
      assign(*statement.target, item);
      return evaluate(*statement.test).truth();
    };
  } else {
    loop->items = std::move(items);
  }
  if (statement.recursive) {
    loop->recurse = [this, &statement, level](Heap& heap, const Value& inner) {
      const DepthGuard guard(call_depth_, 64, "call depth: a recursive loop");
      Buffer buffer(heap);
      Buffer* const outer = out_;
      out_ = &buffer;
      execute_loop(statement, inner, level + 1);
      out_ = outer;
      return buffer.value();
    };
  }
  return loop;
}

Flow Evaluator::execute_loop(const Statement& statement, const Value& iterable, int level) {
  const DepthGuard guard(depth_, 1000, "nesting of evaluation");
  const std::shared_ptr<Loop> loop = make_loop(statement, iterable, level);
  const bool any = loop->has(0);
  for (std::size_t i = 0; loop->has(i); ++i) {
    heap_.step(3);
    loop->at = i;
    const ScopeGuard scope(*this);
    set(symbol_loop, Value::loop(loop));
    assign(*statement.target, loop->items[i]);
    if (execute(statement.body) == Flow::break_loop) break;
  }
  // A loop that is kept beyond its end must not look for more.
  loop->rest.clear();
  loop->rest_at = 0;
  loop->accepts = nullptr;
  loop->recurse = nullptr;
  return any ? Flow::normal : execute_scope(statement.otherwise);
}

Text render(const Tree& tree, const std::string& name, Heap& heap, const Context& context) {
  Evaluator evaluator(tree, heap);
  try {
    define_globals(evaluator, heap, context.now);
    for (const auto& [variable, value] : context.variables) evaluator.define(variable, value);
    return evaluator.run();
  } catch (const Fault& fault) {
    throw TemplateError(name, evaluator.line(), fault.what(), fault.raised());
  }
}

}  // namespace millrace::jinja
