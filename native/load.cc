// Weights from a file into their planned place: read a little, pack it, go on. The peak is the weights
// plus one staging buffer per thread.
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "tonnage/program.h"
#include "tonnage/requantize.h"

namespace tonnage {

namespace {

// Returns false when the file ends before `size` bytes.
bool read_all(int fd, uint8_t* to, int64_t size, int64_t offset) {
  while (size > 0) {
    const ssize_t got = pread(fd, to, static_cast<size_t>(size), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    to += got;
    offset += got;
    size -= got;
  }
  return true;
}

}  // namespace

void Executor::load_matrix(int fd, int64_t file_offset, Layout source, const Weight& target) {
  const int64_t row_bytes = source_row_bytes(source, target.cols);
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  pool_.run([&](int) {
    std::vector<uint8_t> rows(static_cast<size_t>(row_bytes * kPanelRows));
    Requantizer requantizer(source, target.layout, target.cols);
    for (int64_t p = next++; p < target.panels() && !failed; p = next++) {
      const int64_t first = p * kPanelRows;
      const int64_t count = target.rows - first < kPanelRows ? target.rows - first : kPanelRows;
      if (!read_all(fd, rows.data(), count * row_bytes, file_offset + first * row_bytes)) failed = true;
      const uint8_t* packed = requantizer.convert(rows.data(), count);
      kernels_->pack(target.layout, packed, count, target.cols, const_cast<uint8_t*>(target.data) + p * target.panel_stride);
    }
  });
  if (failed) throw std::runtime_error("the file ended or could not be read while loading weights");
}

}  // namespace tonnage
