// Configurations of synthetic checkpoints: named shapes, or another checkpoint's config.json, with as many layers and
// experts as asked for. Pure functions, but for reading that file.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "model/config.h"
#include "model/family.h"

namespace millrace {

struct SyntheticShape {
  std::string_view family;  // Family::name
  std::string_view name;
  std::string_view summary;  // a line about it
};

// "full", the published sizes, is there once per family.
std::span<const SyntheticShape> synthetic_shapes();

struct SyntheticRequest {
  std::string family;                   // may be empty where the shape says it
  std::string shape;                    // a name of synthetic_shapes(), or the path of a config.json
  std::optional<std::int64_t> layers;   // else those of the shape; beyond its own as the published models go on
  std::optional<std::int64_t> experts;  // else those of the shape
  std::optional<bool> fp8;              // else as the shape says: named ones are FP8
};

struct SyntheticModel {
  const Family* family = nullptr;
  std::string config_text;  // of config.json; that of a file to the last byte where nothing was asked to change
  ModelConfig config;       // what it means
  bool fp8 = false;         // weights in blocks of F8_E4M3
  bool fused_qkv = false;   // attention_projection_layout
};

// Throws Error: bad_argument for a name that is not known, listing those that are, or one that two families have;
// unsupported for MXFP4; what reading and parsing the configuration throws, which numbers that do not go together do.
SyntheticModel synthetic_model(const SyntheticRequest& request);

}  // namespace millrace
