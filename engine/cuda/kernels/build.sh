#!/usr/bin/env bash
# build.sh [--check] TOOLS: compiles *.cu as one unit to kernels.ptx and assembles that for sm_80 and sm_90. With --check
# nothing is written: it fails when kernels.ptx is not what the sources give. TOOLS is what tools/fetch.sh laid out.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
check=
[[ ${1:-} == --check ]] && check=1 && shift
tools=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LC_ALL=C LD_LIBRARY_PATH=$tools/lib
for f in "$here"/*.cu; do printf '#include "%s"\n' "$(basename "$f")"; done >"$work/unit.cu"
{
    printf '// sources %s\n' "$(cd "$here" && cat $(ls ./*.cu ./*.cuh) | sha256sum | cut -d' ' -f1)"
    "$tools/bin/nvrtc" "$tools"/lib/libnvrtc.so.12 "$work/unit.cu" --gpu-architecture=compute_80 -default-device "-I$here"
} >"$work/kernels.ptx"
for arch in sm_80 sm_90; do
    "$tools/bin/ptxas" "-arch=$arch" -o /dev/null "$work/kernels.ptx"
done
if [[ $check ]]; then
    cmp -s "$work/kernels.ptx" "$here/kernels.ptx" || {
        echo "engine/cuda/kernels/kernels.ptx is not what the sources give: type  ./run.sh build-cuda --ptx" >&2
        exit 1
    }
    exit 0
fi
cp "$work/kernels.ptx" "$here/kernels.ptx"
