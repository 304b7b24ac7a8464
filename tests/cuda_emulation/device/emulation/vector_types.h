// dim3 and the vector types of CUDA, with the alignment that they have there.
#pragma once

#define EMULATION_VECTOR_TYPES(scalar, prefix)                                                   \
  struct prefix##1 {                                                                             \
    scalar x;                                                                                    \
  };                                                                                             \
  struct alignas(2 * sizeof(scalar)) prefix##2 {                                                 \
    scalar x, y;                                                                                 \
  };                                                                                             \
  struct prefix##3 {                                                                             \
    scalar x, y, z;                                                                              \
  };                                                                                             \
  struct alignas(4 * sizeof(scalar) < 16 ? 4 * sizeof(scalar) : 16) prefix##4 {                  \
    scalar x, y, z, w;                                                                           \
  };                                                                                             \
  inline prefix##1 make_##prefix##1(scalar x) { return {x}; }                                    \
  inline prefix##2 make_##prefix##2(scalar x, scalar y) { return {x, y}; }                       \
  inline prefix##3 make_##prefix##3(scalar x, scalar y, scalar z) { return {x, y, z}; }          \
  inline prefix##4 make_##prefix##4(scalar x, scalar y, scalar z, scalar w) { return {x, y, z, w}; }

EMULATION_VECTOR_TYPES(signed char, char)
EMULATION_VECTOR_TYPES(unsigned char, uchar)
EMULATION_VECTOR_TYPES(short, short)
EMULATION_VECTOR_TYPES(unsigned short, ushort)
EMULATION_VECTOR_TYPES(int, int)
EMULATION_VECTOR_TYPES(unsigned int, uint)
EMULATION_VECTOR_TYPES(long long, longlong)
EMULATION_VECTOR_TYPES(unsigned long long, ulonglong)
EMULATION_VECTOR_TYPES(float, float)
EMULATION_VECTOR_TYPES(double, double)

struct dim3 {
  unsigned int x, y, z;
  constexpr dim3(unsigned int x = 1, unsigned int y = 1, unsigned int z = 1) : x(x), y(y), z(z) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};
