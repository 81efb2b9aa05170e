#!/usr/bin/env bash
# experiments/kills.sh [KILLS] [PROGRAM] [VERB...]
#
# Kills run, repair, calibrate, pretrain and merge, or the verbs named, at random moments, KILLS (1,000) times in all, and compares what the same
# command leaves behind in the end with what an undisturbed one does, byte by byte. Each folder is killed up to four times. It
# prints a line for each verb and exits 1 at the first difference. All is small, so that a command takes a second and the
# moments lie close.
set -euo pipefail
kills=${1:-1000}
program=$(realpath "${2:-bin/clip-inspector}")
verbs=("${@:3}")
(( ${#verbs[@]} )) || verbs=(run repair calibrate pretrain merge)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

suite() { # NAME SEED MORE
    cat > "$1.yaml" <<YAML
name: $1
clip: builtin:mini
seeds: [$2]
datasets: [{name: mini-eurosat, classes: 3}]
shots: 2
test-images: 12
learner: {name: coop, context: 2}
tuning: {epochs: 2, batch: 8, optimizer: adam, rate: 0.01, weight-decay: 0}
attacks: [clean, badnets]
pool: {name: mini, images: 24}
ood: {images: 8}
detectors:
  - {name: ci, optimise: 16, measure: 8, batch: 8}
$3
YAML
}
suite run 1 "  - {name: separation, optimise: 16, measure: 8, batch: 8}"
suite repair 1 "repair: {detector: ci, rounds: 1, epochs: 1, batch: 8, views: 1}"
suite calibrate 101 "search: {trials: 3, detectors.ci.epsilon: [0.02, 0.05], detectors.ci.margin: [2, 5]}"
suite merge 1 "  - {name: separation, optimise: 16, measure: 8, batch: 8}"

command_of() { # VERB OUT
    case $1 in
        run|repair) echo "$program run $1.yaml --out $2" ;;
        calibrate) echo "$program calibrate calibrate.yaml --out $2" ;;
        pretrain) echo "$program pretrain --vision-width 64 --vision-layers 1 --text-width 64 --text-layers 1 --embedding 16 --image-size 16 \
            --patch-size 8 --batch 4 --warmup 1 --steps 120 --out $2" ;;
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

for shard in 1 2; do "$program" run merge.yaml --out shards --shard $shard/2 > merge.log 2>&1 || { cat merge.log; exit 1; }; done
share=$(( (kills + ${#verbs[@]} - 1) / ${#verbs[@]} ))
for verb in "${verbs[@]}"; do
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
