// Kernel launches. translate.py writes kernel<<<grid, block, bytes, stream>>>(arguments) as
//   emulation::Launch("kernel", emulation::Configuration(grid, block, bytes, stream), <calls kernel>)(arguments)
#pragma once

#include <cstddef>

#include "vector_types.h"

using cudaStream_t = struct CUstream_st*;

namespace emulation {

struct Configuration {
  dim3 grid, block;
  std::size_t shared_bytes;
  cudaStream_t stream;
  Configuration(dim3 grid, dim3 block, std::size_t shared_bytes = 0, cudaStream_t stream = nullptr)
      : grid(grid), block(block), shared_bytes(shared_bytes), stream(stream) {}
};

// Runs `body` once for each thread. What goes wrong is kept until the launch is checked, as CUDA does it.
void run_grid(const char* kernel, const Configuration& configuration, void (*body)(const void*), const void* argument);

template <typename Call>
class Launch {
 public:
  Launch(const char* kernel, const Configuration& configuration, Call call)
      : kernel_(kernel), configuration_(configuration), call_(call) {}

  template <typename... Arguments>
  void operator()(Arguments... arguments) const {
    const auto body = [&] { call_(arguments...); };
    using Body = decltype(body);
    run_grid(kernel_, configuration_, [](const void* b) { (*static_cast<Body*>(b))(); }, &body);
  }

 private:
  const char* kernel_;
  Configuration configuration_;
  Call call_;
};

}  // namespace emulation
