// Measuring this machine: threads that start together, do the same work, and are timed from outside.
#include <fcntl.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tonnage/isa.h"

namespace nb = nanobind;

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Anonymous memory in huge pages where the kernel gives them; unmapped at the end of its scope.
class Buffer {
 public:
  explicit Buffer(size_t bytes) : bytes_(bytes) {
    data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data_ == MAP_FAILED) throw std::bad_alloc();
    madvise(data_, bytes, MADV_HUGEPAGE);
  }
  ~Buffer() { munmap(data_, bytes_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  uint8_t* data() const { return static_cast<uint8_t*>(data_); }

 private:
  void* data_;
  size_t bytes_;
};

// Ends passes: runs on one thread while all others wait, so the end of one pass is the start of the next.
class PassClock {
 public:
  explicit PassClock(double seconds) : seconds_(seconds) { passes_.reserve(kMaxPasses); }

  void turn() noexcept {
    const auto now = Clock::now();
    if (started_) {
      passes_.push_back(std::chrono::duration<double>(now - start_).count());
      const double spent = std::chrono::duration<double>(now - begin_).count();
      done_ |= passes_.size() == kMaxPasses || (passes_.size() >= kMinPasses && spent > seconds_);
    } else {
      begin_ = now;
      started_ = true;
    }
    start_ = now;
  }
  void stop() { done_ = true; }
  bool done() const { return done_; }
  std::vector<double> take() { return std::move(passes_); }

 private:
  static constexpr size_t kMinPasses = 3, kMaxPasses = 100000;
  double seconds_;
  std::vector<double> passes_;
  Clock::time_point begin_, start_;
  bool started_ = false, done_ = false;
};

// Lets `num_threads` threads do `prepare(thread)` once and then `work(thread)` together, pass by pass, until
// `seconds` have gone by (at least three passes). Returns the seconds of each pass, first start to last end.
template <typename Prepare, typename Work>
std::vector<double> time_passes(unsigned num_threads, double seconds, Prepare prepare, Work work) {
  PassClock clock(seconds);
  auto turn = [&]() noexcept { clock.turn(); };
  std::barrier gate(num_threads, turn);
  auto body = [&](unsigned thread) {
    prepare(thread);
    gate.arrive_and_wait();
    while (!clock.done()) {
      work(thread);
      gate.arrive_and_wait();
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(num_threads);
  bool complete = true;
  try {
    for (unsigned thread = 1; thread < num_threads; ++thread) threads.emplace_back(body, thread);
    body(0);
  } catch (const std::system_error&) {  // no more threads: let those that wait go
    complete = false;
    clock.stop();
    for (size_t absent = threads.size(); absent < num_threads; ++absent) gate.arrive_and_drop();
  }
  for (auto& thread : threads) thread.join();
  if (!complete) throw std::runtime_error("the system refused to start " + std::to_string(num_threads) + " threads");
  return clock.take();
}

void check(unsigned num_threads, double seconds) {
  if (num_threads < 1 || num_threads > 4096) throw std::invalid_argument("num_threads must be 1 to 4096");
  if (!(seconds > 0 && seconds <= 600)) throw std::invalid_argument("seconds must be above 0 and at most 600");
}

std::atomic<uint64_t> sink;

std::vector<double> probe_read(const std::string& isa, unsigned num_threads, size_t num_bytes, double seconds) {
  const auto& kernels = tonnage::require_isa(isa).probes;
  check(num_threads, seconds);
  constexpr size_t kPage = 4096;
  const size_t slice = num_bytes / num_threads / kPage * kPage;
  if (slice == 0) throw std::invalid_argument("num_bytes must hold a page for each thread");
  nb::gil_scoped_release release;
  Buffer buffer(slice * num_threads);
  // Each thread writes its own slice, so that it lies on that thread's memory node.
  return time_passes(
      num_threads, seconds, [&](unsigned t) { std::memset(buffer.data() + t * slice, 1 + int(t % 255), slice); },
      [&](unsigned t) { sink.fetch_xor(kernels.read_stream(buffer.data() + t * slice, slice)); });
}

// Returns operations per second of each pass.
std::vector<double> probe_peak(tonnage::Burn burn, uint64_t ops_per_round, unsigned num_threads, double seconds) {
  check(num_threads, seconds);
  nb::gil_scoped_release release;
  uint64_t rounds = 256;
  for (double spent = 0; spent < 2e-3; rounds *= 2) {
    const auto start = Clock::now();
    sink.fetch_xor(burn(rounds));
    spent = seconds_since(start);
  }
  auto rates = time_passes(
      num_threads, seconds, [](unsigned) {}, [&](unsigned) { sink.fetch_xor(burn(rounds)); });
  const double ops = double(ops_per_round) * double(rounds) * num_threads;
  for (double& rate : rates) rate = ops / rate;
  return rates;
}

std::vector<double> probe_int8(const std::string& isa, unsigned num_threads, double seconds) {
  const auto& kernels = tonnage::require_isa(isa).probes;
  return probe_peak(kernels.burn_int8, kernels.int8_ops_per_round, num_threads, seconds);
}

std::vector<double> probe_f32(const std::string& isa, unsigned num_threads, double seconds) {
  const auto& kernels = tonnage::require_isa(isa).probes;
  return probe_peak(kernels.burn_f32, kernels.f32_ops_per_round, num_threads, seconds);
}

// A file opened past the page cache where the file system allows it; else its cached pages are dropped.
class ColdFile {
 public:
  explicit ColdFile(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) fail(path);
    if (fcntl(fd_, F_SETFL, O_DIRECT) != 0) drop_cache();
  }
  ~ColdFile() { close(fd_); }
  ColdFile(const ColdFile&) = delete;
  ColdFile& operator=(const ColdFile&) = delete;

  bool direct() const { return direct_; }

  // Reads up to `bytes` at `offset`; 0 at the end of the file, -1 with errno on failure.
  ssize_t read_at(void* data, size_t bytes, off_t offset) {
    ssize_t got = pread(fd_, data, bytes, offset);
    if (got < 0 && errno == EINVAL && direct_) {  // accepted when set, refused when used
      fcntl(fd_, F_SETFL, 0);
      drop_cache();
      got = pread(fd_, data, bytes, offset);
    }
    return got;
  }

  [[noreturn]] static void fail(const std::string& path) {
    PyErr_SetFromErrnoWithFilename(PyExc_OSError, path.c_str());
    throw nb::python_error();
  }

 private:
  void drop_cache() {
    direct_ = false;
    posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
  }

  int fd_;
  bool direct_ = true;
};

// Reads the file from its start until its end, `max_bytes` or `seconds`. Returns (bytes, seconds, direct).
nb::tuple probe_disk(const std::string& path, size_t max_bytes, double seconds) {
  check(1, seconds);
  constexpr size_t kBlock = 4 << 20;
  ColdFile file(path);
  Buffer block(kBlock);
  size_t total = 0;
  ssize_t got = 0;
  double spent = 0;
  {
    nb::gil_scoped_release release;
    const auto start = Clock::now();
    do {
      got = file.read_at(block.data(), kBlock, static_cast<off_t>(total));
      if (got > 0) total += static_cast<size_t>(got);
      spent = seconds_since(start);
      // A short read is the end of the file; what follows it would not be aligned.
    } while (got == static_cast<ssize_t>(kBlock) && total < max_bytes && spent < seconds);
  }
  if (got < 0) ColdFile::fail(path);
  return nb::make_tuple(total, spent, file.direct());
}

}  // namespace

void bind_probe(nb::module_& m) {
  m.def("probe_read", &probe_read, nb::arg("isa"), nb::arg("num_threads"), nb::arg("num_bytes"), nb::arg("seconds"),
        "Return the seconds of each pass in which all threads together read `num_bytes` once.");
  m.def("probe_int8", &probe_int8, nb::arg("isa"), nb::arg("num_threads"), nb::arg("seconds"),
        "Return int8 operations per second of each pass; a multiply-accumulate is two.");
  m.def("probe_f32", &probe_f32, nb::arg("isa"), nb::arg("num_threads"), nb::arg("seconds"),
        "Return float32 operations per second of each pass; a multiply-accumulate is two.");
  m.def("probe_disk", &probe_disk, nb::arg("path"), nb::arg("max_bytes"), nb::arg("seconds"),
        "Read a file past the page cache; return (bytes, seconds, whether the cache was bypassed).");
}
