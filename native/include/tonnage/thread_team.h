// A fixed team of threads that run one function together and meet at barriers.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace tonnage {

class ThreadTeam {
 public:
  // Throws std::runtime_error when the system has no more threads.
  explicit ThreadTeam(int threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return size_; }

  // Calls work(i) for i in 0..size-1, i = 0 on the calling thread, and returns when all have ended.
  // One call at a time.
  void run(const std::function<void(int)>& work);

  // Called inside work: returns when every thread of the team has arrived.
  void barrier();

 private:
  void serve(int index);
  void stop();

  const int size_;
  const int process_;  // that the threads are in
  std::vector<std::thread> threads_;
  const std::function<void(int)>* work_ = nullptr;
  alignas(64) std::atomic<uint32_t> epoch_{0};  // counts calls of run
  alignas(64) std::atomic<int> running_{0};
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> turn_{0};  // counts barriers passed
  std::atomic<bool> stop_{false};
};

}  // namespace tonnage
