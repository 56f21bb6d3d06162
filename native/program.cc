#include "tonnage/program.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <new>

#include "tonnage/isa.h"
#include "tonnage/gather_last.h"

namespace tonnage {

namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

}  // namespace

Arena::Arena(int64_t num_bytes, bool huge_pages) : size_(num_bytes) {
  if (num_bytes < 1) throw InputError("an arena of " + std::to_string(num_bytes) + " bytes holds nothing");
  if (num_bytes > INT64_MAX - kHugePage) throw std::bad_alloc();
  mapped_ = num_bytes + kHugePage;
  void* p = mmap(nullptr, static_cast<size_t>(mapped_), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  mapping_ = static_cast<uint8_t*>(p);
  const auto address = reinterpret_cast<uintptr_t>(p);
  base_ = mapping_ + (kHugePage - address % kHugePage) % kHugePage;
  if (huge_pages) madvise(base_, static_cast<size_t>(num_bytes), MADV_HUGEPAGE);
}

Arena::~Arena() { munmap(mapping_, static_cast<size_t>(mapped_)); }

uint8_t* Arena::at(int64_t offset, int64_t num_bytes) const {
  if (offset < 0 || num_bytes < 0 || num_bytes > size_ || offset > size_ - num_bytes)
    throw InputError("bytes " + std::to_string(offset) + " + " + std::to_string(num_bytes) +
                     " lie outside the arena of " + std::to_string(size_));
  return base_ + offset;
}

namespace {

[[noreturn]] void reject(const std::string& what, int64_t value, int64_t limit) {
  throw InputError(what + " is " + std::to_string(value) + ", the limit is " + std::to_string(limit));
}

void check_range(const std::string& what, int64_t value, int64_t limit) {
  if (value < 0) throw InputError(what + " is " + std::to_string(value) + ", below 0");
  if (value >= limit) reject(what, value, limit - 1);
}

int require_threads(int threads) {
  if (threads < 1) throw InputError("a team has at least 1 thread, not " + std::to_string(threads));
  if (threads > kMaxThreads) reject("the number of threads", threads, kMaxThreads);
  return threads;
}

}  // namespace

Executor::Executor(const std::string& isa, int threads)
    : kernels_(&require_isa(isa).kernels),
      team_(require_threads(threads)),
      scratch_(static_cast<size_t>(threads) * kWorkerScratchBytes + 64) {}

namespace {

// first: of the pages that the span's rows see; end: of the positions that it needs.
void check_table(const PageGroup& group, const std::vector<int32_t>& pages, int64_t first, int64_t end) {
  const int64_t needed = (end + kPageTokens - 1) / kPageTokens;
  const auto given = static_cast<int64_t>(pages.size());
  if (given < needed)
    throw InputError("positions up to " + std::to_string(end) + " need " + std::to_string(needed) + " pages, the span has " +
                     std::to_string(given));
  for (int64_t i = 0; i < given; ++i)
    if (i >= first || pages[i] != -1) check_range("a page id", pages[i], group.num_pages);
}

void check_span(const Program& program, const SpanInput& span) {
  if (span.num_rows < 1) throw InputError("a span has " + std::to_string(span.num_rows) + " rows, it needs at least 1");
  if (span.position < 0) throw InputError("a span starts at position " + std::to_string(span.position));
  const int64_t end = int64_t{span.position} + span.num_rows;
  if (end > program.max_positions) reject("the last position of a span", end, program.max_positions);
  if (span.pages.size() != program.groups.size())
    throw InputError("a span has pages of " + std::to_string(span.pages.size()) + " groups, the program " +
                     std::to_string(program.groups.size()));
  for (size_t g = 0; g < program.groups.size(); ++g) {
    const int64_t window = program.groups[g].window;
    const int64_t seen = window > 0 && span.position >= window ? span.position - window + 1 : 0;
    check_table(program.groups[g], span.pages[g], seen / kPageTokens, end);
  }
}

void check_logit_rows(const Program& program, const std::vector<int32_t>& logit_rows, int64_t rows) {
  const auto count = static_cast<int64_t>(logit_rows.size());
  if (count > program.max_logit_rows) reject("the number of logit rows", count, program.max_logit_rows);
  int64_t previous = -1;
  for (int32_t row : logit_rows) {
    check_range("a logit row", row, rows);
    if (row <= previous)
      throw InputError("logit rows do not ascend: " + std::to_string(row) + " follows " + std::to_string(previous));
    previous = row;
  }
}

// The norm before the logits changes a row that has a post norm, so no row is pooled too.
void check_pooled(const Program& program, const std::vector<PooledRows>& pooled, const std::vector<int32_t>& logit_rows,
                  int64_t rows) {
  if (pooled.empty()) return;
  int64_t free = 0;
  std::vector<bool> taken(static_cast<size_t>(program.num_slots));
  for (const PooledRows& one : pooled) {
    check_range("a slot of hidden states", one.slot, program.num_slots);
    if (taken[one.slot]) throw InputError("slot " + std::to_string(one.slot) + " of hidden states is named twice");
    taken[one.slot] = true;
    const int64_t end = int64_t{one.first_row} + one.num_rows;
    if (one.num_rows < 1 || one.first_row < free || end > rows)
      throw InputError("pooled rows " + std::to_string(one.first_row) + " + " + std::to_string(one.num_rows) + " do not ascend within the " +
                       std::to_string(rows) + " of the step");
    const auto logit = std::lower_bound(logit_rows.begin(), logit_rows.end(), one.first_row);
    if (logit != logit_rows.end() && *logit < end) throw InputError("row " + std::to_string(*logit) + " has logits and is pooled");
    free = end;
  }
}

void check_step(const Program& program, const std::vector<int32_t>& tokens, const std::vector<SpanInput>& spans,
                const std::vector<int32_t>& logit_rows, const std::vector<PooledRows>& pooled) {
  const auto rows = static_cast<int64_t>(tokens.size());
  if (rows > program.max_rows) reject("the number of rows in a step", rows, program.max_rows);
  for (int32_t token : tokens) check_range("a token id", token, program.vocab_size);
  int64_t covered = 0;
  for (const SpanInput& span : spans) {
    check_span(program, span);
    covered += span.num_rows;
  }
  if (covered != rows)
    throw InputError("the spans hold " + std::to_string(covered) + " rows, the step has " + std::to_string(rows) + " tokens");
  check_logit_rows(program, logit_rows, rows);
  check_pooled(program, pooled, logit_rows, rows);
}

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct RunOp {
  const Kernels& kernels;
  const Step& step;
  const GatheredStep& gathered;
  Worker worker;
  void operator()(const EmbedOp& op) const { kernels.embed(op, step, worker); }
  void operator()(const RopeTableOp& op) const { kernels.rope_table(op, step, worker); }
  void operator()(const NormOp& op) const { kernels.norm(op, step, worker); }
  void operator()(const MatmulOp& op) const { kernels.matmul(op, step, worker); }
  void operator()(const GatedOp& op) const { kernels.gated(op, step, worker); }
  void operator()(const QkNormOp& op) const { kernels.qk_norm(op, step, worker); }
  void operator()(const RopeKvWriteOp& op) const { kernels.rope_kv_write(op, step, worker); }
  void operator()(const GatherLastOp& op) const { gathered.move(op, worker); }
  void operator()(const AttendOp& op) const { kernels.attend(op, step, worker); }
  void operator()(const QuantizeOp& op) const { kernels.quantize(op, step, worker); }
  void operator()(const PoolHiddenOp& op) const { kernels.pool_hidden(op, step, worker); }
};

}  // namespace

void Executor::run(const Program& program, const std::vector<int32_t>& tokens, const std::vector<SpanInput>& spans,
                   const std::vector<int32_t>& logit_rows, const std::vector<PooledRows>& pooled) {
  const std::lock_guard<std::mutex> lock(busy_);
  check_step(program, tokens, spans, logit_rows, pooled);
  std::vector<int32_t> positions;
  std::vector<Span> views;
  std::vector<const int32_t*> tables;
  tables.reserve(spans.size() * program.groups.size());
  for (const SpanInput& span : spans) {
    const auto* first = tables.data() + tables.size();
    for (const std::vector<int32_t>& pages : span.pages) tables.push_back(pages.data());
    views.push_back({first, static_cast<int32_t>(positions.size()), span.num_rows, span.position});
    for (int32_t i = 0; i < span.num_rows; ++i) positions.push_back(span.position + i);
  }
  const Step step = {static_cast<int32_t>(tokens.size()), tokens.data(),     positions.data(),
                     views.data(),                        static_cast<int32_t>(views.size()),
                     logit_rows.data(),                   static_cast<int32_t>(logit_rows.size()),
                     pooled.data(),                       static_cast<int32_t>(pooled.size())};
  const GatheredStep gathered(step);
  uint8_t* scratch = scratch_.data() + (64 - reinterpret_cast<uintptr_t>(scratch_.data()) % 64) % 64;
  const bool timed = timed_;
  if (timed) op_ns_.assign(program.ops.size(), 0);
  team_.run([&](int index) {
    const Worker worker = {index, team_.size(), scratch + int64_t{index} * kWorkerScratchBytes};
    const Step* rows = &step;
    for (size_t i = 0; i < program.ops.size() && rows->num_rows > 0; ++i) {
      const Op& op = program.ops[i];
      if (step.num_pooled == 0 && std::holds_alternative<PoolHiddenOp>(op)) continue;
      if (std::holds_alternative<GatherLastOp>(op)) {
        if (gathered.is_whole()) continue;
        rows = &gathered.step();
      }
      const int64_t begin = timed ? now_ns() : 0;
      std::visit(RunOp{*kernels_, *rows, gathered, worker}, op);
      team_.barrier();
      if (timed && index == 0) op_ns_[i] = now_ns() - begin;
    }
  });
}

void Executor::share(const std::function<void(int)>& work) {
  const std::lock_guard<std::mutex> lock(busy_);
  team_.run(work);
}

}  // namespace tonnage
