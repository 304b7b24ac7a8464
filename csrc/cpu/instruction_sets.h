// One binary for several instruction sets. A function marked VOD_INSTRUCTION_SETS is compiled once for each of them, and
// the loader takes the widest that the processor has. Its results do not depend on which: the build forbids contraction
// to fused multiply-adds, and a compiler does not reorder sums. Other compilers and C libraries build plain code.
//
// What such a function calls is compiled with it only if it is inlined, hence VOD_INLINE.
#pragma once

#if !defined(VOD_INSTRUCTION_SETS)  // a test defines it as nothing
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define VOD_INSTRUCTION_SETS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VOD_INSTRUCTION_SETS
#endif
#endif

#if defined(__GNUC__)
#define VOD_INLINE inline __attribute__((always_inline))
#else
#define VOD_INLINE inline
#endif
