#include "races.h"

#include <dlfcn.h>

#include <array>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "block.h"
#include "guarded_memory.h"
#include "launch_state.h"
#include "settings.h"

namespace emulation::races {
namespace {

constexpr std::uintptr_t kCellBytes = 4, kPageBytes = 4096;
constexpr std::size_t kMostPages = 2048;
constexpr std::uint64_t kMostSteps = 1u << 24;

struct Stamp {
  const void* code = nullptr;
  std::uint32_t block = 0, phase = 0, clock = 0;  // block 0: nobody
  std::uint16_t thread = 0;
  std::uint8_t bytes = 0;  // one bit for each of the cell
  Kind kind = Kind::read;
};

struct Cell {
  Stamp written, read[2];  // `read`: the last two threads that read it
  Access access = Access::open;
};

using Page = std::array<Cell, kPageBytes / kCellBytes>;

struct SharedName {
  std::string name;
  std::uintptr_t address;
  std::size_t bytes;
};

std::unordered_map<std::uintptr_t, std::unique_ptr<Page>> pages;
std::array<std::pair<std::uintptr_t, Page*>, 64> recent_pages;
std::vector<SharedName> shared_names;
std::uint32_t block_number = 0, first_of_launch = 1;
bool comparing_blocks = true;

Cell& cell_at(std::uintptr_t address) {
  const std::uintptr_t number = address / kPageBytes;
  auto& [recent_number, recent_page] = recent_pages[number % recent_pages.size()];
  if (recent_number != number || recent_page == nullptr) {
    std::unique_ptr<Page>& page = pages[number];
    if (!page) {
      page = std::make_unique<Page>();
    }
    recent_number = number;
    recent_page = page.get();
  }
  return (*recent_page)[address % kPageBytes / kCellBytes];
}

// Whether something lies between an earlier access and what the running thread does now.
bool ordered(const Stamp& earlier, const Thread& now) {
  if (earlier.block != block_number) {
    return earlier.block < first_of_launch || !comparing_blocks;
  }
  if (earlier.thread == now.number || earlier.phase != block.phase()) {
    return true;
  }
  const bool one_warp = earlier.thread / kLanes == now.number / kLanes;
  return one_warp && now.known[earlier.thread % kLanes] >= earlier.clock;
}

std::string name_of(Kind kind) {
  return kind == Kind::read ? "read" : kind == Kind::write ? "write" : "atomic operation";
}

// As "[+0x1234]", the offset in this library, which emulator.py turns into a file and a line.
std::string name_of_code(const void* code) {
  Dl_info info{};
  if (dladdr(code, &info) == 0) {
    return "[unknown]";
  }
  const std::uintptr_t offset = static_cast<const char*>(code) - static_cast<const char*>(info.dli_fbase) - 1;
  constexpr char kDigits[] = "0123456789abcdef";
  std::string digits;
  for (std::uintptr_t rest = offset; rest != 0; rest /= 16) {
    digits.insert(digits.begin(), kDigits[rest % 16]);
  }
  return "[+0x" + digits + "]";
}

std::string name_of_memory(std::uintptr_t address) {
  for (const SharedName& shared : shared_names) {
    if (address - shared.address < shared.bytes) {
      return "shared memory '" + shared.name + "', byte " + std::to_string(address - shared.address);
    }
  }
  return "global memory";
}

std::string name_of_thread(const Stamp& stamp) {
  const dim3& size = indices.block_size;
  const uint3 index{stamp.thread % size.x, stamp.thread / size.x % size.y, stamp.thread / size.x / size.y};
  return block.describe(index, block_of_launch(stamp.block - first_of_launch));
}

void compare(const Stamp& earlier, const Stamp& now, std::uintptr_t address) {
  const bool may_clash = earlier.block >= first_of_launch && (earlier.bytes & now.bytes) != 0 &&
                         !(earlier.kind == Kind::atomic && now.kind == Kind::atomic);
  if (may_clash && !ordered(earlier, *block.current())) {
    block.fail(
        "data race on " + name_of_memory(address) + ": " + name_of(now.kind) + " at " + name_of_code(now.code) +
        ", after a " + name_of(earlier.kind) + " at " + name_of_code(earlier.code) + " by " + name_of_thread(earlier));
  }
}

void note_read(Cell& cell, const Stamp& now) {
  if (cell.read[0].thread != now.thread || cell.read[0].block != now.block) {
    cell.read[1] = cell.read[0];
    cell.read[0] = now;
  } else {
    const std::uint8_t earlier = cell.read[0].phase == now.phase ? cell.read[0].bytes : 0;
    cell.read[0] = now;
    cell.read[0].bytes |= earlier;
  }
}

void note_cell(std::uintptr_t address, std::uint8_t bytes, Kind kind, bool scalar, const void* code) {
  Cell& cell = cell_at(address);
  const Thread& thread = *block.current();
  const Stamp now{
      code, block_number, block.phase(), thread.clock(), static_cast<std::uint16_t>(thread.number), bytes, kind};
  if (cell.access == Access::forbidden) {
    block.fail(name_of(kind) + " at " + name_of_code(code) + ", " + guarded::describe_margin(address));
  }
  if (cell.access == Access::unwritten && kind != Kind::write && scalar) {
    block.fail(
        name_of_memory(address) + " is read at " + name_of_code(code) + " and no thread of the block has written it");
  }
  compare(cell.written, now, address);
  if (kind == Kind::read) {
    note_read(cell, now);
    return;
  }
  compare(cell.read[0], now, address);
  compare(cell.read[1], now, address);
  cell.written = now;
  cell.access = Access::open;
}

}  // namespace

void begin_launch() {
  first_of_launch = block_number + 1;
  comparing_blocks = true;
  shared_names.clear();
  if (pages.size() > kMostPages) {
    recent_pages = {};
    pages.clear();
  }
}

void begin_block() { ++block_number; }

std::uint32_t current_block() { return block_number; }

void stop_comparing_blocks() { comparing_blocks = false; }

void forget(const void* address, std::size_t bytes, Access access) {
  const auto first = reinterpret_cast<std::uintptr_t>(address);
  for (std::uintptr_t at = first / kCellBytes * kCellBytes; at < first + bytes; at += kCellBytes) {
    Cell& cell = cell_at(at);
    cell = Cell();
    cell.access = access;
  }
}

void name_shared_memory(const char* name, const void* address, std::size_t bytes) {
  const auto first = reinterpret_cast<std::uintptr_t>(address);
  for (const SharedName& shared : shared_names) {
    if (shared.address == first) {
      return;
    }
  }
  shared_names.push_back({name, first, bytes});
}

void note_access(const void* address, std::size_t bytes, Kind kind, bool scalar, const void* code) {
  Thread& thread = *block.current();
  if (++thread.steps > kMostSteps) {
    block.fail(
        "a thread made " + std::to_string(kMostSteps) + " memory accesses without a barrier, the last at " +
        name_of_code(code) + ": it seems to wait for something that another thread is to do");
  }
  ++counts.accesses;
  const auto first = reinterpret_cast<std::uintptr_t>(address);
  if (scalar && first % bytes != 0) {
    block.fail(
        "misaligned " + name_of(kind) + " of " + std::to_string(bytes) + " bytes at " + name_of_code(code));
  }
  if (!settings.check_races) {
    return;
  }
  for (std::uintptr_t at = first / kCellBytes * kCellBytes; at < first + bytes; at += kCellBytes) {
    std::uint8_t touched = 0;
    for (std::uintptr_t byte = 0; byte < kCellBytes; ++byte) {
      touched |= (at + byte >= first && at + byte < first + bytes) << byte;
    }
    note_cell(at, touched, kind, scalar, code);
  }
}

}  // namespace emulation::races
