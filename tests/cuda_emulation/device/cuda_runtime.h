// CUDA C++ as the translated sources see it. nvcc includes its own cuda_runtime.h in every .cu file; so does build.py.
#pragma once

#include "emulation/atomics.h"
#include "emulation/device_math.h"
#include "emulation/host_functions.h"
#include "emulation/keywords.h"
#include "emulation/launch.h"
#include "emulation/shared_memory.h"
#include "emulation/threads.h"
#include "emulation/vector_types.h"
#include "emulation/warps.h"
