#!/usr/bin/env bash
# internal/fuzz.sh [SECONDS] [PACKAGE...]
#
# Fuzzes every target of the project, or of the packages named, such as clip/bpe: one after the
# other, guided by coverage. Together they take SECONDS (900). It prints a line for each. Inputs that
# reach something new are kept in Go's cache, so the next run goes on from there. It exits with 1
# where a target finds something. Go then says which file of testdata/fuzz has the input. An input
# that reaches something new is made smaller in 20 tries: Go's own limit is a minute, and eats it all.
set -euo pipefail
cd "$(dirname "$0")/.."
targets=$(grep -rE --include='*_test.go' '^func Fuzz[A-Za-z]+\(f \*testing\.F\)' . | sed -E 's|^\./(.*)/[^/]*_test\.go:func (Fuzz[A-Za-z]+).*|\1 \2|' | sort -u)
if (( $# > 1 )); then targets=$(grep -E "^($(IFS='|'; echo "${*:2}")) " <<< "$targets"); fi
share=$(( ${1:-900} / $(wc -l <<< "$targets") ))
(( share > 0 )) || { echo "fewer seconds than targets" >&2; exit 64; }
found=0
while read -r package target; do
    if out=$(go test "./$package" -run '^$' -fuzz "^$target\$" -fuzztime "${share}s" -fuzzminimizetime 20x -parallel 1 2>&1); then
        last=$(grep -oE 'execs: [0-9]+ .*' <<< "$out" | tail -1)
        echo "$package $target: ${share} s, ${last:-no execution}"
    else
        found=1
        echo "$package $target: FOUND something"
        tail -30 <<< "$out"
    fi
done <<< "$targets"
exit $found
