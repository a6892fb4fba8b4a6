// Python bindings of the CPU kernels: arguments are unpacked and checked here, nothing else.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "cpu/kernels.h"

namespace py = pybind11;

namespace {

using fastsel::Centres;
using fastsel::Coded;
using fastsel::Codes;
using fastsel::CodesOut;
using fastsel::Dtype;
using fastsel::EntropyState;
using fastsel::Kernels;
using fastsel::Matrix;
using fastsel::Work;

using Bytes = py::array_t<int8_t, py::array::c_style>;
using Doubles = py::array_t<double, py::array::c_style>;
using Floats = py::array_t<float, py::array::c_style>;
using Indices = py::array_t<int64_t, py::array::c_style>;

const Kernels* usable(int* count) { return fastsel::usable_kernels(count); }

const Kernels* active = [] {
  int count;
  return usable(&count);
}();

void require(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

Dtype dtype_of(const py::array& data) {
  switch (data.dtype().char_()) {
    case 'e':
      return Dtype::kFloat16;
    case 'H':
      return Dtype::kBfloat16;
    case 'f':
      return Dtype::kFloat32;
    case 'd':
      return Dtype::kFloat64;
  }
  throw std::invalid_argument("unsupported storage type");
}

Matrix matrix(const py::array& data, const py::object& norms) {
  require(data.ndim() == 2 && (data.flags() & py::array::c_style), "data must be [n, d], C order");
  const double* norms_data = nullptr;
  if (!norms.is_none()) {
    const auto values = py::cast<Doubles>(norms);
    require(values.is(norms) && values.ndim() == 1 && values.shape(0) == data.shape(0),
            "norms must be float64 [n]");
    norms_data = values.data();
  }
  return {data.data(), dtype_of(data), data.shape(0), data.shape(1), norms_data};
}

void min_update(const py::array& points, const py::object& norms, const py::array& centres,
                const py::object& centre_norms, int64_t centre, Doubles sq_dist, int threads) {
  const Matrix p = matrix(points, norms);
  const Matrix c = matrix(centres, centre_norms);
  require(c.dim == p.dim, "points and centres must have the same number of columns");
  require(0 <= centre && centre < c.n, "centre is out of range");
  require(sq_dist.ndim() == 1 && sq_dist.shape(0) == p.n, "sq_dist must be float64 [n]");
  double* out = sq_dist.mutable_data();
  py::gil_scoped_release release;
  active->min_update(p, c, centre, out, threads);
}

void require_rows(const Indices& rows, int64_t n, const char* what) {
  require(rows.ndim() == 1, what);
  const int64_t* values = rows.data();
  for (int64_t i = 0; i < rows.shape(0); ++i) require(0 <= values[i] && values[i] < n, what);
}

void require_units(const Floats& columns, int64_t dim, const char* what) {
  require(columns.ndim() == 2 && columns.shape(0) == dim &&
              columns.shape(1) % fastsel::kSketchUnit == 0,
          what);
}

// Codes of rows, in NumPy's memory.
class CodeArrays {
 public:
  CodeArrays(int64_t n, int64_t depth, double scale)
      : values({n, depth}), scales(n), sq_norms(n), errors(n) {
    codes_ = {values.data(), scales.data(), sq_norms.data(), errors.data(), depth, scale};
  }

  const Codes& codes() const { return codes_; }

  CodesOut out() {
    return {values.mutable_data(), scales.mutable_data(), sq_norms.mutable_data(),
            errors.mutable_data(), codes_.depth};
  }

  // Puts what is of row order[i] in place i.
  void reorder(const Indices& order) {
    CodeArrays result(order.shape(0), codes_.depth, codes_.scale);
    for (int64_t i = 0; i < order.shape(0); ++i) result.copy(codes_, order.data()[i], i);
    *this = std::move(result);
  }

  // Copies a row of codes, as deep as these.
  void copy(const Codes& from, int64_t row, int64_t to) {
    std::memcpy(values.mutable_data() + to * from.depth, from.values + row * from.depth,
                static_cast<size_t>(from.depth));
    scales.mutable_data()[to] = from.scales[row];
    sq_norms.mutable_data()[to] = from.sq_norms[row];
    errors.mutable_data()[to] = from.errors[row];
  }

  Bytes values;
  Floats scales;
  Floats sq_norms;
  Floats errors;

 private:
  Codes codes_;
};

// Points with their codes and, given a basis, those of their sketches. Holds the points' memory.
class CodedPoints {
 public:
  CodedPoints(py::array points, py::object norms, const Doubles& shift, double scale, int64_t limit,
              int threads, const std::optional<Floats>& basis)
      : points_(std::move(points)),
        norms_(std::move(norms)),
        matrix_(matrix(points_, norms_)),
        codes(matrix_.n, (matrix_.dim + 3) / 4 * 4, scale) {
    require(shift.ndim() == 1 && shift.shape(0) == matrix_.dim, "shift must be float64 [d]");
    if (basis) {
      require_units(*basis, matrix_.dim, "basis must be float32 [d, depth], depth in whole units");
      sketch.emplace(matrix_.n, basis->shape(1), scale);
    }
    const int64_t deepest = std::max(codes.codes().depth, sketch ? sketch->codes().depth : 0);
    require(1 <= limit && limit <= 127 && limit * limit < (int64_t{1} << 31) / deepest,
            "limit is out of range");
    const CodesOut whole = codes.out();
    const CodesOut sketches = sketch ? sketch->out() : CodesOut{};
    const float* basis_data = basis ? basis->data() : nullptr;
    py::gil_scoped_release release;
    active->encode(matrix_, shift.data(), scale, limit, whole, basis_data, sketches, threads);
  }

  const Matrix& points() const { return matrix_; }

  Coded coded() const { return {matrix_, codes.codes(), sketch ? sketch->codes() : Codes{}}; }

  // Puts the codes of row order[i] in place i: for a search, whose kernel is told the order.
  void reorder(const Indices& order) {
    require(order.ndim() == 1 && order.shape(0) == matrix_.n, "order must be int64 [n]");
    require_rows(order, matrix_.n, "order must be int64 [n] in [0, n)");
    require(!order_, "the codes are in an order already");
    codes.reorder(order);
    if (sketch) sketch->reorder(order);
    order_ = order;
  }

  // Null: the rows' own.
  const int64_t* order() const { return order_ ? order_->data() : nullptr; }

 private:
  const py::array points_;
  const py::object norms_;
  const Matrix matrix_;
  std::optional<Indices> order_;

 public:
  CodeArrays codes;
  std::optional<CodeArrays> sketch;
};

// Picked rows in order, with copies of their codes: the pool's own lie wherever the rows are.
class PickedCentres {
 public:
  PickedCentres(const CodedPoints& points, int64_t capacity)
      : n_points_(points.points().n),
        source_(points.coded()),
        rows_(capacity),
        codes_(capacity, source_.codes.depth, source_.codes.scale) {
    if (source_.sketch.values != nullptr) {
      sketch_.emplace(capacity, source_.sketch.depth, source_.sketch.scale);
    }
  }

  void append(const Indices& rows) {
    require_rows(rows, n_points_, "rows must be int64 [r] in [0, n)");
    require(count_ + rows.shape(0) <= rows_.shape(0), "more rows than the capacity");
    std::memcpy(rows_.mutable_data() + count_, rows.data(),
                static_cast<size_t>(rows.shape(0)) * sizeof(int64_t));
    copy(source_.codes, rows, &codes_);
    if (sketch_) copy(source_.sketch, rows, &*sketch_);
    count_ += rows.shape(0);
  }

  // With those at the given positions as the central ones.
  Centres centres(const Indices& central, int64_t* met) const {
    require_rows(central, count_, "central must be int64 [c] of positions among the centres");
    return {rows_.data(),
            count_,
            codes_.codes(),
            sketch_ ? sketch_->codes() : Codes{},
            central.data(),
            central.shape(0),
            met};
  }

  int64_t n_points() const { return n_points_; }

 private:
  void copy(const Codes& from, const Indices& rows, CodeArrays* to) {
    for (int64_t i = 0; i < rows.shape(0); ++i) to->copy(from, rows.data()[i], count_ + i);
  }

  const int64_t n_points_;
  const Coded source_;
  Indices rows_;
  CodeArrays codes_;
  std::optional<CodeArrays> sketch_;
  int64_t count_ = 0;
};

py::tuple refresh(const CodedPoints& coded, const PickedCentres& picked, const Indices& central,
                  Indices met, const Indices& rows, Doubles keys, Indices seen, double rival_key,
                  int64_t rival_row, int threads) {
  const int64_t n = coded.points().n;
  require(picked.n_points() == n, "centres must be rows of the points");
  require(met.ndim() == 1 && met.shape(0) == n, "met must be int64 [n]");
  require_rows(rows, n, "rows must be int64 [r] in [0, n)");
  require(keys.ndim() == 1 && keys.shape(0) == n, "keys must be float64 [n]");
  require(seen.ndim() == 1 && seen.shape(0) == n, "seen must be int64 [n]");
  double* keys_out = keys.mutable_data();
  int64_t* seen_out = seen.mutable_data();
  const Centres centres = picked.centres(central, met.mutable_data());
  Work work;
  {
    py::gil_scoped_release release;
    work = active->refresh(coded.coded(), rows.data(), rows.shape(0), keys_out, seen_out, centres,
                           {rival_key, rival_row}, threads);
  }
  return py::make_tuple(work.filtered, work.passed, work.canonical);
}

py::tuple pick(const CodedPoints& coded, const Indices& rows, Doubles keys, double rival_key,
               int64_t rival_row, double min_distance, Indices picks, Doubles sq_radii,
               int threads) {
  const int64_t n = coded.points().n;
  require_rows(rows, n, "rows must be int64 [r] in [0, n)");
  require(rows.shape(0) > 0, "rows must not be empty");
  require(keys.ndim() == 1 && keys.shape(0) == n, "keys must be float64 [n]");
  require(picks.ndim() == 1 && sq_radii.ndim() == 1 && picks.shape(0) == sq_radii.shape(0),
          "picks and sq_radii must have the same length");
  require(picks.shape(0) <= rows.shape(0), "there are fewer rows than picks");
  double* keys_out = keys.mutable_data();
  int64_t* picks_out = picks.mutable_data();
  double* sq_radii_out = sq_radii.mutable_data();
  Work work;
  int64_t count;
  {
    py::gil_scoped_release release;
    count = active->pick(coded.points(), coded.codes.codes(), rows.data(), rows.shape(0), keys_out,
                         {rival_key, rival_row}, min_distance, picks.shape(0), picks_out,
                         sq_radii_out, &work, threads);
  }
  return py::make_tuple(count, work.filtered, work.canonical);
}

py::tuple accept(const CodedPoints& coded, const Indices& rows, Doubles keys, const Doubles& limits,
                 Indices picks, Indices sweeps, Doubles sq_radii, int threads) {
  const int64_t n = coded.points().n;
  require_rows(rows, n, "rows must be int64 [r] in [0, n)");
  require(keys.ndim() == 1 && keys.shape(0) == n, "keys must be float64 [n]");
  require(limits.ndim() == 1 && limits.shape(0) > 0, "limits must be float64 [s], s >= 1");
  require(picks.ndim() == 1 && sweeps.ndim() == 1 && sq_radii.ndim() == 1 &&
              picks.shape(0) == sweeps.shape(0) && picks.shape(0) == sq_radii.shape(0),
          "picks, sweeps and sq_radii must have the same length");
  double* keys_out = keys.mutable_data();
  int64_t* picks_out = picks.mutable_data();
  int64_t* sweeps_out = sweeps.mutable_data();
  double* sq_radii_out = sq_radii.mutable_data();
  Work work;
  int64_t count;
  {
    py::gil_scoped_release release;
    count = active->accept(coded.points(), coded.codes.codes(), rows.data(), rows.shape(0),
                           keys_out, limits.data(), limits.shape(0), picks.shape(0), picks_out,
                           sweeps_out, sq_radii_out, &work, threads);
  }
  return py::make_tuple(count, work.filtered, work.canonical);
}

Floats filter_matrix(const CodedPoints& coded, const Indices& rows, int threads) {
  require_rows(rows, coded.points().n, "rows must be int64 [r] in [0, n)");
  const int64_t stride = active->matrix_stride(rows.shape(0));
  Floats out({rows.shape(0), static_cast<py::ssize_t>(stride)});
  float* data = out.mutable_data();
  py::gil_scoped_release release;
  active->filter_matrix(coded.codes.codes(), rows.data(), rows.shape(0), stride, data, threads);
  return out;
}

// Rows whose neighbours are looked for, or looked for among, with their heaps.
class Searched {
 public:
  Searched(py::object coded, int64_t first, std::optional<Doubles> sq_dist,
           std::optional<Indices> index)
      : object_(std::move(coded)),
        points_(py::cast<const CodedPoints&>(object_)),
        sq_dist_(std::move(sq_dist)),
        index_(std::move(index)),
        searched_{points_.coded(), points_.order(), first, nullptr, nullptr} {
    require(first >= 0, "first must be at least 0");
    require(sq_dist_.has_value() == index_.has_value(), "sq_dist and index belong together");
    if (!sq_dist_) return;
    require(sq_dist_->ndim() == 2 && index_->ndim() == 2 &&
                sq_dist_->shape(0) == points_.points().n &&
                index_->shape(0) == sq_dist_->shape(0) && index_->shape(1) == sq_dist_->shape(1) &&
                sq_dist_->shape(1) >= 1,
            "sq_dist and index must be [n, k]");
    k_ = sq_dist_->shape(1);
    searched_.sq_dist = sq_dist_->mutable_data();
    searched_.index = index_->mutable_data();
  }

  const fastsel::Searched& get() const { return searched_; }
  int64_t k() const { return k_; }

  void foresee(bool exclude_self, int threads) {
    require(k_ > 0, "rows must have heaps");
    py::gil_scoped_release release;
    active->foresee(searched_, k_, exclude_self, threads);
  }

  // Of them as queries among these points.
  int64_t rounds(const Searched& points, int threads) const {
    return active->knn_rounds(searched_, points.searched_, threads);
  }

  py::tuple meet(const Searched& points, bool by_inner_product, bool exclude_self,
                 int64_t first_round, int64_t n_rounds, int threads) const {
    const Coded& q = searched_.coded;
    const Coded& p = points.searched_.coded;
    require(k_ > 0, "queries must have heaps");
    require(points.k_ == 0 || points.k_ == k_, "heaps must be of one size");
    require(q.points.dim == p.points.dim, "queries and points must have the same columns");
    require(q.points.dtype == p.points.dtype &&
                (q.points.norms == nullptr) == (p.points.norms == nullptr),
            "queries and points must have the same dtype and metric");
    require(q.codes.scale == p.codes.scale && q.sketch.depth == p.sketch.depth,
            "codes must be of one scale and depth");
    require(0 <= first_round && 0 <= n_rounds && first_round + n_rounds <= rounds(points, threads),
            "rounds are out of range");
    Work work;
    {
      py::gil_scoped_release release;
      work = active->knn(searched_, points.searched_, k_, by_inner_product, exclude_self,
                         first_round, n_rounds, threads);
    }
    return py::make_tuple(work.filtered, work.passed, work.canonical);
  }

 private:
  const py::object object_;
  const CodedPoints& points_;
  std::optional<Doubles> sq_dist_;
  std::optional<Indices> index_;
  fastsel::Searched searched_;
  int64_t k_ = 0;
};

void sort_neighbours(Doubles sq_dist, Indices index, int threads) {
  require(sq_dist.ndim() == 2 && index.ndim() == 2 && sq_dist.shape(0) == index.shape(0) &&
              sq_dist.shape(1) == index.shape(1) && sq_dist.shape(1) >= 1,
          "sq_dist and index must be [n, k]");
  double* sq_dist_out = sq_dist.mutable_data();
  int64_t* index_out = index.mutable_data();
  py::gil_scoped_release release;
  active->sort_neighbours(sq_dist_out, index_out, sq_dist.shape(0), sq_dist.shape(1), threads);
}

Floats project(const Floats& rows, const Floats& basis, int threads) {
  require(rows.ndim() == 2, "rows must be float32 [n, d]");
  require_units(basis, rows.shape(1), "basis must be float32 [d, depth], depth in whole units");
  Floats out({rows.shape(0), basis.shape(1)});
  float* data = out.mutable_data();
  py::gil_scoped_release release;
  active->project(rows.data(), rows.shape(0), rows.shape(1), basis.data(), basis.shape(1), data,
                  threads);
  return out;
}

void principal(const Floats& sample, Floats directions, int steps, int threads) {
  require(sample.ndim() == 2, "sample must be float32 [n, d]");
  require_units(directions, sample.shape(1),
                "directions must be float32 [d, depth], depth in whole units");
  float* data = directions.mutable_data();
  py::gil_scoped_release release;
  active->principal(sample.data(), sample.shape(0), sample.shape(1), directions.shape(1), steps,
                    data, threads);
}

// A greedy entropy selection. Holds the memory of its arrays, which Python owns too.
class EntropyPool {
 public:
  EntropyPool(py::object coded, Indices gains, Doubles sq_dist, Indices seen, Indices members,
              Doubles sq_eps, double min_distance)
      : object_(std::move(coded)),
        coded_(py::cast<const CodedPoints&>(object_)),
        gains_(std::move(gains)),
        sq_dist_(std::move(sq_dist)),
        seen_(std::move(seen)),
        members_(std::move(members)),
        sq_eps_(std::move(sq_eps)) {
    const int64_t n = coded_.points().n;
    require(gains_.ndim() == 1 && gains_.shape(0) == n, "gains must be int64 [n]");
    require(sq_dist_.ndim() == 1 && sq_dist_.shape(0) == n, "sq_dist must be float64 [n]");
    require(seen_.ndim() == 1 && seen_.shape(0) == n, "seen must be int64 [n]");
    require(members_.ndim() == 1 && sq_eps_.ndim() == 1 && members_.shape(0) == sq_eps_.shape(0),
            "members and sq_eps must have the same length");
    const auto capacity = static_cast<size_t>(members_.shape(0));
    balls_.resize(static_cast<size_t>(n));
    log_eps_.resize(capacity);
    reaches_.resize(capacity);
    sketch_reaches_.resize(capacity);
    inside_.resize(capacity);
    last_central_.resize(capacity);
    state_ = {gains_.mutable_data(),
              sq_dist_.mutable_data(),
              seen_.mutable_data(),
              balls_.data(),
              members_.mutable_data(),
              sq_eps_.mutable_data(),
              log_eps_.data(),
              reaches_.data(),
              sketch_reaches_.data(),
              inside_.data(),
              last_central_.data(),
              nullptr,
              0,
              min_distance,
              true};
  }
  EntropyPool(const EntropyPool&) = delete;
  EntropyPool& operator=(const EntropyPool&) = delete;
  ~EntropyPool() {
    for (const auto& list : balls_) std::free(list.items);
    for (const auto& list : inside_) std::free(list.items);
  }

  // The first `count` of members and sq_eps are there.
  void start(int64_t count) {
    require(0 <= count && count <= members_.shape(0), "count is out of range");
    require(state_.n_members == 0, "the selection has members already");
    for (int64_t i = 0; i < count; ++i) {
      require(0 <= state_.members[i] && state_.members[i] < coded_.points().n,
              "members must be in [0, n)");
    }
    active->entropy_start(coded_.coded(), &state_, count);
  }

  // `picked` are the members, with the central ones as in the refresh of other selections.
  py::tuple refresh(const PickedCentres& picked, const Indices& central, Indices met,
                    const Indices& rows, int64_t rival_gain, int64_t rival_row, int threads) {
    const int64_t n = coded_.points().n;
    require(met.ndim() == 1 && met.shape(0) == n, "met must be int64 [n]");
    require_rows(rows, n, "rows must be int64 [r] in [0, n)");
    const Centres centres = picked.centres(central, met.mutable_data());
    require(picked.n_points() == n && centres.n == state_.n_members,
            "centres must be the members of the selection");
    Work work;
    {
      py::gil_scoped_release release;
      work = active->entropy_refresh(coded_.coded(), &state_, rows.data(), rows.shape(0), centres,
                                     {rival_gain, rival_row}, threads);
    }
    if (!state_.enough_memory) throw std::bad_alloc();
    return py::make_tuple(work.filtered, work.passed, work.canonical);
  }

  py::tuple pick(const Indices& rows, int64_t rival_gain, int64_t rival_row, Doubles sq_radii) {
    require_rows(rows, coded_.points().n, "rows must be int64 [r] in [0, n)");
    require(rows.shape(0) > 0, "rows must not be empty");
    require(sq_radii.ndim() == 1 && state_.n_members + sq_radii.shape(0) <= members_.shape(0),
            "there is no room for so many picks");
    double* radii = sq_radii.mutable_data();
    Work work;
    int64_t count;
    {
      py::gil_scoped_release release;
      count = active->entropy_pick(coded_.coded(), &state_, rows.data(), rows.shape(0),
                                   {rival_gain, rival_row}, sq_radii.shape(0), radii, &work);
    }
    if (!state_.enough_memory) throw std::bad_alloc();
    return py::make_tuple(count, work.filtered, work.canonical);
  }

  int64_t balls() const {
    int64_t count = 0;
    for (const auto& list : inside_) count += list.count;
    return count;
  }

 private:
  const py::object object_;
  const CodedPoints& coded_;
  Indices gains_;
  Doubles sq_dist_;
  Indices seen_;
  Indices members_;
  Doubles sq_eps_;
  std::vector<fastsel::List<fastsel::Ball>> balls_;
  std::vector<int64_t> log_eps_;
  std::vector<float> reaches_;
  std::vector<float> sketch_reaches_;
  std::vector<fastsel::List<fastsel::Inside>> inside_;
  std::vector<int64_t> last_central_;
  EntropyState state_;
};

py::list levels() {
  int count;
  const Kernels* kernels = usable(&count);
  py::list names;
  for (int i = 0; i < count; ++i) names.append(kernels[i].level);
  return names;
}

void use_level(const std::string& level) {
  int count;
  const Kernels* kernels = usable(&count);
  for (int i = 0; i < count; ++i) {
    if (level == kernels[i].level) {
      active = &kernels[i];
      return;
    }
  }
  throw std::invalid_argument("no usable instruction set is called " + level);
}

int max_threads() {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

}  // namespace

PYBIND11_MODULE(_core_cpu, m) {
  m.doc() = "Kernels of the cpu backend; call them through fastsel.backends.cpu.";
  // noconvert: an array of another type or order would be copied, and results written to the copy.
  m.def("min_update", &min_update, py::arg("points"), py::arg("norms").none(true),
        py::arg("centres"), py::arg("centre_norms").none(true), py::arg("centre"),
        py::arg("sq_dist").noconvert(), py::arg("threads"));
  py::class_<CodeArrays>(m, "Codes", "What the filter knows of rows; csrc/cpu/filter.h.")
      .def_readonly("values", &CodeArrays::values)
      .def_readonly("scales", &CodeArrays::scales)
      .def_readonly("sq_norms", &CodeArrays::sq_norms)
      .def_readonly("errors", &CodeArrays::errors)
      .def_property_readonly("scale", [](const CodeArrays& self) { return self.codes().scale; });
  py::class_<CodedPoints>(m, "CodedPoints",
                          "Points with their int8 codes and, given a basis, those of their "
                          "sketches; holds the points' memory.")
      .def(py::init<py::array, py::object, const Doubles&, double, int64_t, int,
                    const std::optional<Floats>&>(),
           py::arg("points"), py::arg("norms").none(true), py::arg("shift"), py::arg("scale"),
           py::arg("limit"), py::arg("threads"), py::arg("basis") = py::none())
      .def("reorder", &CodedPoints::reorder, py::arg("order").noconvert())
      .def_readonly("codes", &CodedPoints::codes)
      .def_readonly("sketch", &CodedPoints::sketch);
  py::class_<PickedCentres>(m, "PickedCentres", "Picked rows in order, with copies of their codes.")
      .def(py::init<const CodedPoints&, int64_t>(), py::arg("points"), py::arg("capacity"),
           py::keep_alive<1, 2>())
      .def("append", &PickedCentres::append, py::arg("rows").noconvert());
  m.def("refresh", &refresh, py::arg("coded"), py::arg("centres"), py::arg("central").noconvert(),
        py::arg("met").noconvert(), py::arg("rows").noconvert(), py::arg("keys").noconvert(),
        py::arg("seen").noconvert(), py::arg("rival_key"), py::arg("rival_row"),
        py::arg("threads"));
  m.def("pick", &pick, py::arg("coded"), py::arg("rows").noconvert(), py::arg("keys").noconvert(),
        py::arg("rival_key"), py::arg("rival_row"), py::arg("min_distance"),
        py::arg("picks").noconvert(), py::arg("sq_radii").noconvert(), py::arg("threads"));
  m.def("accept", &accept, py::arg("coded"), py::arg("rows").noconvert(),
        py::arg("keys").noconvert(), py::arg("limits"), py::arg("picks").noconvert(),
        py::arg("sweeps").noconvert(), py::arg("sq_radii").noconvert(), py::arg("threads"));
  py::class_<EntropyPool>(m, "EntropyPool", "A greedy entropy selection in the making.")
      .def(py::init<py::object, Indices, Doubles, Indices, Indices, Doubles, double>(),
           py::arg("coded"), py::arg("gains").noconvert(), py::arg("sq_dist").noconvert(),
           py::arg("seen").noconvert(), py::arg("members").noconvert(),
           py::arg("sq_eps").noconvert(), py::arg("min_distance"))
      .def("start", &EntropyPool::start, py::arg("count"))
      .def("refresh", &EntropyPool::refresh, py::arg("members"), py::arg("central").noconvert(),
           py::arg("met").noconvert(), py::arg("rows").noconvert(), py::arg("rival_gain"),
           py::arg("rival_row"), py::arg("threads"))
      .def("pick", &EntropyPool::pick, py::arg("rows").noconvert(), py::arg("rival_gain"),
           py::arg("rival_row"), py::arg("sq_radii").noconvert())
      .def_property_readonly("balls", &EntropyPool::balls);
  m.def("filter_matrix", &filter_matrix, py::arg("coded"), py::arg("rows").noconvert(),
        py::arg("threads"),
        "What the filter sees, for tests and benchmarks: columns beyond the rows are +inf.");
  py::class_<Searched>(m, "Searched", "Rows of a search for neighbours, with heaps of the best.")
      .def(py::init<py::object, int64_t, std::optional<Doubles>, std::optional<Indices>>(),
           py::arg("coded"), py::arg("first"), py::arg("sq_dist").noconvert() = py::none(),
           py::arg("index").noconvert() = py::none())
      .def("foresee", &Searched::foresee, py::arg("exclude_self"), py::arg("threads"))
      .def("rounds", &Searched::rounds, py::arg("points"), py::arg("threads"))
      .def("meet", &Searched::meet, py::arg("points"), py::arg("by_inner_product"),
           py::arg("exclude_self"), py::arg("first_round"), py::arg("n_rounds"),
           py::arg("threads"));
  m.def("sort_neighbours", &sort_neighbours, py::arg("sq_dist").noconvert(),
        py::arg("index").noconvert(), py::arg("threads"));
  m.def("project", &project, py::arg("rows").noconvert(), py::arg("basis").noconvert(),
        py::arg("threads"));
  m.def("principal", &principal, py::arg("sample").noconvert(), py::arg("directions").noconvert(),
        py::arg("steps"), py::arg("threads"));
  m.def("levels", &levels, "Instruction sets that this processor can run, best first.");
  m.def("level", [] { return active->level; }, "The instruction set in use.");
  m.def("use_level", &use_level, py::arg("level"), "Switch the instruction set, for tests.");
  m.def("max_threads", &max_threads, "OpenMP's number of threads; 1 without OpenMP.");
#ifdef _OPENMP
  m.attr("openmp") = true;
#else
  m.attr("openmp") = false;
#endif
}
