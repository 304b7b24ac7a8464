#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/scalar_tensor.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <tuple>

#include "grain.h"
#include "quantize_loops.h"

namespace vod {
namespace {

std::tuple<at::Tensor, at::Tensor> quantize(const at::Tensor& given, int64_t zero_point) {
  TORCH_CHECK_TYPE(given.scalar_type() == at::kBFloat16, "quantize wants bfloat16, not ", given.scalar_type());
  TORCH_CHECK_VALUE(0 <= zero_point && zero_point < 255, "quantize wants a zero point from 0 to 254, not ", zero_point);
  const at::Tensor x = given.is_non_overlapping_and_dense() ? given : given.contiguous();
  at::Tensor q = at::empty_like(x, x.options().dtype(at::kByte));
  const auto* from = reinterpret_cast<const uint16_t*>(x.const_data_ptr<at::BFloat16>());
  auto* to = q.mutable_data_ptr<uint8_t>();
  const uint16_t largest = at::parallel_reduce(
      0, x.numel(), grain(1), uint16_t(0),
      [&](int64_t begin, int64_t end, uint16_t known) {
        return std::max(known, largest_magnitude(from + begin, end - begin));
      },
      [](uint16_t a, uint16_t b) { return std::max(a, b); });
  const float steps = static_cast<float>(255 - zero_point);
  float scale = largest == 0 ? 1.f : as_float(largest) / steps, factor = steps / std::max(as_float(largest), 1e-30f);
  if (largest >= kInfinity) {  // so that what is computed with it is NaN
    scale = std::numeric_limits<float>::quiet_NaN();
    factor = 0;
  }
  at::parallel_for(0, x.numel(), grain(1), [&](int64_t begin, int64_t end) {
    divide_and_round(from + begin, end - begin, factor, static_cast<float>(zero_point), to + begin);
  });
  return {q, at::scalar_tensor(scale, x.options().dtype(at::kFloat))};
}

}  // namespace

TORCH_LIBRARY_IMPL(vod, CPU, m) {
  m.impl("quantize", &quantize);
}

}  // namespace vod
