#pragma once

// A function that the tests call by its name.
#define EXPORTED extern "C" __attribute__((visibility("default")))

// PyTorch's stream in these kernels, which do without PyTorch.
#define STREAM cudaStreamPerThread
