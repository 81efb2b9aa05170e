#!/usr/bin/env bash
# gpu.sh [FOLDER]: on a machine with a GPU, everything that cannot be shown without one, in under ten minutes:
#   1. every kernel against the reference, in each precision, with cuBLASLt and without
#   2. part of the mini grid on the GPU beside the same models' scores on the CPU
#   3. ViT-B/16: image tower and CI with random weights, the share of the peak, the paper's load extrapolated
#   4. the same towers in PyTorch, where there is one
# Needs bin/clip-inspector-cuda and bin/cuda.test (./run.sh build-cuda, on any machine), or Go and gcc to build them. The log and
# the figures lie in FOLDER (default runs/gpu). It goes on after a failure and exits with 1 at the end.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
out=${1:-$here/runs/gpu}
mkdir -p "$out" && out=$(cd "$out" && pwd)
program=$here/bin/clip-inspector-cuda tests=$here/bin/cuda.test
exec > >(tee "$out/log.txt") 2>&1
failed=0
part() { printf '\n== %s (%d s since the start)\n' "$1" "$SECONDS"; }
try() { "$@" || { echo "FAILED ($?): $*"; failed=1; }; }

part machine
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv || echo "nvidia-smi is not there"
lscpu | grep 'Model name'; nproc
if [[ ! -x $program || ! -x $tests ]]; then
    (cd "$here" && ./run.sh build-cuda) || { echo "no program: build it elsewhere by ./run.sh build-cuda and bring bin/ along"; exit 1; }
fi
python=
for p in python3 python /opt/conda/bin/python; do
    command -v "$p" >/dev/null && "$p" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null && { python=$p; break; }
done
# cuBLASLt where the loader does not look: a toolkit's folder, or the wheels that PyTorch brings along.
if [[ -z ${CLIPINSPECTOR_CUBLASLT:-} ]]; then
    for f in $(ldconfig -p 2>/dev/null | grep -o '/.*libcublasLt\.so\.1[23]$') /usr/local/cuda*/lib64/libcublasLt.so.1[23] /usr/local/cuda*/targets/*/lib/libcublasLt.so.1[23] \
        $(for p in ${python:-python3}; do "$p" -c 'import site,glob
for d in site.getsitepackages() + [site.getusersitepackages()]:
    for f in glob.glob(d + "/nvidia/*/lib/libcublasLt.so.1[23]") + glob.glob(d + "/torch/lib/libcublasLt.so.1[23]"): print(f)' 2>/dev/null; done); do
        [[ -e $f ]] && export CLIPINSPECTOR_CUBLASLT=$f && break
    done
fi
echo "cuBLASLt: ${CLIPINSPECTOR_CUBLASLT:-not found, products are the kernels of this program}; PyTorch: ${python:-none}"
try timeout 60 "$program" doctor

part "every kernel against the reference"
try timeout 150 "$tests" -test.short -test.v -test.run Device

part "the mini grid: the same models on the CPU and on the GPU"
grid=(--set 'datasets=[mini-pets,mini-dtd]' --set 'detectors=[{name: ci, optimise: 256, measure: 100, batch: 16}]')
try timeout 150 "$program" run "${grid[@]}" --out "$out/mini-cpu" >/dev/null
for p in fp32 tf32 bf16; do
    rm -rf "$out/mini-$p" && cp -r "$out/mini-cpu" "$out/mini-$p"
    try timeout 60 "$program" run "${grid[@]}" --out "$out/mini-$p" --device cuda:0 --precision $p >/dev/null
    echo "$p on the GPU against fp32 on the CPU:"
    try "$program" compare "$out/mini-cpu" "$out/mini-$p"
done
echo "all of it, models too, on the GPU:"
time try timeout 60 "$program" run "${grid[@]}" --out "$out/mini-gpu" --device cuda:0 >/dev/null

part "ViT-B/16"
for p in bf16 tf32; do
    inversion=100,200
    [[ $p == bf16 ]] && inversion=100,1000
    peer=()
    [[ $p == bf16 && $python ]] && peer=(--peer "$python")
    (( SECONDS > 480 )) && inversion=20,100 peer=()
    try timeout 170 "$program" bench --device cuda:0 --precision $p --time 2s --inversion $inversion "${peer[@]}" | tee "$out/bench-$p.txt"
done
part "done, failures: $failed"
exit $failed
