#include "guarded_memory.h"

#include <map>
#include <mutex>
#include <new>

#include "races.h"
#include "settings.h"

namespace emulation::guarded {
namespace {

constexpr std::align_val_t kAlignment{64};  // PyTorch's
constexpr std::size_t kMargin = 64;

struct Extent {
  std::size_t bytes, margin;
  const char* name;
};
std::map<char*, Extent> extents;
std::mutex of_extents;  // PyTorch allocates from several threads

void mark(char* memory, const Extent& extent, races::Access access) {
  if (extent.margin > 0) {
    const std::size_t end = (extent.bytes + 3) / 4 * 4;  // accesses are recorded in units of four bytes
    races::forget(memory - extent.margin, extent.margin, access);
    races::forget(memory + end, extent.bytes + extent.margin - end, access);
  }
}

}  // namespace

void* allocate(std::size_t bytes, const char* name) {
  const std::size_t margin = settings.check_races ? kMargin : 0;
  char* memory = static_cast<char*>(operator new(bytes + 2 * margin, kAlignment)) + margin;
  const std::lock_guard<std::mutex> lock(of_extents);
  extents[memory] = {bytes, margin, name};
  return memory;
}

void give_back(void* memory) {
  const std::lock_guard<std::mutex> lock(of_extents);
  char* first = static_cast<char*>(memory);
  const Extent extent = extents.at(first);
  mark(first, extent, races::Access::open);
  extents.erase(first);
  operator delete(first - extent.margin, kAlignment);
}

void begin_launch() {
  const std::lock_guard<std::mutex> lock(of_extents);
  for (const auto& [memory, extent] : extents) {
    mark(memory, extent, races::Access::forbidden);
  }
}

std::string describe_margin(std::uintptr_t address) {
  for (const auto& [memory, extent] : extents) {
    const auto first = reinterpret_cast<std::uintptr_t>(memory);
    if (address < first && first - address <= extent.margin) {
      return std::to_string(first - address) + " bytes before " + extent.name;
    }
    if (address >= first + extent.bytes && address < first + extent.bytes + extent.margin) {
      return std::to_string(address - first - extent.bytes) + " bytes beyond the end of " + extent.name + " of " +
             std::to_string(extent.bytes) + " bytes";
    }
  }
  return "memory that is not the kernel's";
}

}  // namespace emulation::guarded
