// ceilings_bench: the matrix kernels as fractions of what the processor can do, measured in the same minutes.
// Ceilings and kernels alternate, medians are compared. Time is the processor time of the slowest thread, so that other
// work on the machine disturbs less.
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "ops/ceilings.h"
#include "ops/gemm.h"
#include "ops/linear_kernels.h"
#include "runtime/bfloat16.h"
#include "runtime/buffer.h"
#include "runtime/machine.h"
#include "runtime/parallel.h"
#include "runtime/tensor.h"

namespace millrace {
namespace bench {
namespace {

constexpr std::int64_t memory_bytes = std::int64_t{1} << 30, inputs = 4096, prefill_rows = 512, prefill_outputs = 4096;
constexpr int rounds = 7;

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Runs body(begin, end, worker) on [0, count) and returns the seconds of the slowest thread.
template <class Body>
double timed(const Parallel& parallel, std::int64_t count, std::int64_t grain, Body&& body) {
  std::vector<double> seconds(static_cast<std::size_t>(parallel.threads()));
  parallel.for_range(count, grain, [&](std::int64_t begin, std::int64_t end, int worker) {
    const double start = thread_seconds();
    body(begin, end, worker);
    seconds[static_cast<std::size_t>(worker)] = thread_seconds() - start;
  });
  return *std::max_element(seconds.begin(), seconds.end());
}

struct Contest {
  std::string name;
  double work;  // bytes or flops
  std::function<double()> seconds;
  std::vector<double> rates = {};

  double median() {
    std::sort(rates.begin(), rates.end());
    return rates[rates.size() / 2] * 1e-9;
  }
};

void compare(const std::string& title, const std::string& unit, std::vector<Contest> contests) {
  for (int round = 0; round < rounds; ++round)
    for (Contest& contest : contests) contest.rates.push_back(contest.work / contest.seconds());
  const double ceiling = contests[0].median();
  fmt::print("{}\n", title);
  for (Contest& contest : contests)
    fmt::print("  {:<28} {:>8.1f} {}  {:.2f}\n", contest.name, contest.median(), unit, contest.median() / ceiling);
}

// A weight over the first `outputs` rows of the memory, rows of x and room for everything else.
class Product {
 public:
  Product(const Buffer& memory, const std::uint8_t* small_codes, LinearFormat format, std::int64_t outputs,
          std::int64_t rows, int threads)
      : rows_(rows),
        scales_(static_cast<std::size_t>((outputs + 127) / 128 * (inputs / 128)), 0.01f),
        packed_(packed_bytes(rows, inputs), "inputs"),
        y_(static_cast<std::size_t>(rows * outputs) * sizeof(float), "outputs"),
        scratch_(static_cast<std::size_t>(threads) * linear_scratch_bytes(inputs), "scratch"),
        weight_{.data = memory.data(),
                .scales = scales_.data(),
                .format = format,
                .outputs = outputs,
                .inputs = inputs,
                .scale_columns = inputs / 128,
                .segment_rows = outputs,
                .skipped_rows = 0,
                .small_codes = small_codes} {
    const std::vector<float> x(static_cast<std::size_t>(rows * inputs), 0.37f);
    pack_bf16_kernel.best()(x.data(), rows, inputs, reinterpret_cast<std::uint16_t*>(packed_.data()));
  }

  double seconds(const Parallel& parallel, LinearFn* kernel) {
    return timed(parallel, weight_.outputs, 128, [&](std::int64_t begin, std::int64_t end, int worker) {
      kernel({.weight = weight_,
              .x = packed_.data(),
              .x_rows = nullptr,
              .rows = rows_,
              .y = reinterpret_cast<float*>(y_.data()),
              .y_stride = weight_.outputs,
              .begin = begin,
              .end = end,
              .scratch = scratch_.data() + static_cast<std::size_t>(worker) * linear_scratch_bytes(inputs)});
    });
  }

 private:
  std::int64_t rows_;
  std::vector<float> scales_;
  Buffer packed_, y_, scratch_;
  LinearWeight weight_;
};

// BlockScales::small_codes of the memory seen as rows of codes.
std::vector<std::uint8_t> small_codes_of(const Buffer& memory) {
  std::vector<std::uint8_t> marks(memory.bytes() / 128 / 8);
  for (std::size_t i = 0; i < memory.bytes(); ++i)
    if ((static_cast<unsigned>(memory.data()[i]) & 0x78u) == 0)
      marks[i / 1024] |= static_cast<std::uint8_t>(1u << i / 128 % 8);
  return marks;
}

// Bytes that are ordinary both as FP8 codes and as halves of bf16; one code in 8192 is an E4M3 subnormal.
void fill(Buffer& memory) {
  auto* bytes = reinterpret_cast<std::uint8_t*>(memory.data());
  std::uint64_t state = 88172645463325252ull;
  for (std::size_t i = 0; i < memory.bytes(); ++i) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    bytes[i] = static_cast<std::uint8_t>((state >> 56 & 0x9f) | 0x20);
    if ((state >> 20) % 8192 == 0) bytes[i] &= 0x87;
  }
}

void decode_speed(const Buffer& memory, const std::uint8_t* small_codes, int threads) {
  const Parallel parallel(threads);
  volatile std::int32_t sink = 0;
  Product fp8(memory, small_codes, LinearFormat::f8_e4m3, memory_bytes / inputs, 1, threads);
  Product bf16(memory, small_codes, LinearFormat::bf16, memory_bytes / inputs / 2, 1, threads);
  LinearFn* const pairs = linear_bf16_kernel.best();
  LinearFn* const widened = linear_bf16_widened_kernel.best();
  const double work = static_cast<double>(memory_bytes);
  const auto read = [&](ReadStreamFn* kernel) {
    return timed(parallel, memory_bytes, inputs,
                 [&](std::int64_t begin, std::int64_t end, int) { sink = kernel(memory.data() + begin, end - begin); });
  };
  compare(fmt::format("1 row, weights of 1 GiB from memory, {} thread(s)", threads), "GB/s",
          {{"prefetched read", work, [&] { return read(read_stream_kernel.best()); }},
           {"raw read", work, [&] { return read(raw_read_kernel.best()); }},
           {"fp8", work, [&] { return fp8.seconds(parallel, pairs); }},
           {"fp8 by fp32 fma", work, [&] { return fp8.seconds(parallel, widened); }},
           {"bf16", work, [&] { return bf16.seconds(parallel, pairs); }},
           {"bf16 by fp32 fma", work, [&] { return bf16.seconds(parallel, widened); }}});
  fmt::print("  few rows use {}\n", best_linear_bf16(1) == pairs ? "the former" : "fp32 fma");
}

// Each thread multiplies its share of the outputs by itself, timed like the kernels.
double openblas_seconds(const Buffer& memory, int threads) {
  const std::vector<float> x(static_cast<std::size_t>(prefill_rows * inputs), 0.37f);
  const std::int64_t share = prefill_outputs / threads;
  std::vector<Buffer> results, scratches;
  for (int i = 0; i < threads; ++i) {
    results.emplace_back(static_cast<std::size_t>(prefill_rows * share) * sizeof(float), "outputs");
    scratches.emplace_back(gemm_scratch_bytes(inputs, 1), "scratch");
  }
  const std::int64_t shape[] = {share, inputs};
  const Parallel parallel(threads), alone(1);
  return timed(parallel, threads, 1, [&](std::int64_t begin, std::int64_t, int worker) {
    const auto i = static_cast<std::size_t>(worker);
    gemm_f32(x.data(), prefill_rows, Tensor(Dtype::bf16, shape, memory.data() + begin * share * inputs * 2),
             reinterpret_cast<float*>(results[i].data()), alone, {scratches[i].data(), scratches[i].bytes()});
  });
}

void prefill_speed(const Buffer& memory, const std::uint8_t* small_codes, int threads) {
  const Parallel parallel(threads);
  volatile float sink = 0;
  Product fp8(memory, small_codes, LinearFormat::f8_e4m3, prefill_outputs, prefill_rows, threads);
  Product bf16(memory, small_codes, LinearFormat::bf16, prefill_outputs, prefill_rows, threads);
  const double work = 2.0 * prefill_rows * prefill_outputs * inputs;
  // A quarter of the work, which is long enough.
  const auto peak_seconds = [&](const MultiplyPeak& peak) {
    const auto steps = static_cast<std::int64_t>(work / 4 / peak.step_flops / threads);
    return 4 * timed(parallel, threads, 1, [&](std::int64_t, std::int64_t, int) { sink = peak.run(steps); });
  };
  const std::string title =
      fmt::format("{} rows x {} x {}, {} thread(s)", prefill_rows, prefill_outputs, inputs, threads);
  for (const MultiplyPeak& peak : multiply_peaks()) {
    const bool pairs = peak.name == "vdpbf16ps";
    LinearFn* kernel = linear_bf16_kernel.at(pairs ? active_isa() : std::min(active_isa(), Isa::avx512));
    std::vector<Contest> contests = {{fmt::format("peak of {}", peak.name), work, [&] { return peak_seconds(peak); }},
                                     {"fp8", work, [&, kernel] { return fp8.seconds(parallel, kernel); }},
                                     {"bf16", work, [&, kernel] { return bf16.seconds(parallel, kernel); }}};
    if (!pairs)
      contests.push_back(
          {fmt::format("OpenBLAS sgemm ({})", gemm_core()), work, [&] { return openblas_seconds(memory, threads); }});
    compare(title, "GFLOP/s", std::move(contests));
  }
}

int run() {
  fmt::print("{}, tier {}\n", processor_name(), name_of(active_isa()));
  Buffer memory(static_cast<std::size_t>(memory_bytes), "weights");
  fill(memory);
  const std::vector<std::uint8_t> small_codes = small_codes_of(memory);
  for (int threads : {1, 2}) {
    decode_speed(memory, small_codes.data(), threads);
    prefill_speed(memory, small_codes.data(), threads);
  }
  return 0;
}

}  // namespace
}  // namespace bench
}  // namespace millrace

int main() {
  return millrace::bench::run();
}
