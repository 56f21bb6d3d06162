// Weights from a file into their planned place: read a little, pack it, go on. The peak is the weights
// plus one staging buffer per thread.
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "scaled_f8.h"
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

namespace {

// What one thread needs while loading; made before the threads start, where a lack of memory can be told.
struct Staging {
  std::vector<uint8_t> rows;
  std::vector<uint16_t> halves;  // of E4M3, the rows with their scales
  Requantizer requantizer;
};

}  // namespace

void Executor::load_matrix(int fd, int64_t file_offset, Layout source, const TensorScales& scales, const Weight& target) {
  const std::lock_guard<std::mutex> lock(busy_);
  const int64_t row_bytes = source_row_bytes(source, target.cols);
  const bool is_f8 = source == Layout::F8_E4M3;
  const Layout read = is_f8 ? Layout::F16 : source;
  std::vector<Staging> stagings(
      team_.size(), {std::vector<uint8_t>(row_bytes * kPanelRows), std::vector<uint16_t>(is_f8 ? kPanelRows * target.cols : 0),
                     Requantizer(*kernels_, read, target.layout, target.cols)});
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> bad_row{target.rows};
  std::atomic<bool> ended{false};
  team_.run([&](int index) {
    auto& [rows, halves, requantizer] = stagings[index];
    if (source == Layout::NVFP4) requantizer.set_scale(scales.at(0, 0));
    for (int64_t p = next++; p < target.panels() && !ended && bad_row == target.rows; p = next++) {
      const int64_t first = p * kPanelRows;
      const int64_t count = target.rows - first < kPanelRows ? target.rows - first : kPanelRows;
      if (!read_all(fd, rows.data(), count * row_bytes, file_offset + first * row_bytes)) {
        ended = true;
        return;
      }
      const uint8_t* plain = rows.data();
      if (is_f8) {
        const int64_t bad = f8_to_half(plain, first, count, scales, halves.data());
        if (bad >= 0) return lower(&bad_row, bad);
        plain = reinterpret_cast<const uint8_t*>(halves.data());
      }
      const uint8_t* packed = requantizer.convert(plain, count);
      if (!packed) return lower(&bad_row, first + requantizer.bad_row());
      auto* panel = const_cast<uint8_t*>(target.data) + p * target.panel_stride;
      kernels_->pack(requantizer.converted(), packed, count, target.cols, panel);
      if (requantizer.converted() == Layout::NVFP4) scale_panel(panel, target.cols, scales.at(0, 0));
    }
  });
  if (ended) throw std::runtime_error("the file ended or could not be read while loading weights");
  if (bad_row < target.rows)
    throw InputError("load: row " + std::to_string(bad_row) + " holds values that are not finite or exceed the scale of " +
                     (target_name(target.layout) ? target_name(target.layout) : "F16") + "; keep the checkpoint's own precision");
}

}  // namespace tonnage
