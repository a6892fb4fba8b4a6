// How the products cut their work, by architecture: the one table of it. It follows from the model
// in bench/gpu_model.py, by which docs/gpu.md compares it with other choices;
// tests/cuda/test_resources.py looks at what the compiler makes of each entry.
#pragma once

namespace fastsel::cuda {

struct Tile {
  int capability;  // major times ten, of the oldest GPUs that it is for
  int rows;        // queries of a block's tile
  int cols;        // points of it
  int warp_rows;   // the part of a warp, in registers
  int warp_cols;
  int stages;  // steps of codes in shared memory: one is multiplied, the others are on their way
  int blocks;  // on a processor at a time
};

// In order of capability: a GPU takes the last one that is not newer than it is.
constexpr Tile kTiles[] = {
    {80, 128, 256, 64, 64, 3, 1},
    {90, 128, 256, 64, 64, 3, 1},
    {100, 128, 256, 64, 64, 3, 1},
};
constexpr int kNumTiles = sizeof(kTiles) / sizeof(kTiles[0]);

}  // namespace fastsel::cuda
