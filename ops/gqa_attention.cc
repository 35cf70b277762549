#include "ops/gqa_attention.h"

#include <algorithm>
#include <cmath>

#include "runtime/error.h"

namespace millrace {

namespace {

std::int64_t tiles_of(const Batch::Run& run, std::int64_t tile_rows) noexcept {
  return (run.end - run.begin + tile_rows - 1) / tile_rows;
}

}  // namespace

GqaAttention::GqaAttention(GqaAttentionOptions options) : options_(std::move(options)) {
  const LayerKvShape& kv = options_.kv;
  require(kv.kv_heads > 0 && options_.heads > 0 && options_.heads % kv.kv_heads == 0, Errc::bad_argument,
          "attention of {} query heads over {} kv heads, expected a multiple", options_.heads, kv.kv_heads);
  require(kv.qk_dim > 0 && kv.v_dim > 0 && kv.window >= 0 && options_.kv_layer >= 0 && options_.max_context > 0,
          Errc::bad_argument, "attention with keys of {}, values of {}, window {}, layer {}, context {}", kv.qk_dim,
          kv.v_dim, kv.window, options_.kv_layer, options_.max_context);
  require(options_.cache == Dtype::bf16 || options_.cache == Dtype::f32, Errc::bad_argument,
          "attention over a cache of {}, expected BF16 or F32", name_of(options_.cache));
  require(options_.sinks.empty() || std::ssize(options_.sinks) == options_.heads, Errc::bad_argument,
          "{} attention sinks for {} query heads", options_.sinks.size(), options_.heads);
  group_ = options_.heads / kv.kv_heads;
  scale_ = static_cast<float>(1 / std::sqrt(static_cast<double>(kv.qk_dim)));
}

void GqaAttention::check(const Batch& batch) const {
  for (const Batch::Run& run : batch.runs) {
    require(run.cache->dtype() == options_.cache, Errc::bad_argument,
            "attention over a cache of {} was given one of {}", name_of(options_.cache), name_of(run.cache->dtype()));
    const std::int64_t rows = run.cache->length() + run.end - run.begin;
    require(rows <= options_.max_context, Errc::bad_argument, "a sequence of {} tokens, attention was planned for {}",
            rows, options_.max_context);
  }
}

// A ring has no room for rows of the pass beside those they push out, so these wait in the scratch memory, those of all
// sequences in one block.
void GqaAttention::take_new_rows(const StepContext& context) const {
  const LayerKvShape& kv = options_.kv;
  const std::int64_t key_row = kv.kv_heads * kv.qk_dim, value_row = kv.kv_heads * kv.v_dim;
  for (const Batch::Run& run : context.batch.runs)
    context.parallel.for_range(run.end - run.begin, 16, [&](std::int64_t begin, std::int64_t end, int) {
      const float* keys = context.input(1) + (run.begin + begin) * key_row;
      const float* values = context.input(2) + (run.begin + begin) * value_row;
      if (kv.window == 0)
        run.cache->write(options_.kv_layer, run.cache->length() + begin, end - begin, keys, values);
      else
        store_kv_rows(kv, options_.cache, context.rows, run.begin + begin, end - begin, keys, values,
                      context.scratch.data());
    });
}

// The mask for this kind of layer, or null.
const KeyMask* GqaAttention::mask_of(const Batch::Run& run) const noexcept {
  if (run.inputs == nullptr) return nullptr;
  const KeyMask& mask = options_.kv.window > 0 ? run.inputs->sliding_mask : run.inputs->full_mask;
  return mask.given() ? &mask : nullptr;
}

// Where the probabilities of the run are wanted, or null.
float* GqaAttention::recorded(const Batch::Run& run) const noexcept {
  if (run.inputs == nullptr || run.inputs->probabilities.empty()) return nullptr;
  return run.inputs->probabilities[static_cast<std::size_t>(options_.kv_layer)];
}

GqaAttention::Tile GqaAttention::tile_of(const Batch& batch, std::int64_t index,
                                         std::int64_t tile_rows) const noexcept {
  const Batch::Run* run = batch.runs.data();
  for (std::int64_t tiles; index >= (tiles = tiles_of(*run, tile_rows)); ++run) index -= tiles;
  const std::int64_t row = run->begin + index * tile_rows, rows = std::min(tile_rows, run->end - row);
  const std::int64_t length = run->cache->length(), window = options_.kv.window;
  const KeyMask* mask = mask_of(*run);
  if (mask != nullptr && mask->replaces()) return {*run, mask, row, rows, 0, length + run->end - run->begin};
  const std::int64_t end = length + row - run->begin + 1;
  return {*run, mask, row, rows, window > 0 ? std::max<std::int64_t>(0, end - window) : 0, end + rows - 1};
}

// Rows [first, end) of the tile's sequence, from the cache and, with a window, the staged rows.
std::int64_t GqaAttention::collect_runs(const StepContext& context, const Tile& tile, std::int64_t kv_head,
                                        std::int64_t first, std::int64_t end, GqaRun* runs) const noexcept {
  const LayerKvShape& kv = options_.kv;
  const Batch::Run& run = tile.run;
  const std::int64_t length = run.cache->length();
  std::int64_t count = 0;
  const auto append = [&](const KvRun& part) {
    runs[count++] = {.keys = part.keys + kv_head * part.key_head_stride,
                     .place = part.place,
                     .values = part.values + kv_head * part.value_head_stride,
                     .begin = part.begin,
                     .end = part.end,
                     .bias = nullptr};
    first = part.end;
  };
  const std::int64_t cached_end = kv.window > 0 ? std::min(length, end) : end;
  while (first < cached_end) append(run.cache->run_at(options_.kv_layer, first, cached_end));
  if (first < end)
    append(run_of_block(kv, options_.cache, context.rows, context.scratch.data(), length - run.begin, first, end));
  return count;
}

// The same for the rows that the mask shows, with their numbers and additions.
std::int64_t GqaAttention::collect_masked(const StepContext& context, const Tile& tile, std::int64_t kv_head,
                                          GqaRun* runs, float* bias) const {
  const KeyMask& mask = *tile.mask;
  const std::int64_t window = options_.kv.window, row = tile.own_row();
  const std::int64_t held = window > 0 ? std::max<std::int64_t>(0, tile.run.cache->length() - window) : 0;
  std::int64_t count = 0, hidden = 0;
  if (mask.keep != nullptr && !mask.replaces()) hidden = std::count(mask.keep, mask.keep + tile.first, 0);
  for (std::int64_t key = tile.first; key < tile.end; ++key) {
    if (!mask.sees(row, key)) {
      if (!mask.replaces()) ++hidden;
      continue;
    }
    require(key >= held, Errc::bad_argument, "row {} sees key {}, but a window of {} has let go of keys before {}", row,
            key, window, held);
    std::int64_t end = key;
    const float* next = bias;
    for (; end < tile.end && mask.sees(row, end); ++end)
      if (mask.additive != nullptr) *bias++ = mask.additive[row * mask.stride + end];
    const std::int64_t parts = collect_runs(context, tile, kv_head, key, end, runs + count);
    for (GqaRun* run = runs + count; run < runs + count + parts; ++run) {
      if (mask.additive != nullptr) run->bias = next + run->begin - key;
      run->begin -= hidden;
      run->end -= hidden;
    }
    count += parts;
    key = end - 1;
  }
  return count;
}

// Writes the probabilities of a finished task where they are wanted.
void GqaAttention::record(const Tile& tile, std::int64_t kv_head, const GqaTask& task) const noexcept {
  float* rows = recorded(tile.run);
  if (rows == nullptr) return;
  gqa_probabilities(task);
  const GqaScratch scratch(task);
  for (std::int64_t head = 0; head < group_; ++head) {
    float* out = rows + (tile.own_row() * options_.heads + kv_head * group_ + head) * tile.run.inputs->probability_keys;
    const float* next = scratch.scores + head * task.stride;
    for (std::int64_t key = tile.first; key < tile.end; ++key)
      if (tile.mask == nullptr || tile.mask->sees(tile.own_row(), key)) out[key] = *next++;
  }
}

GqaTask GqaAttention::task_of(const StepContext& context, const Tile& tile, std::int64_t kv_head, const Worker& layout,
                              std::byte* memory) const noexcept {
  const LayerKvShape& kv = options_.kv;
  const std::int64_t head = kv_head * group_;
  return {.q = context.input(0) + (tile.row * options_.heads + head) * kv.qk_dim,
          .sinks = options_.sinks.empty() ? nullptr : options_.sinks.data() + head,
          .out = context.output(0) + (tile.row * options_.heads + head) * kv.v_dim,
          .q_stride = options_.heads * kv.qk_dim,
          .out_stride = options_.heads * kv.v_dim,
          .runs = reinterpret_cast<GqaRun*>(memory + layout.runs_at),
          .run_count = 0,
          .end = tile.run.cache->length() + tile.own_row() + 1,
          .window = kv.window,
          .rows = tile.rows,
          .group = group_,
          .qk_dim = kv.qk_dim,
          .v_dim = kv.v_dim,
          .scale = scale_,
          .rounding = options_.rounding,
          .shift = options_.rounding == Rounding::none ? Rounding::none : options_.shift,
          .bf16 = options_.cache == Dtype::bf16,
          .block_sums = nullptr,
          .next = nullptr,
          .scratch = reinterpret_cast<float*>(memory),
          .stride = layout.stride};
}

// Everything a pass works with.
struct GqaAttention::Pass {
  const StepContext& context;
  Worker layout;
  std::byte* workers;
  float* blocks;            // sums of blocks, for passes that share them out
  std::int64_t tiles;       // of all runs
  std::int64_t work;        // multiply-adds of all tiles with one kv head
  std::int64_t max_blocks;  // that a tile sees
};

void GqaAttention::attend(const Pass& pass, const Tile& tile, std::int64_t kv_head, std::byte* memory) const {
  if (tile.mask != nullptr) return attend_masked(pass, tile, kv_head, memory);
  GqaTask task = task_of(pass.context, tile, kv_head, pass.layout, memory);
  task.run_count = collect_runs(pass.context, tile, kv_head, tile.first, tile.end, const_cast<GqaRun*>(task.runs));
  gqa_attention_kernel.best()(task);
  record(tile, kv_head, task);
}

// Exact and slow: keys one by one where the mask leaves gaps or adds to scores.
void GqaAttention::attend_masked(const Pass& pass, const Tile& tile, std::int64_t kv_head, std::byte* memory) const {
  GqaTask task = task_of(pass.context, tile, kv_head, pass.layout, memory);
  auto* runs = const_cast<GqaRun*>(task.runs);
  auto* bias = reinterpret_cast<float*>(memory + pass.layout.bias_at);
  task.run_count = collect_masked(pass.context, tile, kv_head, runs, bias);
  if (task.run_count == 0) {
    std::fill_n(task.out, group_ * options_.kv.v_dim, 0.0f);
    return;
  }
  task.end = runs[task.run_count - 1].end;
  task.window = 0;
  bool plain = tile.mask->additive == nullptr;
  for (std::int64_t r = 1; r < task.run_count; ++r) plain = plain && runs[r].begin == runs[r - 1].end;
  gqa_attention_kernel.at(plain ? active_isa() : Isa::scalar)(task);
  record(tile, kv_head, task);
}

// The keys of a head from row `row` of the cache on, or null.
const void* GqaAttention::keys_from(const Tile& tile, std::int64_t kv_head, std::int64_t row) const noexcept {
  const KvCache& cache = *tile.run.cache;
  if (options_.kv.window > 0 || row >= tile.end) return nullptr;
  const KvRun run = cache.run_at(options_.kv_layer, row, row + 1);
  return run.keys + kv_head * run.key_head_stride +
         run.place / KeyPanels::rows * KeyPanels::panel_bytes(options_.kv.qk_dim, size_of(options_.cache));
}

// One task per block of keys, then one per tile that merges them.
void GqaAttention::attend_blocks(const Pass& pass) const {
  const StepContext& context = pass.context;
  const std::int64_t heads = options_.kv.kv_heads, v_dim = options_.kv.v_dim, blocks = pass.max_blocks;
  const auto sums_of = [&](const Tile& tile, std::int64_t head, std::int64_t block) {
    return pass.blocks + blocks * GqaSums::floats(tile.row * options_.heads, v_dim) +
           (head * blocks + block) * GqaSums::floats(tile.rows * group_, v_dim);
  };
  const auto memory_of = [&](int worker) {
    return pass.workers + static_cast<std::size_t>(worker) * pass.layout.bytes;
  };
  const std::int64_t tasks = pass.tiles * heads;
  context.parallel.for_tasks(tasks * blocks, pass.work / (pass.tiles * blocks), [&](std::int64_t index, int worker) {
    const Tile tile = tile_of(context.batch, index / blocks / heads, pass.layout.tile_rows);
    const std::int64_t head = index / blocks % heads, block = index % blocks;
    const std::int64_t at = (tile.first / gqa_block + block) * gqa_block;
    if (at >= tile.end) return;
    GqaTask task = task_of(context, tile, head, pass.layout, memory_of(worker));
    task.run_count = collect_runs(context, tile, head, std::max(tile.first, at), std::min(tile.end, at + gqa_block),
                                  const_cast<GqaRun*>(task.runs));
    task.block_sums = sums_of(tile, head, block);
    task.next = keys_from(tile, head, at + gqa_block);
    gqa_attention_kernel.best()(task);
  });
  context.parallel.for_tasks(tasks, pass.max_blocks * group_ * v_dim, [&](std::int64_t index, int worker) {
    const Tile tile = tile_of(context.batch, index / heads, pass.layout.tile_rows);
    const std::int64_t head = index % heads;
    const GqaTask task = task_of(context, tile, head, pass.layout, memory_of(worker));
    for (std::int64_t row = 0; row < tile.rows; ++row) {
      const std::int64_t end = task.end + row, begin = task.window > 0 ? std::max(tile.first, end - task.window) : 0;
      const std::int64_t first = begin / gqa_block, last = (end - 1) / gqa_block;
      gqa_merge_kernel.best()({.blocks = sums_of(tile, head, first - tile.first / gqa_block),
                               .block_count = last - first + 1,
                               .block_stride = GqaSums::floats(tile.rows * group_, v_dim),
                               .queries = tile.rows * group_,
                               .first = row * group_,
                               .sinks = task.sinks,
                               .out = task.out + row * task.out_stride,
                               .group = group_,
                               .v_dim = v_dim,
                               .scratch = task.scratch});
    }
  });
}

// Rows of the longest sequence after the pass.
std::int64_t GqaAttention::longest(const Batch& batch) const noexcept {
  std::int64_t rows = 0;
  for (const Batch::Run& run : batch.runs) rows = std::max(rows, run.cache->length() + run.end - run.begin);
  return rows;
}

GqaAttention::Pass GqaAttention::pass_of(const StepContext& context, Buffer& exact) const {
  const std::int64_t window = options_.kv.window, rows = context.rows;
  const int threads = context.parallel.threads();
  std::byte* blocks = context.scratch.data() + staged_bytes(rows);
  Pass pass{
      .context = context,
      .layout = plain_layout(),
      .workers = blocks + block_bytes(rows, threads),
      .blocks = block_bytes(rows, threads) > 0 && rows <= most_split_rows ? reinterpret_cast<float*>(blocks) : nullptr,
      .tiles = 0,
      .work = 0,
      .max_blocks = 0};
  const std::int64_t length = longest(context.batch);
  if (std::any_of(context.batch.runs.begin(), context.batch.runs.end(),
                  [this](const Batch::Run& run) { return mask_of(run) != nullptr || recorded(run) != nullptr; })) {
    pass.layout = exact_layout(length);
    exact = Buffer(static_cast<std::size_t>(threads) * pass.layout.bytes, "attention masks");
    pass.workers = exact.data();
    pass.blocks = nullptr;
  }
  for (const Batch::Run& run : context.batch.runs) {
    const std::int64_t visible = run.cache->length() + run.end - run.begin;
    pass.tiles += tiles_of(run, pass.layout.tile_rows);
    pass.work += (run.end - run.begin) * (window > 0 ? std::min(window, visible) : visible);
  }
  pass.work *= group_ * (options_.kv.qk_dim + options_.kv.v_dim);
  const std::int64_t most_visible = window > 0 ? std::min(length, window + most_split_rows + gqa_block) : length;
  pass.max_blocks = std::min(most_blocks(), (most_visible + gqa_block - 1) / gqa_block);
  return pass;
}

void GqaAttention::run(const StepContext& context) const {
  check(context.batch);
  take_new_rows(context);
  Buffer exact;
  const Pass pass = pass_of(context, exact);
  const std::int64_t tasks = pass.tiles * options_.kv.kv_heads;
  if (pass.blocks != nullptr && pass.max_blocks >= least_split_blocks && tasks < 4 * context.parallel.threads())
    attend_blocks(pass);
  else
    // The tiles of one head follow each other, so that its keys stay in the cache; the longest come first.
    context.parallel.for_tasks(
        tasks, pass.work / std::max<std::int64_t>(1, pass.tiles), [&](std::int64_t index, int worker) {
          attend(pass, tile_of(context.batch, pass.tiles - 1 - index % pass.tiles, pass.layout.tile_rows),
                 index / pass.tiles, pass.workers + static_cast<std::size_t>(worker) * pass.layout.bytes);
        });
  if (options_.kv.window == 0) return;
  for (const Batch::Run& run : context.batch.runs)
    run.cache->write(options_.kv_layer, run.cache->length(), run.end - run.begin,
                     context.input(1) + run.begin * options_.kv.kv_heads * options_.kv.qk_dim,
                     context.input(2) + run.begin * options_.kv.kv_heads * options_.kv.v_dim);
}

Cost GqaAttention::cost(const StepContext& context) const {
  const auto head_elements = static_cast<double>(options_.heads * (options_.kv.qk_dim + options_.kv.v_dim));
  const auto row_elements = static_cast<double>(options_.kv.row_elements());
  const std::int64_t window = options_.kv.window;
  double seen = 0;                                   // pairs of a row and a key it sees
  double moved = static_cast<double>(context.rows);  // rows of the caches: new ones and those that are read
  for (const Batch::Run& run : context.batch.runs) {
    const std::int64_t held = run.cache->length(), end = held + run.end - run.begin;
    const KeyMask* mask = mask_of(run);
    const bool replaced = mask != nullptr && mask->replaces();
    const auto first = [&](std::int64_t key) {
      return window > 0 && !replaced ? std::max<std::int64_t>(0, key + 1 - window) : 0;
    };
    moved += static_cast<double>(held - std::min(held, first(held)));
    for (std::int64_t own = held; own < end; ++own) {
      const std::int64_t last = replaced ? end : own + 1;
      if (mask == nullptr) seen += static_cast<double>(last - first(own));
      for (std::int64_t key = first(own); mask != nullptr && key < last; ++key)
        seen += mask->sees(own - held, key) ? 1 : 0;
    }
  }
  return {.cache_bytes = moved * row_elements * static_cast<double>(size_of(options_.cache)),
          .activation_bytes = 4 * static_cast<double>(context.rows) * (head_elements + row_elements),
          .flops = 2 * seen * head_elements};
}

}  // namespace millrace
