// Python bindings of the CPU kernels: arguments are unpacked and checked here, nothing else.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "cpu/kernels.h"

namespace py = pybind11;

namespace {

using fastsel::Dtype;
using fastsel::Kernels;
using fastsel::Matrix;

using Doubles = py::array_t<double, py::array::c_style>;
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

void knn(const py::array& queries, const py::object& query_norms, const py::array& points,
         const py::object& norms, int64_t first_query, bool exclude_self, Doubles sq_dist,
         Indices index, int threads) {
  const Matrix q = matrix(queries, query_norms);
  const Matrix p = matrix(points, norms);
  require(q.dim == p.dim, "queries and points must have the same number of columns");
  require(sq_dist.ndim() == 2 && index.ndim() == 2 && sq_dist.shape(0) == index.shape(0) &&
              sq_dist.shape(1) == index.shape(1),
          "sq_dist and index must be [count, k]");
  const int64_t count = sq_dist.shape(0);
  const int64_t k = sq_dist.shape(1);
  require(0 <= first_query && first_query + count <= q.n, "queries are out of range");
  require(1 <= k && k <= p.n - (exclude_self ? 1 : 0), "k is out of range");
  double* sq_dist_out = sq_dist.mutable_data();
  int64_t* index_out = index.mutable_data();
  py::gil_scoped_release release;
  active->knn(q, p, first_query, count, k, exclude_self, sq_dist_out, index_out, threads);
}

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
  m.def("knn", &knn, py::arg("queries"), py::arg("query_norms").none(true), py::arg("points"),
        py::arg("norms").none(true), py::arg("first_query"), py::arg("exclude_self"),
        py::arg("sq_dist").noconvert(), py::arg("index").noconvert(), py::arg("threads"));
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
