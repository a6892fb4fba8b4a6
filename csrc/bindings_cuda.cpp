// Python bindings of the CUDA kernels: arguments are unpacked and checked here, nothing else.
//
// Arrays of the device come as addresses, with their lengths; fastsel/backends/cuda.py, which has
// the tensors, answers for their types and places. A stream is an address too.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>

#include "cuda/kernels.h"
#include "cuda/tiles.h"

namespace py = pybind11;

namespace {

using fastsel::Codes;
using fastsel::Dtype;
using fastsel::Matrix;
using fastsel::cuda::Active;
using fastsel::cuda::Balls;
using fastsel::cuda::CodeRows;
using fastsel::cuda::EntropyPicks;
using fastsel::cuda::EntropyRound;
using fastsel::cuda::Members;
using fastsel::cuda::Pairs;
using fastsel::cuda::Picks;
using fastsel::cuda::Runs;
using fastsel::cuda::Stream;

using Address = uintptr_t;

void require(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

template <class T>
T* pointer(Address address, const char* what) {
  require(address != 0 && address % alignof(T) == 0, what);
  return reinterpret_cast<T*>(address);
}

Stream stream_of(Address address) { return reinterpret_cast<Stream>(address); }

// data, dtype, n, dim, norms or 0
using MatrixArgument = std::tuple<Address, std::string, int64_t, int64_t, Address>;

Dtype dtype_of(const std::string& name) {
  if (name == "float16") return Dtype::kFloat16;
  if (name == "bfloat16") return Dtype::kBfloat16;
  if (name == "float32") return Dtype::kFloat32;
  if (name == "float64") return Dtype::kFloat64;
  throw std::invalid_argument("unsupported storage type");
}

Matrix matrix(const MatrixArgument& argument) {
  const auto& [data, name, n, dim, norms] = argument;
  const Dtype dtype = dtype_of(name);
  const Address size = dtype == Dtype::kFloat64 ? 8 : dtype == Dtype::kFloat32 ? 4 : 2;
  require(n >= 1 && dim >= 1, "data must be [n, d] with n, d >= 1");
  require(data != 0 && data % size == 0, "data must be an aligned address");
  return {reinterpret_cast<const void*>(data), dtype, n, dim,
          norms == 0 ? nullptr : pointer<const double>(norms, "norms must be float64 [n]")};
}

void require_alike(const Matrix& a, const Matrix& b) {
  require(a.dtype == b.dtype && (a.norms == nullptr) == (b.norms == nullptr),
          "both must have the same dtype and metric");
  require(a.dim == b.dim, "both must have the same number of columns");
}

// values, scales, sq_norms, errors, n, depth
using CodesArgument = std::tuple<Address, Address, Address, Address, int64_t, int64_t>;

// The rows of codes that are listed at `rows`, n of them.
CodeRows code_rows(const CodesArgument& argument, Address rows, int64_t n) {
  const auto& [values, scales, sq_norms, errors, n_codes, depth] = argument;
  require(depth >= 1 && depth % fastsel::cuda::kCodeUnit == 0 && depth < int64_t{1} << 31,
          "codes must have a multiple of 64 columns");
  require(values != 0 && values % 16 == 0, "codes must be aligned to 16 bytes");
  require(n_codes >= 1 && n >= 1 && n < int64_t{1} << 31, "rows must be in [1, 2^31)");
  return {{reinterpret_cast<const int8_t*>(values), pointer<const float>(scales, "scales"),
           pointer<const float>(sq_norms, "sq_norms"), pointer<const float>(errors, "errors"),
           depth, 1.0},
          pointer<const int64_t>(rows, "rows must be int64 [n]"),
          n};
}

void require_product(const CodeRows& queries, const CodeRows& points, int tile) {
  require(queries.codes.depth == points.codes.depth, "codes must have the same number of columns");
  require(0 <= tile && tile < fastsel::cuda::kNumTiles, "tile must be an entry of the table");
  // What a launch's grid holds.
  require(queries.n <= int64_t{65535} * fastsel::cuda::kTiles[tile].rows,
          "at most 65,535 tiles of queries in a call");
}

// How many points each query may pass over, int64 [n], or 0.
const int64_t* skipped_at(Address address) {
  return address == 0 ? nullptr : pointer<const int64_t>(address, "first must be int64 [queries]");
}

// pairs, capacity, count
using PairsArgument = std::tuple<Address, int64_t, Address>;

Pairs pairs_of(const PairsArgument& argument) {
  const auto& [pairs, capacity, count] = argument;
  require(capacity >= 1, "pairs must be int32 [capacity, 2], capacity >= 1");
  return {pointer<int32_t>(pairs, "pairs must be int32 [capacity, 2]"), capacity,
          pointer<int64_t>(count, "n_pairs must be int64 [1]")};
}

// matrix, stride, rows, keys, n_active
using ActiveArgument = std::tuple<Address, int64_t, Address, Address, Address>;

Active active_of(const ActiveArgument& argument) {
  const auto& [matrix, stride, rows, keys, n_active] = argument;
  require(1 <= stride && stride <= fastsel::cuda::kMaxActive, "at most 2048 active rows");
  return {pointer<const double>(matrix, "matrix must be float64 [a, a]"),
          pointer<const int64_t>(rows, "rows must be int64 [a]"),
          pointer<double>(keys, "keys must be float64 [n]"),
          pointer<const int64_t>(n_active, "n_active must be int64 [1]"), stride};
}

// picks, sq_radii, n_picks, capacity
using PicksArgument = std::tuple<Address, Address, Address, int64_t>;

Picks picks_of(const PicksArgument& argument) {
  const auto& [rows, sq_radii, count, capacity] = argument;
  require(capacity >= 1, "picks must be int64 [capacity], capacity >= 1");
  return {pointer<int64_t>(rows, "picks must be int64 [capacity]"),
          pointer<double>(sq_radii, "sq_radii must be float64 [capacity]"),
          pointer<int64_t>(count, "n_picks must be int64 [1]"), capacity};
}

void min_update(const MatrixArgument& points, Address centre, Address sq_dist, Address stream) {
  fastsel::cuda::min_update(
      matrix(points), pointer<const double>(centre, "centre must be float64 [d]"),
      pointer<double>(sq_dist, "sq_dist must be float64 [n]"), stream_of(stream));
}

void group_min(const CodesArgument& q_codes, Address q_rows, int64_t n_queries,
               const CodesArgument& p_codes, Address p_rows, int64_t n_points, int64_t group,
               Address first, int tile, Address out, Address stream) {
  const CodeRows queries = code_rows(q_codes, q_rows, n_queries);
  const CodeRows points = code_rows(p_codes, p_rows, n_points);
  require_product(queries, points, tile);
  require(group >= 1, "group must be at least 1");
  fastsel::cuda::group_min(queries, points, group, skipped_at(first), tile,
                           pointer<float>(out, "out must be float32 [queries, groups]"),
                           stream_of(stream));
}

void survivors(const CodesArgument& q_codes, Address q_rows, int64_t n_queries,
               const CodesArgument& p_codes, Address p_rows, int64_t n_points, Address reach,
               Address first, int tile, const PairsArgument& pairs, Address overflow,
               Address stream) {
  const CodeRows queries = code_rows(q_codes, q_rows, n_queries);
  const CodeRows points = code_rows(p_codes, p_rows, n_points);
  require_product(queries, points, tile);
  fastsel::cuda::survivors(
      queries, points, pointer<const float>(reach, "reach must be float32 [queries]"),
      skipped_at(first), tile, pairs_of(pairs),
      pointer<uint8_t>(overflow, "overflow must be uint8 [queries]"), stream_of(stream));
}

void pair_min(const MatrixArgument& points, Address rows, const MatrixArgument& centres,
              Address cols, const PairsArgument& pairs, Address keys, Address stream) {
  const Matrix p = matrix(points);
  const Matrix c = matrix(centres);
  require_alike(p, c);
  fastsel::cuda::pair_min(p, pointer<const int64_t>(rows, "rows must be int64 [r]"), c,
                          pointer<const int64_t>(cols, "cols must be int64 [c]"), pairs_of(pairs),
                          pointer<double>(keys, "keys must be float64 [n]"), stream_of(stream));
}

// Queries and points of a search by keys.
void require_keys(const Matrix& queries, const Matrix& points, bool by_inner_product) {
  require_alike(queries, points);
  require(!by_inner_product || points.norms == nullptr, "inner products are of rows without norms");
}

void pair_sq_dists(const MatrixArgument& queries, const MatrixArgument& points,
                   const PairsArgument& pairs, bool by_inner_product, Address out, Address stream) {
  const Matrix q = matrix(queries);
  const Matrix p = matrix(points);
  require_keys(q, p, by_inner_product);
  fastsel::cuda::pair_sq_dists(q, p, pairs_of(pairs), by_inner_product,
                               pointer<double>(out, "out must be float64 [capacity]"),
                               stream_of(stream));
}

void by_row(const PairsArgument& pairs, Address next, Address cols, Address stream) {
  fastsel::cuda::by_row(
      pairs_of(pairs), pointer<int64_t>(next, "next must be int64 [rows]"),
      cols == 0 ? nullptr : pointer<int32_t>(cols, "cols must be int32 [capacity]"),
      stream_of(stream));
}

void top_k(const MatrixArgument& queries, Address rows, int64_t n, const MatrixArgument& points,
           Address first, Address cols, bool exclude_self, bool by_inner_product, int64_t k,
           Address keys, Address index, Address stream) {
  const Matrix q = matrix(queries);
  const Matrix p = matrix(points);
  require_keys(q, p, by_inner_product);
  require(n >= 1 && n < int64_t{1} << 31, "rows must be in [1, 2^31)");
  require(1 <= k && k <= fastsel::cuda::kMaxTop, "k must be in [1, 64]");
  fastsel::cuda::top_k(q, pointer<const int64_t>(rows, "rows must be int64 [n]"), n, p,
                       {pointer<const int64_t>(first, "first must be int64 [n + 1]"),
                        pointer<const int32_t>(cols, "cols must be int32 [capacity]")},
                       exclude_self, by_inner_product, static_cast<int>(k),
                       pointer<double>(keys, "keys must be float64 [n, k]"),
                       pointer<int64_t>(index, "index must be int64 [n, k]"), stream_of(stream));
}

void sq_dist_matrix(const MatrixArgument& points, Address rows, int64_t n, Address out,
                    Address stream) {
  require(1 <= n && n <= fastsel::cuda::kMaxActive, "rows must be in [1, 2048]");
  fastsel::cuda::sq_dist_matrix(
      matrix(points), pointer<const int64_t>(rows, "rows must be int64 [a]"), n,
      pointer<double>(out, "out must be float64 [a, a]"), stream_of(stream));
}

void pick(const ActiveArgument& active, Address rival_key, Address rival_row, double least,
          const PicksArgument& picks, Address stream) {
  fastsel::cuda::pick(active_of(active),
                      pointer<const double>(rival_key, "rival's key must be float64 [1]"),
                      pointer<const int64_t>(rival_row, "rival's row must be int64 [1]"), least,
                      picks_of(picks), stream_of(stream));
}

void accept(const ActiveArgument& active, Address limits, int64_t n_limits,
            const PicksArgument& picks, Address sweeps, Address stream) {
  require(n_limits >= 1, "limits must be float64 [s], s >= 1");
  fastsel::cuda::accept(
      active_of(active), pointer<const double>(limits, "limits must be float64 [s]"), n_limits,
      picks_of(picks), pointer<int64_t>(sweeps, "sweeps must be int64 [capacity]"),
      stream_of(stream));
}

// rows, members, logs, count, capacity
using BallsArgument = std::tuple<Address, Address, Address, Address, int64_t>;

Balls balls_of(const BallsArgument& argument) {
  const auto& [rows, members, logs, count, capacity] = argument;
  require(capacity >= 1, "balls must have room");
  return {pointer<int32_t>(rows, "balls' rows must be int32 [capacity]"),
          pointer<int32_t>(members, "balls' members must be int32 [capacity]"),
          pointer<int64_t>(logs, "balls' logs must be int64 [capacity]"),
          pointer<int64_t>(count, "balls' count must be int64 [1]"), capacity};
}

// members, log_eps, first, of the members that are looked at
using MembersArgument = std::tuple<Address, Address, int64_t>;

// first, others, logs
using RunsArgument = std::tuple<Address, Address, Address>;

Runs runs_of(const RunsArgument& argument) {
  const auto& [first, others, logs] = argument;
  return {pointer<const int64_t>(first, "runs must begin at int64 [n + 1]"),
          pointer<const int32_t>(others, "runs must be int32 [entries]"),
          pointer<const int64_t>(logs, "logs of runs must be int64 [entries]")};
}

void enter_balls(const MatrixArgument& points, const MembersArgument& members, Address rows,
                 const PairsArgument& pairs, Address seen, Address gains,
                 const BallsArgument& balls, Address stream) {
  const auto& [numbers, log_eps, first] = members;
  require(first >= 0, "first must be at least 0");
  const Members listed = {pointer<const int64_t>(numbers, "members must be int64 [m]"),
                          pointer<const int64_t>(log_eps, "log_eps must be int64 [m]"), first};
  fastsel::cuda::enter_balls(
      matrix(points), listed, pointer<const int64_t>(rows, "rows must be int64 [r]"),
      pairs_of(pairs), pointer<const int64_t>(seen, "seen must be int64 [n]"),
      pointer<int64_t>(gains, "gains must be int64 [n]"), balls_of(balls), stream_of(stream));
}

void renew_gains(Address rows, Address before, int64_t n, Address sq_dist, double least,
                 Address gains, Address stream) {
  require(n >= 1, "rows must be int64 [r], r >= 1");
  fastsel::cuda::renew_gains(pointer<const int64_t>(rows, "rows must be int64 [r]"),
                             pointer<const double>(before, "before must be float64 [r]"), n,
                             pointer<const double>(sq_dist, "sq_dist must be float64 [n]"), least,
                             pointer<int64_t>(gains, "gains must be int64 [n]"), stream_of(stream));
}

// matrix, rows, n, place, runs of rows, runs of members, n_members
using RoundArgument =
    std::tuple<Address, Address, int64_t, Address, RunsArgument, RunsArgument, int64_t>;

// gains, sq_dist, log_eps
using GainsArgument = std::tuple<Address, Address, Address>;

// members, sq_eps, sq_radii, places, counts, capacity
using EntropyPicksArgument = std::tuple<Address, Address, Address, Address, Address, int64_t>;

void entropy_pick(const RoundArgument& round, Address rival, Address rival_row, double least,
                  const GainsArgument& known, const EntropyPicksArgument& picks, Address stream) {
  const auto& [matrix, rows, n, place, of_row, of_member, n_members] = round;
  const auto& [gains, sq_dist, log_eps] = known;
  const auto& [members, sq_eps, sq_radii, places, counts, capacity] = picks;
  require(1 <= n && n <= fastsel::cuda::kMaxActive, "at most 2048 active rows");
  require(n_members >= 0 && capacity >= 1, "members must be int64 [capacity], capacity >= 1");
  const EntropyRound given = {pointer<const double>(matrix, "matrix must be float64 [a, a]"),
                              pointer<const int64_t>(rows, "rows must be int64 [a]"),
                              n,
                              pointer<const int32_t>(place, "place must be int32 [n]"),
                              runs_of(of_row),
                              runs_of(of_member),
                              n_members,
                              pointer<const int64_t>(rival, "rival's gain must be int64 [1]"),
                              pointer<const int64_t>(rival_row, "rival's row must be int64 [1]"),
                              least,
                              pointer<int64_t>(gains, "gains must be int64 [n]"),
                              pointer<double>(sq_dist, "sq_dist must be float64 [n]"),
                              pointer<int64_t>(log_eps, "log_eps must be int64 [m]")};
  const EntropyPicks out = {pointer<int64_t>(members, "members must be int64 [capacity]"),
                            pointer<double>(sq_eps, "sq_eps must be float64 [capacity]"),
                            pointer<double>(sq_radii, "sq_radii must be float64 [capacity]"),
                            pointer<int64_t>(places, "places must be int64 [capacity]"),
                            pointer<int64_t>(counts, "counts must be int64 [2]"),
                            capacity};
  fastsel::cuda::entropy_pick(given, out, stream_of(stream));
}

void enter_picks(Address matrix, Address rows, int64_t n, Address gains, Address places,
                 Address sq_eps, int64_t n_picks, int64_t first, const BallsArgument& balls,
                 Address stream) {
  require(1 <= n && n <= fastsel::cuda::kMaxActive, "at most 2048 active rows");
  require(1 <= n_picks && n_picks <= n, "picks must be among the rows");
  fastsel::cuda::enter_picks(pointer<const double>(matrix, "matrix must be float64 [a, a]"),
                             pointer<const int64_t>(rows, "rows must be int64 [a]"), n,
                             pointer<const int64_t>(gains, "gains must be int64 [n]"),
                             pointer<const int64_t>(places, "places must be int64 [picks]"),
                             pointer<const double>(sq_eps, "sq_eps must be float64 [picks]"),
                             n_picks, first, balls_of(balls), stream_of(stream));
}

}  // namespace

PYBIND11_MODULE(FASTSEL_MODULE, m) {
  m.attr("architectures") = FASTSEL_ARCHITECTURES;
  // The table of tiles: (capability, rows) of each entry.
  py::list tiles;
  for (const fastsel::cuda::Tile& tile : fastsel::cuda::kTiles) {
    tiles.append(py::make_tuple(tile.capability, tile.rows));
  }
  m.attr("tiles") = tiles;
  m.def("min_update", min_update);
  m.def("group_min", group_min);
  m.def("survivors", survivors);
  m.def("pair_min", pair_min);
  m.def("pair_sq_dists", pair_sq_dists);
  m.def("by_row", by_row);
  m.def("top_k", top_k);
  m.def("sq_dist_matrix", sq_dist_matrix);
  m.def("pick", pick);
  m.def("accept", accept);
  m.def("enter_balls", enter_balls);
  m.def("renew_gains", renew_gains);
  m.def("entropy_pick", entropy_pick);
  m.def("enter_picks", enter_picks);
}
