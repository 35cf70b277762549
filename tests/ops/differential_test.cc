// Random shapes and values: every operator that computes, on every tier, against its oracle in double and against the
// bits of the scalar tier. The tests of each operator know its edges; this one looks where nobody thought to.
#include <gtest/gtest.h>

#include <cmath>

#include "ops/add.h"
#include "ops/concat.h"
#include "ops/embedding.h"
#include "ops/expert_mlp.h"
#include "ops/gather_rows.h"
#include "ops/gqa_attention.h"
#include "ops/linear.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/router.h"
#include "ops/swiglu.h"
#include "runtime/bfloat16.h"
#include "tests/oracle/add.h"
#include "tests/oracle/concat.h"
#include "tests/oracle/embedding.h"
#include "tests/oracle/expert_mlp.h"
#include "tests/oracle/gather_rows.h"
#include "tests/oracle/gqa_attention.h"
#include "tests/oracle/linear.h"
#include "tests/oracle/linear_w8a8.h"
#include "tests/oracle/rms_norm.h"
#include "tests/oracle/rope.h"
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

TEST(Differential, Rope) {
  cases(107, 1500, [](test::Random& random) {
    const std::int64_t rows = any_size(random, 5), heads = any_size(random, 9), half = any_size(random, 40);
    const std::int64_t dim = 2 * half + random.below(70);
    RopeParameters parameters{.rotary_dim = 2 * half, .theta = 1e4};
    parameters.attention_factor = 0.5 + 0.25 * static_cast<double>(random.below(4));
    const RopeTable table(parameters);
    const Floats x = random.normals(rows * heads * dim);
    Batch batch;
    std::vector<test::Measured> want;
    for (std::int64_t row = 0; row < rows; ++row) {
      batch.positions.push_back(static_cast<std::int32_t>(any_size(random, 200000) - 1));
      std::vector<double> angles;
      for (float frequency : table.inverse_frequencies)
        angles.push_back(double{static_cast<float>(batch.positions.back()) * frequency});
      const auto of_row = oracle::rope(
          std::span(x).subspan(static_cast<std::size_t>(row * heads * dim), static_cast<std::size_t>(heads * dim)),
          static_cast<std::size_t>(dim), angles, double{table.attention_factor});
      want.insert(want.end(), of_row.begin(), of_row.end());
    }
    check(want, 4.01 * f32_unit, [&] {
      Floats y(x.size());
      test::run_op(Rope(table, heads, dim, Rounding::none, Rounding::none), rows, {x.data()}, {y.data()}, 1, batch);
      return y;
    });
  });
}

TEST(Differential, Embedding) {
  cases(108, 1000, [](test::Random& random) {
    const std::int64_t vocab = any_size(random, 40), hidden = any_size(random, 200), rows = any_size(random, 20);
    const auto table = test::to_bf16(random.normals(vocab * hidden));
    std::vector<double> values;
    for (Bfloat16 value : table) values.push_back(double{bf16_to_f32(value)});
    Batch batch;
    for (std::int64_t row = 0; row < rows; ++row)
      batch.tokens.push_back(static_cast<std::int32_t>(random.below(vocab)));
    check(oracle::embedding(values, static_cast<std::size_t>(hidden), batch.tokens), 0, [&] {
      Floats y(static_cast<std::size_t>(rows * hidden));
      const Embedding op(test::matrix(Dtype::bf16, table.data(), vocab, hidden), Rounding::none);
      test::run_op(op, rows, {}, {y.data()}, 1, batch);
      return y;
    });
  });
}

TEST(Differential, Copies) {
  cases(109, 1000, [](test::Random& random) {
    const std::int64_t rows = any_size(random, 30), first = any_size(random, 200), second = any_size(random, 200);
    const Floats a = random.normals(rows * first), b = random.normals(rows * second);
    Batch batch;
    batch.tokens.resize(static_cast<std::size_t>(rows));
    for (std::int64_t row = 0; row < rows; ++row)
      if (random.below(2) == 0) batch.logits_rows.push_back(static_cast<std::int32_t>(row));
    for (Isa isa : test::present_tiers()) {
      const test::WithIsa with(isa);
      Floats both(a.size() + b.size()), gathered(batch.logits_rows.size() * static_cast<std::size_t>(first));
      test::run_op(Concat(first, second), rows, {a.data(), b.data()}, {both.data()});
      test::expect_same_bits(both, oracle::concat(a, b, static_cast<std::size_t>(rows)), "concat");
      test::run_op(GatherRows(first), std::ssize(batch.logits_rows), {a.data()}, {gathered.data()}, 1, batch);
      test::expect_same_bits(gathered, oracle::gather_rows(a, batch.logits_rows, static_cast<std::size_t>(first)),
                             "gather_rows");
    }
  });
}

TEST(Differential, LinearW8a8) {
  cases(110, 800, [](test::Random& random) {
    const std::int64_t inputs = any_size(random, 400), outputs = any_size(random, 20), rows = any_size(random, 10);
    const Floats x = random.normals(rows * inputs, std::exp(static_cast<float>(random.below(20)) - 10));
    test::Fp8Weight weight(random, outputs, inputs);
    Floats codes;
    for (std::uint8_t code : weight.codes()) codes.push_back(e4m3_to_f32(code));
    LinearOptions options;
    options.compute = random.below(2) == 0 ? Compute::w8a8 : Compute::w8a8_ue8m0;
    const auto want = oracle::linear_w8a8(
        x, codes, inputs, options.compute == Compute::w8a8_ue8m0,
        [&](std::int64_t output, std::size_t group) { return weight.tensor().scales().row(output)[group]; });
    const Linear op(weight.tensor(), options);
    check(want, (static_cast<double>(inputs) / 128 + 16) * f32_unit, [&] {
      Floats y(static_cast<std::size_t>(rows * outputs));
      test::run_op(op, rows, {x.data()}, {y.data()});
      return y;
    });
  });
}

// FP8 experts in memory.
class Experts final : public ExpertSource {
 public:
  struct Matrices {
    test::Fp8Weight gate, up, down;
  };
  std::uint64_t expert_bytes(int) const override { return 1; }
  ExpertLease acquire(int layer, int expert) override {
    const Matrices& m = experts[static_cast<std::size_t>(expert)];
    return ExpertLease(*this, layer, expert, {m.gate.tensor(), m.up.tensor(), m.down.tensor()});
  }
  std::vector<Matrices> experts;
};

// Rows go through registers where an expert has few of them, through panels where it has many.
TEST(Differential, ExpertMlp) {
  cases(111, 500, [](test::Random& random) {
    ExpertMlpOptions options{.hidden = any_size(random, 150), .width = any_size(random, 150)};
    options.experts = any_size(random, 6);
    options.top_k = any_size(random, options.experts);
    options.compute = random.below(2) == 0 ? Compute::f32 : Compute::bf16;
    const std::int64_t rows = any_size(random, 40), hidden = options.hidden, width = options.width;
    Experts source;
    std::vector<oracle::ExpertValues> values;
    for (std::int64_t i = 0; i < options.experts; ++i) {
      source.experts.push_back({{random, width, hidden}, {random, width, hidden}, {random, hidden, width}});
      const Experts::Matrices& m = source.experts.back();
      values.push_back({m.gate.values(), m.up.values(), m.down.values()});
      if (options.compute == Compute::bf16)
        for (Floats* matrix : {&values.back().gate, &values.back().up, &values.back().down})
          *matrix = test::rounded_to_bf16(*matrix);
    }
    const Floats x = random.normals(rows * hidden), weights = random.normals(rows * options.top_k);
    const Floats multiplied = options.compute == Compute::bf16 ? test::rounded_to_bf16(x) : x;
    std::vector<std::int32_t> ids;
    std::vector<test::Measured> want;
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t id = 0, left = options.top_k; id < options.experts; ++id)  // every choice equally likely
        if (random.below(options.experts - id) < left) ids.push_back(static_cast<std::int32_t>(id)), --left;
      const auto k = static_cast<std::size_t>(options.top_k), at = static_cast<std::size_t>(row) * k;
      const auto of_row = oracle::expert_mlp(
          std::span(multiplied).subspan(static_cast<std::size_t>(row * hidden), static_cast<std::size_t>(hidden)),
          values, std::span(ids).subspan(at, k), std::span(weights).subspan(at, k));
      want.insert(want.end(), of_row.begin(), of_row.end());
    }
    // As in expert_mlp_test.cc: roundings of terms and of the activation, sums of up to 150 terms and 6 experts.
    const double tolerance = 80 * f32_unit + (options.compute == Compute::bf16 ? 1.2 * test::bf16_unit : 0);
    check(want, tolerance, [&] {
      Floats y(x.size());
      test::run_op(ExpertMlp(0, source, options), rows, {x.data(), ids.data(), weights.data()}, {y.data()});
      return y;
    });
  });
}

}  // namespace
}  // namespace millrace
