#include "apps/common/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "apps/common/output.h"
#include "apps/common/progress.h"
#include "loader/atomic_file.h"

namespace millrace {
namespace {

// About 100 MiB of memory and 300 MiB of file.
constexpr std::size_t most_events = std::size_t{1} << 20;

class TraceWriter {
 public:
  TraceWriter(const Trace& trace, const std::filesystem::path& path)
      : events_(trace.events()), left_out_(trace.steps_left_out()), file_(path) {}

  void write() {
    text_ = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
    for (std::size_t begin = 0; begin < events_.size();) {
      const std::size_t end = end_of_pass(begin);
      const Trace::Event &first = events_[begin], &last = events_[end - 1];
      add(fmt::format("pass of {} rows", first.rows), "pass", first.begin, last.end,
          fmt::format("\"rows\":{}", first.rows));
      for (; begin < end; ++begin) add(events_[begin]);
    }
    text_ +=
        fmt::format("\n],\"otherData\":{{\"version\":\"{}\",\"steps_left_out\":{}}}}}\n", MILLRACE_VERSION, left_out_);
    flush();
    file_.finish();
  }

 private:
  std::size_t end_of_pass(std::size_t begin) const {
    const Trace::Event& first = events_[begin];
    const Step* start = &first.program->steps().front();
    std::size_t end = begin + 1;
    while (end < events_.size() && events_[end].program == first.program && events_[end].step != start) ++end;
    return end;
  }

  void add(const Trace::Event& event) {
    const Cost& cost = event.cost;
    add(event.step->name, event.step->op->kind(), event.begin, event.end,
        fmt::format("\"rows\":{},\"weight_bytes\":{:.0f},\"cache_bytes\":{:.0f},\"activation_bytes\":{:.0f},"
                    "\"flops\":{:.0f}",
                    event.rows, cost.weight_bytes, cost.cache_bytes, cost.activation_bytes, cost.flops));
  }

  // Times are in microseconds.
  void add(std::string_view name, std::string_view kind, Trace::Clock::time_point begin, Trace::Clock::time_point end,
           const std::string& arguments) {
    const auto micro = [](Trace::Clock::duration time) {
      return std::chrono::duration<double, std::micro>(time).count();
    };
    fmt::format_to(std::back_inserter(text_),
                   "{}{{\"name\":{},\"cat\":{},\"ph\":\"X\",\"pid\":1,\"tid\":1,\"ts\":{:.3f},\"dur\":{:.3f},"
                   "\"args\":{{{}}}}}",
                   first_ ? "" : ",\n", nlohmann::json(name).dump(), nlohmann::json(kind).dump(),
                   micro(begin - events_[0].begin), micro(end - begin), arguments);
    first_ = false;
    if (text_.size() > 1 << 20) flush();
  }

  void flush() {
    file_.write(std::as_bytes(std::span(text_)));
    text_.clear();
  }

  std::span<const Trace::Event> events_;
  std::int64_t left_out_;
  AtomicFile file_;
  std::string text_;
  bool first_ = true;
};

}  // namespace

void write_chrome_trace(const Trace& trace, const std::filesystem::path& path) {
  TraceWriter(trace, path).write();
}

std::string kinds_table(const Trace& trace) {
  std::vector<Trace::KindTotal> kinds(trace.kinds().begin(), trace.kinds().end());
  std::sort(kinds.begin(), kinds.end(), [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
  kinds.push_back(trace.total());
  kinds.back().kind = "all steps";
  const double all = std::max(kinds.back().seconds, 1e-12);
  std::string text = fmt::format("{:<14}{:>9}{:>12}{:>8}{:>12}{:>12}{:>9}{:>10}\n", "kind", "steps", "ms", "share",
                                 "weights", "KV", "GB/s", "GFLOP/s");
  for (const Trace::KindTotal& kind : kinds) {
    const double seconds = std::max(kind.seconds, 1e-12);
    text += fmt::format("{:<14}{:>9}{:>12.3f}{:>6.1f} %{:>12}{:>12}{:>9.2f}{:>10.2f}\n", kind.kind, kind.steps,
                        1e3 * kind.seconds, 100 * kind.seconds / all, bytes_text(kind.cost.weight_bytes),
                        bytes_text(kind.cost.cache_bytes), 1e-9 * kind.cost.bytes() / seconds,
                        1e-9 * kind.cost.flops / seconds);
  }
  return text;
}

Profile::Profile(std::filesystem::path path) : path_(std::move(path)), trace_(path_.empty() ? 0 : most_events) {
  if (!path_.empty()) check_output_file("--profile", path_);
}

void Profile::finish() const {
  if (path_.empty()) return;
  write_chrome_trace(trace_, path_);
  print_note(kinds_table(trace_));
}

}  // namespace millrace
