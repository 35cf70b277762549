// Random shapes and values: every operator that computes, on every tier, against its oracle in double and against the
// bits of the scalar tier. The tests of each operator know its edges; this one looks where nobody thought to.
#include <gtest/gtest.h>

#include <cmath>

#include "ops/add.h"
#include "ops/gqa_attention.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"
#include "ops/router.h"
#include "ops/swiglu.h"
#include "runtime/bfloat16.h"
#include "tests/oracle/add.h"
#include "tests/oracle/gqa_attention.h"
#include "tests/oracle/linear.h"
#include "tests/oracle/rms_norm.h"
#include "tests/oracle/router.h"
#include "tests/oracle/swiglu.h"
#include "tests/support/random.h"
#include "tests/support/run_op.h"
#include "tests/support/tiers.h"
#include "tests/support/weights.h"

namespace millrace {
namespace {

using Floats = std::vector<float>;
using test::f32_unit;

// 1 to `most`, small numbers as likely as large ones.
std::int64_t any_size(test::Random& random, std::int64_t most) {
  return 1 + random.below(1 + random.below(most));
}

// `run()` on each tier, held against the oracle and against the scalar tier.
template <class Run>
void check(const std::vector<test::Measured>& want, double tolerance, Run&& run) {
  Floats scalar;
  for (Isa isa : test::present_tiers()) {
    const test::WithIsa with(isa);
    const Floats got = run();
    if (isa == Isa::scalar) scalar = got;
    test::expect_close(got, want, tolerance, name_of(isa).data());
    test::expect_same_bits(got, scalar, name_of(isa).data());
  }
}

// Calls body(random) for each case, with the number of the case in the report of a failure.
template <class Body>
void cases(std::uint64_t seed, int count, Body&& body) {
  test::Random random(seed);
  for (int i = 0; i < count && !testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE(i);
    body(random);
  }
}

TEST(Differential, Add) {
  cases(101, 1500, [](test::Random& random) {
    const std::int64_t rows = any_size(random, 5), width = any_size(random, 300);
    const Floats a = random.normals(rows * width), b = random.normals(rows * width);
    check(oracle::add(a, b), f32_unit, [&] {
      Floats y(a.size());
      test::run_op(Add(width, Rounding::none), rows, {a.data(), b.data()}, {y.data()});
      return y;
    });
  });
}

TEST(Differential, RmsNorm) {
  cases(102, 1500, [](test::Random& random) {
    const std::int64_t rows = any_size(random, 5), hidden = any_size(random, 400);
    const Floats x = random.normals(rows * hidden), weight = random.normals(hidden);
    const double tolerance = (0.5 * (static_cast<double>(hidden) / 16 + 5) + 4) * f32_unit;
    check(oracle::rms_norm(x, weight, 1e-5), tolerance, [&] {
      Floats y(x.size());
      test::run_op(RmsNorm(weight, 1e-5f, Rounding::none), rows, {x.data()}, {y.data()});
      return y;
    });
  });
}

TEST(Differential, SwiGlu) {
  cases(103, 1500, [](test::Random& random) {
    const std::int64_t rows = any_size(random, 5), width = any_size(random, 300);
    const Floats gate = random.normals(rows * width, 5), up = random.normals(rows * width);
    check(oracle::swiglu(gate, up), 7.01 * f32_unit, [&] {
      Floats y(gate.size());
      test::run_op(SwiGlu(width, Rounding::none), rows, {gate.data(), up.data()}, {y.data()});
      return y;
    });
  });
}

TEST(Differential, Router) {
  cases(104, 1500, [](test::Random& random) {
    RouterOptions options{.experts = any_size(random, 300), .top_k = 1};
    options.top_k = any_size(random, std::min<std::int64_t>(options.experts, 16));
    options.normalize = random.below(2) == 0;
    const Floats logits = random.normals(options.experts, 2);
    const Floats bias = random.below(2) == 0 ? Floats{} : random.normals(options.experts, 0.2f);
    const oracle::Routed want = oracle::router(options, bias, logits);
    if (want.margin < 1e-6) return;  // closer than fp32 tells apart
    check(want.weights, (5 + 5 + static_cast<double>(options.top_k) + 3.01) * f32_unit, [&] {
      std::vector<std::int32_t> ids(want.ids.size());
      Floats weights(want.ids.size());
      test::run_op(Router(options, bias), 1, {logits.data()}, {ids.data(), weights.data()});
      EXPECT_EQ(ids, want.ids);
      return weights;
    });
  });
}

TEST(Differential, Linear) {
  cases(105, 2500, [](test::Random& random) {
    const std::int64_t inputs = any_size(random, 700), outputs = any_size(random, 24), rows = any_size(random, 20);
    const Floats x = random.normals(rows * inputs), w = random.normals(outputs * inputs, 0.02f);
    const auto w16 = test::to_bf16(w);
    test::Fp8Weight w8(random, outputs, inputs);
    if (random.below(2) == 0) w8.mark_small_codes();
    const bool fp8 = random.below(2) == 0, f32 = random.below(3) == 0;
    LinearOptions options;
    options.compute = f32 ? Compute::f32 : Compute::bf16;
    const Linear op(fp8 ? w8.tensor() : test::matrix(Dtype::bf16, w16.data(), outputs, inputs), options);
    const Floats values = f32 && fp8 ? w8.values() : test::rounded_to_bf16(fp8 ? w8.values() : w);
    const auto want = oracle::linear(f32 ? x : test::rounded_to_bf16(x), values, {}, inputs);
    check(want, (static_cast<double>(inputs) / 64 + 10) * f32_unit, [&] {
      Floats y(static_cast<std::size_t>(rows * outputs));
      test::run_op(op, rows, {x.data()}, {y.data()});
      return y;
    });
  });
}

TEST(Differential, GqaAttention) {
  cases(106, 1500, [](test::Random& random) {
    const std::int64_t kv_heads = any_size(random, 3), rows = any_size(random, 40);
    const oracle::GqaShape shape{kv_heads * any_size(random, 17), kv_heads, any_size(random, 70), any_size(random, 70),
                                 random.below(2) == 0 ? 0 : any_size(random, 45)};
    Floats q = random.normals(rows * shape.heads * shape.qk_dim, 0.7f);
    const Floats k = test::rounded_to_bf16(random.normals(rows * kv_heads * shape.qk_dim, 0.7f));
    const Floats v = test::rounded_to_bf16(random.normals(rows * kv_heads * shape.v_dim));
    const Floats sinks = random.below(2) == 0 ? Floats{} : random.normals(shape.heads);
    double s = 6;
    const auto want = oracle::gqa_attention(shape, q, k, v, sinks, &s);
    // As in gqa_attention_test.cc: the scores, the exponentials and the sums of one block and a sink.
    const double n = static_cast<double>(rows), score = static_cast<double>(shape.qk_dim + 4) * s + 3;
    const double tolerance = std::expm1((2 * score + 4 * s + 12 + n / 16 + 6 + n + 2) * f32_unit);
    const LayerKvShape kv{kv_heads, shape.qk_dim, shape.v_dim, shape.window};
    const Dtype dtype = random.below(2) == 0 ? Dtype::bf16 : Dtype::f32;
    const GqaAttention op({.heads = shape.heads, .kv = kv, .cache = dtype, .sinks = sinks, .max_context = rows});
    const std::int64_t first = random.below(rows);  // rows before a second pass
    check(want, tolerance, [&] {
      KvCache cache(std::vector{kv}, dtype, rows);
      Floats y(static_cast<std::size_t>(rows * shape.heads * shape.v_dim));
      for (auto [begin, end] : {std::pair(std::int64_t{0}, first), {first, rows}}) {
        if (begin == end) continue;
        Batch batch;
        batch.runs = {{&cache, 0, end - begin}};
        cache.reserve(end);
        test::run_op(op, end - begin,
                     {q.data() + begin * shape.heads * shape.qk_dim, k.data() + begin * kv_heads * shape.qk_dim,
                      v.data() + begin * kv_heads * shape.v_dim},
                     {y.data() + begin * shape.heads * shape.v_dim}, 1, batch);
        cache.advance(end - begin);
      }
      return y;
    });
  });
}

}  // namespace
}  // namespace millrace
