"""What translate.py rewrites, and what it leaves alone."""

from __future__ import annotations

import pytest

from tests.cuda_emulation.translate import TranslationError, translate


def translated(source: str) -> str:
    header, _, text = translate(source, "csrc/cuda/a.cu").partition("\n")
    assert header == '#line 1 "csrc/cuda/a.cu"'
    assert text.count("\n") == source.count("\n")  # so that line numbers in messages are those of the source
    return text


@pytest.mark.parametrize(
    ("kernel", "configuration"),
    [
        ("walk", "1, 32"),
        ("forward_kernel<scalar_t>", "blocks_for(out.numel()), kThreads, 0, c10::cuda::getCurrentCUDAStream()"),
        ("forward_kernel<Pair<T, 4>, true>", "dim3(1, 2), static_cast<unsigned>(n), words * sizeof(Word), stream"),
        ("vod::detail::walk", "grid[0], (a > b ? a : b)"),
    ],
)
def test_launch(kernel, configuration):
    expected = (
        f'  ::emulation::Launch("{kernel}", ::emulation::Configuration({configuration}), '
        f"[](auto... emulation_arguments) {{ {kernel}(emulation_arguments...); }})(a, f(b));"
    )
    assert translated(f"  {kernel}<<<{configuration}>>>(a, f(b));") == expected


def test_launch_over_several_lines():
    text = translated("return\n  kernel<\n    T><<<grid,\n  block>>>\n  (a);")
    assert text.startswith('return\n  ::emulation::Launch("kernel< T>", ::emulation::Configuration(grid,\n  block)')


def test_shared_arrays():
    text = translated("__shared__ Box<A, B> others[kWord], more[2][3];\n__shared__ volatile int64_t* one;")
    assert text.startswith("static Box<A, B> others[kWord], more[2][3]; ")
    assert "\nstatic volatile int64_t* one; " in text
    for name in ("others", "more", "one"):
        assert f'emulation_{name}("{name}", ' in text
        assert f"emulation_{name}.enter();" in text


@pytest.mark.parametrize(
    ("source", "begin"),
    [
        ("__shared__ alignas(16) float v[4];", "alignas(16) static float v[4];"),
        ("__shared__ __align__(16) float v[4];", "__align__(16) static float v[4];"),
        ("static __shared__ float v;", "static float v;"),
        ("volatile __shared__ float v[4];", "static volatile float v[4];"),
        ("__shared__ float v[sizeof(T) > 4 ? 2 : 1];", "static float v[sizeof(T) > 4 ? 2 : 1];"),
    ],
)
def test_forms_of_shared_declarations(source, begin):
    text = translated(source)
    assert text.startswith(begin)
    assert text.count(".enter()") == 1


@pytest.mark.parametrize("alignment", ["", "__align__(16) ", "alignas(16) "])
def test_dynamic_shared_memory(alignment):
    text = translated(f"extern __shared__ {alignment}unsigned char bytes[];")
    assert text == "unsigned char* const bytes = ::emulation::dynamic_shared<unsigned char>();"


def test_registration():
    assert translated("TORCH_LIBRARY_IMPL(vod, CUDA, m) {") == "TORCH_LIBRARY_IMPL(vod_emulated, CPU, m) {"


@pytest.mark.parametrize(
    "source",
    [
        "// kernel<<<1, 2>>>(a) and __shared__ int x[3];",
        "/* __shared__\n kernel<<<1, 2>>>(a) */ int a = 1 << 3;",
        'const char* text = "kernel<<<1, 2>>>(a) \\" __shared__ int x;";',
        "const char mark = '\"'; int n = 1'000'000; // __shared__",
        'auto raw = R"x(__shared__ " )x";',
    ],
)
def test_comments_and_strings_stay(source):
    assert translated(source) == source


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("\n<<<1, 2>>>(a);", "2: a launch without the name"),
        ("kernel<<<1, 2>>>;", "1: a launch without arguments"),
        ("kernel<<<1, 2;", "1: '>>>' is missing"),
        ("\n\n__shared__ int (*rows)[4];", "3: cannot read the declaration"),
        ("__shared__ int x[3]", "1: ';' is missing"),
    ],
)
def test_forms_that_it_does_not_know(source, message):
    with pytest.raises(TranslationError, match="^csrc/cuda/a.cu:" + message):
        translate(source, "csrc/cuda/a.cu")
