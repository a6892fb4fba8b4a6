// Brings candidates of a selection by distance up to date with the centres that they have not seen.
#include "cpu/group.h"

namespace fastsel::FASTSEL_LEVEL {

namespace {

// A pair matters if it lowers the candidate's key, its squared distance to the selection.
struct Nearest {
  static constexpr bool kOwnReach = true;
  static constexpr bool kRepeats = true;

  double* sq_dist;
  Rival rival;

  bool stays(int64_t row) const { return rival.beaten_by(sq_dist[row], row); }

  float bound(const Whole& candidate, int64_t, float error) const {
    return candidate.reach + error;
  }

  bool has_met(int64_t, int64_t) const { return false; }

  int64_t list(const Tile& tile, const Candidates& panel, const Block& block, int64_t first,
               Pair* pairs) const {
    return list_passing(tile, panel, block.packed, first, pairs);
  }

  bool meet(int64_t row, int64_t, double value) {
    if (!(value < sq_dist[row])) return false;
    sq_dist[row] = value;
    return true;
  }

  void settled() {}

  void finish() {}
};

}  // namespace

Work refresh(const Coded& points, const int64_t* rows, int64_t n_rows, double* keys, int64_t* seen,
             const Centres& centres, Rival rival, int threads) {
  return bring_up_to_date(points, rows, n_rows, seen, centres, Nearest{keys, rival}, threads);
}

}  // namespace fastsel::FASTSEL_LEVEL
