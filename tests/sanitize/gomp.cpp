// What the core needs of GCC's OpenMP library, over std::thread, for ThreadSanitizer.
//
// libgomp waits by system calls that ThreadSanitizer does not know, so that it sees a race wherever
// a barrier or the end of a parallel region orders two accesses. Here these are mutexes and
// condition variables, which it knows, and nothing else orders anything: iterations are handed out
// by relaxed counters. Linked into the core, the functions take the place of those of libgomp.
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace {

// Loops with dynamic schedule that a parallel region may have.
constexpr size_t kLoops = 1 << 16;

struct Team {
  explicit Team(unsigned members) : size(members), taken(new std::atomic<long>[kLoops]()) {}

  const unsigned size;
  const std::unique_ptr<std::atomic<long>[]> taken;  // chunks of each loop
  std::mutex mutex;
  std::condition_variable all_arrived;
  unsigned arrived = 0;
  unsigned long barriers = 0;

  void wait() {
    std::unique_lock lock(mutex);
    const unsigned long mine = barriers;
    if (++arrived == size) {
      arrived = 0;
      ++barriers;
      all_arrived.notify_all();
    } else {
      all_arrived.wait(lock, [&] { return barriers != mine; });
    }
  }
};

struct Loop {
  long begin;
  long end;
  long stride;  // of a chunk
};

struct Member {
  Team* team = nullptr;
  unsigned number = 0;
  size_t loops = 0;  // how many it has entered
  Loop loop = {0, 0, 0};
};

thread_local Member self;
std::mutex critical;
std::mutex atomic;

bool take(long* first, long* last) {
  // All get some, however short the loop.
  std::this_thread::yield();
  const Loop& loop = self.loop;
  const long chunk = self.team->taken[self.loops - 1].fetch_add(1, std::memory_order_relaxed);
  *first = loop.begin + chunk * loop.stride;
  *last = *first + loop.stride < loop.end ? *first + loop.stride : loop.end;
  return *first < loop.end;
}

}  // namespace

extern "C" {

int omp_get_max_threads() {
  const char* wanted = std::getenv("OMP_NUM_THREADS");
  return wanted != nullptr ? std::atoi(wanted) : 4;
}

int omp_get_num_threads() { return self.team != nullptr ? static_cast<int>(self.team->size) : 1; }

int omp_get_thread_num() { return static_cast<int>(self.number); }

void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned) {
  if (threads == 0) threads = static_cast<unsigned>(omp_get_max_threads());
  Team team(threads);
  const auto run = [&](unsigned number) {
    const Member outer = self;
    self = {&team, number, 0, {0, 0, 0}};
    team.wait();
    body(data);
    self = outer;
  };
  std::vector<std::thread> others;
  for (unsigned i = 1; i < threads; ++i) others.emplace_back(run, i);
  run(0);
  for (std::thread& other : others) other.join();
}

void GOMP_barrier() {
  if (self.team != nullptr) self.team->wait();
}

bool GOMP_loop_nonmonotonic_dynamic_start(long begin, long end, long step, long chunk, long* first,
                                          long* last) {
  if (++self.loops > kLoops) {
    std::fputs("gomp.cpp: a parallel region has more loops than it allows\n", stderr);
    std::abort();
  }
  self.loop = {begin, end, step * chunk};
  return take(first, last);
}

bool GOMP_loop_nonmonotonic_dynamic_next(long* first, long* last) { return take(first, last); }

void GOMP_loop_end() { GOMP_barrier(); }

void GOMP_loop_end_nowait() {}

void GOMP_critical_start() { critical.lock(); }

void GOMP_critical_end() { critical.unlock(); }

void GOMP_critical_name_start(void**) { critical.lock(); }

void GOMP_critical_name_end(void**) { critical.unlock(); }

void GOMP_atomic_start() { atomic.lock(); }

void GOMP_atomic_end() { atomic.unlock(); }

}  // extern "C"
