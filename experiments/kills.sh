#!/usr/bin/env bash
# experiments/kills.sh [KILLS] [PROGRAM]
#
# Kills run, repair, calibrate, pretrain and merge at random moments, KILLS (1,000) times in all, and compares what the same
# command leaves behind in the end with what an undisturbed one does, byte by byte. Each folder is killed up to four times. It
# prints a line for each verb and exits 1 at the first difference.
set -euo pipefail
kills=${1:-1000}
program=$(realpath "${2:-bin/clip-inspector}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

suite() { # NAME SEED MORE
    cat > "$1.yaml" <<YAML
name: $1
clip: builtin:mini
seeds: [$2]
datasets: [{name: mini-eurosat, classes: 5}, {name: mini-dtd, classes: 5}]
shots: 2
test-images: 20
learner: {name: coop, context: 2}
tuning: {epochs: 2, batch: 8, optimizer: adam, rate: 0.01, weight-decay: 0}
attacks: [clean, badnets]
pool: {name: mini, images: 64}
ood: {images: 16}
detectors:
  - {name: ci, optimise: 48, measure: 16, batch: 16}
$3
YAML
}
suite run 1 ""
suite repair 1 "repair: {detector: ci, rounds: 1, epochs: 1, batch: 8, views: 1}"
suite calibrate 101 "search: {trials: 3, detectors.ci.epsilon: [0.02, 0.05], detectors.ci.margin: [2, 5]}"
suite merge 1 ""

command_of() { # VERB OUT
    case $1 in
        run|repair) echo "$program run $1.yaml --out $2" ;;
        calibrate) echo "$program calibrate calibrate.yaml --out $2" ;;
        pretrain) echo "$program pretrain --steps 12 --batch 16 --warmup 4 --out $2" ;;
        merge) echo "$program merge shards --out $2 --report" ;;
    esac
}
result_of() { # VERB OUT
    case $1 in
        calibrate) sha256sum < "$2/calibration.yaml" ;;
        pretrain) sha256sum < "$2/model.safetensors" ;;
        *) sha256sum < "$2/scores.jsonl" ;;
    esac
}

"$program" run merge.yaml --out shards --shard 1/2 >/dev/null 2>&1
"$program" run merge.yaml --out shards --shard 2/2 >/dev/null 2>&1
share=$(( (kills + 4) / 5 ))
for verb in run repair calibrate pretrain merge; do
    start=$(date +%s%N)
    $(command_of $verb "undisturbed-$verb") > "$verb.log" 2>&1 || { cat "$verb.log"; exit 1; }
    took=$(( ($(date +%s%N) - start) / 1000000 ))
    want=$(result_of $verb "undisturbed-$verb")
    done=0 folders=0
    while (( done < share )); do
        out=$verb-$folders
        for _ in 1 2 3 4; do
            $(command_of $verb "$out") > "$verb.log" 2>&1 &
            sleep "$(awk -v r=$RANDOM -v t=$took 'BEGIN {printf "%.3f", r / 32768 * t / 1000}')"
            if kill -9 $! 2>/dev/null; then done=$((done + 1)); fi
            wait $! 2>/dev/null || true
            (( done < share )) || break
        done
        $(command_of $verb "$out") > "$verb.log" 2>&1 || { echo "$verb: after a kill: $(tail -3 "$verb.log")"; exit 1; }
        [[ $(result_of $verb "$out") == "$want" ]] || { echo "$verb: other bytes after kills"; exit 1; }
        rm -rf "$out"
        folders=$((folders + 1))
    done
    echo "$verb: $done kills in $folders folders, the same bytes as undisturbed ($took ms)"
done
