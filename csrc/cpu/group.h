// Brings candidates up to date with the centres picked since they were last looked at.
//
// What a pair is good for is said by an objective, of which each thread has a copy:
//
//   sq_dist[row]              the squared distance of a candidate to what it has met
//   stays(row)                whether the candidate still beats the rival
//   list(tile, panel, block, first, pairs)
//                             list_under of a tile of the packed codes
//   bound(whole, centre, error)
//                             the distance under which a pair passes the filter of the whole codes
//   meet(row, centre, value)  takes a pair that may matter, with its canonical squared distance;
//                             says whether it is less than that of the candidate
//   settled()                 there are no more of them for now
//   finish()                  the thread is done; all others are too, or wait
//   kOwnReach                 whether a pair matters within the candidate's own reach only
//   kRepeats                  whether a pair may be met twice; where not,
//   has_met(row, centre)      whether it was, out of order
//
// refresh.cpp has one for selections by distance, entropy_refresh.cpp one for those by entropy.
//
// Work is split into groups of candidates, each packed once into panels that stay in the L2 cache
// beside a block of packed centres. A thread takes its group through the blocks, in order of
// picking, and drops a candidate as soon as the rival beats it; groups need no synchronisation.
//
// Candidates that have many centres to see meet the central ones first. Those are few, and most
// candidates that can be dropped are dropped by them, with keys so low that they are not back soon.
//
// With a sketch, the panels and blocks hold its codes, a fraction as deep. The few pairs that pass
// it meet the filter of the whole codes one by one, straight from the rows of codes.
#pragma once

#include <type_traits>

#include "cpu/panel.h"

namespace fastsel::FASTSEL_LEVEL {

// A pair of a candidate, by its slot in the group, and a centre of the block that may lower a key.
struct Survivor {
  int32_t slot;
  int32_t centre;
  float sq_dist;
};

// Enough of them for the rows of later ones to be fetched meanwhile, few enough for the reaches to
// stay up to date.
constexpr int64_t kSurvivors = 1024;
constexpr int64_t kPassing = 32;
constexpr int64_t kRowsAhead = 2;

// Pairs below which it takes longer to wake the threads than to do without.
constexpr int64_t kWorthThreads = 1 << 14;

// How many times as many centres as there are central ones a candidate has to see to meet these.
constexpr int64_t kWorthCentral = 4;

// What the filter of the whole codes knows of a candidate.
struct Whole {
  float scale;
  float sq_norm;
  float error;
  float reach;
};

// A panel of candidates. What it inherits is of the packed codes: the sketch's, if there is one.
struct Candidates : Panel {
  float errors[kTileCols];
  Whole whole[kTileCols];
  int64_t rows[kTileCols];   // -1: no candidate
  int64_t known[kTileCols];  // the centres before this one were met before

  // The radius is that within which a pair may lower the candidate's distance.
  void place(int64_t lane, const Codes& packed, const Codes& codes, int64_t row, int64_t knows,
             double radius) {
    Panel::place(lane, packed, row, kNobody);
    rows[lane] = row;
    known[lane] = knows;
    errors[lane] = packed.errors[row];
    whole[lane] = {codes.scales[row], codes.sq_norms[row], codes.errors[row], kNobody};
    if (radius >= 0.0) {
      set_reaches(lane, radius);
    } else {
      retire(lane);
    }
  }

  void set_reaches(int64_t lane, double radius) {
    reaches[lane] = reach(radius, errors[lane]);
    whole[lane].reach = reach(radius, whole[lane].error);
  }

  // Follows a distance that has fallen.
  void lower(int64_t lane, double radius) {
    if (radius < 0.0) {
      retire(lane);
    } else if (reach(radius, whole[lane].error) < whole[lane].reach) {
      set_reaches(lane, radius);
    }
  }

  // Leaves a lane to nobody, or to a candidate that nothing can be of use to.
  void retire(int64_t lane) {
    reaches[lane] = errors[lane] = whole[lane].reach = whole[lane].error = kNobody;
  }

  void remove(int64_t lane) {
    retire(lane);
    rows[lane] = -1;
  }
};

// The centres that candidates are taken through: those at order[0 .. n) or, without an order, the
// first n. `known` is how many of all centres each of the points knows.
struct Course {
  const int64_t* order;
  int64_t n;
  int64_t* known;

  int64_t centre(int64_t i) const { return order != nullptr ? order[i] : i; }
};

// Some of a course's centres, from `begin` on.
struct Block {
  const Course& course;
  CentreBlock packed;
  int64_t begin = 0;
  int64_t count = 0;

  Block(const Course& of, int64_t capacity, int64_t depth) : course(of), packed(capacity, depth) {}

  int64_t centre(int64_t i) const { return course.centre(begin + i); }

  void load(const Codes& codes, int64_t first, int64_t size) {
    begin = first;
    count = size;
    if (course.order != nullptr) {
      packed.load(codes, course.order + begin, count);
    } else {
      packed.load(codes, begin, count);
    }
  }
};

template <class R, class Objective>
class Group {
 public:
  Group(const R& rows, const Coded& points, const Centres& centres, const Objective& objective,
        int64_t panels)
      : rows_(rows),
        dim_(points.points.dim),
        sketched_(points.sketch.values != nullptr),
        codes_(points.codes),
        packed_codes_(sketched_ ? points.sketch : points.codes),
        centres_(centres),
        objective_(objective),
        steps_(packed_codes_.depth / kStep),
        packed_(panels * kTileCols * steps_),
        panels_(panels),
        survivors_(kSurvivors + kPassing + kTilePairs),
        passing_(kPassing + kTilePairs) {}

  Work work = {0, 0, 0};
  int64_t size = 0;

  void load(const int64_t* index, int64_t count, const int64_t* known) {
    size = count;
    for (int64_t p = 0; p < n_panels(); ++p) {
      const int64_t begin = p * kTileCols;
      const int64_t width = min(kTileCols, count - begin);
      pack_points(packed_codes_, index + begin, width, kTileCols, panel_data(p));
      Candidates& panel = panels_.get()[p];
      for (int64_t i = 0; i < kTileCols; ++i) {
        panel.clear(i);
        panel.remove(i);
        if (i < width) place(panel, i, index[begin + i], known[index[begin + i]]);
      }
    }
    slots_ = n_panels() * kTileCols;
  }

  void apply(const Block& block) {
    const int64_t panels = slots_ / kTileCols;
    for (int64_t p = 0; p < panels; ++p) {
      const Candidates& panel = panels_.get()[p];
      if (sketched_) prefetch_codes(panel);
      for (int64_t c = 0; c < block.count; c += kTileRows) {
        const Tile tile = block.packed.against(panel_data(p), c);
        if (sketched_ || !Objective::kOwnReach) {
          n_passing_ += objective_.list(tile, panel, block, c, passing_.get() + n_passing_);
          if (n_passing_ >= kPassing) weigh(p, block);
        } else {
          sift(tile, panel, block.packed, c, [&](int64_t lane, int64_t i, float sq_dist) {
            if (block.centre(i) >= panel.known[lane]) note(p, lane, block, i, sq_dist);
          });
        }
        if (n_survivors_ >= kSurvivors) settle(block);
      }
      weigh(p, block);
    }
    settle(block);
    work.filtered += size * block.count;
  }

  // Drops what the rival beats, and everything after the last block; those know then `known_now`
  // centres.
  void drop(int64_t* known, int64_t known_now, bool last) {
    for (int64_t slot = 0; slot < slots_; ++slot) {
      Candidates& panel = panels_.get()[slot / kTileCols];
      const int64_t row = panel.rows[slot % kTileCols];
      if (row < 0 || (!last && objective_.stays(row))) continue;
      if (known[row] < known_now) known[row] = known_now;
      panel.remove(slot % kTileCols);
      --size;
    }
    if (!last) close_gaps();
  }

  void finish() { objective_.finish(); }

 private:
  const R rows_;
  const int64_t dim_;
  const bool sketched_;
  const Codes& codes_;
  const Codes& packed_codes_;
  const Centres& centres_;
  Objective objective_;
  const int64_t steps_;
  Buffer<int32_t> packed_;
  Buffer<Candidates> panels_;
  Buffer<Survivor> survivors_;
  int64_t n_survivors_ = 0;
  Buffer<Pair> passing_;
  int64_t n_passing_ = 0;
  int64_t slots_ = 0;

  int64_t n_panels() const { return (size + kTileCols - 1) / kTileCols; }

  int32_t* panel_data(int64_t p) { return packed_.get() + p * kTileCols * steps_; }

  void place(Candidates& panel, int64_t lane, int64_t row, int64_t known) {
    const double radius = radius_of(objective_.sq_dist[row], codes_.scale);
    panel.place(lane, packed_codes_, codes_, row, known, radius);
  }

  // The whole codes of a panel: pairs that pass the sketch will ask for most of them.
  void prefetch_codes(const Candidates& panel) const {
    for (int64_t lane = 0; lane < kTileCols; ++lane) {
      if (panel.rows[lane] >= 0) prefetch(codes_, panel.rows[lane]);
    }
  }

  // Whether a pair passes the filter of the whole codes.
  bool passes(const Whole& candidate, int64_t centre, float sq_dist) const {
    const float bound = objective_.bound(candidate, centre, centres_.codes.errors[centre]);
    return sq_dist < bound * bound;
  }

  // Notes a pair, and how near it promises to be: that of a lane's next pairs is then asked more.
  void note(int64_t p, int64_t lane, const Block& block, int64_t in_block, float sq_dist) {
    survivors_.get()[n_survivors_++] = {static_cast<int32_t>(p * kTileCols + lane),
                                        static_cast<int32_t>(in_block), sq_dist};
    Candidates& panel = panels_.get()[p];
    const Whole& candidate = panel.whole[lane];
    // Of no use where the promise is longer than the reach.
    if (!(sq_dist < candidate.reach * candidate.reach)) return;
    const int64_t centre = block.centre(in_block);
    const double radius =
        promised_radius(sq_dist, candidate.sq_norm + centres_.codes.sq_norms[centre],
                        candidate.error + centres_.codes.errors[centre]);
    panel.lower(lane, radius);
  }

  // Notes those of a panel's pairs that passed the sketch that pass the filter of the whole codes.
  void weigh(int64_t p, const Block& block) {
    const Candidates& panel = panels_.get()[p];
    const Codes& centres = centres_.codes;
    for (int64_t i = 0; i < n_passing_; ++i) {
      const auto [lane, in_block] = passing_.get()[i];
      const Whole& candidate = panel.whole[lane];
      const int64_t centre = block.centre(in_block);
      if (centre < panel.known[lane] || objective_.has_met(panel.rows[lane], centre)) continue;
      const int32_t product = dot(codes_.values + panel.rows[lane] * codes_.depth,
                                  centres.values + centre * codes_.depth, codes_.depth);
      const float sq_dist = filtered(product, candidate.scale, candidate.sq_norm,
                                     centres.scales[centre], centres.sq_norms[centre]);
      if (passes(candidate, centre, sq_dist)) note(p, lane, block, in_block, sq_dist);
    }
    if (sketched_) work.passed += n_passing_;
    n_passing_ = 0;
  }

  // Canonical distances of the survivors, latest first: they have the smallest filtered distances
  // of their candidate, and rule out most of the earlier ones. While one is computed, the rows of
  // the next come from memory.
  void settle(const Block& block) {
    Survivor* survivors = survivors_.get();
    const auto panel_of = [&](const Survivor& s) -> Candidates& {
      return panels_.get()[s.slot / kTileCols];
    };
    const auto still_passes = [&](const Survivor& s) {
      return passes(panel_of(s).whole[s.slot % kTileCols], block.centre(s.centre), s.sq_dist);
    };
    int64_t count = 0;
    for (int64_t i = n_survivors_ - 1; i >= 0; --i) {
      // Those that pass gather at the end, where they are read no more.
      if (still_passes(survivors[i])) survivors[n_survivors_ - ++count] = survivors[i];
    }
    const Survivor* last = survivors + n_survivors_ - 1;
    for (int64_t i = 0; i < count; ++i) {
      if (i + kRowsAhead < count) {
        const Survivor& later = last[-(i + kRowsAhead)];
        rows_[panel_of(later).rows[later.slot % kTileCols]].prefetch(dim_);
        rows_[centres_.rows[block.centre(later.centre)]].prefetch(dim_);
      }
      const Survivor& survivor = last[-i];
      if (!still_passes(survivor)) continue;
      Candidates& panel = panel_of(survivor);
      const int64_t lane = survivor.slot % kTileCols;
      const int64_t row = panel.rows[lane];
      const int64_t centre = block.centre(survivor.centre);
      const double value = pair_sq_dist(rows_, row, centres_.rows[centre], dim_);
      ++work.canonical;
      if (objective_.meet(row, centre, value)) {
        panel.lower(lane, radius_of(value, codes_.scale));
      }
    }
    n_survivors_ = 0;
    objective_.settled();
  }

  // Moves candidates from the last panels into the gaps of the first ones, panel by panel.
  void close_gaps() {
    int64_t gap = 0;
    while (size <= slots_ - kTileCols) {
      const int64_t last = slots_ / kTileCols - 1;
      const Candidates& from = panels_.get()[last];
      for (int64_t lane = 0; lane < kTileCols; ++lane) {
        if (from.rows[lane] < 0) continue;
        while (panels_.get()[gap / kTileCols].rows[gap % kTileCols] >= 0) ++gap;
        place(panels_.get()[gap / kTileCols], gap % kTileCols, from.rows[lane], from.known[lane]);
        const int32_t* source = panel_data(last) + lane;
        int32_t* target = panel_data(gap / kTileCols) + gap % kTileCols;
        for (int64_t k = 0; k < steps_; ++k) target[k * kTileCols] = source[k * kTileCols];
      }
      slots_ -= kTileCols;
    }
  }
};

// Cuts rows, ascending by what they have seen, into groups of at most `limit` rows, each taken
// through the centres from what its first row has seen on: what the others see for a second time
// stays small. Writes n_groups + 1 starts and returns n_groups.
inline int64_t cut_groups(const int64_t* rows, int64_t n_rows, const int64_t* seen,
                          int64_t n_centres, int64_t limit, int64_t* starts) {
  int64_t n_groups = 0;
  int64_t start = 0;
  int64_t wasted = 0;
  for (int64_t i = 0; i < n_rows; ++i) {
    const int64_t size = i - start;
    const int64_t first = seen[rows[start]];
    wasted += seen[rows[i]] - first;
    const bool uneven = size % kTileCols == 0 && wasted > size * (n_centres - first) / 16;
    if (size == limit || (size > 0 && uneven)) {
      starts[n_groups++] = start;
      start = i;
      wasted = 0;
    }
  }
  if (n_rows > 0) starts[n_groups++] = start;
  starts[n_groups] = n_rows;
  return n_groups;
}

// Takes groups of rows, from each of the starts to the next, through a course. A group begins with
// what its first row does not know, or, where the centres are in an order of their own, with all.
template <class R, class Objective>
Work take(const R& rows, const Coded& points, const Centres& centres, const Course& course,
          const int64_t* index, const int64_t* starts, int64_t n_groups, int64_t panels,
          const Objective& objective, int threads) {
  const Codes& codes = points.sketch.values != nullptr ? centres.sketch : centres.codes;
  const int64_t block_rows = block_size(codes);
  Work work = {0, 0, 0};
#pragma omp parallel num_threads(threads)
  {
    Group<R, Objective> group(rows, points, centres, objective, panels);
    Block block(course, block_rows, codes.depth);
#pragma omp for schedule(dynamic)
    for (int64_t g = 0; g < n_groups; ++g) {
      const int64_t* members = index + starts[g];
      int64_t begin = course.order != nullptr ? 0 : course.known[members[0]];
      group.load(members, starts[g + 1] - starts[g], course.known);
      while (group.size > 0 && begin < course.n) {
        block.load(codes, begin, min(block_rows, course.n - begin));
        begin += block.count;
        group.apply(block);
        // A course that is not in order leaves no trace of how far a candidate came.
        if (!Objective::kRepeats && course.order != nullptr && begin < course.n) continue;
        group.drop(course.known, course.order != nullptr ? centres.n : begin, begin == course.n);
      }
    }
#pragma omp critical(fastsel_refresh)
    {
      work.filtered += group.work.filtered;
      work.passed += group.work.passed;
      work.canonical += group.work.canonical;
      group.finish();
    }
  }
  return work;
}

// Those of the rows that have many centres to see and do not know all of the central ones.
inline int64_t list_behind(const int64_t* rows, int64_t n_rows, const int64_t* seen,
                           const Centres& centres, int64_t* behind) {
  int64_t newest = -1;
  for (int64_t i = 0; i < centres.n_central; ++i) newest = max(newest, centres.central[i]);
  int64_t count = 0;
  for (int64_t i = 0; i < n_rows; ++i) {
    if (centres.n - seen[rows[i]] < kWorthCentral * centres.n_central) break;
    if (centres.met[rows[i]] <= newest) behind[count++] = rows[i];
  }
  return count;
}

inline int64_t cut_evenly(int64_t n_rows, int64_t limit, int64_t* starts) {
  int64_t n_groups = 0;
  for (int64_t start = 0; start < n_rows; start += limit) starts[n_groups++] = start;
  starts[n_groups] = n_rows;
  return n_groups;
}

// Applies to each of the rows the centres it has not seen; see Refresh in kernels.h.
template <class Objective>
Work bring_up_to_date(const Coded& points, const int64_t* rows, int64_t n_rows, int64_t* seen,
                      const Centres& centres, const Objective& objective, int threads) {
  const Codes& codes = points.sketch.values != nullptr ? centres.sketch : centres.codes;
  const Buffer<int64_t> list(n_rows);
  const Buffer<int64_t> starts(n_rows / kTileCols + 2);
  Work work = {0, 0, 0};
  with_rows(points.points, [&](const auto& typed) {
    const auto add = [&](const Course& course, int64_t n_groups, int64_t panels, int team) {
      const Work done = take(typed, points, centres, course, list.get(), starts.get(), n_groups,
                             panels, objective, team);
      work.filtered += done.filtered;
      work.passed += done.passed;
      work.canonical += done.canonical;
    };
    int64_t count = list_behind(rows, n_rows, seen, centres, list.get());
    if (count > 0) {
      const int64_t panels = group_panels(codes, count, threads);
      const int64_t n_groups = cut_evenly(count, panels * kTileCols, starts.get());
      const int team = count * centres.n_central < kWorthThreads ? 1 : threads;
      add({centres.central, centres.n_central, centres.met}, n_groups, panels, team);
    }
    count = 0;
    for (int64_t i = 0; i < n_rows; ++i) {
      if (objective.stays(rows[i])) list.get()[count++] = rows[i];
    }
    if (count == 0) return;
    const int64_t panels = group_panels(codes, count, threads);
    const int64_t n_groups =
        cut_groups(list.get(), count, seen, centres.n, panels * kTileCols, starts.get());
    const int team = count * (centres.n - seen[list.get()[0]]) < kWorthThreads ? 1 : threads;
    add({nullptr, centres.n, seen}, n_groups, panels, team);
  });
  return work;
}

}  // namespace fastsel::FASTSEL_LEVEL
