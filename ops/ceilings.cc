#include "ops/ceilings.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "runtime/clock.h"

namespace millrace {

MILLRACE_DECLARE_TIERS(ReadStreamFn, read_stream)
MILLRACE_DECLARE_TIERS(ReadStreamFn, raw_read)
MILLRACE_DECLARE_TIERS(MultiplyPeakFn, peak_fma)
MILLRACE_DECLARE_TIERS(MultiplyPeakFn, peak_dpbf16)
MILLRACE_DECLARE_TIERS(MultiplyPeakFn, peak_tdpbf16)

namespace scalar {

std::int32_t read_stream(const std::byte* source, std::int64_t bytes) noexcept {
  std::uint64_t sum = 0;
  for (std::int64_t i = 0; i < bytes; i += 8) {
    std::uint64_t value;
    std::memcpy(&value, source + i, sizeof value);
    sum ^= value;
  }
  return static_cast<std::int32_t>(sum ^ sum >> 32);
}

float peak_fma(std::int64_t steps) noexcept {
  float acc[16];
  for (int i = 0; i < 16; ++i) acc[i] = static_cast<float>(i);
  for (std::int64_t step = 0; step < steps; ++step)
    for (float& chain : acc) chain = std::fma(chain, 1.0001f, 0.9999f);
  float sum = 0;
  for (float chain : acc) sum += chain;
  return sum;
}

}  // namespace scalar

const Kernel<ReadStreamFn> read_stream_kernel = {
    "read_stream",
    {scalar::read_stream, MILLRACE_AVX2(read_stream), MILLRACE_AVX512(read_stream), nullptr, nullptr},
};

const Kernel<ReadStreamFn> raw_read_kernel = {
    "raw_read",
    {scalar::read_stream, MILLRACE_AVX2(raw_read), MILLRACE_AVX512(raw_read), nullptr, nullptr},
};

namespace {

constexpr std::size_t page = std::size_t{2} << 20;
constexpr int chains = 16;

}  // namespace

std::vector<MultiplyPeak> multiply_peaks() {
  const Isa isa = active_isa();
  std::vector<MultiplyPeak> peaks;
  const auto add = [&](Isa least, std::string_view name, MultiplyPeakFn* run, int lanes) {
    if (isa >= least && run != nullptr) peaks.push_back({name, run, 2.0 * chains * lanes});
  };
  if (isa == Isa::scalar) add(Isa::scalar, "fp32 fma", scalar::peak_fma, 1);
  if (isa == Isa::avx2) add(Isa::avx2, "fp32 fma avx2", MILLRACE_AVX2(peak_fma), 16);
  add(Isa::avx512, "fp32 fma avx512", MILLRACE_AVX512(peak_fma), 16);
  add(Isa::avx512bf16, "vdpbf16ps", MILLRACE_AVX512BF16(peak_dpbf16), 32);
  add(Isa::amx, "tdpbf16ps", MILLRACE_AMX(peak_tdpbf16), 16 * 16 * 32);
  return peaks;
}

ReadCeiling::ReadCeiling(std::size_t bytes) : memory_((bytes + page - 1) / page * page, "a measured read") {
  std::memset(memory_.data(), 0x55, memory_.bytes());
}

double ReadCeiling::measure(const Parallel& parallel) const {
  ReadStreamFn* read = read_stream_kernel.best();
  std::atomic<std::int32_t> sink = 0;
  const Clock::time_point start = Clock::now();
  parallel.for_range(
      static_cast<std::int64_t>(memory_.bytes()), static_cast<std::int64_t>(page),
      [&](std::int64_t begin, std::int64_t end, int) { sink ^= read(memory_.data() + begin, end - begin); });
  return static_cast<double>(memory_.bytes()) / seconds_since(start);
}

double measure_peak(const MultiplyPeak& peak, const Parallel& parallel, double seconds) {
  std::atomic<float> sink = 0;
  const auto run = [&](std::int64_t steps) {
    const Clock::time_point start = Clock::now();
    parallel.for_range(parallel.threads(), 1, [&](std::int64_t, std::int64_t, int) { sink = peak.run(steps); });
    return static_cast<double>(steps) / seconds_since(start);  // of each thread
  };
  constexpr std::int64_t trial = 20000;
  const double rate = run(trial);
  return run(std::max<std::int64_t>(trial, std::llround(rate * seconds))) * peak.step_flops * parallel.threads();
}

}  // namespace millrace
