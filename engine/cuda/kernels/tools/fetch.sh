#!/usr/bin/env bash
# fetch.sh DIR: fetches the wheels of wheels.txt by pip and lays out DIR/{lib,bin,include} and DIR/nvrtc, a small compiler driver.
# Exits with 2 and one line when they cannot be had.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=$1
stamp=$dir/wheels.txt
cmp -s "$here/wheels.txt" "$stamp" && exit 0
cannot() { printf 'CUDA tools: %s\n' "$*" >&2; exit 2; }
[[ $(uname -sm) == "Linux x86_64" ]] || cannot "the pinned wheels are for Linux on x86-64"
command -v python3 >/dev/null || cannot "python3 is missing, which fetches them: type  apt-get install python3-pip"
python3 -m pip --version >/dev/null 2>&1 || cannot "pip is missing, which fetches them: type  apt-get install python3-pip"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download -q --disable-pip-version-check --no-deps --require-hashes -d "$work" -r "$here/wheels.txt" >"$work/log" 2>&1 ||
    cannot "pip cannot fetch them here: $(tail -n 1 "$work/log")"
rm -rf "$dir"
mkdir -p "$dir/bin" "$dir/lib"
for wheel in "$work"/*.whl; do python3 -m zipfile -e "$wheel" "$work/all"; done
mv "$work/all/nvidia/cuda_runtime/include" "$dir/include"
mv "$work/all/nvidia/cuda_nvcc/bin/ptxas" "$dir/bin/ptxas"
mv "$work/all/nvidia/cuda_nvrtc/lib"/*.so* "$dir/lib/"
chmod +x "$dir/bin/ptxas"
"${CC:-gcc}" -O1 -Wall -o "$dir/bin/nvrtc" "$here/nvrtc.c" -ldl
cp "$here/wheels.txt" "$stamp"
