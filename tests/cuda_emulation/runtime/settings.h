// What all parts of the emulation share: the order of execution, and what was counted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace emulation {

// Small random numbers that are the same everywhere (splitmix64).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

 private:
  std::uint64_t state_;
};

enum class Order { forward, reverse, random };

struct Settings {
  Order order = Order::forward;
  Random random{0};
  bool check_races = true;
};
extern Settings settings;

struct Counts {
  std::int64_t launches = 0, blocks = 0, threads = 0, barriers = 0, warp_operations = 0, atomics = 0, accesses = 0;
};
extern Counts counts;

// 0 .. n-1 in the order that is set; another one in each call where that is random.
inline void arrange(std::vector<std::uint32_t>& numbers, std::uint32_t n) {
  numbers.resize(n);
  for (std::uint32_t i = 0; i < n; ++i) {
    numbers[i] = settings.order == Order::reverse ? n - 1 - i : i;
  }
  if (settings.order == Order::random) {
    for (std::uint32_t i = n; i > 1; --i) {
      std::swap(numbers[i - 1], numbers[settings.random.next() % i]);
    }
  }
}

// Fills memory that nobody has written yet. Each order has garbage of its own, so that using it makes them disagree:
// large numbers, NaN (or -1), or anything.
void fill_with_garbage(void* address, std::size_t bytes);

}  // namespace emulation
