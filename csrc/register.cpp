// The schemas of all operators of namespace vod. Kernels register themselves in their own files; shapes for
// torch.compile, gradients and autocast are added in lib/ops. Nothing here needs pybind, so one build serves every
// CPython from 3.10 on.
#include <Python.h>
#include <torch/library.h>

extern "C" PyObject* PyInit__C(void) {
  static struct PyModuleDef module = {
      PyModuleDef_HEAD_INIT, "_C", "Importing this registers the operators of torch.ops.vod.", -1, nullptr};
  return PyModule_Create(&module);
}

namespace {

bool has_cuda_kernels() {
#ifdef VOD_WITH_CUDA
  return true;
#else
  return false;
#endif
}

}  // namespace

TORCH_LIBRARY(vod, m) {
  m.def("has_cuda_kernels() -> bool", &has_cuda_kernels);
  m.def("flow_warp(Tensor feature, Tensor flow, Tensor? scale) -> Tensor");
  m.def("flow_warp_backward(Tensor grad, Tensor feature, Tensor flow, Tensor? scale) -> (Tensor, Tensor, Tensor)");
  m.def("psroi_pool(Tensor feature, Tensor rois, int output_dim, int pooled_size, float spatial_scale) -> Tensor");
  m.def("psroi_pool_backward(Tensor grad, Tensor rois, SymInt[] feature_shape, float spatial_scale) -> Tensor");
  m.def(
      "psroi_vote(Tensor feature, Tensor rois, int output_dim, int pooled_size, float spatial_scale, "
      "bool by_bin=False) -> Tensor");
  m.def("nms(Tensor boxes, Tensor scores, Tensor? groups, float threshold, bool suppress_equal) -> Tensor");
  m.def(
      "nms_padded(Tensor boxes, Tensor scores, Tensor? groups, float threshold, bool suppress_equal, "
      "float least_score) -> (Tensor, Tensor)");
  m.def(
      "proposals(Tensor cls_prob, Tensor deltas, Tensor im_info, Tensor anchors, int stride, int pre_nms_top_n, "
      "int post_nms_top_n, float nms_threshold, float min_size) -> (Tensor, Tensor)");
  m.def("quantize(Tensor x, int zero_point=0) -> (Tensor, Tensor)");
  m.def(
      "aggregate(Tensor maps, Tensor index, Tensor flow, Tensor log_counts, int features, Tensor? reference) "
      "-> (Tensor, Tensor)");
  m.def(
      "aggregate_backward(Tensor grad_averaged, Tensor grad_weights, Tensor maps, Tensor index, Tensor flow, "
      "Tensor log_counts, int features, Tensor? reference) -> (Tensor, Tensor, Tensor)");
}
