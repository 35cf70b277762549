// The syntax tree of a template. Immutable once parsed, so any number of threads may share it. No tree is deeper than
// deepest_nesting, so walking and destroying it needs little stack.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "loader/jinja_value.h"

namespace millrace::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

enum class ExpressionKind {
  constant,         // value
  name,             // symbol
  list,             // items
  tuple,            // items
  dict,             // items: key, value, key, value, ...
  attribute,        // items[0].name
  space_attribute,  // symbol.name, as a target of set only
  subscript,        // items[0][items[1]]
  slice,            // items: start, stop, step, null where left out; inside a subscript only
  call,             // items[0](arguments)
  filter,           // items[0] | name(arguments); items[0] is null at the head of a filter or set block
  test,             // items[0] is name(arguments)
  negative,
  positive,
  logical_not,  // items[0]
  logical_and,
  logical_or,  // items[0], items[1]
  add,
  subtract,
  multiply,
  divide,
  floor_divide,
  modulo,
  power,        // items[0], items[1]
  concatenate,  // items
  compare,      // items[0] and, for each of operators, the next of items
  conditional,  // items: condition, if true, if false or null
};

enum class Comparison { equal, not_equal, less, less_equal, greater, greater_equal, in, not_in };

struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr star, double_star;  // *args and **kwargs, or null
};

struct Expression {
  ExpressionKind kind;
  int line = 0;
  int depth = 1;
  int symbol = -1;
  Value value;
  std::string name;

  std::vector<ExpressionPtr> items;
  std::vector<Comparison> operators;
  CallArguments arguments;
};

struct Statement;
using Statements = std::vector<std::unique_ptr<Statement>>;

enum class StatementKind {
  data,          // text
  output,        // value
  condition,     // branches: condition and body; otherwise
  loop,          // for target in value if test: body, else otherwise
  set,           // target = value
  set_block,     // target = body through the filter in value, which may be null
  with,          // assignments, body
  macro,         // name, symbol, parameters, body
  call_block,    // value is the call; parameters and body are the caller
  filter_block,  // body through the filter in value
  scope,         // body in a scope of its own: generation and block
  break_loop,
  continue_loop,
};

struct Parameter {
  std::string name;
  int symbol = -1;
  ExpressionPtr otherwise;  // the default, or null
};

struct Statement {
  StatementKind kind;
  int line = 0;
  Text text;
  std::string name;
  int symbol = -1;
  bool recursive = false;
  unsigned uses = 0;  // macro and call_block: fixed symbols that the body names, a bit for each
  ExpressionPtr target, value, test;
  std::vector<std::pair<ExpressionPtr, Statements>> branches;
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> assignments;
  std::vector<Parameter> parameters;
  Statements body, otherwise;
};

// Names are numbered, so that looking one up compares numbers.
struct Tree {
  Statements body;
  std::vector<std::string> symbols;
};

// What the evaluator binds by itself has fixed numbers.
enum FixedSymbol { symbol_loop, symbol_caller, symbol_varargs, symbol_kwargs };

}  // namespace millrace::jinja
