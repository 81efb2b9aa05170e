#!/usr/bin/env bash
# A real Slurm on this one machine, for tests of `submit` and for trying it out.
#
#   experiments/cluster/slurm.sh install        installs the packages (Debian, Ubuntu; as root)
#   experiments/cluster/slurm.sh up DIR [N]     starts munge, slurmctld and N nodes (2) of one CPU each below DIR, on loopback alone
#   experiments/cluster/slurm.sh down DIR       stops them
#
# After `up`:  export SLURM_CONF=DIR/slurm.conf  and use sbatch, squeue, scancel, scontrol as on any cluster.
# Each node claims two fake GPUs. Exit status 2: Slurm cannot be had here; one line says why.
set -euo pipefail

say() { printf 'slurm.sh: %s\n' "$*" >&2; }
cannot() { say "$*"; exit 2; }

install_packages() {
    if command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null && command -v sbatch >/dev/null; then return; fi
    [[ $EUID -eq 0 ]] || cannot "Slurm is not installed: type  sudo apt-get install slurmctld slurmd slurm-client munge"
    command -v apt-get >/dev/null || cannot "Slurm is not installed, and this is no Debian or Ubuntu: install slurmctld, slurmd, the client and munge"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge; } >/dev/null 2>&1 ||
        cannot "the packages slurmctld, slurmd, slurm-client and munge cannot be had here"
}

# free_ports prints N free ports of the loopback interface.
free_ports() {
    local port n=$1
    for ((port = 20000 + RANDOM % 20000; n > 0; port++)); do
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            n=$((n - 1))
        fi
    done
}

up() {
    local dir=$1 nodes=${2:-2} host user memory i
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    install_packages
    host=$(hostname)
    user=$(id -un)
    memory=$(awk -v n="$nodes" '/MemTotal/ {print int($2 / 1024 / n * 0.9)}' /proc/meminfo)
    mkdir -p "$dir"/{key,run,log,state}
    chmod 700 "$dir/key"
    # munge insists on folders that nobody else may write
    chmod go-w "$dir" "$dir"/{key,run,log}
    [[ -f $dir/key/munge.key ]] || (umask 077 && head -c 1024 /dev/urandom >"$dir/key/munge.key")
    chmod 400 "$dir/key/munge.key"
    local ports
    mapfile -t ports < <(free_ports $((nodes + 1)))
    {
        cat <<CONF
ClusterName=one-machine
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$dir/run/munge.socket
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort=${ports[0]}
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd.%n.pid
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool.%n
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MinJobAge=600
MaxArraySize=1001
KillWait=5
GresTypes=gpu
CONF
        for ((i = 1; i <= nodes; i++)); do
            mkdir -p "$dir/spool.n$i"
            echo "NodeName=n$i NodeHostname=$host NodeAddr=127.0.0.1 Port=${ports[i]} CPUs=1 RealMemory=$memory Gres=gpu:2 State=UNKNOWN"
        done
        echo "PartitionName=main Nodes=ALL Default=YES MaxTime=1440 State=UP OverSubscribe=NO"
    } >"$dir/slurm.conf"
    for ((i = 1; i <= nodes; i++)); do
        printf 'NodeName=n%d Name=gpu Type=fake File=/dev/null Flags=nvidia_gpu_env\nNodeName=n%d Name=gpu Type=fake File=/dev/zero Flags=nvidia_gpu_env\n' "$i" "$i"
    done >"$dir/gres.conf"
    export SLURM_CONF=$dir/slurm.conf
    start munged munged --foreground --force --key-file="$dir/key/munge.key" --socket="$dir/run/munge.socket" \
        --pid-file="$dir/run/munged.pid" --seed-file="$dir/run/munge.seed" --log-file="$dir/log/munged.log" --num-threads=1
    for ((i = 0; i < 100; i++)); do [[ -S $dir/run/munge.socket ]] && break; sleep 0.1; done
    start slurmctld slurmctld -D -f "$SLURM_CONF"
    for ((i = 1; i <= nodes; i++)); do start "slurmd.n$i" slurmd -D -N "n$i" -f "$SLURM_CONF"; done
    for ((i = 0; i < 300; i++)); do
        [[ $(sinfo -h -t idle -o %D 2>/dev/null) == "$nodes" ]] && { say "up: export SLURM_CONF=$SLURM_CONF"; return; }
        sleep 0.1
    done
    sinfo >&2 || true
    tail -n 3 "$dir"/log/*.log "$dir"/run/*.out >&2 || true
    down "$dir"
    cannot "the nodes did not come up within 30 s: see the lines above"
}

# start NAME COMMAND...: in the background, with its pid kept.
start() {
    local name=$1
    shift
    setsid "$@" >"$dir/run/$name.out" 2>&1 </dev/null &
    echo $! >"$dir/run/$name.started"
}

down() {
    local dir=$1 f pid i
    for f in "$dir"/run/slurmd.*.started "$dir/run/slurmctld.started" "$dir/run/munged.started"; do
        [[ -f $f ]] || continue
        pid=$(<"$f")
        kill "$pid" 2>/dev/null || true
        for ((i = 0; i < 50; i++)); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -9 "$pid" 2>/dev/null || true
        rm -f "$f"
    done
}

case ${1:-} in
install) install_packages ;;
up) [[ $# -ge 2 ]] || { say "up DIR [NODES]"; exit 3; }; up "$2" "${3:-2}" ;;
down) [[ $# -eq 2 ]] || { say "down DIR"; exit 3; }; down "$2" ;;
*) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2; exit 3 ;;
esac
