// Agreement with the reference: what a run of the golden tests found, printed as one table per numerics and family.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace millrace::test {

class Agreement {
 public:
  // The deviation of one step, relative to its largest element. Of the layers of a kind the worst counts.
  void add(const std::string& numerics, const std::string& folder, const std::string& step, double deviation);
  // Whether something is the same, e.g. "greedy ids".
  void add_equal(const std::string& numerics, const std::string& folder, const std::string& what, bool equal);

  // Rows are kinds of steps, columns are folders ("<family>-<rest>").
  std::string tables() const;

 private:
  struct Table {
    std::vector<std::string> folders, steps, equalities;  // in the order of their arrival
    std::map<std::pair<std::string, std::string>, std::string> cells;
    std::map<std::pair<std::string, std::string>, double> worst;
  };
  Table& table(const std::string& numerics, const std::string& folder);
  static std::string text(const std::string& title, const Table& table);

  std::map<std::string, Table> tables_;  // by numerics and family
};

}  // namespace millrace::test
