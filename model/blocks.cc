#include "model/blocks.h"

#include <fmt/format.h>

#include <algorithm>

#include "loader/weight_store.h"
#include "model/qkv_weights.h"
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
#include "ops/sketched_linear.h"
#include "ops/swiglu.h"
#include "runtime/bfloat16.h"
#include "runtime/error.h"

namespace millrace {
namespace {

// `hf` rounds the result of every operator; other numerics keep fp32 between operators.
Rounding each_step(const BuildContext& build) {
  return rounds_as_hf(build.numerics) ? Rounding::bf16 : Rounding::none;
}

// Keys and values are cached in bf16 unless everything is fp32, so the rows of the pass itself must be rounded too:
// a result may not depend on what is already cached.
Rounding cached(const BuildContext& build) {
  return keeps_f32(build.numerics) ? Rounding::none : Rounding::bf16;
}

// Tiles sum in an order of their own, which `fast` alone leaves open.
Compute operands(const BuildContext& build) {
  if (keeps_f32(build.numerics)) return Compute::f32;
  return build.numerics == Numerics::fast ? Compute::bf16_tiles : Compute::bf16;
}

// The same for FP8 weights, whose inputs may be quantized.
Compute fp8_operands(const BuildContext& build) {
  if (!quantizes_inputs(build.numerics)) return operands(build);
  return has_power_of_two_scales(build.numerics) ? Compute::w8a8_ue8m0 : Compute::w8a8;
}

// Smaller heads are read as fast as their sketches are. Of the demo model's likeliest tokens 99 in 100 are among those
// of the largest estimates, if they are this share of the vocabulary.
constexpr std::int64_t least_sketched_vocab = 8192, sketched_per_exact = 64;

// A product to come: the name and the row shape of its value.
struct Product {
  std::string name;
  LinearPart part;
  std::vector<std::int64_t> row_shape;
};

// A product by the tensor `name`.weight (out, in), its value called `value`.
Product product_of(BuildContext& build, std::string value, const std::string& name, std::int64_t out, std::int64_t in) {
  return {std::move(value), {build.weights.linear(name + ".weight", out, in)}, {out}};
}

// One step that multiplies x by all of these weights. Returns the first value, the others follow.
ValueId multiply(BuildContext& build, std::string step, std::vector<Product> products, ValueId x,
                 RowSpace row_space = RowSpace::batch) {
  std::vector<LinearPart> parts;
  std::vector<Value> values;
  for (Product& product : products) {
    LinearOptions& options = product.part.options;
    options.compute = product.part.weight.dtype() == Dtype::f8_e4m3 ? fp8_operands(build) : operands(build);
    options.product = each_step(build);
    if (options.output == Rounding::none) options.output = each_step(build);
    parts.push_back(std::move(product.part));
    values.push_back(
        {.name = std::move(product.name), .row_shape = std::move(product.row_shape), .row_space = row_space});
  }
  return build.builder.add_step(std::move(step), std::make_unique<Linear>(std::move(parts)), {x}, std::move(values));
}

// The same for several weights that a file may hold in formats that take x differently; then each has a step.
std::vector<ValueId> multiply_all(BuildContext& build, const std::string& step, std::vector<Product> products,
                                  ValueId x) {
  std::vector<ValueId> values;
  const bool fp8 = products[0].part.weight.dtype() == Dtype::f8_e4m3;
  const bool alike = std::all_of(products.begin(), products.end(), [fp8](const Product& product) {
    return (product.part.weight.dtype() == Dtype::f8_e4m3) == fp8;
  });
  if (alike) {
    const auto count = static_cast<ValueId>(products.size());
    const ValueId first = multiply(build, step, std::move(products), x);
    for (ValueId i = 0; i < count; ++i) values.push_back(first + i);
    return values;
  }
  for (Product& product : products) {
    std::string name = product.name;
    std::vector<Product> alone;
    alone.push_back(std::move(product));
    values.push_back(multiply(build, std::move(name), std::move(alone), x));
  }
  return values;
}

// A step `step` that multiplies x by the tensor `name`.weight.
ValueId linear(BuildContext& build, std::string step, const std::string& name, std::int64_t out, std::int64_t in,
               ValueId x, RowSpace row_space = RowSpace::batch) {
  std::vector<Product> products;
  products.push_back(product_of(build, step, name, out, in));
  return multiply(build, std::move(step), std::move(products), x, row_space);
}

// One of the projections of `name`, e.g. "layers.3.self_attn", to (rows, heads, dim).
Product heads_projection(BuildContext& build, std::string value, const std::string& name, const LayerSpec& layer,
                         Projection which, LinearOptions options = {}) {
  ProjectionWeights weights = load_projection(build.weights, build.config, name, layer, which);
  options.bias = std::move(weights.bias);
  const std::int64_t heads = which == Projection::q ? layer.heads : layer.kv_heads;
  const std::int64_t dim = which == Projection::v ? layer.v_dim : layer.qk_dim;
  return {std::move(value), {weights.weight, std::move(options)}, {heads, dim}};
}

RopeTable rope_table(const RopeSpec& spec) {
  RopeScaling scaling = RopeScaling::none;
  if (spec.type == RopeType::linear) scaling = RopeScaling::linear;
  if (spec.type == RopeType::yarn) scaling = RopeScaling::yarn;
  return RopeTable({.scaling = scaling,
                    .rotary_dim = spec.rotary_dim,
                    .theta = spec.theta,
                    .factor = spec.factor,
                    .original_positions = spec.original_positions,
                    .beta_fast = spec.beta_fast,
                    .beta_slow = spec.beta_slow,
                    .attention_factor = spec.attention_factor});
}

// RMSNorm over all elements of a row, by the weights `norm_name`.weight.
ValueId norm(BuildContext& build, std::string step, const std::string& norm_name, std::vector<std::int64_t> row_shape,
             ValueId x) {
  std::int64_t count = 1;
  for (std::int64_t size : row_shape) count *= size;
  auto weight = build.weights.vector(norm_name + ".weight", count);
  return build.builder.add(std::move(step),
                           std::make_unique<RmsNorm>(std::move(weight), build.config.epsilon, each_step(build)), {x},
                           std::move(row_shape));
}

ValueId norm(BuildContext& build, const std::string& name, std::vector<std::int64_t> row_shape, ValueId x) {
  return norm(build, name, name, std::move(row_shape), x);
}

// What a configuration denies the files must not hold: one of the two is wrong.
void require_absent(const BuildContext& build, const std::string& tensor, std::string_view part) {
  const Checkpoint& checkpoint = build.weights.checkpoint();
  require(!checkpoint.find(tensor), Errc::bad_config,
          "{}/config.json says that this layer has no {}, but the checkpoint holds {}", checkpoint.path(), part,
          checkpoint.spelled(tensor));
}

std::vector<float> sinks(BuildContext& build, const std::string& name, const LayerSpec& layer) {
  const std::string tensor = name + ".attention_sink_bias";
  if (layer.sinks) return build.weights.vector(tensor, layer.heads);
  require_absent(build, tensor, "sinks");
  return {};
}

// Queries or keys, ready for attention, from their projection y: norm, rotary embedding.
ValueId rotated_heads(BuildContext& build, const std::string& name, Projection which, const LayerSpec& layer,
                      Rounding output, ValueId y) {
  const std::string stem = fmt::format("{}.{}", name, which == Projection::q ? 'q' : 'k');
  const std::int64_t heads = which == Projection::q ? layer.heads : layer.kv_heads;
  if (layer.qk_norm)
    y = norm(build, stem + "_norm", {heads, layer.qk_dim}, y);
  else
    require_absent(build, stem + "_norm.weight", "QK norm");
  return build.builder.add(
      stem, std::make_unique<Rope>(rope_table(layer.rope), heads, layer.qk_dim, each_step(build), output), {y},
      {heads, layer.qk_dim});
}

// The correction bias of a router. It must be finite; only families whose router is rounded as a whole round it.
std::vector<float> correction_bias(BuildContext& build, const std::string& name) {
  auto bias = build.weights.vector(name, build.config.router.experts, /*pinned=*/true);
  if (build.config.hf_rounding.router && each_step(build) == Rounding::bf16)
    for (float& value : bias) value = round_to_bf16(value);
  return bias;
}

// What layer `index`, if it has experts, would choose if the residual stream x came to its MLP as it is; else -1. The
// stream changes little from layer to layer.
ValueId guess_block(BuildContext& build, const std::string& name, int index, ValueId x) {
  const std::vector<LayerSpec>& layers = build.config.layers;
  if (!build.hints || index >= std::ssize(layers) || !layers[static_cast<std::size_t>(index)].moe) return -1;
  const std::string layer = fmt::format("layers.{}", index);
  const ValueId state = norm(build, name + ".norm", layer + ".post_attention_layernorm", {build.config.hidden}, x);
  return router_block(build, name, layer + ".mlp", index, state);
}

}  // namespace

ValueId embedding_block(BuildContext& build, const std::string& name) {
  const Tensor table = build.weights.embedding("embed_tokens.weight", build.config.vocab, build.config.hidden);
  return build.builder.add(name, std::make_unique<Embedding>(table, each_step(build)), {}, {build.config.hidden});
}

ValueId norm_block(BuildContext& build, const std::string& name, ValueId x) {
  return norm(build, name, {build.config.hidden}, x);
}

ValueId attention_block(BuildContext& build, const std::string& name, const LayerSpec& layer, ValueId x) {
  const std::int64_t kv_heads = layer.kv_heads;
  std::vector<Product> products;
  products.push_back(heads_projection(build, name + ".q_proj", name, layer, Projection::q));
  products.push_back(heads_projection(build, name + ".k_proj", name, layer, Projection::k));
  products.push_back(heads_projection(build, name + ".v", name, layer, Projection::v,
                                      {.scale = build.config.value_scale, .output = cached(build)}));
  const std::vector<ValueId> qkv = multiply_all(build, name + ".qkv_proj", std::move(products), x);
  const ValueId q = rotated_heads(build, name, Projection::q, layer, each_step(build), qkv[0]);
  const ValueId k = rotated_heads(build, name, Projection::k, layer, cached(build), qkv[1]);
  const ValueId v = qkv[2];

  const LayerKvShape shape = {
      .kv_heads = kv_heads, .qk_dim = layer.qk_dim, .v_dim = layer.v_dim, .window = layer.window};
  GqaAttentionOptions options = {.kv_layer = build.builder.add_kv_layer(shape),
                                 .heads = layer.heads,
                                 .kv = shape,
                                 .cache = cached(build) == Rounding::bf16 ? Dtype::bf16 : Dtype::f32,
                                 .sinks = sinks(build, name, layer),
                                 .rounding = each_step(build),
                                 .shift = build.config.hf_rounding.shifted_scores ? each_step(build) : Rounding::none,
                                 .max_context = build.context};
  const ValueId attn = build.builder.add(name + ".attn", std::make_unique<GqaAttention>(std::move(options)), {q, k, v},
                                         {layer.heads * layer.v_dim});
  return linear(build, name + ".o_proj", name + ".o_proj", build.config.hidden, layer.heads * layer.v_dim, attn);
}

ValueId dense_block(BuildContext& build, const std::string& name, const LayerSpec& layer, ValueId x) {
  const std::int64_t hidden = build.config.hidden;
  std::vector<Product> products;
  for (const char* part : {".gate_proj", ".up_proj"})
    products.push_back(product_of(build, name + part, name + part, layer.width, hidden));
  const ValueId act =
      build.builder.add(name + ".act", std::make_unique<SwiGlu>(layer.width, each_step(build)),
                        multiply_all(build, name + ".gate_up_proj", std::move(products), x), {layer.width});
  return linear(build, name, name + ".down_proj", hidden, layer.width, act);
}

ValueId router_block(BuildContext& build, const std::string& name, const std::string& router_name, int layer_index,
                     ValueId x) {
  const RouterSpec& router = build.config.router;
  // The router multiplies in fp32 whatever the numerics (spec: Wg and h upcast to fp32), unless told otherwise.
  const bool in_bf16 = router.dtype == Dtype::bf16;
  const Tensor gate =
      build.weights.router(router_name + ".gate.weight", router.experts, build.config.hidden, router.dtype);
  const LinearOptions options_of_gate = {.compute = in_bf16 ? Compute::bf16 : Compute::f32,
                                         .output = in_bf16                           ? Rounding::bf16
                                                   : build.config.hf_rounding.router ? each_step(build)
                                                                                     : Rounding::none};
  const ValueId logits = build.builder.add(name + ".router_logits", std::make_unique<Linear>(gate, options_of_gate),
                                           {x}, {router.experts});
  auto bias = correction_bias(build, router_name + ".gate.e_score_correction_bias");
  const RouterOptions options = {.layer = layer_index,
                                 .experts = router.experts,
                                 .top_k = router.top_k,
                                 .groups = router.groups,
                                 .top_groups = router.top_groups,
                                 .normalize = router.normalize,
                                 .norm_floor = router.norm_floor,
                                 .scale = router.scale};
  return build.builder.add_step(name + ".topk", std::make_unique<Router>(options, std::move(bias)), {logits},
                                {{.name = name + ".topk_ids", .row_shape = {router.top_k}, .dtype = Dtype::i32},
                                 {.name = name + ".topk_weights", .row_shape = {router.top_k}}});
}

ValueId moe_block(BuildContext& build, const std::string& name, const LayerSpec& layer, int layer_index, ValueId x,
                  ValueId guess) {
  const ValueId ids = router_block(build, name, name, layer_index, x);
  std::vector<ValueId> inputs = {x, ids, ids + 1};
  if (guess >= 0) inputs.insert(inputs.end(), {guess, guess + 1});
  const ExpertMlpOptions experts = {.hidden = build.config.hidden,
                                    .width = layer.width,
                                    .top_k = build.config.router.top_k,
                                    .experts = build.config.router.experts,
                                    .compute = operands(build),
                                    .fp8_compute = fp8_operands(build),
                                    .rounding = each_step(build)};
  return build.builder.add(name, std::make_unique<ExpertMlp>(layer_index, build.experts, experts), std::move(inputs),
                           {build.config.hidden});
}

ValueId decoder_block(BuildContext& build, const std::string& name, const LayerSpec& layer, int layer_index, ValueId x,
                      std::string_view mlp_norm) {
  const ValueId attention_in = norm_block(build, name + ".input_layernorm", x);
  const ValueId attention = attention_block(build, name + ".self_attn", layer, attention_in);
  const ValueId middle = residual_block(build, name + ".attention_residual", x, attention);
  const ValueId mlp_in = norm_block(build, fmt::format("{}.{}", name, mlp_norm), middle);
  const ValueId mlp = layer.moe ? moe_block(build, name + ".mlp", layer, layer_index, mlp_in,
                                            guess_block(build, name + ".next", layer_index + 1, middle))
                                : dense_block(build, name + ".mlp", layer, mlp_in);
  return residual_block(build, name, middle, mlp);
}

ValueId residual_block(BuildContext& build, const std::string& name, ValueId x, ValueId delta) {
  return build.builder.add(name, std::make_unique<Add>(build.config.hidden, each_step(build)), {x, delta},
                           {build.config.hidden});
}

ValueId mtp_input_block(BuildContext& build, const std::string& name) {
  const std::int64_t hidden = build.config.hidden;
  const ValueId main = build.builder.add_input({.name = name + ".hidden", .row_shape = {hidden}});
  const ValueId embedding = norm_block(build, name + ".enorm", embedding_block(build, name + ".embed_tokens"));
  const ValueId state = norm_block(build, name + ".hnorm", main);
  const ValueId both =
      build.builder.add(name + ".concat", std::make_unique<Concat>(hidden, hidden), {embedding, state}, {2 * hidden});
  return linear(build, name + ".eh_proj", name + ".eh_proj", hidden, 2 * hidden, both);
}

ValueId head_block(BuildContext& build, const std::string& name, ValueId x) {
  require(build.weights.has("lm_head.weight") || build.config.tied_embeddings, Errc::not_found,
          "{}: no lm_head.weight, and tie_word_embeddings in config.json is false", build.weights.checkpoint().path());
  const std::string weight = build.weights.has("lm_head.weight") ? "lm_head" : "embed_tokens";
  const ValueId rows = build.builder.add(name + ".rows", std::make_unique<GatherRows>(build.config.hidden), {x},
                                         {build.config.hidden}, RowSpace::logits);
  if (build.drafts && build.config.vocab >= least_sketched_vocab) {
    const Tensor head = build.weights.linear(weight + ".weight", build.config.vocab, build.config.hidden);
    if (can_sketch(head)) {
      const Compute compute = keeps_f32(build.numerics) ? Compute::f32 : Compute::bf16;
      return build.builder.add(
          name,
          std::make_unique<SketchedLinear>(head, build.weights.sketch(weight + ".weight"),
                                           build.config.vocab / sketched_per_exact, compute, each_step(build)),
          {rows}, {build.config.vocab}, RowSpace::logits);
    }
  }
  return linear(build, name, weight, build.config.vocab, build.config.hidden, rows, RowSpace::logits);
}

}  // namespace millrace
