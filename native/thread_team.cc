#include "tonnage/thread_team.h"

#include <stdexcept>
#include <string>
#include <system_error>

#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tonnage {

namespace {

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// Spins for about 50 microseconds, then sleeps in the kernel, so that an idle engine burns nothing.
constexpr int kSpins = 2000;

template <class T>
void wait_while(const std::atomic<T>& value, T old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadTeam::ThreadTeam(int threads) : size_(threads), process_(getpid()) {
  try {
    for (int i = 1; i < threads; ++i) threads_.emplace_back([this, i] { serve(i); });
  } catch (const std::system_error&) {
    stop();
    throw std::runtime_error("the system refused to start " + std::to_string(threads) + " threads");
  }
}

ThreadTeam::~ThreadTeam() { stop(); }

void ThreadTeam::stop() {
  if (getpid() != process_) {  // A fork has the objects, and not the threads that they stand for.
    for (std::thread& thread : threads_) thread.detach();
    return;
  }
  stop_.store(true, std::memory_order_release);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadTeam::serve(int index) {
  uint32_t seen = 0;
  for (;;) {
    wait_while(epoch_, seen);
    ++seen;
    if (stop_.load(std::memory_order_acquire)) return;
    (*work_)(index);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

void ThreadTeam::run(const std::function<void(int)>& work) {
  work_ = &work;
  running_.store(size_ - 1, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  work(0);
  for (int left = running_.load(std::memory_order_acquire); left > 0; left = running_.load(std::memory_order_acquire))
    wait_while(running_, left);
}

void ThreadTeam::barrier() {
  if (size_ == 1) return;
  const uint32_t turn = turn_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    turn_.fetch_add(1, std::memory_order_release);
    turn_.notify_all();
  } else {
    wait_while(turn_, turn);
  }
}

}  // namespace tonnage
