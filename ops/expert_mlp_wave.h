// The experts that expert_mlp works on at a time and how it divides their work, for its own sources only.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "ops/expert_mlp.h"
#include "ops/linear.h"

namespace millrace {

struct ExpertMlp::Matrix {
  LinearWeight weight;
  std::size_t form = 0;  // index of its compute
};

// Some experts with their pairs, their weights held in memory.
struct ExpertMlp::Wave {
  struct Expert {
    Matrix gate, up, down;
    std::int64_t first_pair = 0, pairs = 0;
  };
  std::array<std::optional<ExpertLease>, max_leases> leases;
  std::array<Expert, max_leases> experts;
  std::int64_t count = 0;
  std::int64_t base = 0;   // the pair at the start of the room for pairs
  std::int64_t pairs = 0;  // of all of them

  bool is_full() const { return count == max_leases; }
};

// A product of all of a wave's pairs in tasks of a group of an expert's pairs, as many as a kernel is called for, and a
// panel of outputs. Those of a group follow each other.
struct ExpertMlp::Division {
  struct Task {
    const Wave::Expert* expert;
    std::int64_t group;       // of all of the wave's
    std::int64_t at, pairs;   // from which pair of the wave on, and how many
    std::int64_t begin, end;  // outputs
  };

  static constexpr std::int64_t panel_outputs = linear_block;

  const Wave& wave;
  std::int64_t outputs, panels, tasks = 0;
  std::array<std::int64_t, max_leases> group_pairs = {};      // most, of each expert
  std::array<std::int64_t, max_leases + 1> first_group = {};  // of each expert

  Division(const Wave& of, std::int64_t outputs_of_each) noexcept
      : wave(of), outputs(outputs_of_each), panels((outputs + panel_outputs - 1) / panel_outputs) {}

  // The next of the wave's experts.
  void add(std::size_t expert, std::int64_t pairs_per_call) noexcept {
    const std::int64_t groups = (wave.experts[expert].pairs + pairs_per_call - 1) / pairs_per_call;
    group_pairs[expert] = pairs_per_call;
    first_group[expert + 1] = first_group[expert] + groups;
    tasks += groups * panels;
  }
  Task task(std::int64_t index) const noexcept {
    const std::int64_t group = index / panels, begin = index % panels * panel_outputs;
    std::size_t expert = 0;
    while (group >= first_group[expert + 1]) ++expert;
    const Wave::Expert& of = wave.experts[expert];
    const std::int64_t done = (group - first_group[expert]) * group_pairs[expert];
    return {.expert = &of,
            .group = group,
            .at = of.first_pair - wave.base + done,
            .pairs = std::min(group_pairs[expert], of.pairs - done),
            .begin = begin,
            .end = std::min(outputs, begin + panel_outputs)};
  }
};

}  // namespace millrace
