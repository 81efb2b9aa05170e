#!/usr/bin/env bash
# ./run.sh                 the default suite (configs/mini.yaml), then its table and pictures
# ./run.sh VERB ...        sets up and builds what is missing, then clip-inspector VERB ...; see ./run.sh --help
# ./run.sh build-cuda      builds bin/clip-inspector-cuda, which --device cuda:N needs; no GPU and no CUDA toolkit is needed for it
# ./run.sh test            what CI runs: formatting, vet, staticcheck, all tests
# ./run.sh check [DIR]     whether a finished run of the default suite (default runs/mini) is the published one, byte for byte,
#                          and README and docs/claims.md show its tables
#
# A fresh Debian 12 or Ubuntu 22.04 needs Go 1.24 or newer and gcc. Everything a run writes lies below --out (default runs/).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=$here/bin/clip-inspector
# Go must not round a product and a sum once, as it does from v3 on and on arm64: results would be other bytes.
export GOAMD64=v1
[[ $(uname -m) != aarch64 ]] || export GOFLAGS="${GOFLAGS:-} -gcflags=all=-d=fmahash=n"

say() { printf '%s\n' "$*" >&2; }
die() { say "run.sh: $*"; exit 1; }

# need_tools stops with one line when the compilers are not there.
need_tools() {
    command -v go >/dev/null || die "Go is missing: install Go 1.24 or newer (https://go.dev/dl; your distribution's may be older) and put it on PATH"
    local version minor
    version=$(cd "$here" && go env GOVERSION 2>/dev/null) || die "Go is too old or does not run: install Go 1.24 or newer (https://go.dev/dl)"
    minor=${version#go1.}
    minor=${minor%%[!0-9]*}
    [[ $version == go1.* && ${minor:-0} -ge 24 ]] || die "$version is too old: install Go 1.24 or newer (https://go.dev/dl)"
    command -v "$(go env CC | cut -d' ' -f1)" >/dev/null || command -v gcc >/dev/null ||
        die "gcc is missing: type  apt-get install gcc libc6-dev  (Debian, Ubuntu) or  dnf install gcc  (Fedora)"
}

# build makes the program where a source has changed, which `go build` tells. Without Go a program that is there is run as it is.
build() {
    if [[ -x $program ]] && ! command -v go >/dev/null; then return; fi
    need_tools
    [[ -x $program ]] || say "run.sh: building clip-inspector (the first time takes a minute or two)"
    local vcs=auto
    git -C "$here" status --porcelain >/dev/null 2>&1 || vcs=false
    (cd "$here" && CGO_ENABLED=1 go build -buildvcs=$vcs -o "$program" ./cmd/clip-inspector) ||
        die "building failed: see the lines above"
}

# cuda_tools fetches NVRTC, ptxas and headers to .tools/cuda; it says why and returns 2 where they cannot be had.
cuda_tools() { "$here/engine/cuda/kernels/tools/fetch.sh" "$here/.tools/cuda"; }

# with_cuda runs a command with the flags that the tagged build needs. Nothing of CUDA is linked but the driver's library, for
# which a stub stands in: the real one is found when the program starts.
with_cuda() {
    local cu include=$here/.tools/cuda/include
    [[ -f $include/cuda.h ]] || include=${CUDA_HOME:-/usr/local/cuda}/include
    cu=$(cd "$here" && go list -m -f '{{.Dir}}' gorgonia.org/cu)
    [[ -n $cu ]] || { (cd "$here" && go mod download gorgonia.org/cu); cu=$(cd "$here" && go list -m -f '{{.Dir}}' gorgonia.org/cu); }
    "$here/engine/cuda/kernels/tools/stub.sh" "$include" "$cu" "$here/.tools/cuda-stub"
    CGO_ENABLED=1 CGO_CFLAGS="${CGO_CFLAGS:--O2 -g} -Wno-deprecated-declarations -I$here/engine/cuda/include -I$include" \
        CGO_LDFLAGS="${CGO_LDFLAGS:-} -L$here/.tools/cuda-stub" "$@"
}

# build_cuda [--ptx]: the tagged program beside the plain one, and its test of every kernel for machines without Go.
build_cuda() {
    need_tools
    if ! cuda_tools; then
        [[ -f ${CUDA_HOME:-/usr/local/cuda}/include/cuda.h ]] || die "no header cuda.h: connect to the package index, or install a CUDA toolkit (12 or 13)"
        say "run.sh: going on with the headers of ${CUDA_HOME:-/usr/local/cuda}"
    fi
    [[ ${1:-} != --ptx ]] || "$here/engine/cuda/kernels/build.sh" "$here/.tools/cuda"
    local vcs=auto
    git -C "$here" status --porcelain >/dev/null 2>&1 || vcs=false
    (cd "$here" && with_cuda go build -tags cuda -buildvcs=$vcs -o bin/clip-inspector-cuda ./cmd/clip-inspector &&
        with_cuda go test -tags cuda -c -o bin/cuda.test ./engine/cuda) || die "building failed: see the lines above"
    say "run.sh: built bin/clip-inspector-cuda and bin/cuda.test; on a machine with a GPU: ./run.sh run --device cuda:0"
}

# test_cuda builds what is tagged, checks that the PTX is current and assembles; the emulated device is tested with the rest.
test_cuda() {
    local status=0
    cuda_tools || status=$?
    if [[ $status -eq 2 ]]; then
        say "CUDA build and PTX: skipped, the tools cannot be had here"
        return 0
    fi
    [[ $status -eq 0 ]] || return 1
    "$here/engine/cuda/kernels/build.sh" --check "$here/.tools/cuda" && (cd "$here" && with_cuda go vet -tags cuda ./engine/cuda/... ./cmd/... ) &&
        build_cuda && cuda_refuses
}

# cuda_refuses: with a library in the place of the driver that can do nothing, as the stub is one, the tagged program ends with one line and exit status 3.
cuda_refuses() {
    local text status=0
    ln -sf libcuda.so "$here/.tools/cuda-stub/libcuda.so.1"
    text=$(LD_LIBRARY_PATH=$here/.tools/cuda-stub "$here/bin/clip-inspector-cuda" run --device cuda:0 2>&1) || status=$?
    [[ $status -eq 3 && $(wc -l <<<"$text") -eq 1 ]] || { say "run.sh: without a device clip-inspector-cuda ends with status $status:" "$text"; return 1; }
}

# staticcheck prints the path of the checker, or nothing when it cannot be had.
staticcheck() {
    local version=v0.8.2 tool
    for tool in "$(command -v staticcheck || true)" "$(go env GOPATH)/bin/staticcheck" "$here/.tools/staticcheck"; do
        if [[ -x $tool ]]; then printf '%s' "$tool"; return; fi
    done
    if GOBIN=$here/.tools go install "honnef.co/go/tools/cmd/staticcheck@$version" >/dev/null 2>&1; then
        printf '%s' "$here/.tools/staticcheck"
    fi
}

# browser installs the browser that the viewer is tested in, where that takes one command. Its tests are skipped without one.
browser() {
    local name
    for name in chromium chromium-browser google-chrome; do
        if command -v "$name" >/dev/null; then return; fi
    done
    [[ $EUID -eq 0 ]] && grep -qs '^ID=debian' /etc/os-release &&
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium fonts-liberation; } >/dev/null 2>&1 ||
        say "the viewer is not tested in a browser: there is none (apt-get install chromium)"
}

# test_python runs the tests of python/ with the program that was built: with $CLIPINSPECTOR_PYTHON where it has pytest, or else in an
# environment of its own below .tools, with torch where CLIPINSPECTOR_TORCH=1 asks for it.
test_python() {
    local python=${CLIPINSPECTOR_PYTHON:-} packages="pytest numpy pandas tqdm"
    if [[ -z $python ]] || ! "$python" -c "import pytest, numpy, pandas, tqdm" 2>/dev/null; then
        python=$here/.tools/python/bin/python
        [[ ${CLIPINSPECTOR_TORCH:-} != 1 ]] || packages+=" torch"
        # shellcheck disable=SC2086 # one package a word
        if ! { [[ -x $python ]] || python3 -m venv "$here/.tools/python"; } >/dev/null 2>&1 ||
            ! "$python" -m pip install -q --disable-pip-version-check $packages >/dev/null 2>&1; then
            say "Python's tests: skipped, python3 with venv, or its packages ($packages), cannot be had here"
            return 0
        fi
    fi
    "$python" -c "import sys; sys.exit(sys.version_info < (3, 10))" || { say "Python's tests: skipped, $("$python" --version) is older than 3.10"; return 0; }
    (cd "$here/python" && CLIPINSPECTOR_PROGRAM=$program PYTHONPATH=$here/python PYTHONDONTWRITEBYTECODE=1 "$python" -m pytest -q -p no:cacheprovider -rs tests)
}

run_tests() {
    need_tools
    cd "$here"
    browser
    local status=0 unformatted tool packages
    unformatted=$(gofmt -l .)
    if [[ -n $unformatted ]]; then say "not formatted by gofmt:" "$unformatted"; status=1; fi
    go vet ./... || status=1
    tool=$(staticcheck)
    if [[ -n $tool ]]; then
        "$tool" ./... || status=1
    else
        say "staticcheck cannot be had here (no network, or Go is too old for it): skipped"
    fi
    test_cuda || status=1
    experiments/cluster/slurm.sh install || true # one line says why the test with a real Slurm is skipped
    build
    test_python || status=1
    # Packages whose goroutines share memory run under the race detector.
    local racy='^clipinspector/(results/store|experiments|engine/cpu)$'
    packages=$(go list ./...)
    # shellcheck disable=SC2086 # one package a word
    go test -timeout 40m $(grep -Ev "$racy" <<<"$packages") || status=1
    # shellcheck disable=SC2086
    go test -timeout 40m -race $(grep -E "$racy" <<<"$packages") || status=1
    go test -timeout 40m -race -short ./plugin ./results/web || status=1 # without the browser
    exit $status
}

case ${1:-} in
build-cuda)
    build
    build_cuda "${@:2}"
    ;;
test)
    run_tests
    ;;
check)
    need_tools
    run=$(realpath -m "${2:-$here/runs/mini}")
    [[ -f $run/scores.jsonl ]] || die "$run holds no finished run (no scores.jsonl): type  ./run.sh  first"
    cd "$here"
    CLIPINSPECTOR_RUN=$run exec go test -count=1 -v -run Published ./cmd/clip-inspector
    ;;
"")
    cd "$here"
    build
    "$program" run --out runs/mini >/dev/null || { status=$?; [[ $status -eq 1 && -f runs/mini/table.md ]] || exit $status; }
    "$program" table --out runs/mini
    "$program" plot --out runs/mini >/dev/null || status=$?
    "$program" report --out runs/mini >/dev/null || status=$?
    say
    say "The report lies in runs/mini: table.md (also .csv, .tex, .json), scores.jsonl, the models and the recovered triggers,"
    say "the pictures (plots/mini: roc.png, gallery.png and others, also .svg), and all of it in one file: runs/mini/report.html"
    say "In the browser, with filters and live while a suite runs: ./run.sh view"
    exit "${status:-0}"
    ;;
*)
    build
    exec "$program" "$@"
    ;;
esac
