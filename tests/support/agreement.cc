#include "tests/support/agreement.h"

#include <fmt/format.h>

#include <algorithm>
#include <regex>

namespace millrace::test {
namespace {

void add_once(std::vector<std::string>& list, const std::string& name) {
  if (std::find(list.begin(), list.end(), name) == list.end()) list.push_back(name);
}

}  // namespace

Agreement::Table& Agreement::table(const std::string& numerics, const std::string& folder) {
  Table& table = tables_[numerics + ", " + folder.substr(0, folder.find('-'))];
  add_once(table.folders, folder);
  return table;
}

void Agreement::add(const std::string& numerics, const std::string& folder, const std::string& step, double deviation) {
  static const std::regex layer_number("layers\\.[0-9]+");
  const std::string kind = std::regex_replace(step, layer_number, "layers.N");
  Table& into = table(numerics, folder);
  add_once(into.steps, kind);
  double& worst = into.worst[{kind, folder}];
  worst = std::max(worst, deviation);
  into.cells[{kind, folder}] = worst == 0 ? "0" : fmt::format("{:.1e}", worst);
}

void Agreement::add_equal(const std::string& numerics, const std::string& folder, const std::string& what, bool equal) {
  Table& into = table(numerics, folder);
  add_once(into.equalities, what);
  into.cells[{what, folder}] = equal ? "same" : "DIFFERENT";
}

std::string Agreement::text(const std::string& title, const Table& table) {
  std::string out = fmt::format("{:<36}", title);
  for (const std::string& folder : table.folders) {
    const std::string rest = folder.substr(folder.find('-') + 1);
    out += fmt::format(" {:>10}", rest);
  }
  out += '\n';
  for (const auto* rows : {&table.steps, &table.equalities})
    for (const std::string& row : *rows) {
      out += fmt::format("  {:<34}", row);
      for (const std::string& folder : table.folders) {
        const auto cell = table.cells.find({row, folder});
        out += fmt::format(" {:>10}", cell == table.cells.end() ? "-" : cell->second);
      }
      out += '\n';
    }
  return out;
}

std::string Agreement::tables() const {
  std::string out;
  for (const auto& [title, table] : tables_) out += text(title, table) + '\n';
  return out;
}

}  // namespace millrace::test
