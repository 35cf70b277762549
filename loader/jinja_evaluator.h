// The evaluator's state. Internal to jinja_eval.cc, jinja_expressions.cc and jinja_macros.cc.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loader/jinja_ast.h"
#include "loader/jinja_loop.h"
#include "loader/jinja_value.h"

namespace millrace::jinja {

// Names set in one block. The outermost scope is a table in the evaluator, and null here.
struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<int, Value>> names;
  bool captured = false;  // a macro defined in it may outlive the block
};

struct Macro {
  const Statement& node;
  Scope* scope;  // where it was defined
};

// Text being written, accounted for.
class Buffer {
 public:
  explicit Buffer(Heap& heap) : heap_(heap) {}
  ~Buffer() { heap_.give(text_.size() * sizeof(char32_t)); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void append(TextView text) {
    Heap::check_text(text_.size() + text.size());
    heap_.take(text.size() * sizeof(char32_t));
    heap_.work(text.size());
    text_ += text;
  }
  Value value() const { return heap_.text(text_); }
  const Text& text() const noexcept { return text_; }

 private:
  Heap& heap_;
  Text text_;
};

enum class Flow { normal, break_loop, continue_loop };

class Evaluator {
 public:
  Evaluator(const Tree& tree, Heap& heap) : tree_(tree), heap_(heap), globals_(tree.symbols.size()), output_(heap) {}

  void define(const std::string& name, const Value& value);
  Text run();
  int line() const noexcept { return line_; }

 private:
  // jinja_eval.cc
  Flow execute(const Statements& statements);
  Flow execute(const Statement& statement);
  Flow execute_condition(const Statement& statement);
  Flow execute_with(const Statement& statement);
  Flow execute_scope(const Statements& body);
  Flow execute_loop(const Statement& statement, const Value& iterable, int level);
  void execute_set_block(const Statement& statement);
  void execute_filter_block(const Statement& statement);
  std::shared_ptr<Loop> make_loop(const Statement& statement, const Value& iterable, int level);
  // What the body writes, in a scope of its own.
  Value written(const Statements& body);
  void assign(const Expression& target, const Value& value);
  void set(int symbol, const Value& value);
  const Value* find(int symbol) const;

  // jinja_macros.cc
  Value make_macro(const Statement& statement);
  void execute_call_block(const Statement& statement);
  Value call(const Value& callee, const Arguments& arguments);
  Value call_macro(const Macro& macro, const Arguments& arguments);
  void bind_parameters(const Macro& macro, const Arguments& arguments);

  // jinja_expressions.cc
  Value evaluate(const Expression& expression);
  Value evaluate_inside(const Expression& expression);
  Value evaluate_name(const Expression& expression);
  Value evaluate_subscript(const Expression& expression);
  Value evaluate_call(const Expression& expression);
  Value evaluate_compare(const Expression& expression);
  Value evaluate_concatenation(const Expression& expression);
  Value evaluate_dict(const Expression& expression);
  Value evaluate_filter(const Expression& expression, const Value* operand);
  std::vector<Value> evaluate_all(const std::vector<ExpressionPtr>& expressions);
  Arguments evaluate_arguments(const CallArguments& arguments);
  // The filters at the head of a block, applied to what its body wrote.
  Value filtered(const ExpressionPtr& filter, const Value& value);

  // A scope for as long as it lives.
  class ScopeGuard {
   public:
    ScopeGuard(Evaluator& evaluator, Scope* parent);
    explicit ScopeGuard(Evaluator& evaluator) : ScopeGuard(evaluator, evaluator.scope_) {}
    ~ScopeGuard();
    ScopeGuard(const ScopeGuard&) = delete;
    ScopeGuard& operator=(const ScopeGuard&) = delete;

   private:
    Evaluator& evaluator_;
    Scope* outer_;
    std::unique_ptr<Scope> scope_;
  };
  // Counts how deep the evaluator is in something for as long as it lives.
  class DepthGuard {
   public:
    DepthGuard(int& depth, int most, const char* what);
    ~DepthGuard() { --depth_; }
    DepthGuard(const DepthGuard&) = delete;
    DepthGuard& operator=(const DepthGuard&) = delete;

   private:
    int& depth_;
  };

  const Tree& tree_;
  Heap& heap_;
  std::vector<std::optional<Value>> globals_;  // the outermost scope, by symbol
  Scope* scope_ = nullptr;
  std::vector<std::unique_ptr<Scope>> kept_;  // captured ones
  std::vector<std::unique_ptr<const Macro>> macros_;
  Buffer output_;
  Buffer* out_ = &output_;
  int line_ = 1;
  int depth_ = 0, call_depth_ = 0;
};

}  // namespace millrace::jinja
