// A forward pass as a list of fused steps over one arena, and the team that runs it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "tonnage/ops.h"
#include "tonnage/thread_team.h"

namespace tonnage {

constexpr int kMaxThreads = 1024;

// What a caller did wrong, in a sentence.
class InputError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// One anonymous mapping, 2-MiB aligned, zero at first; pages become resident as they are touched.
class Arena {
 public:
  // Throws InputError for a size below 1 and std::bad_alloc when there is no memory for it.
  Arena(int64_t num_bytes, bool huge_pages);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  int64_t size() const { return size_; }
  // Returns the address of [offset, offset + num_bytes). Throws InputError outside the arena.
  uint8_t* at(int64_t offset, int64_t num_bytes) const;

 private:
  uint8_t* base_;
  uint8_t* mapping_;
  int64_t mapped_;
  int64_t size_;
};

using Op = std::variant<EmbedOp, RopeTableOp, NormOp, MatmulOp, GatedOp, QkNormOp, RopeKvWriteOp, GatherLastOp, AttendOp,
                        QuantizeOp, PoolHiddenOp>;

// Pages whose ids are below num_pages. window: how many last positions are seen at most, 0 for all.
struct PageGroup {
  int64_t num_pages;
  int64_t window;
};

struct Program {
  std::shared_ptr<Arena> arena;
  std::vector<Op> ops;
  int64_t vocab_size = 0;  // tokens are below it
  std::vector<PageGroup> groups;
  int64_t max_rows = 0;
  int64_t max_logit_rows = kMaxRows;  // what every gathering op has memory for
  int64_t num_slots = 0;  // of sums of hidden states
  int64_t max_positions = INT32_MAX;  // of a table of learned positions
};

// A step as its caller states it; positions follow from the spans. pages: a table per group; pages entirely
// behind its window at the span's first row may be -1.
struct SpanInput {
  std::vector<std::vector<int32_t>> pages;
  int32_t num_rows;
  int32_t position;
};

struct TensorScales;  // scaled_f8.h

class Executor {
 public:
  // isa: a name of native/isa.table; threads: 1 to kMaxThreads. Throws InputError when it is not built or this
  // CPU lacks it.
  Executor(const std::string& isa, int threads);

  const Kernels& kernels() const { return *kernels_; }
  ThreadTeam& team() { return team_; }
  int64_t scratch_bytes() const { return static_cast<int64_t>(scratch_.size()); }

  // Runs the program on tokens (all spans' rows one after another); logits of `logit_rows` only, which
  // ascend, and sums of the hidden states of `pooled` rows, which ascend too and have no logits. Throws
  // InputError for rows, tokens, pages or slots outside the program's limits. Calls from several threads
  // take turns.
  void run(const Program& program, const std::vector<int32_t>& tokens, const std::vector<SpanInput>& spans,
           const std::vector<int32_t>& logit_rows, const std::vector<PooledRows>& pooled);

  // Calls work(i) on every thread i of the team; takes turns with run.
  void share(const std::function<void(int)>& work);

  // Whether run notes how long each op takes, its barrier included.
  void set_timed(bool timed) { timed_ = timed; }
  // Nanoseconds per op of the last timed run, in the program's order.
  const std::vector<int64_t>& op_ns() const { return op_ns_; }

  // Reads a matrix from a file and lays it out in panels. source: layout of the rows in the file, target:
  // what they become (equal, or quantized on the way). Throws std::runtime_error if the file ends early and
  // InputError for values that the target cannot hold.
  void load_matrix(int fd, int64_t file_offset, Layout source, const TensorScales& scales, const Weight& target);

  // Writes `rows` rows of one format as rows of another that takes fewer bits, to `out`. importance: of the columns,
  // null where all count alike. Returns a row that the target cannot hold, or -1.
  int64_t requantize(Layout source, Layout target, int64_t rows, int64_t cols, const uint8_t* data, const float* importance,
                     uint8_t* out);

 private:
  std::mutex busy_;
  const Kernels* kernels_;
  ThreadTeam team_;
  std::vector<uint8_t> scratch_;
  bool timed_ = false;
  std::vector<int64_t> op_ns_;
};

}  // namespace tonnage
