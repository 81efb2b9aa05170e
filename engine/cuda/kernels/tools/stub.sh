#!/usr/bin/env bash
# stub.sh INCLUDE CU DIR: makes DIR/libcuda.so to link against where no driver is installed. It has the functions that the Go
# module CU (a folder) calls, under the names that the header INCLUDE/cuda.h gives them, and does nothing.
set -euo pipefail
include=$1 cu=$2 dir=$3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$dir"
{
    echo '#include <cuda.h>'
    cat "$cu"/*.go "$cu"/*.c "$cu"/*.h | grep -oE '\bcu[A-Z][A-Za-z0-9_]*' | sort -u | sed 's/^/STUB /'
} | "${CC:-gcc}" -E -P "-I$here/../../include" "-I$include" - | sed -nE 's/^STUB (cu[A-Za-z0-9_]+)$/int \1(void) { return 100; }/p' | sort -u >"$dir/libcuda.c"
"${CC:-gcc}" -shared -fPIC -w -o "$dir/libcuda.so" -Wl,-soname,libcuda.so.1 "$dir/libcuda.c"
