// Blocks of 256 columns: sub-blocks whose scales are whole multiples of one or two float16 fields.
//
// Sub-blocks are fitted alone first. Then scales, and with them the codes, are chosen next to what each
// wants, the shared fields follow by least squares, and the better of the rounds is kept.
#include <array>

#include "kernels/encode.h"
#include "kernels/iq4.h"

namespace tonnage::TONNAGE_ISA {

namespace {

constexpr int kCols = 256;

// Format with levels per sub-block and one shared field d: value = d * level * code.
template <int subs> struct SignedScales {
  F32 d = zero_f();
  std::array<F32, subs> level{};
};

// fn(sub, inverse_scale) gives the moments of a sub-block under a scale.
template <int subs, class Fn>
SignedScales<subs> share_scale(int rounds, const F32* wanted, float lo, float hi, Fn&& moments) {
  F32 largest = zero_f(), first = zero_f();
  for (int s = 0; s < subs; ++s) {
    first = select_less(largest, abs(wanted[s]), wanted[s], first);
    largest = max(largest, abs(wanted[s]));
  }
  SignedScales<subs> best, now;
  F32 most = set(-1.0f);
  now.d = as_half(mul(first, set(1 / lo)));
  best.d = now.d;  // stays where it is infinite, so that it is found
  for (int round = 0; round < rounds; ++round) {
    const F32 per_d = inverse(now.d);
    F32 total = zero_f(), xa = zero_f(), aa = zero_f();
    for (int s = 0; s < subs; ++s) {
      const F32 center = round_within(mul(wanted[s], per_d), set(lo), set(hi));
      F32 gain = set(-3e38f), xq = zero_f(), qq = zero_f();
      for (float step : {0.0f, -1.0f, 1.0f}) {
        const F32 level = max(min(add(center, set(step)), set(hi)), set(lo));
        const F32 scale = mul(now.d, level);
        const Moments m = moments(s, inverse(scale));
        const F32 here = gain_of(scale, m);
        now.level[s] = select_less(gain, here, level, now.level[s]);
        xq = select_less(gain, here, m.xq, xq);
        qq = select_less(gain, here, m.qq, qq);
        gain = max(gain, here);
      }
      total = add(total, gain);
      xa = fma(now.level[s], xq, xa);
      aa = fma(mul(now.level[s], now.level[s]), qq, aa);
    }
    best.d = select_less(most, total, now.d, best.d);
    for (int s = 0; s < subs; ++s) best.level[s] = select_less(most, total, now.level[s], best.level[s]);
    most = max(most, total);
    now.d = as_half(mul(xa, inverse(aa)));
  }
  return best;
}

// Calls write(row, codes, out) for every row. Returns the first row with a scale that is not finite, or -1.
template <class Write>
int write_rows(const Tile& tile, const TileCodes<kCols>& codes, const Halves& a, const Halves& b, Write write) {
  for (int r = 0; r < tile.rows; ++r) {
    if (!a.finite(r) || !b.finite(r)) return r;
    uint8_t row[kCols];
    codes.row(r, row);
    write(r, row, tile.row(r));
  }
  return -1;
}

// Q6_K and Q3_K: sixteen sub-blocks of sixteen, symmetric codes.
struct Symmetric {
  SignedScales<16> scales;
  TileCodes<kCols> codes;
};

template <class W> void fit_symmetric(const float* x, W weights, const Codes& range, float lo, float hi, Symmetric* out) {
  F32 wanted[16];
  for (int s = 0; s < 16; ++s) wanted[s] = search_symmetric<16>(x + 256 * s, weights.from(16 * s), range);
  out->scales = share_scale<16>(W::kRounds, wanted, lo, hi, [&](int s, F32 inverse_scale) {
    return symmetric_moments<16>(x + 256 * s, weights.from(16 * s), inverse_scale, range);
  });
  for (int s = 0; s < 16; ++s) {
    const F32 factor = inverse(mul(out->scales.d, out->scales.level[s]));
    for (int i = 16 * s; i < 16 * s + 16; ++i) {
      const F32 code = round_within(mul(load(x + 16 * i), factor), set(range.lo), set(range.hi));
      out->codes.put(i, sub(code, set(range.lo)));
    }
  }
}

template <class W> int encode_q6_k(const Tile& tile, W weights) {
  Symmetric fit;
  fit_symmetric(tile.x, weights, {-32, 31, {-0.9f, 0.9f, 7}}, -128, 127, &fit);
  const Halves d(fit.scales.d);
  const Levels<16> levels(fit.scales.level.data());
  return write_rows(tile, fit.codes, d, d, [&](int r, const uint8_t* row, uint8_t* out) {
    put_fields(row, kCols, 0, 4, 64, out);
    put_fields(row, kCols, 4, 2, 32, out + 128);
    for (int s = 0; s < 16; ++s) out[192 + s] = static_cast<uint8_t>(levels.at[s][r]);
    d.put(r, out + 208);
  });
}

template <class W> int encode_q3_k(const Tile& tile, W weights) {
  Symmetric fit;
  fit_symmetric(tile.x, weights, {-4, 3, {-0.9f, 1.5f, 11}}, -32, 31, &fit);
  const Halves d(fit.scales.d);
  const Levels<16> levels(fit.scales.level.data());
  return write_rows(tile, fit.codes, d, d, [&](int r, const uint8_t* row, uint8_t* out) {
    put_fields(row, kCols, 2, 1, 32, out);
    put_fields(row, kCols, 0, 2, 32, out + 32);
    uint8_t six[16];
    for (int s = 0; s < 16; ++s) six[s] = static_cast<uint8_t>(levels.at[s][r] + 32);
    for (int i = 0; i < 8; ++i) out[96 + i] = static_cast<uint8_t>((six[i] & 15) | (six[8 + i] & 15) << 4);
    put_fields(six, 16, 4, 2, 4, out + 104);
    d.put(r, out + 108);
  });
}

// Q4_K, Q5_K and Q2_K: value = d * scale * code - dmin * minimum, all whole numbers from 0.
template <int subs> struct Minimums {
  F32 d = zero_f(), dmin = zero_f();
  std::array<F32, subs> scale{}, minimum{};
};

// What the shared fields' least squares need: a = scale * code, b = minimum.
struct Normal {
  F32 aa = zero_f(), ab = zero_f(), bb = zero_f(), xa = zero_f(), xb = zero_f();
  void add_sub(F32 scale, F32 minimum, const Moments& m, F32 sum, F32 count) {
    aa = fma(mul(scale, scale), m.qq, aa);
    ab = fma(mul(scale, minimum), m.q, ab);
    bb = fma(mul(minimum, minimum), count, bb);
    xa = fma(scale, m.xq, xa);
    xb = fma(minimum, sum, xb);
  }
};

template <int subs, class W> class MinimumFit {
 public:
  static constexpr int kSub = kCols / subs;

  MinimumFit(const float* x, W weights, const Codes& range, float levels)
      : x_(x), weights_(weights), range_(range), levels_(set(levels)) {
    F32 largest = zero_f(), deepest = zero_f();
    for (int s = 0; s < subs; ++s) {
      const Affine fit = search_affine<kSub>(x + 16 * kSub * s, weights.from(kSub * s), range, 0);
      wanted_[s] = fit.scale;
      minimum_[s] = sub(zero_f(), fit.offset);
      largest = max(largest, fit.scale);
      deepest = max(deepest, minimum_[s]);
      sum_[s] = zero_f();
      for (int i = kSub * s; i < kSub * (s + 1); ++i) sum_[s] = add(sum_[s], weights.times(i, load(x + 16 * i)));
      count_[s] = weights.from(kSub * s).total(kSub);
      per_count_[s] = weights.from(kSub * s).per_total(kSub);
    }
    now_.d = as_half(div(largest, levels_));
    now_.dmin = as_half(div(deepest, levels_));
    best_.d = now_.d;  // stay where they are infinite, so that it is found
    best_.dmin = now_.dmin;
  }

  const Minimums<subs>& run() {
    F32 most = set(-1.0f);
    for (int round = 0; round < W::kRounds; ++round) {
      Normal normal;
      F32 total = zero_f();
      for (int s = 0; s < subs; ++s) total = add(total, choose(s, &normal));
      best_.d = select_less(most, total, now_.d, best_.d);
      best_.dmin = select_less(most, total, now_.dmin, best_.dmin);
      for (int s = 0; s < subs; ++s) {
        best_.scale[s] = select_less(most, total, now_.scale[s], best_.scale[s]);
        best_.minimum[s] = select_less(most, total, now_.minimum[s], best_.minimum[s]);
      }
      most = max(most, total);
      refit(normal);
    }
    return best_;
  }

  void put_codes(TileCodes<kCols>* codes) const {
    for (int s = 0; s < subs; ++s) {
      const F32 factor = inverse(mul(best_.d, best_.scale[s]));
      const F32 floor = mul(best_.dmin, best_.minimum[s]);
      for (int i = kSub * s; i < kSub * (s + 1); ++i)
        codes->put(i, round_within(mul(add(load(x_ + 16 * i), floor), factor), zero_f(), set(range_.hi)));
    }
  }

 private:
  // Takes the best of three scales for sub-block s, with its minimum, and returns the gain.
  F32 choose(int s, Normal* normal) {
    const F32 center = round_within(mul(wanted_[s], inverse(now_.d)), zero_f(), levels_);
    const F32 per_dmin = inverse(now_.dmin), floor = mul(now_.dmin, level_of(minimum_[s], per_dmin));
    F32 gain = set(-3e38f);
    Moments kept;
    for (float step : {0.0f, -1.0f, 1.0f}) {
      const F32 level = max(min(add(center, set(step)), levels_), zero_f());
      const F32 scale = mul(now_.d, level);
      const Moments m = moments(s, floor, inverse(scale));
      const F32 lift = mul(sub(mul(scale, m.q), sum_[s]), per_count_[s]);
      const F32 minimum = level_of(lift, per_dmin);
      const Affine fit = {scale, sub(zero_f(), mul(now_.dmin, minimum))};
      const F32 here = gain_of(fit, m, sum_[s], count_[s]);
      now_.scale[s] = select_less(gain, here, level, now_.scale[s]);
      now_.minimum[s] = select_less(gain, here, minimum, now_.minimum[s]);
      kept.q = select_less(gain, here, m.q, kept.q);
      kept.qq = select_less(gain, here, m.qq, kept.qq);
      kept.xq = select_less(gain, here, m.xq, kept.xq);
      gain = max(gain, here);
    }
    normal->add_sub(now_.scale[s], now_.minimum[s], kept, sum_[s], count_[s]);
    return gain;
  }

  F32 level_of(F32 value, F32 per_unit) const { return round_within(mul(value, per_unit), zero_f(), levels_); }

  Moments moments(int s, F32 floor, F32 factor) const {
    const F32 hi = set(range_.hi);
    Moments m;
    for (int i = kSub * s; i < kSub * (s + 1); ++i) {
      const F32 v = load(x_ + 16 * i);
      const F32 code = round_within(mul(add(v, floor), factor), zero_f(), hi);
      m.add_code(v, code, weights_.times(i, code));
    }
    return m;
  }

  void refit(const Normal& n) {
    const F32 per_det = inverse(sub(mul(n.aa, n.bb), mul(n.ab, n.ab)));
    const F32 d = mul(sub(mul(n.xa, n.bb), mul(n.xb, n.ab)), per_det);
    const F32 dmin = mul(sub(mul(n.xa, n.ab), mul(n.xb, n.aa)), per_det);
    // Without a minimum anywhere there is nothing to solve for.
    const F32 alone = mul(n.xa, inverse(n.aa));
    now_.d = as_half(select_less(zero_f(), mul(d, dmin), d, alone));
    now_.dmin = as_half(select_less(zero_f(), mul(d, dmin), dmin, zero_f()));
  }

  const float* x_;
  W weights_;
  Codes range_;
  F32 levels_;
  std::array<F32, subs> wanted_, minimum_, sum_, count_, per_count_;
  Minimums<subs> now_, best_;
};

void put_six_bits(const Levels<8>& scale, const Levels<8>& minimum, int r, uint8_t* out) {
  for (int j = 0; j < 4; ++j) {
    const int low = scale.at[j][r], high = scale.at[j + 4][r];
    const int low_min = minimum.at[j][r], high_min = minimum.at[j + 4][r];
    out[j] = static_cast<uint8_t>(low | high >> 4 << 6);
    out[4 + j] = static_cast<uint8_t>(low_min | high_min >> 4 << 6);
    out[8 + j] = static_cast<uint8_t>((high & 15) | (high_min & 15) << 4);
  }
}

template <int bits, class W> int encode_six_bits(const Tile& tile, W weights) {
  constexpr float top = (1 << bits) - 1;
  MinimumFit<8, W> fitting(tile.x, weights, {0, top, {-0.3f, bits == 4 ? 2.4f : 1.8f, 8}}, 63);
  const Minimums<8>& fit = fitting.run();
  TileCodes<kCols> codes;
  fitting.put_codes(&codes);
  const Halves d(fit.d), dmin(fit.dmin);
  const Levels<8> scale(fit.scale.data()), minimum(fit.minimum.data());
  return write_rows(tile, codes, d, dmin, [&](int r, const uint8_t* row, uint8_t* out) {
    d.put(r, out);
    dmin.put(r, out + 2);
    put_six_bits(scale, minimum, r, out + 4);
    if (bits == 5) put_fields(row, kCols, 4, 1, 32, out + 16);
    put_fields(row, kCols, 0, 4, 32, out + (bits == 5 ? 48 : 16));
  });
}

template <class W> int encode_q2_k(const Tile& tile, W weights) {
  MinimumFit<16, W> fitting(tile.x, weights, {0, 3, {-0.3f, 1.2f, 8}}, 15);
  const Minimums<16>& fit = fitting.run();
  TileCodes<kCols> codes;
  fitting.put_codes(&codes);
  const Halves d(fit.d), dmin(fit.dmin);
  const Levels<16> scale(fit.scale.data()), minimum(fit.minimum.data());
  return write_rows(tile, codes, d, dmin, [&](int r, const uint8_t* row, uint8_t* out) {
    for (int s = 0; s < 16; ++s) out[s] = static_cast<uint8_t>(scale.at[s][r] | minimum.at[s][r] << 4);
    put_fields(row, kCols, 0, 2, 32, out + 16);
    d.put(r, out + 80);
    dmin.put(r, out + 82);
  });
}

template <class W> int encode_iq4_xs(const Tile& tile, W weights) {
  F32 wanted[8];
  for (int s = 0; s < 8; ++s) wanted[s] = search_iq4(tile.x + 512 * s, weights.from(32 * s), {105.0f, 150.0f, 6});
  const SignedScales<8> fit = share_scale<8>(W::kRounds, wanted, -32, 31, [&](int s, F32 inverse_scale) {
    return iq4_moments<32>(tile.x + 512 * s, weights.from(32 * s), inverse_scale);
  });
  TileCodes<kCols> codes;
  for (int s = 0; s < 8; ++s) {
    const F32 factor = inverse(mul(fit.d, fit.level[s]));
    for (int i = 32 * s; i < 32 * s + 32; ++i) codes.put(i, iq4_index(mul(load(tile.x + 16 * i), factor)));
  }
  const Halves d(fit.d);
  const Levels<8> levels(fit.level.data());
  return write_rows(tile, codes, d, d, [&](int r, const uint8_t* row, uint8_t* out) {
    uint8_t six[8];
    for (int s = 0; s < 8; ++s) six[s] = static_cast<uint8_t>(levels.at[s][r] + 32);
    d.put(r, out);
    put_fields(six, 8, 4, 2, 1, out + 2);
    put_fields(six, 8, 0, 4, 1, out + 4);
    put_fields(row, kCols, 0, 4, 16, out + 8);
  });
}

}  // namespace

template <class W> int encode256(Layout target, const Tile& tile, W weights) {
  switch (target) {
    case Layout::Q2_K: return encode_q2_k(tile, weights);
    case Layout::Q3_K: return encode_q3_k(tile, weights);
    case Layout::Q4_K: return encode_six_bits<4>(tile, weights);
    case Layout::Q5_K: return encode_six_bits<5>(tile, weights);
    case Layout::IQ4_XS: return encode_iq4_xs(tile, weights);
    default: return encode_q6_k(tile, weights);
  }
}

template int encode256(Layout, const Tile&, Even);
template int encode256(Layout, const Tile&, Weighted);

}  // namespace tonnage::TONNAGE_ISA
